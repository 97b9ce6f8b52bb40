"""Pipeline files as commands get them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raylake.client.overrides import overrides_of
from raylake.config import Loaded, load
from raylake.config.addresses import normalise_table_address, status_path
from raylake.config.bronze import FromOffsets
from raylake.config.findings import dotted
from raylake.errors import RayLakeError
from raylake.storage.access import use_stores
from raylake.storage.place import Place, place

_OF_DERIVED = (
    *("transform_refused", "unknown_source", "cycle", "definition_changed"),
    *("owned_by_another", "source_gap", "source_replaced", "quality_abort"),
)


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
