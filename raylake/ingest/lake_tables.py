"""The supervisor's tables: opened, admitted, their owners replaced."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Container, Generator, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from raylake.clock import Clock
from raylake.errors import ConfigError, RayLakeError, TopicRecreated
from raylake.ingest.ending import Behind, LettersHeldUp
from raylake.ingest.fleet import Discovery, Fleet, OwnerControl
from raylake.ingest.plan import NothingToInfer, TablePlan
from raylake.ingest.ports import OwnerLost, TableView
from raylake.ingest.reports import Granted
from raylake.ingest.unit import PartitionState, SourcePartition
from raylake.ingest.waiting import Waiting, may_wait, nothing_started, together

log = logging.getLogger(__name__)

GenerationOf = Callable[[SourcePartition], int | None]
Question = Callable[[], Any]
"""Something to ask of Kafka, wherever that is done."""


class LakeTables:
    """The tables of one run and their owners. Not thread-safe.

    Args:
        fleet: The run's processes.
        discovery: Topics and offsets.
        clock: Time.
    """

    def __init__(self, fleet: Fleet, discovery: Discovery, clock: Clock) -> None:
        self.plans: dict[str, TablePlan] = {}
        self.views: dict[str, TableView] = {}
        self.lost: set[str] = set()
        self.recreated: dict[SourcePartition, RayLakeError] = {}
        self.waiting = Waiting(clock)
        self._planned: dict[str, TablePlan] = {}
        self._letters = LettersHeldUp()
        self._fleet = fleet
        self._discovery = discovery

    @property
    def sources(self) -> set[SourcePartition]:
        """The partitions that some table takes."""
        return {source for plan in self.plans.values() for source in plan.sources}

    @property
    def ids(self) -> dict[str, str]:
        """The tables' ids by name."""
        return {name: view.table_id for name, view in self.views.items()}

    def owner(self, table: str) -> OwnerControl:
        """The owner of a table."""
        return self._fleet.owner(table)

    def resolve(self, plans: Iterable[TablePlan]) -> Generator[Question, Any, None]:
        """Find the schemas of all tables before the first one is created.

        Yields:
            What has to be asked of Kafka, to be sent the answer.

        Raises:
            ConfigError: Tables that have none and may not wait, or a wrong schema file: all at
                once; nothing was created.
        """
        faults: list[ConfigError] = []
        for plan in plans:
            try:
                yield partial(self._discovery.setup, plan)
            except ConfigError as error:
                if not (isinstance(error, NothingToInfer) and may_wait(plan)):
                    faults.append(error)
        if faults:
            raise together(faults)

    def require_one(self) -> None:
        """Raise ``ConfigError`` where there is no table to fill."""
        if not self.plans:
            raise nothing_started(sorted(self.waiting.why))

    def ensure(self, plan: TablePlan) -> Generator[Question, Any, None]:
        """Let the table have an owner and its partitions be admitted; again where that failed.

        A table that cannot be opened yet stays out: one for a topic found by a pattern that holds
        no record yet, from which its schema could be inferred.

        Yields:
            What has to be asked of Kafka, to be sent the answer.

        Raises:
            RayLakeError: What attaching raises, ``OwnerLost`` too; what was done stays done.
        """
        if self._planned.get(plan.name) == plan:
            return
        if plan.name not in self.plans:
            try:
                setup = yield partial(self._discovery.setup, plan)
            except NothingToInfer:
                if not may_wait(plan):
                    raise
                self.waiting.add(plan.name)
                return
            self.views[plan.name] = self._fleet.start_owner(setup)
            self.plans[plan.name] = replace(plan, sources=())
        yield from self._admit(plan)
        self._planned[plan.name] = plan

    def with_missing(self, plan: TablePlan, missing: Container[str]) -> TablePlan:
        """A plan with the partitions that the table takes of topics that are missing now.

        They keep their place, stopped, until the topic is back or is another one.
        """
        known = self.plans.get(plan.name)
        kept = [s for s in known.sources if s.topic in missing] if known is not None else []
        return replace(plan, sources=tuple(sorted({*plan.sources, *kept}))) if kept else plan

    def _admit(self, plan: TablePlan) -> Generator[Question, Any, None]:
        """Admit the partitions that the table has not admitted yet (I9).

        A topic that was created again is left out when the table stops there (I6). Nobody is to
        read what is not admitted: the plan shows it afterwards.
        """
        owner = self.owner(plan.name)
        ends = owner.ends(list(plan.sources))
        missing = [source for source in plan.sources if source not in ends]
        if missing:
            admitted = owner.admitted()
            plan = self._without_recreated(plan, missing, admitted)
            missing = [source for source in missing if source in plan.sources]
        if missing:
            origins = yield partial(self._discovery.origins, plan, missing, admitted)
            owner.admit(origins)
            log.info("%s admits %s", plan.name, {str(s): o for s, o in origins.items()})
        self.plans[plan.name] = plan

    def _without_recreated(
        self, plan: TablePlan, missing: list[SourcePartition], admitted: list[SourcePartition]
    ) -> TablePlan:
        known = {source.topic_id for source in admitted}
        before = {source.topic: source.topic_id for source in admitted}
        again = {s for s in missing if s.topic_id not in known and s.topic in before}
        if not again or plan.config.on_topic_recreated == "start":
            return plan
        for source in sorted(again):
            self.recreated[source] = TopicRecreated(
                f"{plan.name}: topic {source.topic!r} was deleted and created again: its id was "
                f"{before[source.topic]} and is {source.topic_id}",
                hint="nothing was read from the new one; `on_topic_recreated: start` begins it at "
                "its first offset",
                topic=source.topic,
                was=before[source.topic],
                now=source.topic_id,
            )
            log.error("%s", self.recreated[source])
        return replace(plan, sources=tuple(s for s in plan.sources if s not in again))

    def generation(self) -> int:
        """The newest generation that an owner was told."""
        return max((self.owner(name).generation() for name in self.plans), default=0)

    def hurry(self, for_s: float = math.inf) -> None:
        """For so long commit as soon as anything waits."""
        for name in self.plans.keys() - self.lost:
            # Whoever replaces a lost owner hurries the new one.
            with contextlib.suppress(OwnerLost):
                self.owner(name).hurry(for_s)

    def restart(self, name: str, generation_of: GenerationOf, *, hurry: bool) -> None:
        """Replace a lost owner.

        Raises:
            Retryable, OutcomeUnknown: Not now; try again.
            Fenced: Another run has taken the table meanwhile, be it that it left again (I11).
            RayLakeError: The table cannot be owned any more.
        """
        log.warning("the owner of %s is gone and is replaced", name)
        setup = self._discovery.setup(self.plans[name])
        setup = replace(setup, replaces=self.views[name].owner_run)
        self.views[name] = self._fleet.start_owner(setup)
        by_generation: dict[int, list[SourcePartition]] = {}
        for source in self.plans[name].sources:
            generation = generation_of(source)
            if generation is not None:
                by_generation.setdefault(generation, []).append(source)
        for generation, sources in by_generation.items():
            self.owner(name).set_generation(sources, generation)
        if hurry:
            self.owner(name).hurry()
        self.lost.discard(name)

    def granted(
        self, sources: tuple[SourcePartition, ...], generation: int, *, only: str = ""
    ) -> Granted:
        """What a consumer must know to read these partitions under a generation.

        Args:
            sources: The partitions.
            generation: Its units carry this one or a newer one.
            only: Name this table alone; the consumer reads the partitions for others already.

        Raises:
            OwnerLost: An owner is gone; try again.
        """
        ends: dict[str, dict[SourcePartition, int]] = {}
        least: dict[SourcePartition, tuple[int, int]] = {}
        for name, plan in self.plans.items():
            mine = [source for source in sources if source in plan.sources]
            if not mine or only not in ("", name):
                continue
            owner = self.owner(name)
            owner.set_generation(mine, generation)
            states = owner.ends(mine)
            ends[name] = {source: state.next for source, state in states.items()}
            for source, state in states.items():
                here = (state.next, state.leader_epoch)
                least[source] = min(least.get(source, here), here)
        return Granted(generation, ends, {s: epoch for s, (_, epoch) in least.items()})

    def behind(
        self,
        targets: Mapping[SourcePartition, int],
        stopped: Mapping[SourcePartition, RayLakeError],
    ) -> list[Behind]:
        """What the tables lack of what was aimed at, stopped partitions aside."""
        found = []
        for name, plan in self.plans.items():
            ends: Mapping[SourcePartition, PartitionState] = self.owner(name).ends(
                list(plan.sources)
            )
            for source in plan.sources:
                target = targets.get(source, 0)
                if source not in stopped and ends[source].next < target:
                    found.append(Behind(name, source, ends[source].next, target))
        return found

    def letters_coming(self) -> bool:
        """Whether dead letters are on their way into their table: it takes them, or may yet."""
        states = {name: self.owner(name).state() for name in self.plans}
        return any(self._letters.may_be_stored(name, state) for name, state in states.items())

    def reached(
        self, ends: Iterable[Mapping[SourcePartition, PartitionState]]
    ) -> dict[SourcePartition, int]:
        """The least end of each partition over the tables, from what their owners said."""
        least: dict[SourcePartition, int] = {}
        for of_table in ends:
            for source in of_table.keys() & self.sources:
                at = of_table[source].next
                least[source] = min(least.get(source, at), at)
        return least

    def ends(self) -> list[Mapping[SourcePartition, PartitionState]]:
        """Where each table stands; raises ``OwnerLost``."""
        return [self.owner(name).ends(list(plan.sources)) for name, plan in self.plans.items()]

    def aborts(self, source: SourcePartition) -> bool:
        """Whether a table of the partition ends the run when the partition is stopped."""
        of_source = [p for p in self.plans.values() if source in p.sources]
        return any(plan.config.on_failure == "abort" for plan in of_source)
