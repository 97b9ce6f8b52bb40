"""The supervisor's loop: tables and owners, partitions and consumers, one run (DESIGN §1).

A plain class over a :class:`Fleet`; :meth:`SupervisorLoop.tick` does a bounded piece of work.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from raylake.clock import Clock, Deadline
from raylake.errors import Fenced, LogDamaged, OutcomeUnknown, RayLakeError, Retryable, Terminal
from raylake.ingest.assignment import (
    AssignmentMachine,
    ConsumerDown,
    ConsumerUp,
    Effect,
    Grant,
    PartitionsChanged,
    Released,
    Revoke,
)
from raylake.ingest.build import ConsumerSetup, OwnerSetup
from raylake.ingest.consumer import ConsumerReport, Granted
from raylake.ingest.feed import OwnerLost
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.ports import TableView
from raylake.ingest.unit import PartitionState, SourcePartition

log = logging.getLogger(__name__)

METADATA_REFRESH_S = 5.0
MAX_REPLACEMENTS = 20
REPLACEMENT_WINDOW_S = 60.0


class OwnerControl(Protocol):
    """What the supervisor asks of a table's owner; each call may raise ``OwnerLost``."""

    def ends(self, sources: list[SourcePartition]) -> Mapping[SourcePartition, PartitionState]:
        """Where the table stands in those of the partitions that are admitted."""
        ...

    def admit(
        self, origins: Mapping[SourcePartition, int]
    ) -> Mapping[SourcePartition, PartitionState]:
        """Admit partitions at their first offsets."""
        ...

    def generation(self) -> int:
        """The newest generation that the owner was told."""
        ...

    def set_generation(self, sources: list[SourcePartition], generation: int) -> None:
        """Refuse units of these partitions that carry an older generation."""
        ...

    def hurry(self) -> None:
        """Commit as soon as anything waits."""
        ...


class Fleet(Protocol):
    """The processes of a run, wherever they live."""

    def start_queue(self, run: RunPlan) -> None:
        """Start the dead-letter queue, or find it."""
        ...

    def start_owner(self, setup: OwnerSetup) -> TableView:
        """Start a table's owner, or find it; raises what attaching raises."""
        ...

    def owner(self, table: str) -> OwnerControl:
        """The owner of a table that was started."""
        ...

    def start_consumer(self, setup: ConsumerSetup, table_ids: Mapping[str, str]) -> None:
        """Start a consumer; returns at once."""
        ...

    def discard(self, consumer: str) -> None:
        """End a consumer that is lost or failed; what it holds is gone."""
        ...

    def add_table(self, consumer: str, plan: TablePlan, table_id: str) -> None:
        """Tell a consumer about a table that appeared later; returns at once."""
        ...

    def grant(self, consumer: str, granted: Granted) -> None:
        """Give partitions to a consumer; returns at once."""
        ...

    def revoke(self, consumer: str, sources: set[SourcePartition]) -> None:
        """Take partitions away; returns at once."""
        ...

    def drain(self, consumer: str, *, on: bool) -> None:
        """Drain a consumer, or take that back; returns at once."""
        ...

    def news(self) -> News:
        """What arrived since the last call; never waits."""
        ...

    def leave(self, deadline: Deadline) -> None:
        """Release tables and end every process of this run."""
        ...


@dataclass(slots=True)
class News:
    """What arrived from the fleet.

    Attributes:
        consumers: The newest report of each consumer that answered.
        owners: The newest report of each owner that answered, by table.
        lost_consumers: Consumers whose process is gone.
        lost_owners: Tables whose owner is gone.
        queue_lost: Whether the dead-letter queue is gone.
    """

    consumers: dict[str, ConsumerReport] = field(default_factory=dict)
    owners: dict[str, Any] = field(default_factory=dict)
    lost_consumers: set[str] = field(default_factory=set)
    lost_owners: set[str] = field(default_factory=set)
    queue_lost: bool = False


class Discovery(Protocol):
    """What the supervisor asks about Kafka; see :mod:`raylake.ingest.discovery`."""

    def tables(self) -> list[TablePlan]:
        """The tables with the partitions that exist now."""
        ...

    def setup(self, table: TablePlan) -> OwnerSetup:
        """How the table is created when it is not there (infers the schema when none is given)."""
        ...

    def origins(
        self,
        table: TablePlan,
        missing: list[SourcePartition],
        admitted: list[SourcePartition],
    ) -> Mapping[SourcePartition, int]:
        """The first offset of partitions that the table has not admitted (I9)."""
        ...

    def stable_ends(self, sources: list[SourcePartition]) -> Mapping[SourcePartition, int]:
        """The last stable offsets now."""
        ...


@dataclass(slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: ``done`` (caught up), ``stopped`` (drained on request) or ``failed``.
        error: Why it failed.
    """

    state: str
    error: RayLakeError | None = None


class SupervisorLoop:
    """One run of a pipeline.

    Args:
        run: The run.
        fleet: Its processes.
        discovery: Topics and offsets.
        clock: Time.
        consumers: How many consumers.
    """

    def __init__(
        self, run: RunPlan, fleet: Fleet, discovery: Discovery, clock: Clock, consumers: int
    ) -> None:
        self.run = run
        self.outcome: Outcome | None = None
        self.state = "starting"
        self.restarts: dict[str, int] = {"consumer": 0, "owner": 0, "dead_letters": 0}
        self.tables: dict[str, TablePlan] = {}
        self.reports: dict[str, ConsumerReport] = {}
        self.owners: dict[str, Any] = {}
        self.targets: dict[SourcePartition, int] = {}
        self.stable_ends: dict[SourcePartition, int] = {}
        self.errors: list[dict[str, Any]] = []
        self._fleet = fleet
        self._discovery = discovery
        self._clock = clock
        self._wanted_consumers = consumers
        self._machine = AssignmentMachine()
        self._views: dict[str, TableView] = {}
        self._effects: deque[Effect] = deque()
        self._spawned = 0
        self._replaced_at: deque[float] = deque()
        self._drain_deadline: Deadline | None = None
        self._stop_asked = False
        self._refreshed_at = clock.monotonic()
        self._lost_tables: set[str] = set()
        self._queue_lost = False

    @property
    def stopped(self) -> dict[SourcePartition, RayLakeError]:
        """Partitions that are stopped, with the error."""
        found: dict[SourcePartition, RayLakeError] = {}
        for report in self.reports.values():
            found |= report.stopped
        return found

    def start(self) -> None:
        """Open the tables, admit partitions, start consumers and give them their partitions.

        Raises:
            RayLakeError: What stands in the way; nothing was ingested.
        """
        plans = self._discovery.tables()
        self._fleet.start_queue(self.run)
        for plan in plans:
            self._open(plan)
        generation = max((self._owner(name).generation() for name in self.tables), default=0)
        self._machine = AssignmentMachine(generation)
        sources = self._sources()
        if self.run.available_now:
            self.targets = dict(self._discovery.stable_ends(sorted(sources)))
            self.stable_ends = dict(self.targets)
            for name in self.tables:
                self._owner(name).hurry()
        self._on(PartitionsChanged(frozenset(sources)))
        for _ in range(self._wanted_consumers):
            self._spawn()
        self.state = "running"

    def stop(self) -> None:
        """Drain and end; the outcome is ``stopped``."""
        self._stop_asked = True

    def tick(self) -> None:
        """A bounded piece of work.

        Raises:
            RayLakeError: The run cannot go on.
        """
        self._take_news(self._fleet.news())
        self._replace_lost()
        self._apply_effects()
        if self._drain_deadline is not None:
            self._watch_drain(self._drain_deadline)
            return
        self._refresh()
        if self._stop_asked or self._caught_up():
            self._begin_drain()

    def finish(self, error: RayLakeError | None = None) -> Outcome:
        """End every process and say how it went."""
        if error is not None:
            self.outcome = Outcome("failed", error)
            self._note(error)
        self._fleet.leave(Deadline.after(self.run.config.ingest.drain_timeout_s, self._clock))
        if self.outcome is None:
            stopped = self.stopped
            if stopped and not self._stop_asked:
                self.outcome = Outcome("failed", next(iter(stopped.values())))
            else:
                self.outcome = Outcome("stopped" if self._stop_asked else "done")
        self.state = self.outcome.state
        return self.outcome

    def _sources(self) -> set[SourcePartition]:
        return {source for plan in self.tables.values() for source in plan.sources}

    def _owner(self, table: str) -> OwnerControl:
        return self._fleet.owner(table)

    def _open(self, plan: TablePlan) -> None:
        self._views[plan.name] = self._fleet.start_owner(self._discovery.setup(plan))
        self.tables[plan.name] = plan
        self._admit(plan)

    def _admit(self, plan: TablePlan) -> None:
        owner = self._owner(plan.name)
        sources = list(plan.sources)
        admitted = owner.ends(sources)
        missing = [source for source in sources if source not in admitted]
        if missing:
            origins = self._discovery.origins(plan, missing, sorted(admitted))
            owner.admit(origins)
            log.info("%s admits %s", plan.name, {str(s): o for s, o in origins.items()})

    def _spawn(self) -> None:
        name = f"consumer-{self._spawned}"
        self._spawned += 1
        setup = ConsumerSetup(self.run, name, tuple(self.tables.values()))
        ids = {table: view.table_id for table, view in self._views.items()}
        self._fleet.start_consumer(setup, ids)
        self._on(ConsumerUp(name))

    def _on(self, event: ConsumerUp | ConsumerDown | PartitionsChanged | Released) -> None:
        self._effects.extend(self._machine.on(event))

    def _take_news(self, news: News) -> None:
        for name, report in news.consumers.items():
            if name not in self._machine.consumers:
                continue
            if report.failure is not None:
                self._consumer_failed(name, report.failure)
                continue
            self.reports[name] = report
            if report.released:
                self._on(Released(name, frozenset(report.released)))
        self.owners |= news.owners
        for name in news.lost_consumers & self._machine.consumers:
            self._lose_consumer(name)
        self._lost_tables |= news.lost_owners
        self._queue_lost = self._queue_lost or news.queue_lost

    def _consumer_failed(self, name: str, error: RayLakeError) -> None:
        if isinstance(error, Fenced | LogDamaged):
            raise error
        self._note(error)
        log.error("%s failed: %s", name, error)
        self._lose_consumer(name)

    def _lose_consumer(self, name: str) -> None:
        log.warning("%s is gone and is replaced", name)
        self._fleet.discard(name)
        self.reports.pop(name, None)
        self._on(ConsumerDown(name))
        self._count_replacement("consumer")
        self._spawn()
        if self._drain_deadline is not None:
            self._fleet.drain(f"consumer-{self._spawned - 1}", on=True)

    def _count_replacement(self, kind: str) -> None:
        self.restarts[kind] += 1
        now = self._clock.monotonic()
        self._replaced_at.append(now)
        while self._replaced_at[0] < now - REPLACEMENT_WINDOW_S:
            self._replaced_at.popleft()
        if len(self._replaced_at) > MAX_REPLACEMENTS:
            last = self.errors[-1]["message"] if self.errors else "see the logs"
            raise Terminal(
                f"{len(self._replaced_at)} processes were lost within "
                f"{REPLACEMENT_WINDOW_S:.0f} s; the run gives up: {last}",
                hint="`raylake logs` shows what they said last",
            )

    def _replace_lost(self) -> None:
        if self._queue_lost:
            self._count_replacement("dead_letters")
            self._fleet.start_queue(self.run)
            self._queue_lost = False
        for name in sorted(self._lost_tables):
            log.warning("the owner of %s is gone and is replaced", name)
            try:
                self._fleet.start_owner(self._discovery.setup(self.tables[name]))
            except (Retryable, OutcomeUnknown) as error:
                self._note(error)
                self._count_replacement("owner")
                return
            self._count_replacement("owner")
            self._lost_tables.discard(name)
            self._tell_generations(name)
            if self.run.available_now or self._drain_deadline is not None:
                self._owner(name).hurry()

    def _tell_generations(self, name: str) -> None:
        by_generation: dict[int, list[SourcePartition]] = {}
        for source in self.tables[name].sources:
            generation = self._machine.generation_of(source)
            if generation is not None:
                by_generation.setdefault(generation, []).append(source)
        for generation, sources in by_generation.items():
            self._owner(name).set_generation(sources, generation)

    def _apply_effects(self) -> None:
        while self._effects:
            effect = self._effects[0]
            try:
                self._apply(effect)
            except OwnerLost as error:
                log.info("waiting for an owner: %s", error.message)
                return
            self._effects.popleft()

    def _apply(self, effect: Effect) -> None:
        if isinstance(effect, Revoke):
            self._fleet.revoke(effect.consumer, set(effect.sources))
            return
        if effect.consumer not in self._machine.consumers:
            return
        granted = self._granted(effect)
        self._fleet.grant(effect.consumer, granted)

    def _granted(self, effect: Grant) -> Granted:
        ends: dict[str, dict[SourcePartition, int]] = {}
        epochs: dict[SourcePartition, tuple[int, int]] = {}
        for name, plan in self.tables.items():
            mine = [s for s in effect.sources if s in plan.sources]
            if not mine:
                continue
            owner = self._owner(name)
            owner.set_generation(mine, effect.generation)
            states = owner.ends(mine)
            ends[name] = {source: state.next for source, state in states.items()}
            for source, state in states.items():
                known = epochs.get(source, (state.next, state.leader_epoch))
                epochs[source] = min(known, (state.next, state.leader_epoch))
        return Granted(effect.generation, ends, {s: epoch for s, (_, epoch) in epochs.items()})

    def _refresh(self) -> None:
        if self._clock.monotonic() < self._refreshed_at + METADATA_REFRESH_S:
            return
        self._refreshed_at = self._clock.monotonic()
        if self.run.available_now:
            return
        try:
            plans = self._discovery.tables()
            self.stable_ends = dict(self._discovery.stable_ends(sorted(self._sources())))
            changed = [p for p in plans if self.tables.get(p.name) != p]
            for plan in changed:
                self._take_plan(plan)
        except (Retryable, OutcomeUnknown) as error:
            self._note(error)
            return
        if changed:
            self._on(PartitionsChanged(frozenset(self._sources())))

    def _take_plan(self, plan: TablePlan) -> None:
        if plan.name in self.tables:
            self.tables[plan.name] = plan
            self._admit(plan)
            return
        self._open(plan)
        for name in sorted(self._machine.consumers):
            self._fleet.add_table(name, plan, self._views[plan.name].table_id)

    def _caught_up(self) -> bool:
        if not self.run.available_now or self._effects or not self._machine.settled:
            return False
        reached: dict[SourcePartition, int] = {}
        for report in self.reports.values():
            reached |= report.positions
        stopped = self.stopped
        return all(
            source in stopped or reached.get(source, -1) >= end
            for source, end in self.targets.items()
        )

    def _begin_drain(self) -> None:
        self.state = "draining"
        budget_s = self.run.config.ingest.drain_timeout_s
        self._drain_deadline = Deadline.after(budget_s, self._clock)
        for name in sorted(self._machine.consumers):
            self._fleet.drain(name, on=True)
        for name in self.tables:
            if name not in self._lost_tables:
                self._owner(name).hurry()

    def _watch_drain(self, deadline: Deadline) -> None:
        if deadline.expired():
            self._note(Terminal("the drain took too long: what was not committed is read again"))
            self.finish()
            return
        drained = [
            name
            for name in self._machine.consumers
            if name in self.reports and self.reports[name].state == "drained"
        ]
        if len(drained) < len(self._machine.consumers) or self._lost_tables:
            return
        if self._stop_asked or self._committed():
            self.finish()
            return
        self._drain_deadline = None
        self.state = "running"
        self.reports.clear()
        for name in self._machine.consumers:
            self._fleet.drain(name, on=False)

    def _committed(self) -> bool:
        """Whether every table really holds what was aimed at (a refusal may have undone it)."""
        stopped = self.stopped
        for name, plan in self.tables.items():
            ends = self._owner(name).ends(list(plan.sources))
            for source in plan.sources:
                behind = ends[source].next < self.targets.get(source, 0)
                if behind and source not in stopped:
                    return False
        return True

    def _note(self, error: RayLakeError) -> None:
        entry = {
            "at": self._clock.now(),
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        if not self.errors or self.errors[-1]["message"] != error.message:
            self.errors = [*self.errors[-19:], entry]
