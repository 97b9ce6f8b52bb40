"""Which protocol a table's properties and columns ask for (Delta protocol, table features)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from deltalake import DeltaTable

from raylake.delta.log_reader import TableProtocol

_LEGACY_READER: Final[Mapping[str, int]] = {"columnMapping": 2}
_LEGACY_WRITER: Final[Mapping[str, int]] = {
    "appendOnly": 2,
    "invariants": 2,
    "checkConstraints": 3,
    "changeDataFeed": 4,
    "generatedColumns": 4,
    "columnMapping": 5,
}
"""Features that the numbered protocols have without naming them, and since which version."""
_READER_FEATURES: Final = frozenset({"deletionVectors", "timestampNtz", "columnMapping"})
_BY_PROPERTY: Final = {
    "delta.appendOnly": "appendOnly",
    "delta.enableChangeDataFeed": "changeDataFeed",
    "delta.enableDeletionVectors": "deletionVectors",
}
_NOT_NULL: Final = re.compile(r'"nullable"\s*:\s*false')


def asked_for(configuration: Mapping[str, str], schema_json: str) -> set[str]:
    """The features that properties and columns need."""
    found = {
        feature
        for key, feature in _BY_PROPERTY.items()
        if configuration.get(key, "").lower() == "true"
    }
    if any(key.startswith("delta.constraints.") for key in configuration):
        found.add("checkConstraints")
    if '"timestamp_ntz"' in schema_json:
        found.add("timestampNtz")
    if _NOT_NULL.search(schema_json):
        # Spark opens no table with such a column that names its features, and not this one.
        found.add("invariants")
    return found


def protocol_line(handle: DeltaTable, features: Iterable[str]) -> dict[str, Any] | None:
    """A ``protocol`` action with which a table may have features; None when it has them.

    The numbered protocols stay as long as they have all that is needed: more readers know them.
    """
    now = handle.protocol()
    return raised(
        {
            "minReaderVersion": int(now.min_reader_version),
            "minWriterVersion": int(now.min_writer_version),
            "readerFeatures": sorted(now.reader_features or ()),
            "writerFeatures": sorted(now.writer_features or ()),
        },
        features,
    )


def raised(now: Mapping[str, Any], features: Iterable[str]) -> dict[str, Any] | None:
    """As :func:`protocol_line`, from a protocol as plain data."""
    reader, writer = int(now["minReaderVersion"]), int(now["minWriterVersion"])
    named = set(now.get("writerFeatures") or ())
    has = named if writer >= 7 else {f for f, v in _LEGACY_WRITER.items() if v <= writer}
    wanted = set(features)
    if wanted <= has:
        return None
    if writer < 7 and wanted <= set(_LEGACY_WRITER):
        return _numbered(
            max(reader, *(_LEGACY_READER.get(f, 1) for f in wanted)),
            max(writer, *(_LEGACY_WRITER[f] for f in wanted)),
        )
    names = has | wanted
    read = set(now.get("readerFeatures") or ()) | (names & _READER_FEATURES)
    if not read:
        return {
            "protocol": {
                "minReaderVersion": reader,
                "minWriterVersion": 7,
                "writerFeatures": sorted(names),
            }
        }
    return {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": sorted(read),
            "writerFeatures": sorted(names),
        }
    }


def new_protocol(configuration: Mapping[str, str], schema_json: str) -> dict[str, Any]:
    """The ``protocol`` action of a new table."""
    first = {"minReaderVersion": 1, "minWriterVersion": 2}
    return raised(first, asked_for(configuration, schema_json)) or {"protocol": first}


def _numbered(reader: int, writer: int) -> dict[str, Any]:
    return {"protocol": {"minReaderVersion": reader, "minWriterVersion": writer}}


def protocol_of(found: TableProtocol) -> dict[str, Any]:
    """The ``protocol`` action of a table, for another one that is to be like it."""
    action: dict[str, Any] = {
        "minReaderVersion": found.min_reader,
        "minWriterVersion": found.min_writer,
    }
    if found.min_reader >= 3:
        action["readerFeatures"] = sorted(found.reader_features)
    if found.min_writer >= 7:
        action["writerFeatures"] = sorted(found.writer_features)
    return {"protocol": action}
