"""The columns of a classic checkpoint that upkeep asks for, with no object for each file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.log_reader import (
    LogReader,
    TableMetadata,
    TableProtocol,
    metadata_of,
    protocol_of,
)
from raylake.delta.log_replay import CheckpointUnreadable
from raylake.maintenance.statistics import as_json

_BATCH_ROWS = 65_536
_GONE = pa.schema([("path", pa.string()), ("size", pa.int64()), ("gone_ms", pa.int64())])


@dataclass(frozen=True, slots=True)
class CheckpointHead:
    """What a checkpoint says of the table as a whole; None where it says nothing."""

    metadata: TableMetadata | None = None
    protocol: TableProtocol | None = None


def read_head(reader: LogReader, names: Iterable[str]) -> CheckpointHead:
    """The table's metadata and protocol.

    Args:
        reader: Of the log.
        names: The checkpoint's files; none: nothing is said.

    Raises:
        CheckpointUnreadable: A file is damaged or is no checkpoint's.
    """
    metadata: TableMetadata | None = None
    protocol: TableProtocol | None = None
    for batch in _batches(reader, names, {"metaData": None, "protocol": None}):
        for one in _actions(batch, "metaData", "id"):
            metadata = metadata_of(one)
        for one in _actions(batch, "protocol", "minReaderVersion"):
            protocol = protocol_of(one)
    return CheckpointHead(metadata, protocol)


def read_adds(reader: LogReader, names: Iterable[str], partition_by: Sequence[str]) -> pa.Table:
    """The live files of a checkpoint: ``stats`` as JSON text, and what stands beside them.

    Raises:
        CheckpointUnreadable: A file is damaged or is no checkpoint's.
    """
    wanted = ("path", "size", "stats", "stats_parsed", "partitionValues", "deletionVector")
    found = [
        _adds(adds, partition_by)
        for batch in _batches(reader, names, {"add": wanted})
        if len(adds := _valid(batch, "add"))
    ]
    if found:
        return pa.concat_tables(found)
    return _adds(pa.array([], pa.struct([("path", pa.string())])), partition_by)


def read_removes(reader: LogReader, names: Iterable[str]) -> pa.Table:
    """The tombstones of a checkpoint: ``path``, ``size`` and ``gone_ms``.

    Raises:
        CheckpointUnreadable: A file is damaged or is no checkpoint's.
    """
    found = []
    for batch in _batches(reader, names, {"remove": ("path", "size", "deletionTimestamp")}):
        removes = _valid(batch, "remove")
        if len(removes):
            columns = [
                _field(removes, "path", pa.string()),
                pc.fill_null(_field(removes, "size", pa.int64()), 0),
                pc.fill_null(_field(removes, "deletionTimestamp", pa.int64()), 0),
            ]
            found.append(pa.table(columns, schema=_GONE))
    return pa.concat_tables(found) if found else _GONE.empty_table()


def _adds(adds: pa.Array, partition_by: Sequence[str]) -> pa.Table:
    count = len(adds)
    vectors = _field(adds, "deletionVector", pa.struct([("cardinality", pa.int64())]))
    stats = _field(adds, "stats", pa.string())
    if stats.null_count == count and "stats_parsed" in _names(adds.type):
        parsed = pc.struct_field(adds, "stats_parsed")
        stats = as_json(parsed) if parsed.null_count < count else stats
    columns: dict[str, Any] = {
        "path": _field(adds, "path", pa.string()),
        "size": pc.fill_null(_field(adds, "size", pa.int64()), 0),
        "deleted": pc.fill_null(_field(vectors, "cardinality", pa.int64()), 0),
        "gone_ms": pa.nulls(count, pa.int64()),
        "gone_version": pa.nulls(count, pa.int64()),
        "stats": stats,
    }
    kind = pa.map_(pa.string(), pa.string())
    values = _field(adds, "partitionValues", kind)
    for at, name in enumerate(partition_by):
        columns[f"part_{at}"] = pc.map_lookup(values, pa.scalar(name), "first")
    return pa.table(columns)


def _batches(
    reader: LogReader, names: Iterable[str], wanted: Mapping[str, Sequence[str] | None]
) -> Iterator[pa.RecordBatch]:
    """The wanted columns of a checkpoint, where it has them; of an action all fields for None."""
    for name in names:
        try:
            with reader.files.open(f"_delta_log/{name}") as file:
                parquet = pq.ParquetFile(file)
                schema = parquet.schema_arrow
                if not {"add", "txn", "metaData", "protocol"} & set(schema.names):
                    raise CheckpointUnreadable(f"{name} has none of a checkpoint's columns")
                columns = [
                    action if fields is None else f"{action}.{one}"
                    for action, fields in wanted.items()
                    if action in schema.names
                    for one in (fields or ("",))
                    if fields is None or one in _names(schema.field(action).type)
                ]
                if columns:
                    yield from parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise CheckpointUnreadable(f"{name}: {reason}") from error


def _valid(batch: pa.RecordBatch, action: str) -> pa.Array:
    if action not in batch.schema.names:
        return pa.array([], pa.struct([("path", pa.string())]))
    found = batch.column(action)
    return found.filter(pc.is_valid(pc.struct_field(found, "path")))


def _actions(batch: pa.RecordBatch, column: str, key: str) -> list[dict[str, Any]]:
    if column not in batch.schema.names:
        return []
    values = batch.column(column)
    known = values.filter(pc.is_valid(pc.struct_field(values, key)))
    found: list[dict[str, Any]] = known.to_pylist()
    return found


def _field(array: pa.Array, name: str, kind: pa.DataType) -> pa.Array:
    if name not in _names(array.type):
        return pa.nulls(len(array), kind)
    found = pc.struct_field(array, name)
    return found if pa.types.is_struct(kind) else found.cast(kind)


def _names(kind: pa.DataType) -> set[str]:
    return {one.name for one in kind}
