"""One Spark session and who uses it: started when asked for, watched, given back when idle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from raylake.clock import Clock
from raylake.errors import RayLakeError
from raylake.spark.errors import OperationCancelled, SparkLost, SparkNotReady, SparkUnavailable
from raylake.spark.life import Effect, Effects, Life, Limits, State
from raylake.spark.operations import JobGroups, Operations, Running
from raylake.storage.place import place
from raylake.tables.errors import OutcomeUnread

T = TypeVar("T")
CANCEL_S: Final = 60.0
STOP_S: Final = 60.0
"""A session that does not end within it is left to the end of its process."""
STEP_S: Final = 2.0
MAKE_WAY_S: Final = 600.0
LEAVING: Final = "leaving"
"""In an error's context: this host's life is over, another one can be made."""


class LiveSession(JobGroups, Protocol):
    """A session that is up; :class:`raylake.spark.session.RayDPSession` is the one."""

    def fits(self, table: str) -> bool:
        """Whether it can work on a table; another one could where it cannot.

        Raises:
            SparkUnavailable: No other one could either.
        """
        ...

    def session(self, table: str) -> Any:
        """A new ``SparkSession`` for one operation on a table."""
        ...

    def executors(self) -> int:
        """How many executors there are."""
        ...

    def alive(self) -> bool:
        """Whether the driver's process is there."""
        ...

    def kill(self) -> None:
        """End the driver's process, which may answer nothing any more."""
        ...

    def stop(self) -> None:
        """Give everything back."""
        ...


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What a host tells of itself.

    Attributes:
        state: Where its session is in its life.
        since_s: For so long.
        running: The tables that operations run on.
        operations: Operations that were begun, all in all.
        executors: Executors that there are.
        reason: Why it is absent or over.
    """

    state: State
    since_s: float = 0.0
    running: tuple[str, ...] = ()
    operations: int = 0
    executors: int = 0
    reason: str = ""


class SparkHosting:
    """Runs operations in one session; used by several threads at once.

    Args:
        limits: When its life ends by itself.
        start: Brings a session up that fits a table, or raises SparkUnavailable or SparkNotReady;
            it may be told of none.
        leave: Ends the process; called in a thread that may wait for :meth:`drained`.
        clock: Time.
    """

    def __init__(
        self,
        limits: Limits,
        start: Callable[[str | None], LiveSession],
        leave: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._start, self._leave, self._clock = start, leave, clock
        self._life = Life(limits, clock.monotonic())
        self._change = threading.Condition()
        self._session: LiveSession | None = None
        self._operations: Operations | None = None
        self._asked = Asked(clock)

    def execute(self, table: str, what: str, work: Callable[[LiveSession], T]) -> T:
        """Run an operation, in a session that is started if there is none.

        Args:
            table: The table's address.
            what: The operation's name.
            work: Does it, in this thread.

        Raises:
            SparkUnavailable, SparkNotReady: Nothing was begun.
            OperationCancelled: It was cancelled, and the table is as it was.
            SparkLost: The session was lost in the middle.
            RayLakeError: What the work raises.
        """
        session, operations = self._begun(table)
        try:
            entered = operations.entered(str(place(table)), what)
            with _Outcome(table, session) as outcome, entered as outcome.running:
                return work(session)
        finally:
            self._step(lambda life, now_s: life.ended(now_s))

    def warm(self) -> None:
        """Bring the session up without an operation; raises as :meth:`execute`."""
        self._begun(None)
        self._step(lambda life, now_s: life.ended(now_s))

    def cancel(self, table: str, timeout_s: float = CANCEL_S) -> int:
        """Cancel what runs on a table; returns how many still run after ``timeout_s``."""
        operations = self._operations
        return 0 if operations is None else operations.cancel(str(place(table)), timeout_s)

    def status(self) -> HostStatus:
        """How it stands."""
        with self._change:
            life, operations = self._life, self._operations
        return HostStatus(
            life.state,
            self._clock.monotonic() - life.since_s,
            tuple(operations.tables()) if operations else (),
            life.operations,
            life.executors,
            life.reason,
        )

    def watch(self) -> bool:
        """Look after the session, once in a while; False when its life is over."""
        session = self._session
        if session is not None and not self._life.over:
            if session.alive():
                # A driver that hangs must not hold this up: another thread waits for it.
                silent_s = self._asked.again(lambda: self._count(session))
                self._step(lambda life, now_s: life.silent(silent_s, now_s))
            else:
                self._step(_driver_lost)
        self._step(lambda life, now_s: life.passed(now_s))
        return not self._life.over

    def drained(self, timeout_s: float) -> bool:
        """Wait until no operation runs any more."""
        with self._change:
            return self._change.wait_for(lambda: not self._life.running, timeout_s)

    def close(self) -> None:
        """Give the session back now."""
        self._step(lambda life, now_s: life.lost("asked to leave", now_s))

    def _count(self, session: LiveSession) -> None:
        with _Ignored():
            count = session.executors()
            self._step(lambda life, now_s: life.counted(count, now_s))

    def _begun(self, table: str | None) -> tuple[LiveSession, Operations]:
        """The session, with one more operation that counts as running."""
        with self._change:
            starts = self._do(self._life.asked(self._clock.monotonic()))
        if Effect.START in starts:
            self._bring_up(table)
        self._refuse_unfit(table)
        with self._change:
            self._change.wait_for(lambda: self._life.state is not State.STARTING)
            if self._session is not None and not self._session.alive():
                self._step(_driver_lost)
            if self._life.over or self._session is None or self._operations is None:
                raise SparkNotReady(
                    f"the Spark session is {self._life.state}: {self._life.reason}",
                    hint="ask again: another one is started",
                    **{LEAVING: True},
                )
            self._life, _ = self._life.began(self._clock.monotonic())
            return self._session, self._operations

    def _refuse_unfit(self, table: str | None) -> None:
        """End a session that cannot do what another one could, when nothing else runs in it."""
        with self._change:
            self._change.wait_for(lambda: self._life.state is not State.STARTING)
            session = self._session
        if table is None or session is None or self._life.over or session.fits(table):
            return
        with self._change:
            alone = self._change.wait_for(lambda: not self._life.running, MAKE_WAY_S)
            if alone:
                self._step(lambda life, now_s: life.lost(f"{table} needs another one", now_s))
        raise SparkNotReady(
            f"{table}: the Spark session was started without what reaches its store",
            hint="ask again: another one is started when what runs in this one has ended",
            **{LEAVING: alone},
        )

    def _bring_up(self, table: str | None) -> None:
        try:
            session = self._start(table)
        except (SparkUnavailable, SparkNotReady) as error:
            # Who asks again makes a host of its own, with the configuration of then.
            said = error.message
            self._step(lambda life, now_s: life.lost(said, now_s))
            raise
        count = session.executors()
        with self._change:
            self._session, self._operations = session, Operations(session, self._clock)
        self._step(lambda life, now_s: life.started(count, now_s))

    def _step(self, event: Callable[[Life, float], tuple[Life, Effects]]) -> None:
        with self._change:
            effects = self._do(event(self._life, self._clock.monotonic()))
        if Effect.KILL in effects and self._session is not None:
            # What waits for its answer gets an error by it.
            self._session.kill()
        if Effect.CANCEL in effects and self._operations is not None:
            threading.Thread(
                target=self._operations.cancel, args=(None, CANCEL_S), daemon=True
            ).start()
        if Effect.LEAVE in effects:
            threading.Thread(target=self._end, name="leave", daemon=True).start()

    def _do(self, moved: tuple[Life, Effects]) -> Effects:
        self._life, effects = moved
        self._change.notify_all()
        return effects

    def _end(self) -> None:
        session = self._session
        if session is not None and session.alive():
            stopping = threading.Thread(target=_stopped, args=(session,), daemon=True)
            stopping.start()
            stopping.join(STOP_S)
        self._leave()


def _stopped(session: LiveSession) -> None:
    with _Ignored():
        session.stop()


class Asked:
    """A question that is asked again and again, by one thread of its own.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._questions: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waits = False
        self._looked_s = clock.monotonic()
        self._silent_s = 0.0
        self._thread: threading.Thread | None = None

    def again(self, ask: Callable[[], None]) -> float:
        """Ask, unless the last question still waits; seconds for which it has.

        A step of time counts for :data:`STEP_S` at most: where this process was held up itself, the
        answer may only not have been taken yet.
        """
        now_s = self._clock.monotonic()
        step_s, self._looked_s = min(now_s - self._looked_s, STEP_S), now_s
        if self._waits:
            self._silent_s += step_s
            return self._silent_s
        self._silent_s, self._waits = 0.0, True
        if self._thread is None:
            # One for all questions: py4j keeps a thread in the driver for each of ours.
            self._thread = threading.Thread(target=self._answer, name="ask", daemon=True)
            self._thread.start()
        self._questions.put(ask)
        return 0.0

    def _answer(self) -> None:
        while True:
            self._questions.get()()
            self._waits = False


def _driver_lost(life: Life, now_s: float) -> tuple[Life, Effects]:
    return life.lost("the driver's process ended", now_s)


class _Outcome:
    """Turns whatever ends an operation into an error that can cross to another process."""

    running: Running | None = None

    def __init__(self, table: str, session: LiveSession) -> None:
        self._table = table
        self._session = session

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Raise one of our errors, free of what belongs to the driver."""
        if error is None or not isinstance(error, Exception):
            return
        known = isinstance(error, RayLakeError)
        changed = getattr(error, "table_changed", None)
        cancelled = self.running is not None and self.running.cancelled
        if cancelled and known and changed is False:
            raise OperationCancelled(
                f"{self._table}: the operation was cancelled, and the table is as it was",
                hint="the table's newer owner cancels what an older one began",
            ) from None
        if known and (changed is not None or self._session.alive()):
            return
        said = error.message if isinstance(error, RayLakeError) else _first_line(error)
        if not self._session.alive():
            raise SparkLost(
                f"{self._table}: Spark's driver was lost in the middle: {said}",
                hint="ask again with the same number: what landed is not applied twice",
            ) from None
        raise OutcomeUnread(
            f"{self._table}: Spark failed: {said}",
            hint="the table's history tells whether it landed",
        ) from None


class _Ignored:
    """Lets a failure of the driver pass, where the next look at it tells all the same."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        return isinstance(error, Exception)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0]}" if lines else kind
