"""One table's side of a consumer: decode, hold, send, and begin again when refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from raylake.clock import Clock
from raylake.errors import Retryable
from raylake.ingest import trail
from raylake.ingest.batcher import Batcher, BatchPolicy, Plan
from raylake.ingest.earlier import Snapshots
from raylake.ingest.fitting import Fitting
from raylake.ingest.made import Made, Maker
from raylake.ingest.outbox import Outbox
from raylake.ingest.poison import PoisonGate, Verdict
from raylake.ingest.ports import Answer, OwnerLost, OwnerPort
from raylake.ingest.retry import Dependency, Pace
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit
from raylake.kafka.port import FetchedBatch

RECONNECT_S = 0.25
"""How often a lost owner's successor is looked for: the supervisor's work, so no backoff."""


@dataclass(slots=True)
class FeedCounters:
    """Totals since the consumer started."""

    records: int = 0
    rows: int = 0
    dead: int = 0
    bytes: int = 0
    units: int = 0
    refused: int = 0
    resets: int = 0
    evolved: int = 0
    flagged: dict[str, int] = field(default_factory=dict)
    dead_by: dict[str, int] = field(default_factory=dict)
    """Dead letters by ``<stage>/<error class>``."""

    def count(
        self, counts: Counts, nbytes: int, flagged: Mapping[str, int], dead: pa.Table | None
    ) -> None:
        """Count one batch of so many bytes, decompressed."""
        self.bytes += nbytes
        self.records += counts.rows + counts.dead
        self.rows += counts.rows
        self.dead += counts.dead
        for kind, number in flagged.items():
            self.flagged[kind] = self.flagged.get(kind, 0) + number
        if dead is not None:
            # Arrow's groups cost several times as much: they wake its threads.
            reasons = (dead.column(name).to_pylist() for name in ("stage", "error_class"))
            for (stage, error_class), number in Counter(zip(*reasons, strict=True)).items():
                reason = f"{stage}/{error_class}"
                self.dead_by[reason] = self.dead_by.get(reason, 0) + number


@dataclass(frozen=True, slots=True)
class FeedNames:
    """Who feeds what.

    Attributes:
        pipeline: The pipeline.
        consumer: The consumer.
        table: The table, ``layer.name``.
    """

    pipeline: str
    consumer: str
    table: str


class TableFeed:
    """What one consumer does for one table. Not thread-safe.

    Args:
        names: Who feeds what, for units and messages.
        owner: The table's owner.
        maker: Makes rows, dead letters and files.
        policy: When what is held is handed over.
        gate: Stops a poisoned partition before its dead letters are committed.
        stores: ``store`` and ``dead_letters``.
        clock: Time.
    """

    def __init__(
        self,
        names: FeedNames,
        owner: OwnerPort,
        maker: Maker,
        policy: BatchPolicy,
        gate: PoisonGate,
        stores: Mapping[str, Dependency],
        clock: Clock,
    ) -> None:
        self.names = names
        self.counters = FeedCounters()
        self.gate = gate
        self.stores = stores
        self.seeks: set[SourcePartition] = set()
        self.earlier: Snapshots = {}
        self._owner = owner
        self._clock = clock
        self._batcher: Batcher[Made] = Batcher(names.table, policy, clock)
        self._outbox = Outbox(names.table, owner, maker, stores)
        self._fitting = Fitting(names.table, owner, maker)
        self._generation = 0
        self._resetting = False
        self._reconnect_at_s = 0.0
        self._taking = Pace(stores["store"].pace.policy, clock, stores["store"].pace.count)
        self._error = ""

    @property
    def sources(self) -> frozenset[SourcePartition]:
        """The partitions that this table takes from this consumer."""
        return self._batcher.sources

    @property
    def held_bytes(self) -> int:
        """Bytes held, written ones that wait for the owner's answer included."""
        return self._batcher.held_bytes + self._outbox.nbytes

    @property
    def idle(self) -> bool:
        """Whether everything sent was answered."""
        return not self._outbox and not self._resetting

    @property
    def writing(self) -> bool:
        """Whether files are being written: look again soon."""
        return self._outbox.writing

    @property
    def due(self) -> bool:
        """Whether something should be handed over now."""
        return not self._resetting and self._batcher.due() is not None

    @property
    def due_in_s(self) -> float | None:
        """Seconds until time alone makes it due; None when nothing is held."""
        return self._batcher.due_in_s()

    @property
    def holding(self) -> bool:
        """Whether something waits to be handed over, be it offsets only."""
        return self.due_in_s is not None

    @property
    def take_again_in_s(self) -> float:
        """How long to wait before what :meth:`take` refused is offered again."""
        return max(RECONNECT_S, self._taking.wait_s())

    @property
    def error(self) -> str:
        """What holds it up; empty when nothing does."""
        return self._error or self._outbox.error

    def expected(self, source: SourcePartition) -> int:
        """The next offset that this table wants of ``source``."""
        return self._batcher.expected(source)

    def grant(self, ends: Mapping[SourcePartition, int], generation: int) -> None:
        """Take these partitions from the table's ends on, under ``generation``."""
        self._generation = max(self._generation, generation)
        self.gate.restore(self.earlier, sorted(ends))
        for source, end in ends.items():
            self._batcher.begin(source, end)

    def give_up(self, sources: Sequence[SourcePartition]) -> None:
        """Hand over what is held of ``sources``; they are free once :meth:`holds` is false."""
        plan = self._batcher.hand_over(sources)
        if plan is not None:
            self._send(plan)

    def holds(self, sources: Sequence[SourcePartition]) -> bool:
        """Whether something of ``sources`` is still on its way."""
        return self._resetting or self._outbox.holds(sources)

    def forget(self, sources: Sequence[SourcePartition]) -> None:
        """No longer take these partitions."""
        for source in sources:
            self._batcher.forget(source)
            self.gate.forget(source)
            self.seeks.discard(source)

    def drop(self, sources: Sequence[SourcePartition]) -> None:
        """Discard what is held of ``sources`` and not on its way; it is expected again."""
        for source in sources:
            if source in self._batcher.sources:
                self._batcher.drop(source)

    def leave(self) -> dict[SourcePartition, int]:
        """Discard what is held and not on its way; how many offsets of each partition that is."""
        read_up_to = {source: self.expected(source) for source in self.sources}
        self.drop(sorted(read_up_to))
        left = {source: at - self.expected(source) for source, at in read_up_to.items()}
        return {source: count for source, count in left.items() if count}

    def lose(self, source: SourcePartition, end: int, dead: pa.Table) -> None:
        """Count ``[expected, end)`` as lost (``on_data_loss: record``).

        Raises:
            OwnerLost: The table's schema is not known yet; nothing was counted.
        """
        start = self.expected(source)
        if end > start:
            made = Made(self._fitting.view().schema.empty_table(), dead, ())
            lost = OffsetRange(source, start, end, Counts(lost=end - start))
            self._batcher.add(lost, made, made.nbytes)

    def take(self, batch: FetchedBatch) -> Verdict | None:
        """Decode a batch and hold what this table wants of it.

        Returns:
            The gate's verdict when the partition is poisoned (nothing was taken), else None.

        Raises:
            OwnerLost: The schema was needed and the owner is gone; nothing was taken.
            Retryable, OutcomeUnknown: The table's schema could not be changed now; nothing was
                taken.
        """
        if self._resetting:
            return None
        wanted = self._batcher.wanted(batch.source, batch.start, batch.end)
        if wanted is None:
            return None
        batch = _beyond(batch, wanted[0])
        try:
            made = self._fitting.make(batch)
        except Retryable as error:
            self._taking.failed(error.message)
            raise
        self._taking.succeeded()
        self.counters.evolved = self._fitting.evolved
        offsets = batch.records.column("offset").to_numpy()
        verdict = self.gate.judge(batch.source, offsets, made.dead_rows)
        if not verdict.allowed:
            first = "" if verdict.by_hand else _first_of(made)
            return replace(verdict, reason=f"{verdict.reason}{first}")
        found = trail.origins(batch.records)
        if found:
            made = replace(made, origins=found)
        counts = _counts(batch, made)
        span = OffsetRange(
            batch.source, batch.start, batch.end, counts, batch.leader_epoch, made.max_event_ms
        )
        if counts.rows or counts.dead:
            self._batcher.add(span, made, made.nbytes)
        else:
            self._batcher.add(span)
        self.counters.count(counts, batch.nbytes, made.flagged, made.dead)
        return None

    def flush(self, *, drain: bool = False) -> None:
        """Hand over what is due, or everything."""
        if self._resetting:
            return
        plan = self._batcher.flush(drain=drain)
        if plan is not None:
            self._send(plan)

    def push(self) -> None:
        """Move what is on its way: write files, hand over, take answers.

        Raises:
            RayLakeError: The owner stopped for good.
        """
        if self._clock.monotonic() < self._reconnect_at_s:
            return
        try:
            if self._resetting:
                self._outbox.drop_unwritten()
            if self._outbox:
                self._outbox.advance(self._fitting.view())
            for unit, answer in self._outbox.answers():
                self._answered(unit, answer)
            if self._resetting and not self._outbox:
                self._reset()
            self._error = ""
        except OwnerLost as error:
            self._error = error.message
            self._outbox.owner_lost()
            self._reconnect_at_s = self._clock.monotonic() + RECONNECT_S

    def _send(self, plan: Plan[Made]) -> None:
        flagged: dict[str, int] = {}
        for held in plan.batches:
            for kind, count in held.item.flagged.items():
                flagged[kind] = flagged.get(kind, 0) + count
        unit = Unit(
            self.names.pipeline,
            self.names.consumer,
            self._generation,
            self._fitting.fingerprint,
            plan.ranges,
            flagged=flagged,
        )
        self._outbox.add(plan, unit)
        self.counters.units += 1

    def _answered(self, unit: Unit, answer: Answer) -> None:
        if answer.watermark_ms is not None:
            self._fitting.watermark_ms = answer.watermark_ms
        if answer.outcome.status == "refused":
            self.counters.refused += 1
            self._resetting = True
            trail.refused(self.names.table, unit, answer.outcome)

    def _reset(self) -> None:
        """Drop everything held and begin at the table's ends; all in-flight units are answered."""
        self._fitting.look()
        sources = sorted(self._batcher.sources)
        ends = self._owner.ends(sources)
        for source in sources:
            if source in ends:
                self._batcher.begin(source, ends[source].next)
        self.seeks.update(sources)
        self._resetting = False
        self.counters.resets += 1


def _counts(batch: FetchedBatch, made: Made) -> Counts:
    rows, dead = made.rows.num_rows, len(made.dead_rows)
    return Counts(rows=rows, dead=dead, absent=batch.end - batch.start - rows - dead)


def _first_of(made: Made) -> str:
    if made.dead is None or not made.dead.num_rows:
        return ""
    first = {name: made.dead.column(name)[0].as_py() for name in ("offset", "reason")}
    return f" The first one is offset {first['offset']}: {first['reason']}"


def _beyond(batch: FetchedBatch, start: int) -> FetchedBatch:
    """The part of a batch from ``start`` on (I13)."""
    if start <= batch.start:
        return batch
    records = batch.records.filter(pc.greater_equal(batch.records.column("offset"), start))
    return replace(batch, start=start, records=records, nbytes=int(records.nbytes))
