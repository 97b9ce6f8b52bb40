"""The ``kafka`` section: where the brokers are and how to reach them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from raylake.config.addresses import normalise_table_address
from raylake.config.base import Model
from raylake.config.findings import Finding, Invalid
from raylake.config.secrets import SecretOrText, SecretRef
from raylake.config.units import DurationS, Scalar, SizeBytes, Truth

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)")
_OURS: Final = {
    "bootstrap_servers": "write kafka.bootstrap",
    "isolation_level": "RayLake always reads committed records only",
    "auto_offset_reset": "RayLake never resets an offset by itself; see start",
    "enable_auto_commit": "offsets live in the table; RayLake commits none by itself",
    "group_id": "partitions are assigned by RayLake, not by a group",
    "check_crcs": "RayLake always checks",
    "key_deserializer": "RayLake reads the bytes",
    "value_deserializer": "RayLake reads the bytes",
    "max_poll_records": "see ingest.buffer and bronze.*.max_batch_bytes",
}
_SECRET_OPTION: Final = re.compile(r"password|secret|token|sasl|ssl|security", re.IGNORECASE)


def parse_bootstrap(text: str) -> tuple[tuple[str, int], ...]:
    """The hosts and ports of a comma-separated list.

    Raises:
        Invalid: An entry is not ``host:port``.
    """
    found = []
    for entry in text.split(","):
        host, colon, port = entry.strip().rpartition(":")
        if "@" in entry:
            raise Invalid("an address of a broker must not hold credentials", "see kafka.security")
        if "://" in entry:
            raise Invalid(f"{entry.strip()!r} is a URL", "write host:port, without a scheme")
        if not colon or (":" in host and not host.startswith("[")):
            raise Invalid(f"{entry.strip()!r} is not host:port", "write host:9092")
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise Invalid(f"{port!r} is not a port", "a port is a number from 1 to 65535")
        if not _HOST.fullmatch(host):
            raise Invalid(f"{host!r} is not a host", "write host:9092 or [::1]:9092")
        found.append((host.strip("[]"), int(port)))
    return tuple(found)


def _bootstrap(text: str) -> str:
    parse_bootstrap(text)
    return ",".join(entry.strip() for entry in text.split(","))


def _beside(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) or not value:
        return value
    folder = (info.context or {}).get("folder", ".")
    return normalise_table_address(value if value[:1] in "/~" else f"{folder}/{value}")


PemFile = Annotated[str, BeforeValidator(_beside), Field(min_length=1)]
"""A file beside the pipeline file, or at an absolute path; on every node of the cluster."""


class Security(Model):
    """How the brokers know us and we know them; secrets are references.

    Attributes:
        ca: PEM file of the authorities that the brokers' certificates are checked against; the
            system's own list when there is none.
        certificate: PEM file of the certificate that the broker is shown, with those above it.
        key: PEM file of its key.
        key_password: What the key is encrypted with.
        check_hostname: Whether a broker's certificate must be for the name that it is reached by.
        allow_password_without_tls: Says by name that the password may cross the network in clear.
    """

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    username: SecretOrText | None = None
    password: SecretRef | None = None
    token: SecretRef | None = None
    ca: PemFile | None = None
    certificate: PemFile | None = None
    key: PemFile | None = None
    key_password: SecretRef | None = None
    check_hostname: Truth = True
    allow_password_without_tls: Truth = False

    def findings(self) -> list[Finding]:
        """What does not fit together."""
        found = self._login_findings() + self._tls_findings()
        if self.protocol == "SASL_PLAINTEXT" and not self.allow_password_without_tls:
            found.append(
                Finding(
                    ("protocol",),
                    "SASL_PLAINTEXT would send the credentials without TLS",
                    "use SASL_SSL, or say allow_password_without_tls: true",
                )
            )
        return found

    def _login_findings(self) -> list[Finding]:
        sasl, mechanism = self.protocol.startswith("SASL"), self.mechanism
        if not sasl and mechanism is not None:
            says = f"{self.protocol} has no mechanism"
            return [Finding(("mechanism",), says, "write SASL_SSL")]
        if sasl and mechanism is None:
            return [Finding((), "SASL needs a mechanism", "for example SCRAM-SHA-512")]
        needed = {None: (), "OAUTHBEARER": ("token",)}.get(mechanism, ("username", "password"))
        found = [
            Finding((), f"{mechanism} needs a {name}", f"{name}: env:KAFKA_{name.upper()}")
            for name in needed
            if getattr(self, name) is None
        ]
        who = mechanism or self.protocol
        return found + [
            Finding((name,), f"{who} takes no {name}", "remove it, or correct the mechanism")
            for name in ("username", "password", "token")
            if name not in needed and getattr(self, name) is not None
        ]

    def _tls_findings(self) -> list[Finding]:
        found = []
        if (self.certificate is None) != (self.key is None):
            found.append(Finding((), "a client certificate needs both certificate and key"))
        if self.key_password is not None and self.key is None:
            found.append(Finding(("key_password",), "there is no key that it could be for"))
        if not self.protocol.endswith("SSL"):
            found += [
                Finding(
                    (name,), f"{self.protocol} is without TLS: {name} has no effect", "SASL_SSL"
                )
                for name in ("ca", "certificate", "key")
                if getattr(self, name) is not None
            ]
        return found


class Kafka(Model):
    """The cluster that the topics are in.

    Attributes:
        bootstrap: ``host:port``, or several with commas.
        connect_timeout_s: How long to wait for a broker before saying that it is unreachable.
        fetch_max_bytes: Bound of one fetch, in bytes on the wire; a larger record still arrives.
        client: Other options of kafka-python's consumer, by their own names.
    """

    bootstrap: Annotated[str, AfterValidator(_bootstrap)]
    security: Security | None = None
    connect_timeout_s: DurationS = Field(default=10.0, alias="connect_timeout")
    fetch_max_bytes: SizeBytes = 32 * 2**20
    client: dict[str, Scalar] = Field(default_factory=dict)

    @field_validator("security")
    @classmethod
    def _security(cls, value: Security | None) -> Security | None:
        found = value.findings() if value is not None else []
        if found:
            raise Invalid("", findings=found)
        return value

    @field_validator("client", mode="before")
    @classmethod
    def _client(cls, value: Any) -> Any:
        found = []
        for name in value if isinstance(value, dict) else ():
            if name in _OURS:
                at = (str(name),)
                found.append(Finding(at, f"{name} is not yours to set", _OURS[name], on_key=True))
            elif _SECRET_OPTION.search(str(name)):
                hint = "TLS, SASL and their secrets belong in kafka.security"
                found.append(Finding((str(name),), f"{name} is not set here", hint, on_key=True))
        if found:
            raise Invalid("", findings=found)
        return value
