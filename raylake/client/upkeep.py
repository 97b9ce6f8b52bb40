"""Which tables upkeep is about, and upkeep that somebody asked for: what is due is done now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from raylake.client.cluster_tables import ClusterTables
from raylake.client.lake import Lake, connect, table_at
from raylake.clock import Clock, SystemClock
from raylake.config import Pipeline, load
from raylake.config.addresses import normalise_table_address
from raylake.delta.ledger import OWNER_APP
from raylake.delta.tables_there import is_table
from raylake.delta.txn_listing import list_txns
from raylake.errors import RayLakeError
from raylake.ingest.plan import new_run_id
from raylake.maintenance.budget import OpenGate
from raylake.maintenance.history import write_history
from raylake.maintenance.kept_state import kept_at
from raylake.maintenance.outcomes import Outcome
from raylake.maintenance.policy import Policy, policy_of
from raylake.maintenance.round import Means, Round
from raylake.maintenance.subjects import Subject
from raylake.maintenance.writers import WriterHere
from raylake.storage.place import place
from raylake.tables.service import DirectTables, TableService
from raylake.tables.versions import missing

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


def of_target(target: str) -> list[Subject]:
    """The tables that a command line means: a pipeline file's, a lake's, or one by its address.

    Raises:
        ConfigError: The pipeline file is wrong.
        TableMissing: There is no table.
    """
    if Path(target).is_file():
        return of_file(Path(target))
    single = table_at(target)
    if is_table(single.address):
        return [Subject(single.name, single.address, Policy(), None)]
    lake = connect(target)
    found = _of_lake(lake)
    if not found:
        raise missing(single.address)
    return found


def of_file(file: Path) -> list[Subject]:
    """The tables of a pipeline file that are there, by its policies.

    Raises:
        ConfigError: The file is wrong.
    """
    return of_pipeline(load(file).config)


def of_pipeline(config: Pipeline) -> list[Subject]:
    """The tables of a pipeline that are there, by its policies."""
    where = normalise_table_address(config.lake).rstrip("/")
    found = []
    for one in _of_lake(Lake(where, None, config.stores, config)):
        layer, _, short = one.name.partition(".")
        section: Mapping[str, Any] = getattr(config, layer, {})
        if short in section or (layer == "bronze" and _fans_out(config)):
            columns = getattr(section.get(short), "zorder_by", ())
            policy = policy_of(config.maintenance, one.name, tuple(columns))
            found.append(replace(one, policy=policy))
    return found


def _of_lake(lake: Lake) -> list[Subject]:
    return [
        Subject(one.name, one.address, Policy(), kept_at(place(lake.where), one.name), lake.where)
        for one in lake.tables()
    ]


def _fans_out(config: Pipeline) -> bool:
    return any(one.fans_out for one in config.bronze.values())
