"""The tables of a pipeline file, brought up to date one after the other, in the graph's order.

A table that fails stands alone: what may succeed later is tried again, what needs somebody's hand
waits for it, and the other tables go on (ADR 37).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from raylake.clock import Clock
from raylake.errors import RayLakeError, Refused, Terminal
from raylake.ingest.retry import RetryPolicy
from raylake.layers.errors import TransformRefused
from raylake.layers.replay import Asked, Replayed
from raylake.layers.step import Stepped
from raylake.near import did_you_mean
from raylake.quality.freshness_watch import Standing
from raylake.tables.errors import ProgressMoved, SlotClosed

log = logging.getLogger(__name__)

AGAIN: Final = RetryPolicy("exponential", initial_s=1.0, max_s=60.0)
"""How far apart a table that failed is tried again."""
MOVED_AT_MOST: Final = 20
"""So many times in a row another process may have been quicker before that is an error."""

Replaying = Callable[[str, Asked], Replayed]
State = Literal["waiting", "up_to_date", "stale", "working", "failed", "stopped"]


class Advancing(Protocol):
    """A table; :class:`raylake.layers.derived_table.DerivedTable` is one."""

    @property
    def name(self) -> str:
        """``layer.name``."""
        ...

    def advance(self, *, ending: bool = False) -> Stepped | None:
        """One step; None: nothing is new, or its trigger waits.

        Args:
            ending: The run ends after this: what waits for a watermark waits no longer.
        """
        ...

    def refresh(self) -> Stepped | None:
        """Make the table anew, of all that its source has."""
        ...

    def rest(self) -> Sequence[Standing]:
        """How its freshness rules stand while nothing comes."""
        ...


@dataclass(slots=True)
class TableState:
    """How a table stands, for the status document.

    Attributes:
        state: ``waiting`` for its source or trigger, ``up_to_date``, ``stale`` (up to date, and too
            old by a freshness rule that aborts), ``working``, ``failed`` (is tried again) or
            ``stopped`` (somebody has to look).
        error: The last failure as plain data; empty after a success.
        failures: In a row.
        again_at_s: When it is tried again, on the monotonic clock.
        steps: Steps that it made in this run.
        rows: Rows that its source brought in this run.
        rejected: Rows that were turned away in this run.
        last: The last step.
        stepped_at: When that ended; seconds since the epoch.
        freshness: How its freshness rules stand.
    """

    state: State = "waiting"
    error: dict[str, Any] = field(default_factory=dict)
    failures: int = 0
    again_at_s: float = 0.0
    steps: int = 0
    rows: int = 0
    rejected: int = 0
    last: Stepped | None = None
    stepped_at: float | None = None
    failure: RayLakeError | None = None
    freshness: tuple[Standing, ...] = ()

    def document(self) -> dict[str, Any]:
        """Plain data."""
        found: dict[str, Any] = {
            "state": self.state,
            "error": self.error,
            "steps": self.steps,
            "rows": self.rows,
            "rejected": self.rejected,
            "at": self.stepped_at,
            "freshness": [one.document() for one in self.freshness],
        }
        if self.last is not None:
            span = self.last.span
            found |= {
                "version": self.last.version,
                "source": span.source,
                "processed": span.last,
                "watermark_ms": self.last.watermark_ms,
                "duration_s": round(self.last.duration_s, 3),
                "engine": self.last.engine,
                "last_step": dict(self.last.counts),
            }
        return found


class TransformRun:
    """Brings tables up to date, pass by pass.

    Args:
        tables: In the graph's order: each after its sources.
        clock: Time.
        told: Called whenever a table's state changed.
        refresh: Tables that are made anew before anything else is done with them.
        replay: Replays quarantined rows of a table by its name; None: nobody does here.
    """

    def __init__(
        self,
        tables: Sequence[Advancing],
        clock: Clock,
        told: Callable[[], None] = lambda: None,
        refresh: Iterable[str] = (),
        replay: Replaying | None = None,
    ) -> None:
        self._tables = tables
        self._replay = replay
        self._clock = clock
        self._told = told
        self._refresh = set(refresh)
        self.states = {table.name: TableState() for table in tables}

    @property
    def failure(self) -> RayLakeError | None:
        """The first failure that still stands, in the graph's order."""
        return next((s.failure for s in self.states.values() if s.failure is not None), None)

    def run_pass(self, *, final: bool = False, stop: Callable[[], bool] = lambda: False) -> bool:
        """Give each table one step where it is due.

        Args:
            final: Triggers are not waited for.
            stop: Asked before each table; True ends the pass.

        Returns:
            Whether any table made a step.
        """
        moved = False
        for table in self._tables:
            if stop():
                break
            moved |= self._stepped(table, final=final)
        return moved

    def replay(self, table: str, asked: Asked) -> Replayed:
        """Replay quarantined rows of a table, between two steps.

        Raises:
            TransformRefused: It is no table of this run.
            RayLakeError: As :func:`raylake.layers.replay.replay`.
        """
        if table not in self.states or self._replay is None:
            known = did_you_mean(table, self.states)
            raise TransformRefused(f"{table} is no table of this run", hint=known)
        return self._replay(table, asked)

    def finish(self, *, stop: Callable[[], bool] = lambda: False) -> None:
        """Pass until nothing is new, or what is new cannot be brought in."""
        for state in self.states.values():
            state.again_at_s = 0.0
        while self.run_pass(final=True, stop=stop) and not stop():
            pass

    def _stepped(self, table: Advancing, *, final: bool) -> bool:
        state = self.states[table.name]
        if state.state == "stopped" or self._clock.monotonic() < state.again_at_s:
            return False
        try:
            if table.name in self._refresh:
                stepped = table.refresh()
                self._refresh.discard(table.name)
            else:
                stepped = table.advance(ending=final)
            standing = tuple(table.rest())
        except ProgressMoved as error:
            # Another process brought it in; what comes next is read from the log.
            log.info("%s: %s", table.name, error.message)
            state.failures += 1
            if state.failures > MOVED_AT_MOST:
                self._failed(table.name, error)
            return state.failures <= MOVED_AT_MOST
        except RayLakeError as error:
            self._failed(table.name, error)
            return False
        if stepped is not None:
            _log_step(table.name, stepped)
        self._went_well(state, stepped, standing)
        return stepped is not None

    def _went_well(
        self, state: TableState, stepped: Stepped | None, standing: tuple[Standing, ...]
    ) -> None:
        now: State = "stale" if any(one.fails for one in standing) else "up_to_date"
        changed = bool(state.failures) or state.state != now or stepped is not None
        changed |= state.freshness != standing
        state.state, state.error, state.failure = now, {}, None
        state.freshness = standing
        state.failures, state.again_at_s = 0, 0.0
        if stepped is not None:
            state.steps += 1
            state.rows += stepped.came
            state.rejected += stepped.rejected
            state.last, state.stepped_at = stepped, self._clock.now()
        if changed:
            self._told()

    def _failed(self, name: str, error: RayLakeError) -> None:
        state = self.states[name]
        state.failures += 1
        state.error, state.failure = error.to_dict(), error
        # What is refused, or wrong for good, does not become right by itself; a slot that was over
        # before it was used does: nothing was written, and the next step asks for another.
        for_good = isinstance(error, Refused | Terminal) and not isinstance(error, SlotClosed)
        state.state = "stopped" if for_good else "failed"
        state.again_at_s = self._clock.monotonic() + AGAIN.wait_s(state.failures)
        log.error("%s: %s", name, error)
        self._told()


def _log_step(name: str, stepped: Stepped) -> None:
    log.info(
        "%s: version %d of %s brought in %d rows, %d turned away: version %d, in %.3f s",
        *(name, stepped.span.last, stepped.span.source, stepped.came, stepped.rejected),
        *(stepped.version, stepped.duration_s),
    )
