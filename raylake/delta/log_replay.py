"""The state that a Delta log adds up to: its files as Arrow, its txns, metadata and protocol.

Replay follows the protocol: for each path the newest ``add`` or ``remove`` decides. Files of a
checkpoint stay columnar; only those of the commits after it pass through Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: One row a live file: ``path`` as the log has it (URL-encoded), ``size`` in bytes,
#: ``num_records`` from the statistics (null when they have none), ``deleted_records`` by a deletion
#: vector, ``data_change`` of the add, ``partition_values`` as text, and the descriptor of its
#: deletion vector as JSON text (null without one).
FILE_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("num_records", pa.int64()),
        ("deleted_records", pa.int64()),
        ("data_change", pa.bool_()),
        ("partition_values", pa.map_(pa.string(), pa.string())),
        ("deletion_vector", pa.string()),
    ]
)

_BATCH_ROWS = 16_384
_LEADING = r'^\s*\{\s*"numRecords"\s*:\s*(?P<n>\d+)\s*[,}]'
_WANTED = (
    "add.path",
    "add.size",
    "add.dataChange",
    "add.stats",
    "add.partitionValues",
    "add.deletionVector",
    "txn",
    "metaData",
    "protocol",
)


class CheckpointUnreadable(Exception):
    """A checkpoint file is damaged or is not one."""


@dataclass(slots=True)
class LogState:
    """What has been replayed so far.

    Attributes:
        base: Files of the checkpoint.
        tail: The newest action of the commits after it for each path: an ``add``, or None where it
            was removed.
        txns: App id to version.
        metadata: The newest ``metaData`` action.
        protocol: The newest ``protocol`` action.
    """

    base: list[pa.Table] = field(default_factory=list)
    tail: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    txns: dict[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Any] | None = None
    protocol: Mapping[str, Any] | None = None


def apply_actions(state: LogState, actions: Iterable[Mapping[str, Any]]) -> None:
    """Replay one commit.

    A new deletion vector is an ``add`` and a ``remove`` of the same path, in any order: the file
    stays (Delta protocol, a logical file is path and vector).
    """
    added: set[str] = set()
    for action in actions:
        if add := action.get("add"):
            state.tail[add["path"]] = add
            added.add(add["path"])
        elif remove := action.get("remove"):
            if remove["path"] not in added:
                state.tail[remove["path"]] = None
        elif txn := action.get("txn"):
            state.txns[txn["appId"]] = int(txn["version"])
        elif metadata := action.get("metaData"):
            state.metadata = metadata
        elif protocol := action.get("protocol"):
            state.protocol = protocol


def live_files(state: LogState) -> pa.Table:
    """The live files, columns of :data:`FILE_SCHEMA`."""
    tables = list(state.base)
    if tables and state.tail:
        touched = pa.array(list(state.tail), pa.string())
        tables = [
            t.filter(pc.invert(pc.is_in(t.column("path"), value_set=touched))) for t in tables
        ]
    added = [add for add in state.tail.values() if add is not None]
    if added:
        tables.append(_from_adds(added))
    return pa.concat_tables(tables) if tables else FILE_SCHEMA.empty_table()


def num_records(stats: pa.Array | pa.ChunkedArray) -> pa.Array:
    """``numRecords`` of statistics in JSON; null where there is none.

    Our statistics begin with it, which a pattern anchored at the start reads without a Python
    object; a column of that name further on can therefore not be mistaken for it.
    """
    if isinstance(stats, pa.ChunkedArray):
        stats = stats.combine_chunks()
    found = pc.struct_field(pc.extract_regex(stats.cast(pa.string()), _LEADING), "n")
    odd = pc.and_(pc.is_valid(stats), pc.is_null(found))
    counts = found.cast(pa.int64())
    if not pc.any(odd).as_py():
        return counts
    slow = pa.array([_parsed(text) for text in stats.filter(odd).to_pylist()], pa.int64())
    return pc.replace_with_mask(counts, odd, slow)


def _parsed(stats: str | None) -> int | None:
    try:
        value = orjson.loads(stats or "{}").get("numRecords")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return value if isinstance(value, int) else None


def _from_adds(adds: list[dict[str, Any]]) -> pa.Table:
    return pa.table(
        [
            pa.array([a["path"] for a in adds], pa.string()),
            pa.array([a.get("size") for a in adds], pa.int64()),
            num_records(pa.array([a.get("stats") for a in adds], pa.string())),
            pa.array([(a.get("deletionVector") or {}).get("cardinality", 0) for a in adds]).cast(
                pa.int64()
            ),
            pa.array([a.get("dataChange") for a in adds], pa.bool_()),
            pa.array(
                [list((a.get("partitionValues") or {}).items()) for a in adds],
                FILE_SCHEMA.field("partition_values").type,
            ),
            pa.array([_descriptor(a.get("deletionVector")) for a in adds], pa.string()),
        ],
        schema=FILE_SCHEMA,
    )


def _descriptor(vector: Mapping[str, Any] | None) -> str | None:
    """A deletion vector's descriptor as text, equal where the vector is the same one."""
    if not vector or vector.get("storageType") is None:
        return None
    known = {key: value for key, value in vector.items() if value is not None}
    return orjson.dumps(known, option=orjson.OPT_SORT_KEYS).decode()


def read_checkpoint(file: pa.NativeFile, state: LogState) -> None:
    """Add one classic checkpoint file, or one part of it, to ``state``.

    Raises:
        CheckpointUnreadable: It lacks what a checkpoint has.
        pa.ArrowException, OSError: It cannot be read.
    """
    parquet = pq.ParquetFile(file)
    names = set(parquet.schema_arrow.names)
    if not {"add", "txn", "metaData", "protocol"} & names:
        raise CheckpointUnreadable("it has none of a checkpoint's columns")
    columns = [c for c in (*_WANTED, "add.stats_parsed.numRecords") if c.split(".")[0] in names]
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
        _files(batch, state)
        for txn in _actions(batch, "txn", "appId"):
            state.txns[txn["appId"]] = int(txn["version"])
        for metadata in _actions(batch, "metaData", "id"):
            state.metadata = {**metadata, "configuration": dict(metadata["configuration"] or ())}
        for protocol in _actions(batch, "protocol", "minReaderVersion"):
            state.protocol = protocol


def _actions(batch: pa.RecordBatch, column: str, key: str) -> list[dict[str, Any]]:
    if column not in batch.schema.names:
        return []
    values = batch.column(column)
    found: list[dict[str, Any]] = values.filter(
        pc.is_valid(pc.struct_field(values, key))
    ).to_pylist()
    return found


def _files(batch: pa.RecordBatch, state: LogState) -> None:
    if "add" not in batch.schema.names:
        return
    adds = batch.column("add")
    adds = adds.filter(pc.is_valid(pc.struct_field(adds, "path")))
    if len(adds) == 0:
        return
    fields = set(adds.type.names) if hasattr(adds.type, "names") else {f.name for f in adds.type}

    def column(name: str, kind: pa.DataType) -> pa.Array:
        return pc.struct_field(adds, name) if name in fields else pa.nulls(len(adds), kind)

    counts = num_records(column("stats", pa.string()))
    if "stats_parsed" in fields:
        parsed = pc.struct_field(pc.struct_field(adds, "stats_parsed"), "numRecords")
        counts = pc.coalesce(counts, parsed.cast(pa.int64()))
    deleted = pa.nulls(len(adds), pa.int64())
    descriptors = pa.nulls(len(adds), pa.string())
    if "deletionVector" in fields:
        vectors = pc.struct_field(adds, "deletionVector")
        if any(f.name == "cardinality" for f in vectors.type):
            deleted = pc.struct_field(vectors, "cardinality").cast(pa.int64())
            if deleted.null_count < len(deleted):
                found = [_descriptor(one) for one in vectors.to_pylist()]
                descriptors = pa.array(found, pa.string())
    values = column("partitionValues", FILE_SCHEMA.field("partition_values").type)
    state.base.append(
        pa.table(
            [
                column("path", pa.string()).cast(pa.string()),
                column("size", pa.int64()).cast(pa.int64()),
                counts,
                pc.fill_null(deleted, 0),
                column("dataChange", pa.bool_()),
                values.cast(FILE_SCHEMA.field("partition_values").type),
                descriptors,
            ],
            schema=FILE_SCHEMA,
        )
    )
