"""The owner's loop: units become commits, dead letters follow, checkpoints run beside.

One thread does everything that touches the table, in order. Whoever hands something over gets a
future. The actor around it only wires futures to calls.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from raylake import faults
from raylake.clock import Clock
from raylake.delta.pending import DeadLetterCommit
from raylake.errors import Fenced, LogDamaged, OutcomeUnknown, RayLakeError, Retryable
from raylake.ingest.breaker import BreakerState
from raylake.ingest.outbox import Dependency
from raylake.ingest.ports import Answer, DeadLetterPort
from raylake.ingest.unit import SourcePartition, Unit, UnitOutcome

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PENDING_DEAD_LETTER_COMMITS = 50
BLOCKED_WAIT_S = 0.2


class CommittingTable(Protocol):
    """What the loop needs of :class:`raylake.delta.owned_table.OwnedTable`."""

    @property
    def table_id(self) -> str:
        """The table's id."""
        ...

    def commit(
        self,
        units: Sequence[Unit],
        *,
        watermark: Callable[[Sequence[Unit]], int | None] | None = None,
    ) -> list[UnitOutcome]:
        """Commit what may be committed and answer each unit."""
        ...

    def release(self) -> None:
        """Say in the log that this owner leaves."""
        ...


class Watermark(Protocol):
    """The table's watermark, fed by what is about to be committed."""

    def add(self, source: SourcePartition, /) -> None:
        """Count a partition in."""
        ...

    def preview(self, units: Sequence[Unit]) -> int | None:
        """The watermark after these units; ms since the epoch."""
        ...

    def committed(self, units: Sequence[Unit]) -> int | None:
        """The units are in the table: move the watermark."""
        ...


class Checkpointer(Protocol):
    """Writes checkpoints off the commit path."""

    def committed(self, version: int, *, keep_from: int) -> None:
        """A commit landed; log files from ``keep_from`` on are still needed."""
        ...

    def close(self) -> None:
        """Wait for a checkpoint under way."""
        ...


@dataclass(slots=True)
class OwnerState:
    """The loop's state for the status document."""

    version: int | None = None
    commits: int = 0
    units_committed: int = 0
    units_refused: int = 0
    files: int = 0
    watermark_ms: int | None = None
    last_commit_at: float | None = None
    waiting_units: int = 0
    pending_dead_letters: int = 0
    oldest_waiting_at: float | None = None
    breakers: dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(slots=True)
class _Waiting:
    unit: Unit
    future: Future[Answer]
    since: float


class OwnerLoop:
    """Groups hand-overs into commits of one table.

    Args:
        table: The table, attached.
        dead_letters: The dead-letter queue.
        watermark: The table's watermark.
        checkpointer: Writes checkpoints beside.
        stores: ``store`` and ``dead_letters``.
        clock: Time.
        commit_interval_s: At most one commit in this time, unless someone is in a hurry.
    """

    def __init__(
        self,
        table: CommittingTable,
        dead_letters: DeadLetterPort,
        watermark: Watermark,
        checkpointer: Checkpointer,
        *,
        stores: Mapping[str, Dependency],
        clock: Clock,
        commit_interval_s: float,
    ) -> None:
        self._table = table
        self._dead_letters = dead_letters
        self._watermark = watermark
        self._checkpointer = checkpointer
        self._stores = stores
        self._clock = clock
        self._commit_interval_s = commit_interval_s
        self._changed = threading.Condition()
        self._units: deque[_Waiting] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._pending: deque[DeadLetterCommit] = deque()
        self._hurry = False
        self._closing = False
        self.failure: RayLakeError | None = None
        self._last_commit_s = -1e9
        self._state = OwnerState()

    def submit(self, unit: Unit) -> Future[Answer]:
        """Queue a unit; the future is resolved after the commit that decides it."""
        faults.reach("owner.received", unit=unit.unit_id)
        future: Future[Answer] = Future()
        with self._changed:
            if self.failure is not None:
                future.set_exception(self.failure)
            elif self._closing:
                future.set_exception(_gone())
            else:
                self._units.append(_Waiting(unit, future, self._clock.now()))
                self._changed.notify()
        return future

    def call(self, operation: Callable[[], T]) -> Future[T]:
        """Run an operation on the table between two commits."""
        future: Future[T] = Future()
        with self._changed:
            if self.failure is not None:
                future.set_exception(self.failure)
            elif self._closing:
                future.set_exception(_gone())
            else:
                self._calls.append((operation, future))
                self._changed.notify()
        return future

    def watch(self, sources: Iterable[SourcePartition]) -> None:
        """Let newly admitted partitions hold the watermark back; from within a :meth:`call`."""
        for source in sources:
            self._watermark.add(source)

    def hurry(self) -> None:
        """From now on commit as soon as anything waits (drain, ``available_now``)."""
        with self._changed:
            self._hurry = True
            self._changed.notify()

    def state(self) -> OwnerState:
        """A copy of the state."""
        with self._changed:
            state = self._state
            oldest = self._units[0].since if self._units else None
            return OwnerState(
                state.version,
                state.commits,
                state.units_committed,
                state.units_refused,
                state.files,
                state.watermark_ms,
                state.last_commit_at,
                len(self._units),
                len(self._pending),
                oldest,
                {name: store.breaker.snapshot() for name, store in self._stores.items()},
                str(self.failure) if self.failure else state.error,
            )

    def redo(self, pending: Iterable[DeadLetterCommit]) -> None:
        """Dead letters that the log names and the dead-letter table may lack (I5)."""
        self._pending.extend(pending)

    def close(self) -> None:
        """Commit what waits, store its dead letters, release the table and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def run(self) -> None:
        """The thread's main; returns after :meth:`close` or a terminal failure."""
        try:
            while self._turn():
                pass
        except RayLakeError as error:
            self._fail(error)
        finally:
            self._checkpointer.close()

    def _turn(self) -> bool:
        with self._changed:
            wait_s = self._wait_s()
            if wait_s > 0:
                self._changed.wait(wait_s)
            calls, self._calls = self._calls, deque()
            group = list(self._units) if self._commit_allowed() else []
            closing = self._closing
        for operation, future in calls:
            self._answer(operation, future)
        if group:
            self._commit(group)
        self._store_dead_letters()
        if closing and not self._units and not self._pending:
            self._table.release()
            return False
        return True

    def _wait_s(self) -> float:
        if self._calls:
            return 0.0
        if self._units:
            if self._blocked() or self._hindered("store"):
                return BLOCKED_WAIT_S
            return self._until_due_s()
        if self._pending:
            return BLOCKED_WAIT_S if self._hindered("dead_letters") else 0.0
        return 0.0 if self._closing else 1.0

    def _hindered(self, name: str) -> bool:
        store = self._stores[name]
        return store.breaker.state is not BreakerState.CLOSED or store.pace.wait_s() > 0

    def _until_due_s(self) -> float:
        if self._hurry or self._closing:
            return 0.0
        return max(0.0, self._last_commit_s + self._commit_interval_s - self._clock.monotonic())

    def _blocked(self) -> bool:
        return len(self._pending) >= MAX_PENDING_DEAD_LETTER_COMMITS

    def _commit_allowed(self) -> bool:
        due = bool(self._units) and not self._blocked() and self._until_due_s() <= 0
        store = self._stores["store"]
        return due and not store.pace.wait_s() and store.breaker.allow()

    def _answer(self, operation: Callable[[], Any], future: Future[Any]) -> None:
        try:
            result = operation()
        except (Fenced, LogDamaged) as error:
            future.set_exception(error)
            raise
        except RayLakeError as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _commit(self, group: list[_Waiting]) -> None:
        units = [waiting.unit for waiting in group]
        started = self._clock.monotonic()
        try:
            outcomes = self._table.commit(units, watermark=self._watermark.preview)
        except (Retryable, OutcomeUnknown) as error:
            self._stores["store"].failed(error.message)
            self._state.error = error.message
            log.warning("commit failed, units wait: %s", error.message)
            return
        self._stores["store"].succeeded()
        self._last_commit_s = started
        by_id = {outcome.unit_id: outcome for outcome in outcomes}
        landed = [unit for unit in units if by_id[unit.unit_id].status == "committed"]
        watermark_ms = self._watermark.committed(landed)
        with self._changed:
            for _ in group:
                self._units.popleft()
            self._record(landed, outcomes, watermark_ms)
        self._queue_dead_letters(landed, outcomes)
        for waiting in group:
            waiting.future.set_result(Answer(by_id[waiting.unit.unit_id], watermark_ms))

    def _record(
        self, landed: list[Unit], outcomes: list[UnitOutcome], watermark_ms: int | None
    ) -> None:
        state = self._state
        state.error = ""
        state.watermark_ms = watermark_ms
        state.units_refused += sum(outcome.status == "refused" for outcome in outcomes)
        if landed:
            state.commits += 1
            state.units_committed += len(landed)
            state.files += sum(len(unit.files) for unit in landed)
            state.last_commit_at = self._clock.now()
            state.version = max(o.version for o in outcomes if o.version is not None)

    def _queue_dead_letters(self, landed: list[Unit], outcomes: list[UnitOutcome]) -> None:
        if not landed:
            return
        version = max(
            outcome.version
            for outcome in outcomes
            if outcome.status == "committed" and outcome.version is not None
        )
        files = tuple(file for unit in landed for file in unit.dead_letter_files)
        if files:
            self._pending.append(DeadLetterCommit(version, files))
        keep_from = self._pending[0].version if self._pending else version
        self._checkpointer.committed(version, keep_from=keep_from)

    def _store_dead_letters(self) -> None:
        store = self._stores["dead_letters"]
        while self._pending and not store.pace.wait_s() and store.breaker.allow():
            head = self._pending[0]
            faults.reach("owner.before_dead_letters", version=head.version)
            try:
                self._dead_letters.add(self._table.table_id, head.version, head.files)
            except (Retryable, OutcomeUnknown) as error:
                store.failed(error.message)
                log.warning("dead letters of version %d wait: %s", head.version, error.message)
                return
            store.succeeded()
            self._pending.popleft()
            faults.reach("owner.after_dead_letters", version=head.version)

    def _fail(self, error: RayLakeError) -> None:
        log.error("the owner stops: %s", error)
        with self._changed:
            self.failure = error
            waiting, self._units = list(self._units), deque()
            calls, self._calls = list(self._calls), deque()
        for one in waiting:
            one.future.set_exception(error)
        for _, future in calls:
            future.set_exception(error)


def _gone() -> OutcomeUnknown:
    return OutcomeUnknown(
        "this owner of the table has left", hint="ask the supervisor for the owner"
    )
