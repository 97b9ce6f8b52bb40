"""The supervisor's consumers: started, replaced, given partitions."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from raylake.errors import RayLakeError, UnknownTopic
from raylake.ingest.assignment import (
    AssignmentMachine,
    ConsumerDown,
    ConsumerLeaves,
    ConsumerUp,
    Effect,
    Event,
    PartitionsChanged,
    Released,
    Revoke,
    some_of,
)
from raylake.ingest.fleet import Fleet
from raylake.ingest.lake_tables import LakeTables
from raylake.ingest.plan import RunPlan
from raylake.ingest.ports import OwnerLost
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.setups import ConsumerSetup
from raylake.ingest.unit import SourcePartition

log = logging.getLogger(__name__)
_T = TypeVar("_T")

HAND_OVER_S = 5.0
"""So long owners commit what arrives at once after partitions were asked back."""


@dataclass(frozen=True, slots=True)
class Widen:
    """A table takes partitions that ``consumer`` reads already, for other tables."""

    consumer: str
    table: str
    sources: tuple[SourcePartition, ...]

    def __str__(self) -> str:
        return f"{self.consumer} reads {some_of(self.sources)} for {self.table}, too"


class Crew:
    """The consumers of one run and the partitions that they hold. Not thread-safe.

    Args:
        run: The run.
        fleet: The run's processes.
        tables: The run's tables.
    """

    def __init__(self, run: RunPlan, fleet: Fleet, tables: LakeTables) -> None:
        self.reports: dict[str, ConsumerReport] = {}
        self._run = run
        self._fleet = fleet
        self._tables = tables
        self._machine = AssignmentMachine()
        self._effects: deque[Effect | Widen] = deque()
        self._breakers = dict(run.earlier.consumers)
        self._told: dict[str, frozenset[SourcePartition]] = {}
        self._started: set[str] = set()
        self._left_out: set[str] = set()
        self._leaving: set[str] = set()
        self._numbers = itertools.count()
        self._draining = False

    @property
    def names(self) -> frozenset[str]:
        """The consumers that partitions are given to; some may not have started yet."""
        return self._machine.consumers

    @property
    def everyone(self) -> frozenset[str]:
        """All consumers: those that are left out until they start, and those that leave, too."""
        return self.names | self._left_out | self._leaving

    @property
    def unstarted(self) -> frozenset[str]:
        """The consumers that have not been heard of yet."""
        return self.everyone - self._started

    @property
    def staying(self) -> frozenset[str]:
        """All consumers but those that leave."""
        return self.names | self._left_out

    @property
    def releasing(self) -> frozenset[str]:
        """The consumers that know that they are to release something, and still hold it."""
        return self._machine.releasing - self.unstarted

    @property
    def settled(self) -> bool:
        """Whether every partition is where it belongs."""
        return not self._effects and self._machine.settled

    @property
    def stopped(self) -> dict[SourcePartition, RayLakeError]:
        """Partitions that are stopped, with the error."""
        return _joined(one.stopped for one in self.reports.values())

    @property
    def positions(self) -> dict[SourcePartition, int]:
        """The next offset that is fetched of each partition."""
        return _joined(one.positions for one in self.reports.values())

    @property
    def left(self) -> dict[SourcePartition, int]:
        """Offsets that a drain left although they were read, by partition."""
        return _joined(one.left for one in self.reports.values())

    @property
    def drained(self) -> bool:
        """Whether every consumer that ever held something handed everything over."""
        reports = [self.reports.get(name) for name in self.everyone & self._started]
        return all(report is not None and report.state == "drained" for report in reports)

    def prepare(self, consumers: int) -> None:
        """Let processes of so many consumers start before the tables are there for them."""
        self._fleet.prepare([_name(number) for number in range(consumers)])

    def begin(self, generation: int) -> None:
        """Start after the generations of an earlier supervisor; consumers begin with the tables."""
        self._machine = AssignmentMachine(generation)
        self._told = dict.fromkeys(self._tables.plans, frozenset())

    def generation_of(self, source: SourcePartition) -> int | None:
        """The generation under which a partition was granted."""
        return self._machine.generation_of(source)

    def on(self, event: Event) -> None:
        """Take an event; what follows is done by :meth:`apply`."""
        self._effects.extend(self._machine.on(event))

    def take_tables(self) -> None:
        """Let the consumers know which tables there are and what these take now."""
        for name, plan in self._tables.plans.items():
            if name not in self._told:
                for consumer in sorted(self.everyone):
                    self._fleet.add_table(consumer, plan, self._tables.ids[name])
            told = self._told.get(name, frozenset())
            self._widen(name, set(plan.sources) - told)
            self._told[name] = frozenset(plan.sources)
        self.on(PartitionsChanged(frozenset(self._tables.sources)))

    def _widen(self, table: str, sources: Iterable[SourcePartition]) -> None:
        stay: dict[str, list[SourcePartition]] = {}
        for source in sorted(sources):
            holder = self._machine.holder(source)
            # One that is about to release it is left alone: the next grant names all tables.
            if holder is not None and self._machine.target.owners.get(source) == holder:
                stay.setdefault(holder, []).append(source)
        for consumer, mine in stay.items():
            self._effects.append(Widen(consumer, table, tuple(mine)))

    def spawn(self) -> None:
        """Start one more consumer, which partitions are kept for."""
        self.on(ConsumerUp(self._start()))

    def add(self) -> None:
        """Start one more consumer; it gets its share when it has started, and not before."""
        self._left_out.add(self._start())

    def _start(self) -> str:
        name = _name(next(self._numbers))
        plans = tuple(self._tables.plans.values())
        setup = ConsumerSetup(self._run, name, plans, dict(self._breakers))
        self._fleet.start_consumer(setup, self._tables.ids)
        if self._draining:
            self._fleet.drain(name, on=True)
        return name

    def replace(self, name: str) -> None:
        """End a consumer that is lost or failed, and start another one in its place.

        One that was to leave has none; one that was left out has one that is left out, too.
        """
        log.warning("%s is gone", name)
        leaving, left_out = name in self._leaving, name in self._left_out
        self._end(name)
        if left_out:
            self.add()
        elif not leaving:
            self.spawn()

    def retire(self) -> None:
        """Let one that has not started end, or the newest hand over what it has and end."""
        unstarted = self.staying & self.unstarted
        name = max(unstarted or self.names, key=lambda one: int(one.rpartition("-")[2]))
        if name in unstarted:
            self._end(name)
            return
        log.info("%s hands over what it has and leaves", name)
        self._ask_to_leave(name)

    def move_away(self, names: Iterable[str]) -> None:
        """Let consumers hand over what they have and end; others start in their places.

        While the run drains they stay: they hand over all they have then.
        """
        for name in sorted(self._started.intersection(names) - self._leaving):
            if not self._draining:
                log.warning("%s hands over what it has: its node is to go", name)
                self.add()
                self._ask_to_leave(name)

    def _ask_to_leave(self, name: str) -> None:
        self._leaving.add(name)
        self._left_out.discard(name)
        self.on(ConsumerLeaves(name))
        self._let_go(name)

    def _let_go(self, name: str) -> None:
        if name in self._leaving and not self._machine.held_by(name):
            self._end(name)

    def _end(self, name: str) -> None:
        self._fleet.discard(name)
        last = self.reports.pop(name, None)
        self._breakers |= last.breakers if last is not None else {}
        for names in (self._started, self._left_out, self._leaving):
            names.discard(name)
        self.on(ConsumerDown(name))

    def leave_out(self, names: Iterable[str]) -> None:
        """Give the partitions of consumers that do not start to those that run.

        Nothing was sent to such a consumer: when it starts after all, it gets its share.
        """
        for name in names:
            if name in self.names and self.names & self._started:
                log.warning("%s has not started: the others read its partitions", name)
                self._left_out.add(name)
                self._effects = deque(e for e in self._effects if e.consumer != name)
                self.on(ConsumerDown(name))

    def heard(self, report: ConsumerReport) -> None:
        """Take a consumer's report."""
        self.reports[report.consumer] = report
        self._started.add(report.consumer)
        if report.consumer in self._left_out:
            self._left_out.discard(report.consumer)
            self.on(ConsumerUp(report.consumer))
        if report.released:
            self.on(Released(report.consumer, frozenset(report.released)))
        self._let_go(report.consumer)

    def revive(self, missing: Container[str]) -> None:
        """Let partitions be read again whose topic was missing for a consumer and is there."""
        found = self.stopped.items()
        back = {s for s, e in found if isinstance(e, UnknownTopic) and s.topic not in missing}
        for name, plan in self._tables.plans.items():
            self._widen(name, back.intersection(plan.sources))

    def drain(self, *, on: bool) -> None:
        """Drain all consumers, or take that back."""
        self._draining = on
        self.reports.clear()
        for name in sorted(self.everyone):
            self._fleet.drain(name, on=on)

    def apply(self) -> None:
        """Do what the assignment asks for; waits where an owner is being replaced.

        What concerns a consumer that has not started is kept until it has.
        """
        kept: deque[Effect | Widen] = deque()
        while self._effects:
            effect = self._effects[0]
            if effect.consumer in self.unstarted:
                kept.append(effect)
            elif effect.consumer in self.names | self._leaving:
                try:
                    self._do(effect)
                except OwnerLost as error:
                    log.info("waiting for an owner: %s", error.message)
                    break
            self._effects.popleft()
        self._effects.extendleft(reversed(kept))

    def _do(self, effect: Effect | Widen) -> None:
        log.info("%s", effect)
        if isinstance(effect, Revoke):
            self._fleet.revoke(effect.consumer, set(effect.sources))
            self._tables.hurry(HAND_OVER_S)
        elif isinstance(effect, Widen):
            generation = self._machine.generation
            granted = self._tables.granted(effect.sources, generation, only=effect.table)
            self._fleet.grant(effect.consumer, granted)
        else:
            granted = self._tables.granted(effect.sources, effect.generation)
            self._fleet.grant(effect.consumer, granted)


def _joined(parts: Iterable[Mapping[SourcePartition, _T]]) -> dict[SourcePartition, _T]:
    return {source: value for part in parts for source, value in part.items()}


def _name(number: int) -> str:
    return f"consumer-{number}"
