"""``kafka.security`` as kafka-python takes it: secrets are read here, TLS is set up here."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, Final

from kafka.net.sasl.oauth import AbstractTokenProvider

from raylake.errors import ConfigError

_TALKATIVE: Final = (
    "kafka.admin.client",
    "kafka.consumer.group",
    "kafka.net.connection",
    "kafka.producer.kafka",
    "kafka.protocol.parser",
)
_SCRAM_ESCAPES: Final = str.maketrans({"=": "=3D", ",": "=2C"})


class _Token(AbstractTokenProvider):  # type: ignore[misc]
    """Reads the token's reference at each connection, so a renewed one is picked up."""

    def __init__(self, reference: Any) -> None:
        super().__init__()
        self._reference = reference

    def token(self) -> str:
        return _text(self._reference).strip()


class _NoDetails(logging.Filter):
    """Drops what kafka-python says for debugging: settings and messages with their passwords."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG


_no_details = _NoDetails()


def security_settings(security: Any) -> dict[str, Any]:
    """kafka-python's settings for a pipeline file's ``kafka.security``.

    Args:
        security: The section, or None for plain text. Its secrets are references; they are read
            now, a token at each connection.

    Raises:
        ConfigError: A reference leads nowhere here, or a file of TLS is missing or wrong.
    """
    if security is None:
        return {}
    settings: dict[str, Any] = {"security_protocol": str(security.protocol)}
    if uses_tls(security):
        settings["ssl_context"] = tls_context(security)
    if security.mechanism is None:
        return settings
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_no_details)
    settings["sasl_mechanism"] = str(security.mechanism)
    if security.token is not None:
        settings["sasl_oauth_token_provider"] = _Token(security.token)
    if security.username is not None and security.password is not None:
        user = _text(security.username)
        scram = str(security.mechanism).startswith("SCRAM")
        # kafka-python puts the name into SCRAM's messages as it is.
        settings["sasl_plain_username"] = user.translate(_SCRAM_ESCAPES) if scram else user
        settings["sasl_plain_password"] = _text(security.password)
    return settings


def uses_tls(security: Any) -> bool:
    """Whether connections are encrypted."""
    return security is not None and str(security.protocol) in ("SSL", "SASL_SSL")


def tls_context(security: Any) -> ssl.SSLContext:
    """How a broker's certificate is checked, and which one it is shown.

    Raises:
        ConfigError: A file is missing here, is no PEM, or key, certificate and password of the key
            do not go together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = bool(security.check_hostname)
    if security.ca is None:
        context.load_default_certs()
    else:
        _readable("ca", security.ca)
        try:
            context.load_verify_locations(security.ca)
        except ssl.SSLError:
            raise _wrong("ca", security.ca, "holds no certificate in PEM form") from None
    if security.certificate is not None and security.key is not None:
        _load_client(context, security)
    return context


def _load_client(context: ssl.SSLContext, security: Any) -> None:
    for name in ("certificate", "key"):
        _readable(name, getattr(security, name))
    # A key that wants a password when there is none must not ask for it on the terminal.
    password = "" if security.key_password is None else _text(security.key_password)
    try:
        context.load_cert_chain(security.certificate, security.key, lambda: password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"is not the key of {security.certificate}"
        elif security.key_password is not None:
            why = "cannot be read with kafka.security.key_password, or it or its certificate is"
            why += " not PEM"
        else:
            why = "cannot be read: it or its certificate is not PEM, or it wants key_password"
        raise _wrong("key", security.key, why) from None


def _readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise _wrong(name, path, error.strerror or type(error).__name__) from None


def _wrong(name: str, path: str, why: str) -> ConfigError:
    return ConfigError(
        f"kafka.security.{name}: {path}: {why}",
        hint="every node that runs a process of the pipeline needs the file, in PEM form",
        file=path,
    )


def _text(value: Any) -> str:
    resolve = getattr(value, "resolve", None)
    return str(resolve()) if callable(resolve) else str(value)
