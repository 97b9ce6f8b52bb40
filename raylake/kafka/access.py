"""Why a cluster does not let us in: certificates, credentials and rights, each by its name."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any, Final

from kafka import errors as kafka_errors

from raylake.errors import AccessDenied, RayLakeError
from raylake.kafka.security import tls_context, uses_tls

_PROBE_TIMEOUT_S: Final = 1.0
_MOST_CAUSES: Final = 8
_MOST_ANSWER_BYTES: Final = 65_536
_SASL_HANDSHAKE: Final = 17
_API_VERSIONS: Final = 18
_GROUP: Final = re.compile(r"GROUP/(.+?): ?$")
# X509_V_ERR_… of OpenSSL; 7 is an authority of the same name with another key.
_ENDED: Final = {10}
_EARLY: Final = {9}
_OTHER_HOST: Final = {62, 64}
_UNKNOWN_AUTHORITY: Final = {2, 7, 18, 19, 20, 21}
_ALERTS: Final = (
    "ALERT_UNKNOWN_CA",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE",
    "CERTIFICATE_REQUIRED",
    "ALERT_ACCESS_DENIED",
    "ALERT_PROTOCOL_VERSION",
    "ALERT_HANDSHAKE_FAILURE",
)
"""What a server says of this client; others come from one that restarts, too."""
_LOGIN: Final = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)


class TlsRefusedError(kafka_errors.KafkaError):  # type: ignore[misc]
    """One side did not take the other's certificate, or TLS at all; trying again is of no use.

    Args:
        error: OpenSSL's.
        address: ``host:port``.
    """

    def __init__(self, error: ssl.SSLError, address: str) -> None:
        super().__init__(f"{address}: {error.strerror or error}")
        self.error = error
        self.address = address


def refusal(error: BaseException | None, address: str) -> Exception | None:
    """What of a failed connection's error shows that the next try ends the same way.

    Args:
        error: What the connection failed with.
        address: ``host:port``.
    """
    for one in _causes(error):
        if isinstance(one, (RayLakeError, TlsRefusedError, *_LOGIN)):
            return one
        if isinstance(one, ssl.SSLCertVerificationError):
            return TlsRefusedError(one, address)
        if isinstance(one, ssl.SSLError) and _is_final(one):
            return TlsRefusedError(one, address)
    return None


def denied(error: Exception, security: Any, bootstrap: str, what: str) -> AccessDenied | None:
    """The reader's error for one that says that we may not; None for another one.

    Args:
        error: What kafka-python raised.
        security: ``kafka.security``.
        bootstrap: The cluster.
        what: What was being done.
    """
    if isinstance(error, TlsRefusedError):
        message, hint = _tls_reason(error, security)
    elif isinstance(error, kafka_errors.AuthorizationError):
        message, hint = _right_missing(error, security)
    elif isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        message, hint = _mechanism_missing(security, bootstrap)
    elif isinstance(error, _LOGIN):
        message, hint = _login_failed(error, security, bootstrap)
    else:
        return None
    return AccessDenied(f"{message}, while {what}", hint=hint, error_class=type(error).__name__)


def mismatch(address: tuple[str, int], security: Any) -> tuple[str, str] | None:
    """What a listener shows of itself that kafka.security does not fit; None when nothing does.

    It is asked without credentials. Silence shows nothing: the listener may be busy.

    Args:
        address: A listener that takes connections.
        security: ``kafka.security``.
    """
    at = f"{address[0]}:{address[1]}"
    try:
        plain = _answers_plainly(address)
    except TimeoutError:
        return None
    if uses_tls(security):
        if plain:
            return _no_tls(at, security)
    elif not plain and _greets_tls(address):
        return (
            f"{at} speaks TLS, but kafka.security does not",
            "kafka.security: {protocol: SSL, …} or {protocol: SASL_SSL, …}",
        )
    if getattr(security, "mechanism", None) is None:
        offered = _offered(address, security)
        if offered:
            return (
                f"{at} wants credentials by SASL, and kafka.security gives none",
                f"kafka.security: a SASL protocol, and the mechanism {' or '.join(offered)}",
            )
    return None


def _greets_tls(address: tuple[str, int]) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent: the question is only whether it is TLS.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address, timeout=_PROBE_TIMEOUT_S) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except OSError:
        return False


def _answers_plainly(address: tuple[str, int]) -> bool:
    try:
        return _ask(address, None, _API_VERSIONS, b"", version=0)[:4] == b"\0\0\0\0"
    except TimeoutError:
        raise
    except (OSError, struct.error):
        return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting = [error]
    while waiting and len(seen) < _MOST_CAUSES:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        # kafka-python puts the socket's error into its own as an argument.
        waiting += [one.__cause__, one.__context__, *one.args]


def _is_final(error: ssl.SSLError) -> bool:
    reason = error.reason or ""
    return reason == "WRONG_VERSION_NUMBER" or any(word in reason for word in _ALERTS)


def _tls_reason(refused: TlsRefusedError, security: Any) -> tuple[str, str]:
    error, at = refused.error, refused.address
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_reason(error, at, security)
    if error.reason == "WRONG_VERSION_NUMBER":
        return _no_tls(at, security)
    shown = getattr(security, "certificate", None)
    if shown is None:
        return (
            f"{at} wants a client's certificate ({error.reason})",
            "give kafka.security.certificate and key, or name a listener that takes a password",
        )
    return (
        f"{at} does not take the client's certificate {shown} ({error.reason})",
        "is it signed by an authority that the broker knows, and has it not ended?",
    )


def _no_tls(at: str, security: Any) -> tuple[str, str]:
    return (
        f"{at} does not speak TLS, but kafka.security.protocol is {security.protocol}",
        "name the cluster's TLS listener in kafka.bootstrap, or correct the protocol",
    )


def _certificate_reason(
    error: ssl.SSLCertVerificationError, at: str, security: Any
) -> tuple[str, str]:
    code, whose = error.verify_code, f"the certificate of the broker at {at}"
    if code in _ENDED:
        return (
            f"{whose} (or of an authority above it) has expired",
            "have it renewed on the broker; RayLake takes no expired certificate",
        )
    if code in _EARLY:
        return f"{whose} is not valid yet", "compare the clocks of this machine and the broker"
    if code in _OTHER_HOST:
        return (
            f"{whose} is for another host name ({error.verify_message})",
            "let kafka.bootstrap and advertised.listeners have a name that the certificate holds",
        )
    if code in _UNKNOWN_AUTHORITY:
        known = getattr(security, "ca", None) or "this system's list of authorities"
        return (
            f"{whose} is signed by an authority that is not in {known} ({error.verify_message})",
            "name the PEM file of the authority that signed it in kafka.security.ca",
        )
    return f"{whose} is not valid: {error.verify_message}", "have it corrected on the broker"


def _right_missing(error: Exception, security: Any) -> tuple[str, str]:
    user = _user(security)
    names = ", ".join(sorted(map(repr, _names(error))))
    if isinstance(error, kafka_errors.GroupAuthorizationFailedError):
        kind, needed, option = "group", "--operation Read", "--group"
    elif isinstance(error, kafka_errors.TopicAuthorizationFailedError):
        kind, needed, option = "topic", "--operation Read --operation Describe", "--topic"
    else:
        name = type(error).__name__
        return f"{user} has no right for this ({name} {names})".rstrip(), "see the cluster's ACLs"
    place = f"{option} {names.split(', ')[0] if names else 'NAME'}"
    return (
        f"{user} has no right on {kind} {names}".rstrip(),
        f"grant it: kafka-acls --add --allow-principal User:NAME {needed} {place}",
    )


def _mechanism_missing(security: Any, bootstrap: str) -> tuple[str, str]:
    offered: list[str] = []
    for entry in bootstrap.split(","):
        host, _, port = entry.strip().rpartition(":")
        offered = offered or _offered((host.strip("[]"), int(port)), security)
    has = f"; it has {', '.join(offered)}" if offered else ""
    return (
        f"{bootstrap} has no SASL mechanism {getattr(security, 'mechanism', None)}{has}",
        "set kafka.security.mechanism to one that the listener has",
    )


def _login_failed(error: Exception, security: Any, bootstrap: str) -> tuple[str, str]:
    mechanism = getattr(security, "mechanism", None)
    said = ", ".join(str(argument) for argument in error.args)
    if isinstance(error, kafka_errors.IllegalSaslStateError):
        return (
            f"{bootstrap} takes no SASL, but kafka.security.protocol is {security.protocol}",
            "name the cluster's SASL listener in kafka.bootstrap, or correct the protocol",
        )
    if mechanism == "OAUTHBEARER":
        return (
            f"{bootstrap} refused the token of kafka.security.token ({said})",
            "is it expired, and issued for this cluster? A new one is read at each connection",
        )
    return (
        f"{bootstrap} refused the credentials of {_user(security)} by {mechanism} ({said})",
        "check kafka.security: username, password, and whether the user has this mechanism",
    )


def _user(security: Any) -> str:
    if security is None:
        return "the anonymous user"
    if getattr(security, "username", None) is not None:
        return f"user {str(security.username)!r}"
    if getattr(security, "token", None) is not None:
        return "the token's user"
    return "the client certificate's user" if security.certificate else "the anonymous user"


def _names(error: Exception) -> list[str]:
    found: list[str] = []
    for argument in error.args:
        many = isinstance(argument, (set, frozenset, list, tuple))
        found += [str(one) for one in argument] if many else [str(argument)]
    # kafka-python tells of the request in which it was refused.
    return [named[1] if (named := _GROUP.search(one)) else one for one in found]


def _offered(address: tuple[str, int], security: Any) -> list[str]:
    """The SASL mechanisms that a listener says it has; none when it says nothing."""
    try:
        # A handshake for a mechanism that nobody has.
        answer = _ask(address, security, _SASL_HANDSHAKE, struct.pack(">h1s", 1, b"?"), version=1)
        _, _, count = struct.unpack_from(">ihi", answer)
        at, found = 10, []
        for _ in range(count):
            (size,) = struct.unpack_from(">h", answer, at)
            found.append(answer[at + 2 : at + 2 + size].decode())
            at += 2 + size
    except (OSError, ValueError, struct.error):
        return []
    return sorted(found)


def _ask(address: tuple[str, int], security: Any, api: int, body: bytes, *, version: int) -> bytes:
    """The answer to one request with correlation id 0 and no client id."""
    request = struct.pack(">hhih", api, version, 0, -1) + body
    with socket.create_connection(address, timeout=_PROBE_TIMEOUT_S) as plain:
        tls = tls_context(security) if uses_tls(security) else None
        with tls.wrap_socket(plain, server_hostname=address[0]) if tls else plain as wire:
            wire.sendall(struct.pack(">i", len(request)) + request)
            with wire.makefile("rb") as answers:
                (size,) = struct.unpack(">i", answers.read(4))
                return answers.read(max(0, min(size, _MOST_ANSWER_BYTES)))
