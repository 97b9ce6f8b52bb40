"""The Arrow form of fetched records."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pyarrow as pa

HEADERS_TYPE = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())]))
FETCH_SCHEMA = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64()),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", HEADERS_TYPE, nullable=False),
    ]
)
_OFFSET, _TIMESTAMP, _KEY, _VALUE, _HEADERS = 3, 4, 6, 7, 8


def to_arrow(records: list[Any]) -> pa.RecordBatch:
    """kafka-python's records of one partition as a batch of :data:`FETCH_SCHEMA`.

    A timestamp of -1, or none (format 0), becomes null; a record without headers has an empty list.
    """
    if not records:
        return empty()
    columns = list(zip(*records, strict=True))
    return pa.record_batch(
        [
            pa.array(columns[_OFFSET], pa.int64()),
            pa.array(
                [None if ms is None or ms < 0 else ms for ms in columns[_TIMESTAMP]], pa.int64()
            ),
            pa.array(columns[_KEY], pa.binary()),
            pa.array(columns[_VALUE], pa.binary()),
            _headers(columns[_HEADERS]),
        ],
        schema=FETCH_SCHEMA,
    )


def empty() -> pa.RecordBatch:
    """A batch without rows."""
    return pa.record_batch([pa.array([], field.type) for field in FETCH_SCHEMA], FETCH_SCHEMA)


def _headers(column: tuple[list[tuple[str, bytes | None]], ...]) -> pa.ListArray:
    ends = [0, *accumulate(len(headers) for headers in column)]
    keys = [key for headers in column for key, _ in headers]
    values = [value for headers in column for _, value in headers]
    pairs = pa.StructArray.from_arrays(
        [pa.array(keys, pa.string()), pa.array(values, pa.binary())],
        fields=list(HEADERS_TYPE.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pairs, type=HEADERS_TYPE)
