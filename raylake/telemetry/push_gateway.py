"""A Prometheus push gateway, over prometheus-client's own push."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, Request, build_opener

from prometheus_client import CollectorRegistry, push_to_gateway

from raylake.config.observing import PushGateway
from raylake.config.secrets import SecretRef
from raylake.errors import AccessDenied, ConfigError, DependencyUnreachable, RayLakeError
from raylake.telemetry.pushing import blotted

_READ_BYTES: Final = 65_536
_TOLD: Final = 200


class GatewayTarget:
    """Replaces the group ``job``, ``pipeline`` of a push gateway by what a registry holds.

    Credentials are references, read at each push: they may be rotated.

    Args:
        section: ``metrics.push_gateway``.
        registry: What is pushed.
        pipeline: The pipeline.
    """

    name = "push_gateway"

    def __init__(self, section: PushGateway, registry: CollectorRegistry, pipeline: str) -> None:
        self._section = section
        self._registry = registry
        self._pipeline = pipeline

    @property
    def interval_s(self) -> float:
        """Between two pushes."""
        return self._section.interval_s

    @property
    def timeout_s(self) -> float:
        """How long the gateway may take to answer."""
        return self._section.timeout_s

    def push(self) -> None:
        """Send all metrics, in place of the last ones.

        Raises:
            DependencyUnreachable: The gateway is away, or does not take them.
            AccessDenied: It does not let us in.
            ConfigError: A credential cannot be read here, or no header may have it.
        """
        section = self._section
        login = _Login.of(section)
        handler = _Sending(login.header, _context(section))
        try:
            push_to_gateway(
                section.url,
                section.job,
                self._registry,
                {"pipeline": self._pipeline},
                section.timeout_s,
                handler,
            )
        except HTTPError as error:
            raise _refused(section.url, error, login.secrets) from None
        except (OSError, HTTPException, ValueError) as error:
            raise DependencyUnreachable(
                f"metrics cannot be pushed to {section.url}: {error}",
                hint="the run goes on; is `metrics.push_gateway.url` the gateway's?",
            ) from error


@dataclass(frozen=True, slots=True)
class _Login:
    """Who pushes.

    Attributes:
        header: ``Authorization``; empty for nobody.
        secrets: What may not be told.
    """

    header: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, section: PushGateway) -> _Login:
        """As the references say now."""
        if section.token is not None:
            token = section.token.resolve()
            if not (token.isascii() and token.isprintable()):
                # The error of whoever sends it would hold it.
                raise ConfigError(
                    f"metrics cannot be pushed to {section.url}: the token has a character that no "
                    "header may have",
                    hint="is there a line break within `token` of `metrics.push_gateway`?",
                )
            return cls(f"Bearer {token}", (token,))
        if section.username is None or section.password is None:
            return cls()
        name: Any = section.username
        user = name.resolve() if isinstance(name, SecretRef) else name
        password = section.password.resolve()
        both = base64.b64encode(f"{user}:{password}".encode()).decode()
        hidden = (password, both, user if isinstance(name, SecretRef) else "")
        return cls(f"Basic {both}", hidden)


class _Sending:
    """How prometheus-client sends: with our credentials and authorities."""

    def __init__(self, authorization: str, context: ssl.SSLContext | None) -> None:
        self._authorization = authorization
        self._opener = build_opener(*([HTTPSHandler(context=context)] if context else []))

    def __call__(
        self,
        url: str,
        method: str,
        timeout: float | None,
        headers: list[tuple[str, str]],
        data: bytes,
    ) -> Callable[[], None]:
        request = Request(url, data=data, method=method)  # noqa: S310 - http or https: checked
        for name, value in headers:
            request.add_header(name, value)
        if self._authorization:
            # Redirected requests do not get it.
            request.add_unredirected_header("Authorization", self._authorization)

        def send() -> None:
            with self._opener.open(request, timeout=timeout) as answer:
                answer.read(_READ_BYTES)

        return send


def _context(section: PushGateway) -> ssl.SSLContext | None:
    if section.ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=section.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"metrics.push_gateway.ca: {section.ca} cannot be read: {error}",
            hint="it is a PEM file, on the node of the supervisor",
        ) from error


def _refused(url: str, error: HTTPError, secrets: Iterable[str]) -> RayLakeError:
    read = ""
    # The status is told, whatever becomes of the text.
    with error, suppress(OSError, HTTPException):
        read = error.read(_READ_BYTES).decode(errors="replace")
    # Before it is cut: half a secret would not be found.
    said = " ".join(blotted(read, secrets).split())[:_TOLD]
    why = f"{error.code} {blotted(error.reason, secrets)}" + (f": {said}" if said else "")
    if error.code in (401, 403, 407):
        return AccessDenied(
            f"the push gateway at {url} does not let us in: {why}",
            hint="the run goes on; see `username`, `password` and `token` of metrics.push_gateway",
        )
    return DependencyUnreachable(
        f"the push gateway at {url} does not take the metrics: {why}", hint="the run goes on"
    )
