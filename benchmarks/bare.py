"""The consumer's and the owner's classes in this process, without Ray.

``python benchmarks/bare.py --folder F --bootstrap H:P --lake L --count N`` ingests what the topics
of ``F/bench.yaml`` hold, in a new process, as actors are, and ends with a line of JSON. With
``--in-actor`` the same loop runs in the one actor of an otherwise empty Ray.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from bed import Bed, BenchFailed
from runs import Figures

from raylake.client.environment import prepare_ray
from raylake.clock import SystemClock
from raylake.delta.identity import OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.ingest.build_consumer import build_consumer
from raylake.ingest.plan import RunPlan, table_plans
from raylake.ingest.ports import Answer, TableView
from raylake.ingest.reports import Granted
from raylake.ingest.setups import ConsumerSetup
from raylake.ingest.unit import PartitionState, SourcePartition, Unit
from raylake.kafka.client import Cluster

LIMIT_S = 900.0


def ingest_here(made: Bed, lake: Path, count: int) -> Figures:
    """Ingest what the pipeline file's topics hold into a lake that is not there yet.

    Returns:
        Of this process alone, from its first commit to its last one; the records of the others.
    """
    config = made.config().model_copy(update={"lake": str(lake)})
    run = RunPlan(config, "", "", "bare", available_now=True)
    with Cluster(made.bootstrap, None, 10.0) as cluster:
        plan = table_plans(config, cluster)[0]
    began_s = time.perf_counter()
    clock = SystemClock()
    spec = plan.spec(plan.configured_payload, config)
    identity = OwnerIdentity.of_this_process(config.pipeline, run.run_id)
    owned = OwnedTable.attach(spec, identity, clock=clock)
    owned.admit(dict.fromkeys(plan.sources, 0))
    owned.set_generation(plan.sources, 1)
    setup = ConsumerSetup(run, "consumer-0", (plan,))
    here = _HereOwner(owned)
    loop = build_consumer(setup, {plan.name: here}, clock)
    loop.grant(Granted(1, {plan.name: dict.fromkeys(plan.sources, 0)}))
    while sum(s.next for s in owned.states().values()) < count:
        loop.step()
        if time.perf_counter() > began_s + LIMIT_S:
            raise BenchFailed("one process took too long")
        if sum(loop.report().positions.values()) >= count:
            loop.drain()
    loop.close()
    owned.release()
    first, last = here.commits[0], here.commits[-1]
    later = sum(commit.rows for commit in here.commits[1:])
    spent = last.cpu_s - first.cpu_s, last.user_s - first.user_s
    return Figures(later, last.at_s - first.at_s, *spent)


@dataclass(slots=True)
class _Answered:
    answer: Answer

    def poll(self) -> Answer:
        return self.answer


class _Commit(NamedTuple):
    """When a commit was done, on the process's clocks."""

    rows: int
    at_s: float
    cpu_s: float
    user_s: float


@dataclass(slots=True)
class _HereOwner:
    """An owner in this process: each unit is committed when it is handed over."""

    table: OwnedTable
    commits: list[_Commit] = field(default_factory=list)

    def view(self) -> TableView:
        return TableView(self.table.table_id, self.table.schema, self.table.fingerprint)

    def ends(self, sources: Sequence[SourcePartition]) -> Mapping[SourcePartition, PartitionState]:
        return self.table.ends(sources)

    def evolve(self, additions: pa.Schema) -> TableView:
        self.table.evolve(additions)
        return self.view()

    def submit(self, unit: Unit) -> _Answered:
        outcome = self.table.commit([unit])[0]
        times = time.perf_counter(), time.process_time(), os.times().user
        self.commits.append(_Commit(unit.counts.rows, *times))
        return _Answered(Answer(outcome, None))


def ingest_in_actor(made: Bed, lake: Path, count: int) -> Figures:
    """The same in a process of Ray's: what that costs by itself."""
    prepare_ray()
    # After its variables are set: it reads them when it is imported.
    import ray

    ray.init(num_cpus=1, _temp_dir=os.environ["RAYLAKE_RAY_DIR"], include_dashboard=False)
    figures: Figures = ray.get(ray.remote(ingest_here).remote(made, lake, count))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--in-actor", action="store_true")
    chosen = parser.parse_args()
    made = Bed("bare", chosen.folder, chosen.bootstrap)
    ingest = ingest_in_actor if chosen.in_actor else ingest_here
    print(json.dumps(dataclasses.asdict(ingest(made, chosen.lake, chosen.count))), flush=True)
    if chosen.in_actor:
        sys.modules["ray"].shutdown()
    # Readers of Delta tables can abort a process at exit.
    os._exit(0)


if __name__ == "__main__":
    main()
