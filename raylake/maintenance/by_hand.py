"""Upkeep that somebody asked for: what is due is done now, and what became of it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from raylake.client.cluster_tables import ClusterTables
from raylake.clock import Clock, SystemClock
from raylake.delta.ledger import OWNER_APP
from raylake.delta.txn_listing import list_txns
from raylake.errors import RayLakeError
from raylake.ingest.plan import new_run_id
from raylake.maintenance.budget import OpenGate
from raylake.maintenance.history import History
from raylake.maintenance.outcomes import Outcome
from raylake.maintenance.round import Means, Round
from raylake.maintenance.subjects import Subject
from raylake.maintenance.writers import WriterHere
from raylake.storage.place import place
from raylake.tables.service import DirectTables, TableService

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a run.

    Attributes:
        run_id: Its name in the history.
        outcomes: Of each action.
        failures: Of tables that could not be looked after at all.
        notes: What else there is to say.
    """

    run_id: str
    outcomes: tuple[Outcome, ...]
    failures: dict[str, RayLakeError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def failure(self) -> RayLakeError | None:
        """What the command ends with; None: all went well."""
        if self.failures:
            return next(iter(self.failures.values()))
        failed = [one for one in self.outcomes if one.ending == "failed"]
        if not failed:
            return None
        first = failed[0]
        return UpkeepFailed(
            f"{len(failed)} of {len(self.outcomes)} actions failed; the first: {first.table}: "
            f"{first.action.kind}: {first.note}",
            hint="the tables are as they were; what was written for it leaves with "
            "Vacuum(orphans=True)",
        )

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "format": FORMAT,
            "run_id": self.run_id,
            "outcomes": [one.document() for one in self.outcomes],
            "errors": {name: one.to_dict() for name, one in self.failures.items()},
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        """For people: what the outcomes themselves do not say."""
        if not self.outcomes and not self.failures:
            yield "nothing is due"
        for name, error in self.failures.items():
            yield f"{name}: {error.message}"
        yield from (f"note: {one}" for one in self.notes)


class UpkeepFailed(RayLakeError):
    """An action of a run failed; what the others did is done."""

    code = "upkeep_failed"


class ByHand:
    """Runs what is due in this process; tables with an owner are written on its cluster.

    Args:
        address: The cluster, as ``ray.init`` takes it; None: that of ``RAY_ADDRESS``, or an
            embedded one, where a table has an owner.
        wait_s: How long another maintainer is waited for, in seconds.
        stopping: Whether to begin nothing more.
        told: Called with each outcome.
        clock: Time.
    """

    def __init__(
        self,
        address: str | None = None,
        wait_s: float = 0.0,
        stopping: Callable[[], bool] = bool,
        told: Callable[[Outcome], None] = lambda _outcome: None,
        clock: Clock | None = None,
    ) -> None:
        self._address = address
        self._wait_s = wait_s
        self._stopping = stopping
        self._told = told
        self._clock = clock or SystemClock()
        self._direct = DirectTables()
        self._cluster = ClusterTables(address)

    def run(self, subjects: Sequence[Subject]) -> Result:
        """Do what is due of these tables."""
        run_id = new_run_id()
        means = Means(
            self._service,
            WriterHere(),
            OpenGate(),
            self._clock,
            f"raylake maintain run {run_id}",
            self._wait_s,
            self._stopping,
            told=self._told,
        )
        one = Round(means)
        outcomes = one.run(subjects)
        notes = write_history(run_id, subjects, outcomes)
        return Result(run_id, tuple(outcomes), one.failures, notes)

    def _service(self, table: str) -> TableService:
        if self._address is not None or OWNER_APP in list_txns(place(table)):
            return self._cluster
        return self._direct


def write_history(
    run_id: str, subjects: Sequence[Subject], outcomes: Sequence[Outcome]
) -> tuple[str, ...]:
    """Write down what became of actions, each in its lake's history.

    Returns:
        Why some are not in it.
    """
    notes = []
    lakes = {one.address: one.lake for one in subjects}
    for lake in sorted(set(lakes.values()) - {""}):
        mine = [one for one in outcomes if lakes[one.address] == lake]
        try:
            History(lake).add(run_id, mine)
        except RayLakeError as error:
            notes.append(f"the history was not written: {error.message}")
    return tuple(notes)
