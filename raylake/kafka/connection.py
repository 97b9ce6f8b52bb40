"""How to reach a Kafka cluster, and what its client's errors mean for the reader."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kafka import errors as kafka_errors

from raylake.errors import AccessDenied, ConfigError, DependencyUnreachable, RayLakeError, Retryable
from raylake.kafka.access import denied, mismatch
from raylake.kafka.security import security_settings
from raylake.kafka.transport import watching_client

_PROBE_TIMEOUT_S = 2.0
_COORDINATOR_AWAY = (
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.NotCoordinatorError,
)


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a cluster is and how to enter it.

    Attributes:
        bootstrap: ``host:port``, several separated by commas.
        security: The pipeline file's ``kafka.security``, or None for plain text. Its secrets are
            references; they are resolved when a connection is made.
        connect_timeout_s: How long anything may take that needs a broker to answer.
    """

    bootstrap: str
    security: Any = None
    connect_timeout_s: float = 10.0

    def settings(self) -> dict[str, Any]:
        """kafka-python's settings.

        Raises:
            ConfigError: An address is not one, a secret's reference leads nowhere here, or a file
                of TLS is missing or wrong.
        """
        timeout_ms = max(1000, int(self.connect_timeout_s * 1000))
        return {
            "bootstrap_servers": [f"{host}:{port}" for host, port in self.hosts()],
            "bootstrap_timeout_ms": int(self.connect_timeout_s * 1000),
            "request_timeout_ms": timeout_ms,
            # A broker that comes back is found again within a second.
            "reconnect_backoff_max_ms": 1000,
            "kafka_client": watching_client,
            **security_settings(self.security),
        }

    def hosts(self) -> list[tuple[str, int]]:
        """The bootstrap addresses.

        Raises:
            ConfigError: An address is not ``host:port``.
        """
        found = []
        for item in self.bootstrap.split(","):
            host, colon, port = item.strip().rpartition(":")
            if not colon or not host or not port.isdigit():
                raise ConfigError(
                    f"kafka.bootstrap: {item.strip()!r} is not host:port",
                    hint="for example localhost:9092; several are separated by commas",
                )
            found.append((host.strip("[]"), int(port)))
        return found


def is_transient(error: kafka_errors.KafkaError) -> bool:
    """Whether asking again soon may help."""
    return isinstance(error, (kafka_errors.RetriableError, kafka_errors.UnknownBrokerIdError))


def explain(
    error: kafka_errors.KafkaError,
    connection: Connection,
    what: str,
    advertised: Iterable[tuple[str, int]] = (),
) -> RayLakeError:
    """The error that the reader gets for one of kafka-python's.

    Args:
        error: What kafka-python raised.
        connection: The cluster.
        what: What was being done, for the message.
        advertised: The addresses that the cluster's metadata names, when it was read.
    """
    name = type(error).__name__
    refused = denied(error, connection.security, connection.bootstrap, what)
    if refused is not None:
        return refused
    if isinstance(error, kafka_errors.KafkaConfigurationError):
        return ConfigError(f"kafka-python refuses its settings while {what}: {_detail(error)}")
    if isinstance(error, _COORDINATOR_AWAY):
        return DependencyUnreachable(
            f"the group's coordinator was not ready within {connection.connect_timeout_s:g} s, "
            f"while {what}: {name}",
            hint="it loads its groups when a broker has started or gone: try again in a moment",
        )
    if is_transient(error):
        return unreachable(connection, what, advertised, error)
    return Retryable(f"Kafka failed while {what}: {name} {_detail(error)}".rstrip())


def unreachable(
    connection: Connection,
    what: str,
    advertised: Iterable[tuple[str, int]] = (),
    error: Exception | None = None,
) -> DependencyUnreachable | AccessDenied:
    """Find out, by connecting, why a cluster does not answer, and say it."""
    failures = {address: _probe(address) for address in connection.hosts()}
    within = f"within {connection.connect_timeout_s:g} s, while {what}"
    if all(failures.values()):
        reasons = "; ".join(f"{h}:{p}: {why}" for (h, p), why in failures.items())
        return DependencyUnreachable(
            f"no Kafka broker could be reached at {connection.bootstrap} {within} ({reasons})",
            hint="is the broker running, and is kafka.bootstrap right?"
            " `raylake dev up` starts one here",
            bootstrap=connection.bootstrap,
        )
    hidden = {address: why for address in advertised if (why := _probe(address))}
    if hidden:
        names = ", ".join(f"{h}:{p} ({why})" for (h, p), why in hidden.items())
        return DependencyUnreachable(
            f"the broker at {connection.bootstrap} answers, but advertises an address that cannot"
            f" be reached from here: {names}",
            hint="set the broker's advertised.listeners to an address that clients can reach,"
            " or make that name and port reachable from this machine",
            bootstrap=connection.bootstrap,
            advertised=[f"{h}:{p}" for h, p in hidden],
        )
    for address, failure in failures.items():
        found = None if failure else mismatch(address, connection.security)
        if found is not None:
            message, hint = found
            return AccessDenied(
                f"{message}, while {what}", hint=hint, bootstrap=connection.bootstrap
            )
    return DependencyUnreachable(
        f"{connection.bootstrap} accepts connections but did not answer as a Kafka broker {within}"
        + (f" ({type(error).__name__}: {_detail(error)})" if error else ""),
        hint="is it a Kafka listener, and does kafka.security match it (TLS, SASL)?",
        bootstrap=connection.bootstrap,
    )


def _probe(address: tuple[str, int]) -> str:
    try:
        socket.create_connection(address, timeout=_PROBE_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def _detail(error: Exception) -> str:
    return ", ".join(str(argument) for argument in error.args)
