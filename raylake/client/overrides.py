"""Values above a pipeline file, as arguments carry them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from raylake.config.findings import Invalid
from raylake.config.secrets import SecretRef
from raylake.errors import ConfigError

_SECRET_KEY = re.compile(r"password|passphrase|passwd|secret|token|credential", re.IGNORECASE)


def overrides_of(pairs: Sequence[str] | None) -> dict[str, str]:
    """``--set KEY=VALUE`` as a mapping.

    Raises:
        ConfigError: An entry has no ``=``, or is a secret: arguments can be seen by everybody.
    """
    for pair in pairs or ():
        if "=" not in pair:
            raise ConfigError(
                f"--set {pair}: no value", hint="write --set kafka.bootstrap=localhost:9092"
            )
        key, _, value = pair.partition("=")
        if _is_secret(key, value):
            raise ConfigError(
                f"--set {key}: a secret must not be an argument, everybody on this machine sees it",
                hint="write a reference, env:NAME or file:/path, or set the key in the file",
            )
    return dict(pair.split("=", 1) for pair in pairs or ())


def _is_secret(key: str, value: str) -> bool:
    segments = re.sub(r"\[?\b\d+\]?$", "", key).rstrip(".").split(".")
    if segments[0] == "kafka" and value.startswith(("{", "[")):
        return _SECRET_KEY.search(value) is not None
    if not _SECRET_KEY.search(segments[-1]):
        return False
    try:
        SecretRef.parse(value)
    except Invalid:
        return True
    return False
