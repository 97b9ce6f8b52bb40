"""A lake in memory for the pipeline's simulation: files, two tables' logs, and what may go wrong.

The fold over the ledger is the product's own; the table around it does what ``OwnedTable`` promises
(epochs, an unknown outcome settled from the log), and is itself tested against a simulated
delta-rs in ``simulated_delta``. The account knows nothing of the product's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import pyarrow as pa

from raylake.delta.ledger import Ledger, Verdict, admitted, fold
from raylake.delta.pending import DeadLetterCommit, PendingDeadLetters
from raylake.errors import (
    DependencyUnreachable,
    Fenced,
    OutcomeUnknown,
    Retryable,
    SchemaConflict,
)
from raylake.ingest.made import Made, at_once
from raylake.ingest.ports import TableView
from raylake.ingest.retry import RetryCounters
from raylake.ingest.unit import DataFile, PartitionState, SourcePartition, Unit, UnitOutcome
from raylake.kafka.port import FetchedBatch
from tests.harness.simulated_kafka import DEAD, WIDER

PIPELINE = "sim"
ROW, LOST = "row", "lost"
Coordinates = tuple[SourcePartition, int, str]


class Crash(BaseException):
    """The process is gone; nothing of it runs on."""


@dataclass(frozen=True)
class Version:
    """One version of a table's log."""

    kind: str
    epoch: int
    states: Mapping[SourcePartition, PartitionState]
    units: tuple[Unit, ...] = ()
    watermark_ms: int | None = None
    columns: tuple[str, ...] = ()


@dataclass
class Lake:
    """Everything that is durable, and what the next writes meet."""

    files: dict[str, tuple[Coordinates, ...]] = field(default_factory=dict)
    logs: dict[str, list[Version]] = field(default_factory=dict)
    letters: dict[str, list[DataFile]] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    plants: dict[str, list[str]] = field(default_factory=dict)
    fired: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.fired[what] = self.fired.get(what, 0) + 1

    def plant(self, where: str) -> str:
        """The fault that the next write at a place meets; empty for none."""
        waiting = self.plants.get(where)
        if not waiting:
            return ""
        fault = waiting.pop()
        self.count(f"{where}: {fault}")
        return fault

    def reachable(self, store: str) -> None:
        """Raise as a full disk does."""
        if store in self.failing:
            self.count(f"{store} refused a write")
            raise DependencyUnreachable(f"{store}: no space left on device")

    def stored_version(self, table_id: str) -> int:
        return self.stored.get(table_id, -1)

    def write(self, store: str, coordinates: Iterable[Coordinates]) -> DataFile:
        self.reachable(store)
        path = f"{store}-{len(self.files)}"
        self.files[path] = tuple(coordinates)
        return DataFile(path, 16 * len(self.files[path]), len(self.files[path]), {}, "{}")


class SimulatedTable:
    """One owner's view of a table: the commit rule over :class:`Lake`."""

    def __init__(self, lake: Lake, name: str) -> None:
        self.table_id = f"id-{name}"
        self._lake = lake
        self._log = lake.logs.setdefault(name, [])
        self._pending: Version | None = None
        self._unreadable = False
        self.generations: dict[SourcePartition, int] = {}
        self.retries = RetryCounters()
        lake.reachable("store")
        self.epoch = self._log[-1].epoch + 1 if self._log else 1
        last = self._log[-1] if self._log else Version("create", 0, {}, columns=("offset",))
        self._log.append(
            Version("epoch", self.epoch, last.states, (), last.watermark_ms, last.columns)
        )

    @property
    def last(self) -> Version:
        return self._log[-1]

    @property
    def watermark_ms(self) -> int | None:
        return self.last.watermark_ms

    @property
    def version(self) -> int:
        return len(self._log) - 1

    @property
    def generation(self) -> int:
        return max(self.generations.values(), default=0)

    @property
    def view(self) -> TableView:
        schema = pa.schema([(name, pa.int64()) for name in self.last.columns])
        return TableView(self.table_id, schema, ",".join(self.last.columns))

    def set_generation(self, sources: Iterable[SourcePartition], generation: int) -> None:
        for source in sources:
            self.generations[source] = max(generation, self.generations.get(source, 0))

    def states(self) -> dict[SourcePartition, PartitionState]:
        return dict(self.last.states)

    def ends(self, sources: Iterable[SourcePartition]) -> dict[SourcePartition, PartitionState]:
        return {s: self.last.states[s] for s in sources if s in self.last.states}

    def admit(
        self, origins: Mapping[SourcePartition, int]
    ) -> dict[SourcePartition, PartitionState]:
        self._refresh()
        new = {s: admitted(o) for s, o in origins.items() if s not in self.last.states}
        if new:
            self._write("admit", {**self.last.states, **new})
        return {s: self.last.states[s] for s in origins}

    def commit(
        self,
        units: Sequence[Unit],
        *,
        watermark: Callable[[Sequence[Unit]], int | None] | None = None,
    ) -> list[UnitOutcome]:
        self._refresh()
        states = self.last.states
        ledger = Ledger(
            states, dict.fromkeys(states, PIPELINE), self.generations, self.view.fingerprint
        )
        folded = fold(units, ledger)
        accepted = folded.accepted()
        if accepted:
            now_ms = watermark(accepted) if watermark is not None else None
            known = [ms for ms in (self.watermark_ms, now_ms) if ms is not None]
            self._write("data", {**states, **folded.states}, accepted, max(known, default=None))
        ends = {s: state.next for s, state in self.last.states.items()}
        found = []
        for decision in folded.decisions:
            at = {r.source: ends[r.source] for r in decision.unit.ranges if r.source in ends}
            refused = decision.verdict is Verdict.REFUSE
            status = {Verdict.ACCEPT: "committed", Verdict.ALREADY: "already"}
            found.append(
                UnitOutcome(
                    decision.unit.unit_id,
                    status.get(decision.verdict, "refused"),
                    None if refused else self.version,
                    at,
                    decision.reason,
                )
            )
        return found

    def evolve(self, additions: pa.Schema) -> TableView:
        self._refresh()
        new = [name for name in additions.names if name not in self.last.columns]
        if any(name.startswith("bad") for name in new):
            raise SchemaConflict("such a column cannot be added")
        if new:
            columns = (*self.last.columns, *new)
            self._write("evolve", self.last.states, columns=columns)
        return self.view

    def pending_dead_letters(self, after_version: int) -> PendingDeadLetters:
        commits = []
        for number in range(after_version + 1, len(self._log)):
            files = tuple(f for u in self._log[number].units for f in u.dead_letter_files)
            if files:
                commits.append(DeadLetterCommit(number, files))
        return PendingDeadLetters(tuple(commits), max(after_version, self.version))

    def release(self) -> None:
        self._refresh()
        self._write("release", self.last.states)

    def _refresh(self) -> None:
        """Settle what is pending, then check that this owner still owns the table."""
        if self._unreadable:
            self._unreadable = False
            raise OutcomeUnknown("the log cannot be read")
        self._pending = None
        if self.last.epoch != self.epoch:
            self._lake.count("zombie fenced")
            raise Fenced(f"epoch {self.last.epoch} took the table over from {self.epoch}")

    def _write(
        self,
        kind: str,
        states: Mapping[SourcePartition, PartitionState],
        units: Sequence[Unit] = (),
        watermark_ms: int | None = None,
        columns: tuple[str, ...] = (),
    ) -> None:
        self._lake.reachable("store")
        fault = self._lake.plant("commit")
        if fault == "crash before":
            raise Crash
        if fault == "contended":
            raise Retryable("another commit came between")
        watermark_ms = self.watermark_ms if watermark_ms is None else watermark_ms
        columns = columns or self.last.columns
        version = Version(kind, self.epoch, dict(states), tuple(units), watermark_ms, columns)
        self._log.append(version)
        if fault == "crash after":
            raise Crash
        if fault == "outcome unknown":
            raise OutcomeUnknown("a commit failed and its log cannot be read")


class SimulatedQueue:
    """The dead-letter queue's process over the lake; it is there once it was started."""

    def __init__(self, lake: Lake) -> None:
        self.alive = True
        self.started = False
        self._lake = lake

    def ready(self) -> bool:
        return self.started

    def add(self, table_id: str, version: int, files: Sequence[DataFile]) -> None:
        self._answering()
        self._lake.reachable("dead_letters")
        fault = self._lake.plant("queue")
        if fault == "killed before":
            self.alive = False
            self._answering()
        if version > self._lake.stored.get(table_id, -1):
            self._lake.stored[table_id] = version
            self._lake.letters.setdefault(table_id, []).extend(files)
        if fault == "killed after":
            self.alive = False
            self._answering()

    def _answering(self) -> None:
        if not self.alive:
            raise DependencyUnreachable("the dead-letter queue: an actor is gone")


class Later(Future[tuple[DataFile, ...]]):
    """Done work that shows itself only when it has been asked for a few times."""

    def __init__(self, work: Future[tuple[DataFile, ...]], questions: int) -> None:
        super().__init__()
        self._work = work
        self._questions = questions

    def done(self) -> bool:
        self._questions -= 1
        return self._questions < 0

    def result(self, timeout: float | None = None) -> tuple[DataFile, ...]:
        return self._work.result(timeout)


class SimulatedMaker:
    """Rows are offsets; a ``wider`` record needs a column that the table may lack."""

    def __init__(self, lake: Lake, table: str, column: str, *, late: bool = False) -> None:
        self._lake = lake
        self._column = column
        self._columns: list[str] = []
        self._submitted = 0
        self._late = late

    def fit(self, view: TableView) -> None:
        self._columns = view.schema.names

    def make(self, batch: FetchedBatch, watermark_ms: int | None) -> Made | pa.Schema:
        offsets = batch.records.column("offset").to_pylist()
        kinds = batch.records.column("kind").to_pylist()
        if WIDER in kinds and len(self._columns) < 2:
            return pa.schema([(self._column, pa.int64())])
        dead = [row for row, kind in enumerate(kinds) if kind == DEAD]
        rows = [(batch.source, o) for o, kind in zip(offsets, kinds, strict=True) if kind != DEAD]
        letters = [(batch.source, offsets[row]) for row in dead]
        # Slower partitions have earlier event times.
        times = [o * 1000 - batch.source.partition * 7 for _, o in rows]
        dead_table = _table(letters, DEAD) if letters else None
        return Made(_table(rows, ROW), dead_table, dead, max(times, default=None))

    def submit(self, work: Callable[[], tuple[DataFile, ...]]) -> Future[tuple[DataFile, ...]]:
        self._submitted += 1
        return Later(at_once(work), self._submitted % 3 if self._late else 0)

    def write_rows(self, rows: Sequence[pa.Table], schema: pa.Schema) -> tuple[DataFile, ...]:
        return (self._lake.write("store", _coordinates(rows)),)

    def write_dead(self, dead: Sequence[pa.Table], unit_id: str) -> tuple[DataFile, ...]:
        return (self._lake.write("dead_letters", _coordinates(dead)),)


_COORDINATES = pa.schema(
    [
        ("topic", pa.string()),
        ("topic_id", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("stage", pa.string()),
        ("error_class", pa.string()),
        ("reason", pa.string()),
    ]
)


def _table(rows: Sequence[tuple[SourcePartition, int]], fate: str) -> pa.Table:
    columns = [
        pa.array([s.topic for s, _ in rows], pa.string()),
        pa.array([s.topic_id for s, _ in rows], pa.string()),
        pa.array([s.partition for s, _ in rows], pa.int32()),
        pa.array([offset for _, offset in rows], pa.int64()),
        pa.array([fate] * len(rows), pa.string()),
        pa.array(["Simulated"] * len(rows), pa.string()),
        pa.array(["made so"] * len(rows), pa.string()),
    ]
    return pa.table(columns, schema=_COORDINATES)


def letter_of(source: SourcePartition, start: int, end: int, _reason: str) -> pa.Table:
    """A dead letter for each lost offset, where the product writes one for the range."""
    return _table([(source, offset) for offset in range(start, end)], LOST)


def _coordinates(tables: Sequence[pa.Table]) -> list[Coordinates]:
    found = []
    for table in tables:
        columns = [column.to_pylist() for column in table.columns[:5]]
        for *source, offset, fate in zip(*columns, strict=True):
            found.append((SourcePartition(*source), offset, fate))
    return found
