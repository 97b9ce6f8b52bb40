"""The supervisor's tables: opened, admitted, their owners replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from raylake.errors import RayLakeError
from raylake.ingest.fleet import Discovery, Fleet, OwnerControl
from raylake.ingest.plan import TablePlan
from raylake.ingest.ports import TableView
from raylake.ingest.reports import Granted
from raylake.ingest.unit import PartitionState, SourcePartition

log = logging.getLogger(__name__)

GenerationOf = Callable[[SourcePartition], int | None]


class LakeTables:
    """The tables of one run and their owners. Not thread-safe.

    Args:
        fleet: The run's processes.
        discovery: Topics and offsets.
    """

    def __init__(self, fleet: Fleet, discovery: Discovery) -> None:
        self.plans: dict[str, TablePlan] = {}
        self.views: dict[str, TableView] = {}
        self.lost: set[str] = set()
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

    def open(self, plan: TablePlan) -> None:
        """Start the table's owner and admit its partitions; raises what attaching raises."""
        self.views[plan.name] = self._fleet.start_owner(self._discovery.setup(plan))
        self.plans[plan.name] = plan
        self.admit(plan)

    def admit(self, plan: TablePlan) -> None:
        """Admit the partitions that the table has not admitted yet (I9)."""
        self.plans[plan.name] = plan
        owner = self.owner(plan.name)
        sources = list(plan.sources)
        admitted = owner.ends(sources)
        missing = [source for source in sources if source not in admitted]
        if missing:
            origins = self._discovery.origins(plan, missing, sorted(admitted))
            owner.admit(origins)
            log.info("%s admits %s", plan.name, {str(s): o for s, o in origins.items()})

    def generation(self) -> int:
        """The newest generation that an owner was told."""
        return max((self.owner(name).generation() for name in self.plans), default=0)

    def hurry(self) -> None:
        """Commit as soon as anything waits."""
        for name in self.plans.keys() - self.lost:
            self.owner(name).hurry()

    def restart(self, name: str, generation_of: GenerationOf, *, hurry: bool) -> None:
        """Replace a lost owner.

        Raises:
            Retryable, OutcomeUnknown: Not now; try again.
            RayLakeError: The table cannot be owned any more.
        """
        log.warning("the owner of %s is gone and is replaced", name)
        self._fleet.start_owner(self._discovery.setup(self.plans[name]))
        self.lost.discard(name)
        by_generation: dict[int, list[SourcePartition]] = {}
        for source in self.plans[name].sources:
            generation = generation_of(source)
            if generation is not None:
                by_generation.setdefault(generation, []).append(source)
        for generation, sources in by_generation.items():
            self.owner(name).set_generation(sources, generation)
        if hurry:
            self.owner(name).hurry()

    def granted(self, sources: tuple[SourcePartition, ...], generation: int) -> Granted:
        """What a consumer must know to read these partitions under a new generation.

        Raises:
            OwnerLost: An owner is gone; try again.
        """
        ends: dict[str, dict[SourcePartition, int]] = {}
        least: dict[SourcePartition, tuple[int, int]] = {}
        for name, plan in self.plans.items():
            mine = [source for source in sources if source in plan.sources]
            if not mine:
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
    ) -> bool:
        """Whether a table lacks something that was aimed at, stopped partitions aside."""
        for name, plan in self.plans.items():
            ends: Mapping[SourcePartition, PartitionState] = self.owner(name).ends(
                list(plan.sources)
            )
            for source in plan.sources:
                if source not in stopped and ends[source].next < targets.get(source, 0):
                    return True
        return False

    def refresh(self) -> list[TablePlan]:
        """The tables that are new or got partitions, admitted; raises as :meth:`open`."""
        changed = [p for p in self._discovery.tables() if self.plans.get(p.name) != p]
        for plan in changed:
            if plan.name in self.plans:
                self.admit(plan)
            else:
                self.open(plan)
        return changed
