"""Upkeep beside a pipeline, or alone: looks again and again, and does what is due."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from raylake.clock import Clock
from raylake.config.addresses import maintenance_status_path
from raylake.config.cron import parse_cron
from raylake.errors import RayLakeError, Terminal
from raylake.ingest.status import write_status
from raylake.maintenance.actions import Action
from raylake.maintenance.figures import Figures
from raylake.maintenance.history import History, write_history
from raylake.maintenance.lease import MaintainedElsewhere
from raylake.maintenance.outcomes import Outcome
from raylake.maintenance.round import Means, Round
from raylake.maintenance.subjects import Subject
from raylake.maintenance.tending_plan import TendingOutcome, TendingPlan
from raylake.storage.place import place

log = logging.getLogger(__name__)

_POLL_S: Final = 0.25
_KEPT_OUTCOMES: Final = 20
_BY_CRON: Final = ("vacuum", "clean_log")
_AGAIN_S: Final = 600.0
_WATCH_S: Final = 10.0
RETAIN: Final = "retain"


class Retention(Protocol):
    """Takes rows out of tables that are older than they may be."""

    def asked(self, table: str) -> bool:
        """Whether the pipeline file may say how long the rows of a table stay; reads nothing."""
        ...

    def take(self, subject: Subject) -> Outcome:
        """Take them; what goes wrong is the outcome's."""
        ...


class Schedule:
    """When actions come that do not come at once.

    Args:
        history: What was done before.
        clock: Time.
        since_s: From when on a table counts of which nothing is known, seconds since the epoch;
            None: from now on.
    """

    def __init__(self, history: History, clock: Clock, since_s: float | None = None) -> None:
        self._began_s = clock.now() if since_s is None else since_s
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}
        self._failed: dict[tuple[str, str], float] = {}
        for kind in (*_BY_CRON, "compact", "zorder", RETAIN):
            try:
                found = history.last(kind)
            except RayLakeError as error:
                log.warning("the history of upkeep cannot be read: %s", error)
                break
            self._last |= {(table, kind): at_s for table, at_s in found.items()}

    def due(self, subject: Subject, action: Action) -> bool:
        """Whether an action of a plan is to be done now."""
        policy = subject.policy
        cron = policy.vacuum_schedule if action.kind in _BY_CRON else policy.schedule
        if action.kind == "checkpoint" or cron == "debt":
            return True
        return self._passed(cron, subject.name, action.kind)

    def retains(self, table: str, cron: str) -> bool:
        """Whether rows that are too old are to leave a table now."""
        failed_s = self._failed.get((table, RETAIN), float("-inf"))
        return self._clock.now() - failed_s >= _AGAIN_S and self._passed(cron, table, RETAIN)

    def _passed(self, cron: str, table: str, kind: str) -> bool:
        last_s = self._last.get((table, kind), self._began_s)
        next_ms = parse_cron(cron).next_after(int(last_s * 1000))
        return next_ms is not None and next_ms <= self._clock.now() * 1000

    def done(self, outcomes: Sequence[Outcome]) -> None:
        """Take down what was done; what failed is tried again, at the next look or a later one."""
        for one in outcomes:
            if one.ending in ("done", "nothing"):
                self._last[one.table, one.action.kind] = one.at_s
            elif one.ending == "failed":
                self._failed[one.table, one.action.kind] = one.at_s


class Tending:
    """The loop.

    Args:
        plan: What to do.
        subjects: The tables that are there.
        means: By what.
        figures: Takes the metrics.
        retention: Takes rows that are too old; None: they stay.
    """

    def __init__(
        self,
        plan: TendingPlan,
        subjects: Callable[[], Sequence[Subject]],
        means: Means,
        figures: Figures,
        retention: Retention | None = None,
    ) -> None:
        self._plan = plan
        self._retention = retention
        self._subjects = subjects
        self._clock = means.clock
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._figures = figures
        self._schedule = Schedule(History(plan.run.lake), means.clock, plan.since_s)
        due = (lambda _subject, _action: True) if plan.once else self._schedule.due
        self._means = replace(
            means, stopping=self._stopping.is_set, due=due, told=self._told, waiting=self._waiting
        )
        self._tables: dict[str, Any] = {}
        self._outcomes: list[dict[str, Any]] = []
        self._why = ""
        self._path = place(maintenance_status_path(plan.run.config))
        self.outcome: TendingOutcome | None = None

    def stop(self) -> None:
        """Begin nothing more, and end."""
        self._stopping.set()

    def wait(self, timeout_s: float) -> TendingOutcome | None:
        """How it ended; None while it goes on after ``timeout_s``."""
        self._ended.wait(timeout_s)
        return self.outcome

    def main(self) -> None:
        """The thread's main."""
        error: RayLakeError | None = None
        try:
            error = self._loop()
        except RayLakeError as failure:
            log.error("upkeep failed: %s", failure)  # noqa: TRY400 - says it all
            error = failure
        finally:
            lost = sys.exception()
            if lost is not None:
                log.error("upkeep failed", exc_info=lost)
                error = Terminal(f"upkeep failed: {type(lost).__name__}: {lost}")
            self.outcome = TendingOutcome(error)
            self._write()
            self._ended.set()

    def _loop(self) -> RayLakeError | None:
        every_s = self._plan.run.config.maintenance.look_every_s
        self._write()
        if self._plan.once:
            return self.look()
        while not self._stopping.is_set():
            self.look()
            self._rest(every_s)
        return None

    def _rest(self, every_s: float) -> None:
        """Wait for the next look; since when ingestion is behind is known by looking at it."""
        until_s = self._clock.monotonic() + every_s
        while (left_s := until_s - self._clock.monotonic()) > 0:
            self._means.gate.closed()
            if self._stopping.wait(min(_WATCH_S, left_s)):
                return

    def look(self) -> RayLakeError | None:
        """Do what is due, once; the first thing that went wrong."""
        names = self._plan.tables
        subjects = [one for one in self._subjects() if not names or one.name in names]
        one = Round(self._means)
        # Before the rest: what leaves a table now needs no compaction.
        retained = list(self._retained(subjects))
        outcomes = [*retained, *one.run(subjects)]
        self._schedule.done(outcomes)
        for name, found in one.plans.items():
            self._figures.planned(name, found)
            shown = {"version": found.debt.version, "debt": round(found.debt.score, 3)}
            self._tables[name] = {**shown, "due": found.debt.reasons}
        for name, error in one.failures.items():
            self._tables.setdefault(name, {})["error"] = error.to_dict()
            # Another maintainer is no trouble: it does the work.
            level = logging.INFO if isinstance(error, MaintainedElsewhere) else logging.WARNING
            log.log(level, "%s is not looked after: %s", name, error)
        for note in write_history(self._plan.run.run_id, subjects, outcomes):
            log.warning("%s", note)
        self._write()
        failed = [each for each in outcomes if each.ending == "failed"]
        if one.failures:
            return next(iter(one.failures.values()))
        return Terminal(f"{failed[0].table}: {failed[0].note}") if failed else None

    def _retained(self, subjects: Sequence[Subject]) -> Iterator[Outcome]:
        """Take rows that are too old out of the tables whose time it is."""
        cron, retention = self._plan.run.config.maintenance.retain.schedule, self._retention
        for one in subjects:
            if retention is None or not retention.asked(one.name):
                continue
            if not (self._plan.once or self._schedule.retains(one.name, cron)):
                continue
            if not self._may_begin():
                return
            began_cpu_s = time.process_time()
            outcome = retention.take(one)
            self._means.gate.spent(time.process_time() - began_cpu_s)
            self._told(outcome)
            yield outcome

    def _may_begin(self) -> bool:
        while not self._stopping.is_set():
            reason = self._means.gate.closed()
            self._waiting(reason)
            if not reason:
                return True
            self._stopping.wait(_POLL_S)
        return False

    def _told(self, outcome: Outcome) -> None:
        self._figures.ended(outcome)
        self._outcomes = [*self._outcomes, outcome.document()][-_KEPT_OUTCOMES:]
        log.info("%s", "; ".join(outcome.lines()))
        self._write()

    def _waiting(self, reason: str) -> None:
        # The seconds that are left change each time.
        kind, before = reason.partition(":")[0][:24], self._why.partition(":")[0][:24]
        self._why = reason
        if kind != before:
            log.info("upkeep gives way: %s" if reason else "upkeep goes on%s", reason)
            self._write()

    def document(self) -> dict[str, Any]:
        """The status document as of now."""
        run, error = self._plan.run, None if self.outcome is None else self.outcome.error
        state = "running" if self.outcome is None else "ended"
        return {
            "pipeline": run.config.pipeline,
            "run_id": run.run_id,
            "at": self._clock.now(),
            "state": "failed" if error is not None else state,
            "error": error.to_dict() if error is not None else {},
            "job": self._plan.job,
            "waiting": self._why,
            "tables": self._tables,
            "outcomes": self._outcomes,
        }

    def _write(self) -> None:
        try:
            write_status(self._path, self.document())
        except OSError as error:
            log.warning("the status document cannot be written: %s", error)
