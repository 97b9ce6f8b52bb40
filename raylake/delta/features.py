"""Which table features RayLake writes: an allow-list; anything else is refused by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from deltalake import DeltaTable

from raylake.delta.log_reader import TableMetadata, TableProtocol
from raylake.errors import UnsupportedTable

ALLOWED_FEATURES = frozenset(
    {
        "appendOnly",
        "changeDataFeed",
        "checkConstraints",
        "columnMapping",
        "deletionVectors",
        "generatedColumns",
        "invariants",
        "timestampNtz",
        "vacuumProtocolCheck",
    }
)
"""Features that may be listed; those that would need work on our side are refused when in use."""

MAX_READER = 3
MAX_WRITER = 7

_IN_USE = {
    "delta.columnMapping.mode": ("columnMapping", frozenset({"", "none"})),
    "delta.enableRowTracking": ("rowTracking", frozenset({"", "false"})),
    "delta.enableInCommitTimestamps": ("inCommitTimestamp", frozenset({"", "false"})),
    "delta.enableTypeWidening": ("typeWidening", frozenset({"", "false"})),
    "delta.enableIcebergCompatV1": ("icebergCompatV1", frozenset({"", "false"})),
    "delta.enableIcebergCompatV2": ("icebergCompatV2", frozenset({"", "false"})),
    "delta.universalFormat.enabledFormats": ("UniForm", frozenset({""})),
    "delta.checkpointPolicy": ("v2Checkpoint", frozenset({"", "classic"})),
}

_COLUMN_KEYS = {
    "delta.generationExpression": "generatedColumns",
    "delta.identity.start": "identityColumns",
    "delta.invariants": "invariants",
}

RETENTION = "delta.setTransactionRetentionDuration"


def refuse_unsupported(table: DeltaTable, path: str) -> None:
    """Refuse a table that has a feature or a property that RayLake must not write.

    Raises:
        UnsupportedTable: Naming the feature or the property.
    """
    refuse_protocol(table, path)
    configuration = dict(table.metadata().configuration)
    refuse_properties(configuration, path)
    refuse_columns(table, path)


def refuse_log(protocol: TableProtocol, metadata: TableMetadata, path: str) -> None:
    """Refuse a table whose files RayLake must not write anew, by what its log says of it.

    Raises:
        UnsupportedTable: Naming the feature.
    """
    listed = {*protocol.writer_features, *protocol.reader_features}
    _refuse_versions(protocol.min_reader, protocol.min_writer, listed, path)
    refuse_in_use(metadata.configuration, path)
    _refuse_fields(metadata.schema_json, path)


def refuse_columns(table: DeltaTable, path: str) -> None:
    """Refuse columns whose values the writer would have to make.

    Raises:
        UnsupportedTable: Naming the feature and the column.
    """
    _refuse_fields(table.schema().to_json(), path)


def _refuse_fields(schema_json: str, path: str) -> None:
    for field in json.loads(schema_json)["fields"]:
        for key in field.get("metadata", {}):
            if key in _COLUMN_KEYS:
                raise _unsupported(path, f"{_COLUMN_KEYS[key]} (column {field['name']!r})")


def refuse_protocol(table: DeltaTable, path: str) -> None:
    """Refuse a protocol of which not everything is known here.

    Raises:
        UnsupportedTable: Naming the feature.
    """
    protocol = table.protocol()
    listed = set(protocol.writer_features or ()) | set(protocol.reader_features or ())
    _refuse_versions(protocol.min_reader_version, protocol.min_writer_version, listed, path)


def _refuse_versions(reader: int, writer: int, listed: Collection[str], path: str) -> None:
    if reader > MAX_READER or writer > MAX_WRITER:
        raise UnsupportedTable(
            f"{path}: protocol {reader}/{writer} is newer than {MAX_READER}/{MAX_WRITER}",
            hint="Write this table with a newer release.",
        )
    unknown = sorted(set(listed) - ALLOWED_FEATURES)
    if unknown:
        raise _unsupported(path, unknown[0])


def refuse_properties(configuration: Mapping[str, str | None], path: str) -> None:
    """Refuse properties that make offsets expire or that need a feature we do not write.

    Raises:
        UnsupportedTable: Naming the property or the feature.
    """
    refuse_retention(configuration, path)
    refuse_in_use(configuration, path)
    for key in configuration:
        if key.startswith("delta.constraints."):
            raise _unsupported(path, f"checkConstraints ({key.removeprefix('delta.constraints.')})")


def refuse_retention(configuration: Mapping[str, str | None], path: str) -> None:
    """Refuse a table whose log forgets txns.

    Raises:
        UnsupportedTable: Naming the property.
    """
    if configuration.get(RETENTION):
        raise UnsupportedTable(
            f"{path}: {RETENTION} is set to {configuration[RETENTION]!r}: the offsets in the "
            "table's log would expire",
            hint=f"Unset it: ALTER TABLE … UNSET TBLPROPERTIES ('{RETENTION}').",
            property=RETENTION,
        )


def refuse_in_use(configuration: Mapping[str, str | None], path: str) -> None:
    """Refuse properties that turn on a feature that delta-rs does not write.

    Raises:
        UnsupportedTable: Naming the feature.
    """
    for key, (feature, harmless) in _IN_USE.items():
        if (configuration.get(key) or "").lower() not in harmless:
            raise _unsupported(path, feature)


def _unsupported(path: str, feature: str) -> UnsupportedTable:
    return UnsupportedTable(
        f"{path}: the table uses {feature}, which RayLake does not write",
        hint="Choose another path, or take the feature off the table.",
        feature=feature,
    )
