"""What a consumer holds for one table until it is time to hand it over (DESIGN §5, I13)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from raylake.clock import Clock
from raylake.ingest.moments import Moments
from raylake.ingest.unit import OffsetRange, SourcePartition

T = TypeVar("T")


class FlushReason(StrEnum):
    """Why a plan was made."""

    BYTES = "bytes"
    INTERVAL = "interval"
    OFFSETS_ONLY = "offsets_only"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When held batches are handed over.

    Attributes:
        max_batch_bytes: At this many bytes held.
        commit_interval_s: At the table's next moment (:class:`Moments`) after a record arrived.
        idle_commit_interval_s: Offsets without any record, at most this often.
    """

    max_batch_bytes: int = 64 * 1024 * 1024
    commit_interval_s: float = 5.0
    idle_commit_interval_s: float = 60.0

    def __post_init__(self) -> None:
        if (
            self.max_batch_bytes < 1
            or self.commit_interval_s < 0
            or self.idle_commit_interval_s < 0
        ):
            raise ValueError(f"{self} cannot be followed")


@dataclass(frozen=True, slots=True)
class HeldBatch(Generic[T]):
    """One item as it was added.

    Attributes:
        range: Its offsets.
        item: The payload, opaque here.
        nbytes: Its size in bytes.
    """

    range: OffsetRange
    item: T
    nbytes: int


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """One hand-over.

    Attributes:
        table: The table.
        reason: Why now.
        ranges: One range per partition, ordered by partition, without gaps inside.
        batches: The items, by partition and then in order of offset.
        nbytes: Their size in bytes.
        held_for_s: Since the first of them arrived, in seconds.
    """

    table: str
    reason: FlushReason
    ranges: tuple[OffsetRange, ...]
    batches: tuple[HeldBatch[T], ...]
    nbytes: int
    held_for_s: float

    @property
    def rows(self) -> int:
        """Rows in the ranges."""
        return sum(one.counts.rows for one in self.ranges)


@dataclass(slots=True)
class _Held(Generic[T]):
    next: int
    range: OffsetRange | None = None
    batches: list[HeldBatch[T]] = field(default_factory=list)


class Batcher(Generic[T]):
    """Accumulates the batches of one table; the item type is the caller's.

    Each partition's ranges are contiguous from the offset it was given in :meth:`begin`, and each
    offset leaves in exactly one plan, or is dropped and read again. A range that holds a record
    (a row, a dead letter, a lost offset) waits for the table's next moment, ``commit_interval_s``
    at most, also when the wall clock is moved meanwhile; the first one does not wait, so that a
    start shows in the table at once. Ranges without any ride along with the next plan, or leave in
    one of their own at most once per ``idle_commit_interval_s`` after the plan before it, and at
    drain. Not thread-safe.
    """

    def __init__(self, table: str, policy: BatchPolicy, clock: Clock) -> None:
        self.table = table
        self.policy = policy
        self.held_bytes = 0
        self._clock = clock
        self._moments = Moments(table, policy.commit_interval_s)
        self._held: dict[SourcePartition, _Held[T]] = {}
        self._since: dict[SourcePartition, float] = {}
        self._records_due: dict[SourcePartition, float] = {}
        self._flushed_at = clock.monotonic()
        self._begun = False

    @property
    def sources(self) -> frozenset[SourcePartition]:
        """The partitions that it batches."""
        return frozenset(self._held)

    @property
    def held_rows(self) -> int:
        """Rows that are held."""
        return sum(h.range.counts.rows for h in self._held.values() if h.range is not None)

    def begin(self, source: SourcePartition, offset: int) -> None:
        """Expect ``source`` from ``offset`` on; what is held of it is discarded.

        Args:
            source: The partition.
            offset: The table's end there, as the owner said (attach, grant or refusal).

        Raises:
            ValueError: A negative offset.
        """
        if offset < 0:
            raise ValueError(f"{source}: {offset} is not an offset")
        self.forget(source)
        self._held[source] = _Held(offset)

    def expected(self, source: SourcePartition) -> int:
        """The next offset that this table wants of ``source``.

        Raises:
            KeyError: ``begin`` was not called for it.
        """
        return self._held[source].next

    def wanted(self, source: SourcePartition, start: int, end: int) -> tuple[int, int] | None:
        """The part of ``[start, end)`` that lies beyond this table's own end (I13).

        None when there is no such part, or when the partition is not this table's.

        Raises:
            ValueError: The range begins beyond the end: offsets between them were not offered.
        """
        held = self._held.get(source)
        if held is None or end <= held.next:
            return None
        if start > held.next:
            raise ValueError(f"{self.table}: {source} expected at {held.next}, not {start}")
        return held.next, end

    def add(self, offsets: OffsetRange, item: T | None = None, nbytes: int = 0) -> None:
        """Hold one range and what was made of it.

        Args:
            offsets: Begins where the partition's last one ended.
            item: The payload; None when the range has none (all its offsets are absent).
            nbytes: The payload's size in bytes.

        Raises:
            KeyError: ``begin`` was not called for the partition.
            ValueError: The range doesn't begin at the expected offset, or rows without an item;
                nothing was held.
        """
        source = offsets.source
        held = self._held[source]
        if offsets.start != held.next:
            raise ValueError(f"{self.table}: {source} expected at {held.next}, not {offsets.start}")
        if item is None and (nbytes or offsets.counts.rows):
            raise ValueError(f"{self.table}: {offsets} has rows and no item")
        if offsets.end == offsets.start:
            return
        now = self._clock.monotonic()
        held.range = offsets if held.range is None else held.range.then(offsets)
        held.next = offsets.end
        self._since.setdefault(source, now)
        if item is not None or holds_records(offsets):
            wait_s = self._moments.next_in_s(self._clock) if self._begun else 0.0
            self._records_due.setdefault(source, now + wait_s)
        if item is not None:
            held.batches.append(HeldBatch(offsets, item, nbytes))
            self.held_bytes += nbytes

    def due(self) -> FlushReason | None:
        """Why it should be flushed now; None when it is not time."""
        if self.held_bytes >= self.policy.max_batch_bytes:
            return FlushReason.BYTES
        if self.due_in_s() != 0.0:
            return None
        return FlushReason.INTERVAL if self._records_due else FlushReason.OFFSETS_ONLY

    def due_in_s(self) -> float | None:
        """Seconds until time alone makes it due; None when nothing is held."""
        if not self._since:
            return None
        if self._records_due:
            at = min(self._records_due.values())
        else:
            at = self._flushed_at + self.policy.idle_commit_interval_s
        return max(0.0, round(at - self._clock.monotonic(), 6))

    def flush(self, *, drain: bool = False) -> Plan[T] | None:
        """Take what is held, if it is due or ``drain`` asks for it; else None."""
        reason = FlushReason.DRAIN if drain else self.due()
        if reason is None or not self._since:
            return None
        return self._take(sorted(self._since), reason)

    def hand_over(self, sources: Iterable[SourcePartition]) -> Plan[T] | None:
        """Take what is held of ``sources``, due or not, before they are given away (I13)."""
        taken = sorted(s for s in set(sources) if s in self._since)
        return self._take(taken, FlushReason.DRAIN) if taken else None

    def drop(self, source: SourcePartition) -> int:
        """Discard what is held of ``source`` and expect it again.

        Returns:
            The offset to seek to: the first one discarded, or the next one expected.

        Raises:
            KeyError: ``begin`` was not called for it.
        """
        held = self._held[source]
        offset = held.next if held.range is None else held.range.start
        self.begin(source, offset)
        return offset

    def forget(self, source: SourcePartition) -> None:
        """Discard what is held of ``source`` and no longer batch it; no effect when unknown."""
        held = self._held.pop(source, None)
        if held is not None:
            self._release(source, held)

    def _take(self, sources: list[SourcePartition], reason: FlushReason) -> Plan[T]:
        now = self._clock.monotonic()
        since = min(self._since[source] for source in sources)
        taken = [self._held[source] for source in sources]
        ranges = tuple(held.range for held in taken if held.range is not None)
        batches = tuple(batch for held in taken for batch in held.batches)
        for source, held in zip(sources, taken, strict=True):
            self._release(source, held)
            self._held[source] = _Held(held.next)
        self._flushed_at = now
        self._begun = True
        nbytes = sum(batch.nbytes for batch in batches)
        return Plan(self.table, reason, ranges, batches, nbytes, now - since)

    def _release(self, source: SourcePartition, held: _Held[T]) -> None:
        self.held_bytes -= sum(batch.nbytes for batch in held.batches)
        self._since.pop(source, None)
        self._records_due.pop(source, None)


def holds_records(offsets: OffsetRange) -> bool:
    """Whether a range must be committed soon: it has rows, dead letters or lost offsets."""
    counts = offsets.counts
    return bool(counts.rows or counts.dead or counts.lost)
