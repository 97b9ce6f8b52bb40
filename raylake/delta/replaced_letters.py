"""Which dead letters of a table a replay has replaced, by their coordinates (I5)."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.verify_offsets import Mask
from raylake.ingest.unit import SourcePartition

Key = tuple[str, SourcePartition]


class Coordinates:
    """Dead letters by table, topic, topic id, partition and offset.

    Args:
        batches: Their first columns are topic, partition, offset, topic id and table.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        found: dict[Key, list[pa.Array]] = {}
        for batch in batches:
            for key, offsets in _by_partition(batch):
                found.setdefault(key, []).append(offsets)
        self._offsets = {key: pa.concat_arrays(arrays) for key, arrays in found.items()}

    def has(self, batch: pa.RecordBatch) -> Mask:
        """Which letters of a batch with the same columns are among them."""
        chosen: Mask = np.zeros(batch.num_rows, np.bool_)
        for key, offsets in self._offsets.items():
            mine = pc.and_(_of(batch, key), pc.is_in(_offsets(batch), value_set=offsets))
            chosen |= pc.fill_null(mine, False).to_numpy(zero_copy_only=False)
        return chosen


def _by_partition(batch: pa.RecordBatch) -> Iterable[tuple[Key, pa.Array]]:
    columns = [_text(batch, 4), _text(batch, 0), _text(batch, 3), batch.column(1).cast(pa.int64())]
    table = pa.table(columns, names=["table", "topic", "topic_id", "partition"])
    for one in table.group_by(table.schema.names).aggregate([]).to_pylist():
        key = one["table"], SourcePartition(one["topic"], one["topic_id"], int(one["partition"]))
        yield key, _offsets(batch).filter(_of(batch, key))


def _of(batch: pa.RecordBatch, key: Key) -> pa.Array:
    table, source = key
    conditions = (
        pc.equal(_text(batch, 4), table),
        pc.equal(_text(batch, 0), source.topic),
        pc.equal(_text(batch, 3), source.topic_id),
        pc.equal(batch.column(1).cast(pa.int64()), source.partition),
    )
    return functools.reduce(pc.and_, conditions)


def _offsets(batch: pa.RecordBatch) -> pa.Array:
    return batch.column(2).cast(pa.int64())


def _text(batch: pa.RecordBatch, column: int) -> pa.Array:
    return batch.column(column).cast(pa.string())
