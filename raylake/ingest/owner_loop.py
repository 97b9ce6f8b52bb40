"""The owner's loop: units become commits, dead letters follow, checkpoints run beside.

One thread does everything that touches the table, in order. Whoever hands something over gets a
future. The actor around it only wires futures to calls; a simulation calls :meth:`OwnerLoop.step`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from raylake import faults
from raylake.clock import Clock, Deadline
from raylake.errors import Fenced, LogDamaged, OutcomeUnknown, RayLakeError, Retryable
from raylake.ingest import trail
from raylake.ingest.follow_up import FollowUp
from raylake.ingest.moments import Gathering, Moments
from raylake.ingest.owner_ports import Checkpointer, CommittingTable, Watermark
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.ports import Answer, DeadLetterPort, OwnerLost
from raylake.ingest.retry import Dependency
from raylake.ingest.unit import SourcePartition, Unit

log = logging.getLogger(__name__)

T = TypeVar("T")

BLOCKED_WAIT_S = 0.2
IDLE_WAIT_S = 1.0


@dataclass(slots=True)
class _Waiting:
    unit: Unit
    future: Future[Answer]
    since: float
    arrived_s: float

    @property
    def consumer(self) -> str:
        return self.unit.consumer

    @property
    def rows(self) -> int:
        return self.unit.counts.rows

    @property
    def letters(self) -> bool:
        return bool(self.unit.dead_letter_files)


class OwnerLoop:
    """Groups hand-overs into commits of one table.

    Args:
        table: The table, attached.
        dead_letters: The dead-letter queue.
        watermark: The table's watermark.
        checkpointer: Writes checkpoints beside.
        stores: ``store`` and ``dead_letters``.
        clock: Time.
        moments: When consumers hand over: at most one commit between two of them, unless someone
            is in a hurry.
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
        moments: Moments,
    ) -> None:
        self.failure: RayLakeError | None = None
        self._table = table
        self._watermark = watermark
        self._checkpointer = checkpointer
        self.stores = stores
        self._clock = clock
        self._gathering = Gathering(moments, clock)
        self.letters = FollowUp(table.table_id, dead_letters, stores["dead_letters"])
        self._changed = threading.Condition()
        self._units: deque[_Waiting] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._closing: Deadline | None = None
        self._state = OwnerState()

    def submit(self, unit: Unit) -> Future[Answer]:
        """Queue a unit; the future is resolved after the commit that decides it."""
        faults.reach("owner.received", unit=unit.unit_id)
        future: Future[Answer] = Future()
        now, arrived_s = self._clock.now(), self._clock.monotonic()
        with self._changed:
            if not self._refused(future):
                self._units.append(_Waiting(unit, future, now, arrived_s))
                self._changed.notify()
        return future

    def call(self, operation: Callable[[], T]) -> Future[T]:
        """Run an operation on the table between two commits."""
        future: Future[T] = Future()
        with self._changed:
            if not self._refused(future):
                self._calls.append((operation, future))
                self._changed.notify()
        return future

    def watch(self, sources: Iterable[SourcePartition]) -> None:
        """Let newly admitted partitions hold the watermark back; from within a :meth:`call`."""
        for source in sources:
            self._watermark.add(source)

    def set_watermark(self, value_ms: int, *, dry_run: bool) -> int | None:
        """Move the watermark (DESIGN §8); from within a :meth:`call`. Returns what it was."""
        was_ms = self._table.watermark_ms
        if not dry_run:
            self._table.set_watermark(value_ms)
            self._watermark.set(value_ms)
        return was_ms

    def hurry(self, for_s: float = math.inf) -> None:
        """For so long commit as soon as anything waits (drain, ``available_now``, hand-over)."""
        with self._changed:
            self._gathering.hurry(for_s)
            self._changed.notify()

    def state(self) -> OwnerState:
        """A copy of the state."""
        with self._changed:
            return replace(
                self._state,
                version=self._table.version,
                waiting_units=len(self._units),
                pending_dead_letters=len(self.letters),
                needs_queue=not self.letters.done or any(w.letters for w in self._units),
                oldest_waiting_at=self._units[0].since if self._units else None,
                breakers={name: store.breaker.snapshot() for name, store in self.stores.items()},
                error=str(self.failure) if self.failure else self._state.error,
                retries=self._table.retries.snapshot(),
                checkpoint_error=self._checkpointer.error,
                watermark_ms=self._table.watermark_ms,
            )

    def count_files(self, more: int) -> None:
        """So many more data files are in the table; before the start or from a :meth:`call`."""
        self._state.add_live_files(more)

    def redo(self, stored: int) -> None:
        """Before the start: find the dead letters after ``stored`` (-1: all) left undone (I5)."""
        self.letters.begin(stored, self._table.pending_dead_letters(stored))

    def close(self, timeout_s: float) -> None:
        """Commit what waits, store its dead letters, release the table and end.

        What cannot be done in ``timeout_s`` seconds is left: units are read again, dead letters are
        added by the next owner, which finds them in the log (I5).
        """
        with self._changed:
            self._closing = Deadline.after(timeout_s, self._clock)
            self._changed.notify()

    def run(self) -> None:
        """The thread's main; returns after :meth:`close` or a terminal failure."""
        while self.step():
            with self._changed:
                wait_s = self._wait_s()
                if wait_s > 0:
                    self._changed.wait(wait_s)

    def step(self) -> bool:
        """What can be done now, without waiting; false when the loop has ended."""
        going_on = False
        try:
            going_on = self._turn()
        except RayLakeError as error:
            self._fail(error)
        finally:
            if not going_on:
                self._end()
        return going_on

    def _turn(self) -> bool:
        with self._changed:
            calls, self._calls = self._calls, deque()
            group = list(self._units) if self._commit_allowed() else []
            closing = self._closing
        try:
            while calls:
                self._answer(*calls[0])
                calls.popleft()
        finally:
            self._calls.extendleft(reversed(calls))
        if group:
            self._commit(group)
        self.letters.push()
        left = self._units or self._calls or not self.letters.done
        if closing is not None and (closing.expired() or not left):
            _release(self._table)
            return False
        return True

    def _wait_s(self) -> float:
        if self._calls:
            return 0.0
        waits = [IDLE_WAIT_S]
        if self._units:
            held_up = self.letters.blocked or self.stores["store"].held_up
            waits.append(BLOCKED_WAIT_S if held_up else self._until_due_s())
        if not self.letters.done:
            waits.append(BLOCKED_WAIT_S if self.letters.hindered else 0.0)
        if self._closing is not None:
            waits.append(self._closing.left_s() if len(waits) > 1 else 0.0)
        return min(waits)

    def _until_due_s(self) -> float:
        return 0.0 if self._closing is not None else self._gathering.due_in_s(self._units)

    def _commit_allowed(self) -> bool:
        due = bool(self._units) and not self.letters.blocked and self._until_due_s() <= 0
        return due and self.stores["store"].allow()

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
        self._gathering.begins()
        try:
            commit = partial(self._table.commit, units, watermark=self._watermark.preview)
            outcomes = trail.commit(self._table.table_id, units, commit)
        except (Retryable, OutcomeUnknown) as error:
            self.letters.doubt()
            self.stores["store"].failed(error.message)
            self._state.error = error.message
            log.warning("commit failed, units wait: %s", error.message)
            return
        self.stores["store"].succeeded()
        # By position: a unit that was handed over twice has two outcomes.
        decided = list(zip(units, outcomes, strict=True))
        landed = [unit for unit, outcome in decided if outcome.status == "committed"]
        in_table = [unit for unit, outcome in decided if outcome.status != "refused"]
        self._watermark.committed(in_table)
        # What the log holds: nothing else survives this owner.
        watermark_ms = self._table.watermark_ms
        with self._changed:
            for _ in group:
                self._units.popleft()
            took_s = self._clock.monotonic() - started
            self._gathering.committed(group)
            self._state.count(landed, outcomes, self._clock.now(), took_s)
        for waiting, outcome in zip(group, outcomes, strict=True):
            trail.decided(waiting.unit, outcome)
            waiting.future.set_result(Answer(outcome, watermark_ms))
        self._follow_up(landed)

    def _follow_up(self, landed: list[Unit]) -> None:
        version = self._state.version
        if landed and version is not None:
            self.letters.landed(version, [f for unit in landed for f in unit.dead_letter_files])
        self.letters.settle(self._table.pending_dead_letters)
        if landed and version is not None:
            self._checkpointer.committed(version, keep_from=self.letters.keep_from)

    def _refused(self, future: Future[Any]) -> bool:
        """Answer at once where nothing is taken any more."""
        if self.failure is not None:
            future.set_exception(self.failure)
        elif self._closing is not None:
            future.set_exception(_gone())
        return future.done()

    def _fail(self, error: RayLakeError) -> None:
        log.error("the owner stops: %s", error)
        with self._changed:
            self.failure = self.failure or error

    def _end(self) -> None:
        """Whoever waits is told, however the loop ended."""
        if self.failure is None and self._closing is None:
            # A fault that nobody foresaw: a new owner begins with what the log says (I4).
            self._fail(OwnerLost("the owner's loop ended unexpectedly; its log says why"))
        with self._changed:
            futures = [*(w.future for w in self._units), *(future for _, future in self._calls)]
            self._units.clear()
            self._calls.clear()
        for future in futures:
            if not future.done():
                future.set_exception(self.failure or _gone())
        self._checkpointer.close()


def _release(table: CommittingTable) -> None:
    try:
        table.release()
    except (Retryable, OutcomeUnknown) as error:
        log.warning("the table is left without a word in its log: %s", error.message)


def _gone() -> OwnerLost:
    return OwnerLost("this owner of the table has left", hint="ask the supervisor for the owner")
