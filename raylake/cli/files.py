"""Pipeline files as commands get them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raylake.config import Loaded, load
from raylake.config.addresses import normalise_table_address, status_path
from raylake.config.bronze import FromOffsets
from raylake.config.findings import Invalid, dotted
from raylake.config.secrets import SecretRef
from raylake.errors import ConfigError, RayLakeError
from raylake.storage.access import use_stores
from raylake.storage.place import Place, place

_SECRET_KEY = re.compile(r"password|passphrase|passwd|secret|token|credential", re.IGNORECASE)

_OF_DERIVED = (
    *("transform_refused", "unknown_source", "cycle", "definition_changed"),
    *("owned_by_another", "source_gap", "source_replaced", "quality_abort"),
)


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


def load_file(path: Path, pairs: Sequence[str] | None = None) -> Loaded:
    """Load a pipeline file; raises ``ConfigError`` with every problem."""
    loaded = load(path, overrides=overrides_of(pairs))
    use_stores(loaded.config.stores)
    return loaded


def status_file(loaded: Loaded) -> Place:
    """The pipeline's status document."""
    return place(status_path(loaded.config))


def lake_of(loaded: Loaded) -> str:
    """The lake's normalised address."""
    return normalise_table_address(loaded.config.lake)


def places(loaded: Loaded, error: dict[str, Any]) -> list[str]:
    """Where the file says what an error is about: ``file:line:column key`` each.

    Args:
        loaded: The file.
        error: ``code`` and ``message``.
    """
    code, message = error.get("code"), str(error.get("message"))
    keys: list[str] = []
    if code == "unreachable" and loaded.config.kafka.bootstrap in message:
        keys = ["kafka.bootstrap"]
    elif code == "unknown_topic":
        keys = [
            f"bronze.{name}.topics[{i}]"
            for name, table in loaded.config.bronze.items()
            if isinstance(table.topics, tuple)
            for i, topic in enumerate(table.topics)
            if f"'{topic}'" in message
        ]
    elif code == "offsets_lost":
        keys = _starts(loaded, message)
    elif code in ("not_our_table", "unsupported_table", "schema_conflict", "already_running"):
        keys = [f"bronze.{name}" for name in loaded.config.bronze if f"/{name}" in message]
    elif code in _OF_DERIVED:
        derived = [f"silver.{one}" for one in loaded.config.silver]
        derived += [f"gold.{one}" for one in loaded.config.gold]
        keys = [name for name in derived if re.search(rf"\b{re.escape(name)}\b", message)][:1]
    found = [(loaded.origins.get(key, ""), key) for key in keys]
    return [f"{origin} {key}" for origin, key in found if origin and origin != "default"]


def _starts(loaded: Loaded, message: str) -> list[str]:
    """The keys that name an offset at which a table cannot start."""
    asked = re.search(r"(\S+)\[(\d+)\]: cannot start at offset", message)
    if asked is None:
        return []
    topic, partition = asked[1], int(asked[2])
    return [
        dotted(("bronze", name, "start", "offsets", topic, str(partition)))
        for name, table in loaded.config.bronze.items()
        if isinstance(table.start, FromOffsets) and partition in table.start.offsets.get(topic, ())
    ]


@contextmanager
def placed(loaded: Loaded) -> Iterator[None]:
    """Adds to an error the place in the file that it is about."""
    try:
        yield
    except RayLakeError as error:
        at = places(loaded, {"code": error.code, "message": error.message})
        if not at:
            raise
        message = "\n".join([error.message, *(f"  at {place}" for place in at)])
        raise type(error)(message, hint=error.hint, **{**error.context, "at": at}) from error
