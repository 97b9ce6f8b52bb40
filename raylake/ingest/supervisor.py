"""The supervisor's loop: one run from its start to its outcome (DESIGN §1).

A plain class over a :class:`~raylake.ingest.fleet.Fleet`; :meth:`SupervisorLoop.tick` does a
bounded piece of work.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raylake.clock import Clock, Deadline
from raylake.errors import (
    Fenced,
    LogDamaged,
    OutcomeUnknown,
    RayLakeError,
    Retryable,
    UnknownTopic,
)
from raylake.ingest.crew import Crew
from raylake.ingest.ending import TakeBacks, drained_too_long, kept_refusing, left_over
from raylake.ingest.fleet import Discovery, Fleet, News
from raylake.ingest.intake import HeldByHand, TooManyDeadLetters
from raylake.ingest.lake_tables import LakeTables
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.policies import retry_policy
from raylake.ingest.ports import OwnerLost
from raylake.ingest.retry import Pace
from raylake.ingest.sizing import Sizing
from raylake.ingest.topic_watch import Ask, TopicWatch, answer_now
from raylake.ingest.troubles import Troubles
from raylake.ingest.unit import SourcePartition
from raylake.ingest.unstarted import Unstarted

log = logging.getLogger(__name__)

LEAVE_SHARE = 0.25
"""Of ``drain_timeout``: what is kept for releasing tables after consumers are drained."""


@dataclass(slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: ``done`` (caught up), ``stopped`` (drained on request) or ``failed``.
        error: Why it failed, or what a stopped run left to the next one.
    """

    state: str
    error: RayLakeError | None = None


class SupervisorLoop:
    """One run of a pipeline. Not thread-safe, but for :meth:`stop` and what is read of it.

    Args:
        run: The run.
        fleet: Its processes.
        discovery: Topics and offsets.
        clock: Time.
        consumers: How many consumers.
        ask: Answers what is asked of ``discovery``, one question after the other.
    """

    def __init__(
        self,
        run: RunPlan,
        fleet: Fleet,
        discovery: Discovery,
        clock: Clock,
        consumers: int,
        ask: Ask = answer_now,
    ) -> None:
        self.run = run
        self.outcome: Outcome | None = None
        self.state = "starting"
        self.tables = LakeTables(fleet, discovery, clock)
        self.topics = TopicWatch(self.tables, discovery, ask, self._committed, clock)
        self.crew = Crew(run, fleet, self.tables)
        self.sizing = Sizing(run, self.crew, self.topics, clock)
        self.topics.every_s = self.sizing.sample_s or self.topics.every_s
        self.owners: dict[str, Any] = {}
        self.targets: dict[SourcePartition, int] = {}
        self.troubles = Troubles(clock)
        self.restarts = self.troubles.counts
        self._fleet = fleet
        self._clock = clock
        self._consumers = consumers
        self._unstarted = Unstarted()
        self.retries = discovery.retries
        self._restarting = Pace(retry_policy(run.config, "store"), clock, self.retries.of("store"))
        self._take_backs = TakeBacks(run.config.ingest.drain_timeout_s, clock)
        self._drain_deadline: Deadline | None = None
        self._stop_asked = False
        self._aborted = False
        self._queue: Literal["none", "due", "started"] = "none"

    @property
    def stopped(self) -> dict[SourcePartition, RayLakeError]:
        """Partitions that are stopped, with the error."""
        missing = self.topics.missing
        gone = {s: missing[s.topic] for s in self.tables.sources if s.topic in missing}
        return {**self.tables.recreated, **self.crew.stopped, **gone}

    def start(self) -> None:
        """Open the tables, admit partitions, start consumers and give them their partitions.

        Raises:
            RayLakeError: What stands in the way; nothing was ingested.
        """
        self.crew.prepare(self._consumers)
        plans = self.topics.begin()
        self.topics.run(self.tables.resolve(plans))
        self.crew.begin(self._open(plans))
        self.topics.run(self.topics.look_at_ends(self.tables.sources))
        if self.run.available_now:
            self.tables.require_one()
            self.targets = dict(self.topics.stable_ends)
        for _ in range(self._consumers):
            self.crew.spawn()
        self.crew.take_tables()
        self.state = "running"

    def stop(self) -> None:
        """Drain and end; the outcome is ``stopped``."""
        self._stop_asked = True

    def tick(self) -> None:
        """A bounded piece of work.

        Raises:
            RayLakeError: The run cannot go on.
        """
        self._take(self._fleet.news())
        try:
            self._replace_lost()
            self.crew.apply()
            self._go_on()
        except OwnerLost as error:
            # The next news names the owner that is gone; it is replaced, and this is done again.
            log.info("waiting for an owner: %s", error.message)

    def _go_on(self) -> None:
        if self._drain_deadline is not None:
            self._watch_drain(self._drain_deadline)
            return
        self._refresh()
        self.sizing.step()
        if self._stop_asked or self._caught_up():
            self._begin_drain()
        elif not self.run.available_now:
            self._end_if_all_stopped()

    def finish(self, error: RayLakeError | None = None) -> Outcome:
        """End every process and say how it went."""
        clean = error is None
        if error is not None:
            self.troubles.note(error)
        try:
            if clean:
                self.topics.publish_last()
            budget_s = self.run.config.ingest.drain_timeout_s
            if self._drain_deadline is not None:
                budget_s *= LEAVE_SHARE
            left = self._fleet.leave(Deadline.after(budget_s, self._clock))
            self.owners |= left.owners
            if left.error is not None and error is None:
                error = left.error
                self.troubles.note(error)
        finally:
            self.outcome = self._verdict(error)
            self.state = self.outcome.state
        return self.outcome

    def _verdict(self, error: RayLakeError | None) -> Outcome:
        left = left_over(self.crew.left, self.owners)
        if left is not None:
            self.troubles.note(left)
        if error is None and self._stop_asked and not self._aborted:
            return Outcome("stopped", left)
        why = error or next(iter(self.stopped.values()), left)
        return Outcome("done") if why is None else Outcome("failed", why)

    def _open(self, plans: Sequence[TablePlan]) -> int:
        """Open all tables; returns the newest generation that an owner was told."""
        lost = False
        while True:
            try:
                for name in sorted(self.tables.plans) if lost else ():
                    self.tables.restart(name, self.crew.generation_of, hurry=False)
                for plan in plans:
                    self.topics.run(self.tables.ensure(plan))
                if self.run.available_now:
                    self.tables.hurry()
                return self.tables.generation()
            except OwnerLost as error:
                self.troubles.note(error)
                self.troubles.lost("owner")
                lost = True

    def _take(self, news: News) -> None:
        self.crew.leave_out(self._unstarted.take(news, self.troubles.note))
        for name, report in news.consumers.items():
            if name not in self.crew.everyone:
                continue
            if report.failure is None:
                self.crew.heard(report)
                continue
            if isinstance(report.failure, Fenced | LogDamaged):
                raise report.failure
            self.troubles.note(report.failure)
            self.troubles.lost("consumer")
            self.crew.replace(name)
        self.crew.move_away(news.going)
        self.owners |= news.owners
        for name in sorted((news.lost_consumers | self.sizing.late()) & self.crew.everyone):
            self.troubles.lost("consumer")
            self.crew.replace(name)
        for _ in news.lost_owners - self.tables.lost:
            self.troubles.lost("owner")
        self.tables.lost |= news.lost_owners | news.left_owners
        if news.queue_lost and self._queue != "due":
            self.troubles.lost("dead_letters")
            self._queue = "due"
        elif self._queue == "none" and any(o.state.needs_queue for o in news.owners.values()):
            self._queue = "due"

    def _replace_lost(self) -> None:
        if self._restarting.wait_s():
            return
        hurry = self.run.available_now or self._drain_deadline is not None
        try:
            if self._queue == "due":
                self._fleet.start_queue()
                self._queue = "started"
            for name in sorted(self.tables.lost):
                self.tables.restart(name, self.crew.generation_of, hurry=hurry)
        except (Retryable, OutcomeUnknown) as error:
            self.troubles.note(error)
            self._restarting.failed(error.message)
            if isinstance(error, OwnerLost):
                self.troubles.lost("owner")
        else:
            self._restarting.succeeded()

    def _refresh(self) -> None:
        if self.run.available_now:
            return
        if self.topics.advance(self.troubles.note):
            # What was done before an error is done.
            self.crew.take_tables()
            self.crew.revive(self.topics.missing)

    def _committed(self) -> dict[SourcePartition, int]:
        return self.tables.reached(report.ends for report in self.owners.values())

    def _caught_up(self) -> bool:
        if not self.run.available_now or not self.crew.settled:
            return False
        reached, stopped = self.crew.positions, self.stopped
        return all(
            source in stopped or reached.get(source, -1) >= end
            for source, end in self.targets.items()
        )

    def _end_if_all_stopped(self) -> None:
        """A run of which nothing can go on without an operator ends, and says why."""
        stopped = self.tables.recreated | {
            source: error
            for source, error in self.crew.stopped.items()
            if not isinstance(error, HeldByHand)
            # A broker that has just come back may not know its topics yet: ask twice.
            and (not isinstance(error, UnknownTopic) or source.topic in self.topics.missing)
        }
        for_good = {s for s, e in stopped.items() if not isinstance(e, TooManyDeadLetters)}
        self._aborted = any(self.tables.aborts(source) for source in stopped)
        if self._aborted or (for_good and for_good >= self.tables.sources):
            self._begin_drain()

    def _begin_drain(self) -> None:
        self.state = "draining"
        budget_s = self.run.config.ingest.drain_timeout_s
        self._drain_deadline = Deadline.after(budget_s * (1 - LEAVE_SHARE), self._clock)
        self.crew.drain(on=True)
        self.tables.hurry()

    def _watch_drain(self, deadline: Deadline) -> None:
        drained = self.crew.drained and not self.tables.lost
        if not drained:
            if deadline.expired():
                late = drained_too_long(self.crew.names, self.crew.reports, self.owners)
                self.finish(late)
        elif behind := [] if self._stop_asked else self.tables.behind(self.targets, self.stopped):
            if self._take_backs.exhausted(behind):
                self.finish(kept_refusing(behind, self.owners))
                return
            # A refusal undid something: read it again.
            self._drain_deadline = None
            self.state = "running"
            self.crew.drain(on=False)
        elif deadline.expired() or not self.tables.letters_coming():
            self.finish()
