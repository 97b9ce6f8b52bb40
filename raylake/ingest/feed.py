"""One table's side of a consumer: decode, hold, write, hand over, and begin again when refused."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from raylake import faults
from raylake.clock import Clock
from raylake.errors import OutcomeUnknown, Retryable
from raylake.ingest.batcher import Batcher, BatchPolicy, Plan
from raylake.ingest.breaker import Breaker, PoisonGate, Verdict
from raylake.ingest.ports import Answer, Handover, OwnerPort, TableView
from raylake.ingest.unit import Counts, DataFile, OffsetRange, SourcePartition, Unit
from raylake.kafka.fetch import FetchedBatch

log = logging.getLogger(__name__)

RETRY_S = 0.25


class OwnerLost(OutcomeUnknown):
    """The table's owner is gone; what it was given may or may not be in the table."""

    code = "owner_lost"


@dataclass(frozen=True, slots=True)
class Made:
    """What a table makes of one fetched batch.

    Attributes:
        rows: Rows of the table, in its schema.
        dead: Rows of the dead-letter table; None when there are none.
        dead_rows: Positions in the batch of the records that are dead.
        max_event_ms: The greatest event time that may move the watermark.
        flagged: Event times kept but flagged, late rows, by kind.
    """

    rows: pa.Table
    dead: pa.Table | None
    dead_rows: Sequence[int]
    max_event_ms: int | None = None
    flagged: Mapping[str, int] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return int(self.rows.nbytes) + (0 if self.dead is None else int(self.dead.nbytes))


class Maker(Protocol):
    """Makes rows and dead letters of a batch, and files of rows."""

    def fit(self, view: TableView) -> None:
        """Work with this schema from now on."""
        ...

    def make(self, batch: FetchedBatch, watermark_ms: int | None) -> Made | pa.Schema:
        """Decode a batch; a schema means: the table needs these columns first."""
        ...

    def write_rows(self, rows: Sequence[pa.Table]) -> tuple[DataFile, ...]:
        """Write data files into the table's folder.

        Raises:
            Retryable: The store did not take them; nothing refers to what was written.
        """
        ...

    def write_dead(self, dead: Sequence[pa.Table], unit_id: str) -> tuple[DataFile, ...]:
        """Write dead-letter files; raises like :meth:`write_rows`."""
        ...


@dataclass(slots=True)
class _Outgoing:
    """A plan on its way into the table: files are written once, the unit is handed over until
    it is answered.
    """

    plan: Plan[Made]
    unit: Unit
    data_written: bool = False
    dead_written: bool = False
    handover: Handover | None = None

    @property
    def written(self) -> bool:
        return self.data_written and self.dead_written


@dataclass(slots=True)
class FeedCounters:
    """Totals since the consumer started."""

    records: int = 0
    rows: int = 0
    dead: int = 0
    units: int = 0
    refused: int = 0
    resets: int = 0
    evolved: int = 0
    flagged: dict[str, int] = field(default_factory=dict)


class TableFeed:
    """What one consumer does for one table. Not thread-safe.

    Args:
        names: Who feeds what, for units and messages.
        owner: The table's owner.
        maker: Makes rows, dead letters and files.
        policy: When what is held is handed over.
        gate: Stops a poisoned partition before its dead letters are committed.
        breakers: ``store`` and ``dead_letters``.
        clock: Time.
    """

    def __init__(
        self,
        names: FeedNames,
        owner: OwnerPort,
        maker: Maker,
        policy: BatchPolicy,
        gate: PoisonGate,
        breakers: Mapping[str, Breaker],
        clock: Clock,
    ) -> None:
        self.names = names
        self.counters = FeedCounters()
        self.gate = gate
        self.breakers = breakers
        self.watermark_ms: int | None = None
        self.seeks: set[SourcePartition] = set()
        self.error = ""
        self._owner = owner
        self._maker = maker
        self._clock = clock
        self._batcher: Batcher[Made] = Batcher(names.table, policy, clock)
        self._outgoing: deque[_Outgoing] = deque()
        self._view: TableView | None = None
        self._generation = 0
        self._resetting = False
        self._retry_at = 0.0

    @property
    def sources(self) -> frozenset[SourcePartition]:
        """The partitions that this table takes from this consumer."""
        return self._batcher.sources

    @property
    def held_bytes(self) -> int:
        """Bytes held, written ones that wait for the owner's answer included."""
        return self._batcher.held_bytes + sum(out.plan.nbytes for out in self._outgoing)

    @property
    def idle(self) -> bool:
        """Whether everything taken was handed over and answered."""
        return not self._outgoing and not self._resetting

    def expected(self, source: SourcePartition) -> int:
        """The next offset that this table wants of ``source``."""
        return self._batcher.expected(source)

    def grant(self, ends: Mapping[SourcePartition, int], generation: int) -> None:
        """Take these partitions from the table's ends on, under ``generation``."""
        if self._view is None:
            self._look()
        self._generation = max(self._generation, generation)
        for source, end in ends.items():
            self._batcher.begin(source, end)

    def give_up(self, sources: Sequence[SourcePartition]) -> None:
        """Hand over what is held of ``sources``; they are free once :meth:`holds` is false."""
        plan = self._batcher.hand_over(sources)
        if plan is not None:
            self._send(plan)

    def holds(self, sources: Sequence[SourcePartition]) -> bool:
        """Whether something of ``sources`` is still on its way."""
        wanted = set(sources)
        return self._resetting or any(
            r.source in wanted for out in self._outgoing for r in out.unit.ranges
        )

    def forget(self, sources: Sequence[SourcePartition]) -> None:
        """No longer take these partitions."""
        for source in sources:
            self._batcher.forget(source)
            self.gate.forget(source)
            self.seeks.discard(source)

    def lose(self, source: SourcePartition, end: int, dead: pa.Table) -> None:
        """Count ``[expected, end)`` as lost (``on_data_loss: record``)."""
        start = self.expected(source)
        if end > start:
            made = Made(self._no_rows(), dead, ())
            lost = OffsetRange(source, start, end, Counts(lost=end - start))
            self._batcher.add(lost, made, made.nbytes)

    def take(self, batch: FetchedBatch) -> Verdict | None:
        """Decode a batch and hold what this table wants of it.

        Returns:
            The gate's verdict when the partition is poisoned (nothing was taken), else None.

        Raises:
            OwnerLost: New columns were needed and the owner is gone; nothing was taken.
        """
        if self._resetting:
            return None
        wanted = self._batcher.wanted(batch.source, batch.start, batch.end)
        if wanted is None:
            return None
        batch = _beyond(batch, wanted[0])
        made = self._make(batch)
        offsets = batch.records.column("offset").to_numpy()
        verdict = self.gate.judge(batch.source, offsets, made.dead_rows)
        if not verdict.allowed:
            return verdict
        counts = Counts(
            rows=made.rows.num_rows,
            dead=len(made.dead_rows),
            absent=batch.end - batch.start - made.rows.num_rows - len(made.dead_rows),
        )
        span = OffsetRange(
            batch.source, batch.start, batch.end, counts, batch.leader_epoch, made.max_event_ms
        )
        empty = not counts.rows and not counts.dead
        self._batcher.add(span, None if empty else made, 0 if empty else made.nbytes)
        self._count(counts, made)
        return None

    @property
    def due(self) -> bool:
        """Whether something should be handed over now."""
        return not self._resetting and self._batcher.due() is not None

    def drop(self, sources: Sequence[SourcePartition]) -> None:
        """Discard what is held of ``sources`` and not on its way; it is expected again."""
        for source in sources:
            if source in self._batcher.sources:
                self._batcher.drop(source)

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
        if self._clock.monotonic() < self._retry_at:
            return
        try:
            for out in list(self._outgoing):
                if not self._advance(out):
                    break
            self._take_answers()
            if self._resetting and not self._outgoing:
                self._reset()
        except OwnerLost as error:
            self.error = error.message
            for out in self._outgoing:
                out.handover = None
            self._retry_at = self._clock.monotonic() + RETRY_S

    def _look(self) -> TableView:
        self._view = self._owner.view()
        self._maker.fit(self._view)
        return self._view

    def _no_rows(self) -> pa.Table:
        view = self._view or self._look()
        return view.schema.empty_table()

    def _make(self, batch: FetchedBatch) -> Made:
        made = self._maker.make(batch, self.watermark_ms)
        while isinstance(made, pa.Schema):
            self._view = self._owner.evolve(made)
            self._maker.fit(self._view)
            self.counters.evolved += 1
            made = self._maker.make(batch, self.watermark_ms)
        return made

    def _count(self, counts: Counts, made: Made) -> None:
        counters = self.counters
        counters.records += counts.rows + counts.dead
        counters.rows += counts.rows
        counters.dead += counts.dead
        for kind, count in made.flagged.items():
            counters.flagged[kind] = counters.flagged.get(kind, 0) + count

    def _send(self, plan: Plan[Made]) -> None:
        view = self._view or self._look()
        flagged: dict[str, int] = {}
        for held in plan.batches:
            for kind, count in held.item.flagged.items():
                flagged[kind] = flagged.get(kind, 0) + count
        unit = Unit(
            self.names.pipeline,
            self.names.consumer,
            self._generation,
            view.fingerprint,
            plan.ranges,
            flagged=flagged,
        )
        self._outgoing.append(_Outgoing(plan, unit))

    def _advance(self, out: _Outgoing) -> bool:
        if out.handover is not None:
            return True
        if self._resetting and not out.written:
            return True
        if not self._write(out):
            return False
        in_flight = {"rows": out.unit.counts.rows, "unit": out.unit.unit_id}
        faults.reach("consumer.handing_over", **in_flight)
        out.handover = self._owner.submit(out.unit)
        faults.reach("consumer.handed_over", **in_flight)
        self.counters.units += 1
        return True

    def _write(self, out: _Outgoing) -> bool:
        items = [held.item for held in out.plan.batches]
        if not out.data_written:
            rows = [item.rows for item in items if item.rows.num_rows]
            view = self._view or self._look()
            if not self._try("store", lambda: self._write_data(out, rows, view)):
                return False
            out.data_written = True
        if not out.dead_written:
            dead = [item.dead for item in items if item.dead is not None]
            if dead and not self._try("dead_letters", lambda: self._write_dead(out, dead)):
                return False
            out.dead_written = True
        return True

    def _write_data(self, out: _Outgoing, rows: Sequence[pa.Table], view: TableView) -> None:
        files = self._maker.write_rows(rows) if rows else ()
        out.unit = out.unit.replace(files=files, schema_fingerprint=view.fingerprint)

    def _write_dead(self, out: _Outgoing, dead: Sequence[pa.Table]) -> None:
        files = self._maker.write_dead(dead, out.unit.unit_id)
        out.unit = out.unit.replace(dead_letter_files=files)

    def _try(self, dependency: str, write: _Write) -> bool:
        breaker = self.breakers[dependency]
        if not breaker.allow():
            return False
        try:
            write()
        except Retryable as error:
            breaker.failure(error.message)
            self.error = error.message
            self._retry_at = self._clock.monotonic() + RETRY_S
            log.warning("%s: %s", self.names.table, error.message)
            return False
        breaker.success()
        return True

    def _take_answers(self) -> None:
        while self._outgoing:
            if self._outgoing[0].handover is None:
                if self._resetting and not self._outgoing[0].written:
                    self._outgoing.popleft()
                    continue
                return
            answer = self._outgoing[0].handover.poll()
            if answer is None:
                return
            self._answered(answer)

    def _answered(self, answer: Answer) -> None:
        out = self._outgoing.popleft()
        self.error = ""
        if answer.watermark_ms is not None:
            self.watermark_ms = answer.watermark_ms
        if answer.outcome.status == "refused":
            self.counters.refused += 1
            self._resetting = True
            log.info(
                "%s refused unit %s: %s",
                self.names.table,
                out.unit.unit_id,
                answer.outcome.reason,
                extra={"ranges": [str(r) for r in out.unit.ranges]},
            )

    def _reset(self) -> None:
        """Drop everything held and begin at the table's ends; all in-flight units are answered."""
        self._look()
        sources = sorted(self._batcher.sources)
        ends = self._owner.ends(sources)
        for source in sources:
            if source in ends:
                self._batcher.begin(source, ends[source].next)
        self.seeks.update(sources)
        self._resetting = False
        self.counters.resets += 1


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


class _Write(Protocol):
    def __call__(self) -> None: ...


def _beyond(batch: FetchedBatch, start: int) -> FetchedBatch:
    """The part of a batch from ``start`` on (I13)."""
    if start <= batch.start:
        return batch
    records = batch.records.filter(pc.greater_equal(batch.records.column("offset"), start))
    return replace(batch, start=start, records=records, nbytes=int(records.nbytes))
