"""The bronze layer: a decoded batch with its Kafka coordinates, as rows of the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.codecs.port import RESCUED, Decoded
from raylake.config.columns import PartitionField, parse_partition
from raylake.delta.partition_values import reads_as_null
from raylake.ingest.record_times import TIMESTAMP, moments
from raylake.kafka.port import FetchedBatch

HEADERS = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())]))

METADATA = pa.schema(
    [
        pa.field("_topic", pa.string()),
        pa.field("_partition", pa.int32()),
        pa.field("_offset", pa.int64()),
        pa.field("_timestamp", TIMESTAMP),
        pa.field("_key", pa.binary()),
        pa.field("_headers", HEADERS),
        pa.field("_ingested_at", TIMESTAMP),
        pa.field("_schema_id", pa.int32()),
        pa.field("_tombstone", pa.bool_()),
        pa.field("_rescued_data", pa.string()),
    ]
)
VALUE = pa.field("_value", pa.binary())
EVENT_TIME_FLAGS = (pa.field("_late", pa.bool_()), pa.field("_event_time_flag", pa.string()))
RESERVED = frozenset([*METADATA.names, VALUE.name, *(field.name for field in EVENT_TIME_FLAGS)])


@dataclass(frozen=True, slots=True)
class BronzeShape:
    """What a bronze table holds beside the payload.

    Attributes:
        partition_by: The table's partition columns.
        keep_value: Whether ``_value`` holds the exact bytes.
        flags: Whether event time is watched, so that ``_late`` and ``_event_time_flag`` exist.
    """

    partition_by: tuple[PartitionField, ...] = ()
    keep_value: bool = False
    flags: bool = False

    @classmethod
    def of(cls, partition_by: Sequence[str], *, keep_value: bool, flags: bool) -> BronzeShape:
        """The shape that a table's configuration asks for."""
        columns = tuple(parse_partition(text) for text in partition_by)
        return cls(columns, keep_value, flags)

    @property
    def derived(self) -> list[PartitionField]:
        """The partition columns that are taken from another column."""
        return [one for one in self.partition_by if one.transform != "column"]

    @property
    def partition_names(self) -> list[str]:
        """The partition columns' names, in order."""
        return [column.name for column in self.partition_by]

    def schema(self, payload: pa.Schema) -> pa.Schema:
        """The table's schema for a payload."""
        fields = [field for field in payload if field.name not in RESERVED]
        fields += list(METADATA)
        if self.keep_value:
            fields.append(VALUE)
        if self.flags:
            fields += list(EVENT_TIME_FLAGS)
        for one in self.derived:
            kind = pa.date32() if one.transform == "date" else TIMESTAMP
            fields.append(pa.field(one.name, kind))
        return pa.schema(fields)

    def payload(self, table: pa.Schema) -> pa.Schema:
        """The payload's part of a table's schema: the inverse of :meth:`schema`."""
        derived = {one.name for one in self.derived}
        return pa.schema([f for f in table if f.name not in RESERVED and f.name not in derived])


@dataclass(frozen=True, slots=True)
class EventFlags:
    """Verdicts on the event times of a batch's kept rows.

    Attributes:
        late: Boolean array; whether the row's event time is behind the watermark.
        flag: String array: null, or ``missing``, ``before_1970``, ``ahead``.
    """

    late: pa.Array
    flag: pa.Array


def keep_null_texts(decoded: Decoded, shape: BronzeShape) -> tuple[Decoded, int]:
    """Keep in ``_rescued_data`` the texts that read as null from a partition column.

    Delta's protocol has no empty text as a partition value, and readers take Hive's name for null
    as null. The column of such a row is null.

    Returns:
        The rows, and how many of them held such a text.
    """
    payload = decoded.payload
    schema = payload.schema
    columns = dict(zip(schema.names, payload.columns, strict=True))
    as_null = {
        one.name: reads_as_null(columns[one.name])
        for one in shape.partition_by
        if one.name in columns and pa.types.is_string(columns[one.name].type)
    }
    marked = [np.asarray(mask.to_numpy(zero_copy_only=False)) for mask in as_null.values()]
    rows = np.flatnonzero(np.logical_or.reduce(marked)) if marked else np.empty(0, np.int64)
    if not len(rows):
        return decoded, 0
    texts = columns[RESCUED].to_pylist() if RESCUED in columns else [None] * payload.num_rows
    for row in rows:
        members = [
            f"{json.dumps(name)}:{json.dumps(columns[name][row].as_py())}"
            for name, mask in as_null.items()
            if mask[row].as_py()
        ]
        others = (texts[row] or "{}")[1:-1]
        texts[row] = "{" + ",".join([*([others] if others else []), *members]) + "}"
    for name, mask in as_null.items():
        columns[name] = pc.if_else(mask, pa.scalar(None, pa.string()), columns[name])
    columns[RESCUED] = pa.array(texts, pa.string())
    return replace(decoded, payload=pa.RecordBatch.from_pydict(columns)), len(rows)


def assemble(
    batch: FetchedBatch,
    decoded: Decoded,
    shape: BronzeShape,
    schema: pa.Schema,
    *,
    ingested_at_us: int,
    flags: EventFlags | None = None,
) -> pa.Table:
    """Rows of the table for the records that were kept.

    Args:
        batch: What was fetched.
        decoded: What the decoder made of it.
        shape: The table's shape.
        schema: The table's whole schema, in the table's order.
        ingested_at_us: Time of ingestion, microseconds since the epoch.
        flags: Verdicts on event times, when the table watches them.

    Returns:
        A table with exactly ``schema``; a column that the batch lacks is null.
    """
    rows = decoded.payload.num_rows
    kept = _kept(batch.records, decoded, ["value"] if shape.keep_value else [])
    columns: dict[str, pa.Array] = dict(
        zip(decoded.payload.schema.names, decoded.payload.columns, strict=True)
    )
    columns["_topic"] = pa.repeat(pa.scalar(batch.source.topic, pa.string()), rows)
    columns["_partition"] = pa.repeat(pa.scalar(batch.source.partition, pa.int32()), rows)
    columns["_offset"] = kept["offset"]
    columns["_timestamp"] = moments(kept["timestamp_ms"])
    columns["_key"] = kept["key"]
    columns["_headers"] = kept["headers"]
    columns["_ingested_at"] = pa.repeat(pa.scalar(ingested_at_us, pa.int64()), rows).cast(TIMESTAMP)
    if shape.keep_value:
        columns["_value"] = kept["value"]
    if flags is not None:
        columns["_late"] = flags.late
        columns["_event_time_flag"] = flags.flag
    for one in shape.derived:
        columns[one.name] = partition_values(columns[one.column], one.transform)
    arrays = [
        _fit(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=pa.schema([f.with_nullable(True) for f in schema]))


def _kept(records: pa.RecordBatch, decoded: Decoded, more: Sequence[str]) -> dict[str, pa.Array]:
    """The records' columns that rows are made of, without the records that are no row."""
    names = ["offset", "timestamp_ms", "key", "headers", *more]
    columns = {name: records.column(name) for name in names}
    if decoded.payload.num_rows == records.num_rows:
        return columns
    mask = np.zeros(records.num_rows, np.bool_)
    mask[decoded.kept] = True
    # Rows are kept in order. Taking them by number costs four times as much.
    rows = pa.array(mask)
    return {name: _filtered(column, rows, len(decoded.kept)) for name, column in columns.items()}


def _filtered(column: pa.Array, rows: pa.Array, count: int) -> pa.Array:
    if isinstance(column, pa.ListArray) and not column.null_count and not len(column.flatten()):
        # Nothing but empty lists, as headers mostly are: each is as good as any other.
        return column.slice(0, count)
    return column.filter(rows)


def partition_values(column: pa.Array, transform: str) -> pa.Array:
    """The day or the beginning of the hour, in UTC.

    Args:
        column: Timestamps; days also of dates.
        transform: ``date`` or ``hour``.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz == "UTC":
        # The same numbers without a zone: looking hours up in UTC's rules costs six times as much.
        found = partition_values(column.view(pa.timestamp(kind.unit)), transform)
        return found.view(kind) if pa.types.is_timestamp(found.type) else found
    if transform == "date":
        return pc.cast(column, pa.date32())
    return pc.floor_temporal(column, unit="hour")


def _fit(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    return array if array.type == wanted else pc.cast(array, wanted)
