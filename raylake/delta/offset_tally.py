"""Which rows and dead letters of a batch lie on which side of the offsets that are gone back to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.pending import Withdrawal
from raylake.delta.verify_offsets import Mask
from raylake.ingest.unit import SourcePartition

Key = tuple[str, int]


class Tally:
    """Counts rows on both sides of the new ends while they are looked at.

    Args:
        ends: By partition, the first offset that leaves; rows do not tell a topic's incarnations.
    """

    def __init__(self, ends: Mapping[SourcePartition, int]) -> None:
        self._ends: dict[Key, int] = {(s.topic, s.partition): end for s, end in ends.items()}
        self.kept: dict[Key, int] = dict.fromkeys(self._ends, 0)
        self.taken: dict[Key, int] = dict.fromkeys(self._ends, 0)

    def doomed(self, batch: pa.RecordBatch) -> Mask:
        """Which rows of a batch leave; its first columns are topic, partition and offset."""
        topics, partitions, offsets = (batch.column(n) for n in range(3))
        found: Mask = np.zeros(batch.num_rows, np.bool_)
        for (topic, partition), end in self._ends.items():
            mine = pc.and_(
                pc.equal(topics.cast(pa.string()), topic),
                pc.equal(partitions.cast(pa.int64()), partition),
            )
            later = pc.and_(mine, pc.greater_equal(offsets.cast(pa.int64()), end))
            count = int(pc.sum(later).as_py() or 0)
            self.taken[topic, partition] += count
            self.kept[topic, partition] += int(pc.sum(mine).as_py() or 0) - count
            found |= pc.fill_null(later, False).to_numpy(zero_copy_only=False)
        return found


def doomed_letters(batch: pa.RecordBatch, wanted: Withdrawal, tally: Tally) -> Mask:
    """Which dead letters of a batch a withdrawal takes.

    Args:
        batch: Its first columns are topic, partition and offset.
        wanted: Of which table and topics.
        tally: Of the withdrawal's ends; counts those of the table and the topics.
    """
    ids = pa.array(sorted({s.topic_id for s in wanted.ends}), pa.string())
    mine = pc.and_(
        pc.equal(batch.column("table"), wanted.table),
        pc.is_in(batch.column("topic_id"), value_set=ids),
    )
    # A copy: what Arrow hands out may be read-only.
    chosen: Mask = np.array(pc.fill_null(mine, False).to_numpy(zero_copy_only=False))
    chosen[chosen] = tally.doomed(batch.filter(pa.array(chosen)))
    return chosen
