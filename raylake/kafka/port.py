"""The port through which records come in: what a fetcher takes, gives and promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from raylake.ingest.unit import SourcePartition

_MIB = 1024 * 1024
_LEAST_PARTS = 8


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read next.

    Attributes:
        offset: The next offset to read.
        leader_epoch: The leader epoch of what was read before it, -1 when unknown. With it, a log
            that was cut off and written anew is noticed.
    """

    offset: int
    leader_epoch: int = -1


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one partition has to go.

    Attributes:
        end_offset: The high watermark.
        last_stable_offset: The end of what is committed. Less than ``end_offset`` while a
            transaction is open; when the position has reached it, an open transaction is what holds
            the partition up.
        position: The next offset to read.
    """

    end_offset: int
    last_stable_offset: int
    position: int

    @property
    def blocked_by_transaction(self) -> bool:
        """Whether only an open transaction keeps records back."""
        return self.position >= self.last_stable_offset < self.end_offset


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """The half-open range ``[start, end)`` of one partition and the records in it.

    Attributes:
        source: The partition.
        start: The first offset of the range.
        end: The position after it; offsets of the range without a row are aborted, control or
            compacted records.
        records: Rows of :data:`FETCH_SCHEMA`, offsets rising; may be empty.
        leader_epoch: Leader epoch of the last record batch read, -1 when unknown.
        nbytes: Size of ``records`` in memory, in bytes.
    """

    source: SourcePartition
    start: int
    end: int
    records: pa.RecordBatch
    leader_epoch: int
    nbytes: int

    @property
    def absent(self) -> int:
        """Offsets of the range that hold no committed record."""
        return self.end - self.start - int(self.records.num_rows)


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Bounds of a fetch.

    Attributes:
        max_records: Records of one call.
        max_bytes: Keys, values and headers of one call, decompressed; the record that passes it is
            still delivered, so one larger record gets through.
        fetch_max_bytes: Bytes of one broker's answer, as they lie in the log (compressed).
        max_partition_fetch_bytes: The same for one partition of the answer.
        held_bytes: What the caller may hold; all partitions' parts of answers fit in together, so
            that none waits until what was fetched of another has gone through it.
        client_id: The name in the broker's logs and quotas.
        client: Other settings of kafka-python's consumer; those that RayLake sets win.
    """

    max_records: int = 50_000
    max_bytes: int = 16 * _MIB
    fetch_max_bytes: int = 16 * _MIB
    max_partition_fetch_bytes: int = 4 * _MIB
    held_bytes: int = 256 * _MIB
    client_id: str = "raylake"
    client: Mapping[str, Any] = field(default_factory=dict)

    def part_bytes(self, partitions: int) -> int:
        """Bytes of an answer that one of so many partitions may take.

        Small parts cost more CPU a record: not below 1 MiB but where little is held.
        """
        share = self.held_bytes // max(1, partitions)
        least = min(_MIB, self.held_bytes // _LEAST_PARTS)
        return max(1, min(self.max_partition_fetch_bytes, max(share, least)))


class Fetcher(Protocol):
    """Reads committed records of assigned partitions; the caller owns the positions.

    Used by one thread. Nothing is committed to Kafka, and no position is ever reset.
    """

    def assign(self, positions: Mapping[SourcePartition, Position]) -> None:
        """Read exactly these partitions, from these positions; nothing is paused."""
        ...

    def seek(self, source: SourcePartition, position: Position) -> None:
        """Continue one partition elsewhere; what was fetched and not delivered is dropped."""
        ...

    def pause(self, sources: Iterable[SourcePartition]) -> None:
        """Deliver nothing of these partitions until they are resumed; positions stay."""
        ...

    def resume(self, sources: Iterable[SourcePartition]) -> None:
        """Deliver these partitions again."""
        ...

    def fetch(self, timeout_s: float) -> list[FetchedBatch]:
        """What arrived, one batch a partition; an empty list when nothing did in ``timeout_s``."""
        ...

    def positions(self) -> dict[SourcePartition, Position]:
        """The next offset to deliver of each assigned partition."""
        ...

    def lag(self, sources: Iterable[SourcePartition]) -> dict[SourcePartition, Lag]:
        """Ends of assigned partitions, asked from the brokers now."""
        ...

    def check_topics(self) -> None:
        """Check that every assigned topic is the incarnation that was assigned."""
        ...

    def close(self) -> None:
        """Release connections; closing twice is harmless."""
        ...
