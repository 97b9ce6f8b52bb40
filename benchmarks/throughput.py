"""Records per second and per CPU-second of the plain path, and where the time goes.

First the product as it is: the job over Ray, ``--available-now``, its processes' CPU time. Then the
same classes one after the other in this process, timed stage by stage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import psutil
import pyarrow as pa
from bed import Bed, BenchFailed, bed, closing, options, table

from raylake.clock import SystemClock
from raylake.delta import log_files
from raylake.delta.identity import OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.ingest.build import ConsumerSetup, build_consumer
from raylake.ingest.plan import RunPlan, TablePlan, table_plans
from raylake.ingest.ports import Answer, TableView
from raylake.ingest.reports import Granted
from raylake.ingest.unit import PartitionState, SourcePartition, Unit
from raylake.kafka.client import Cluster
from raylake.kafka.poll import PollFetcher
from raylake.layers.bronze_maker import BronzeMaker

STEP_S = 0.5
LIMIT_S = 900.0
STAGES = (
    ("fetch", PollFetcher, ("fetch", "check_topics")),
    ("decode", BronzeMaker, ("make",)),
    ("write", BronzeMaker, ("write_rows", "write_dead")),
    ("commit", OwnedTable, ("commit",)),
)


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("speed", chosen) as made:
        topic = made.topic()
        began = time.monotonic()
        made.produce(topic, chosen.count)
        print(f"produced {chosen.count:,} in {time.monotonic() - began:.0f} s")
        made.pipeline(topic, commit_interval="1s", ingest={"consumers": chosen.consumers or "auto"})
        whole = _whole(made, chosen.count)
        stages = _stages(made, chosen.count)
        return _report(whole, stages, chosen.count)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=500_000)
    parser.add_argument("--consumers", type=int, help="default: as the product chooses")


@dataclass(slots=True)
class Whole:
    """A run of the job.

    Attributes:
        seconds: The whole process.
        ingest_s: From the first partition's admission to the last data commit.
        cpu_s: CPU seconds by kind of process.
    """

    seconds: float
    ingest_s: float
    cpu_s: dict[str, float]


def _whole(made: Bed, count: int) -> Whole:
    began = time.monotonic()
    job = made.ingest("--available-now")
    seen: dict[int, tuple[str, float]] = {}
    while job.poll() is None and time.monotonic() < began + LIMIT_S:
        _sample(job.pid, seen)
        time.sleep(STEP_S)
    if job.poll() != 0:
        raise BenchFailed(f"the job ended with {job.poll()}\n{made.tail('ingest.log')}")
    seconds = time.monotonic() - began
    rows = sum(p["next"] for p in made.status()["tables"]["bronze.orders"]["partitions"].values())
    if rows < count:
        raise BenchFailed(f"only {rows:,} offsets of {count:,} are in the table")
    folder = made.table / "_delta_log"
    at = [(folder / f"{v:020}.json").stat().st_mtime for v in log_files.commit_versions(made.table)]
    cpu_s: dict[str, float] = defaultdict(float)
    for kind, used in seen.values():
        cpu_s[kind] += used
    # 0 creates, 1 takes the epoch, 2 admits; the last one releases.
    return Whole(seconds, at[-2] - at[2], dict(cpu_s))


def _sample(pid: int, seen: dict[int, tuple[str, float]]) -> None:
    try:
        job = psutil.Process(pid)
        processes = [job, *job.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            used = process.cpu_times()
            kind = "job" if process.pid == pid else _kind(process.cmdline(), process.name())
        except psutil.Error:
            continue
        seen[process.pid] = (kind, used.user + used.system)


def _kind(command: list[str], name: str) -> str:
    text = " ".join(command)
    for actor in ("PartitionConsumer", "TableOwner", "DeadLetterQueue", "Supervisor"):
        if f"ray::{actor}" in text:
            return actor
    return "raylet" if "raylet" in name else "Ray, other"


def _stages(made: Bed, count: int) -> dict[str, float]:
    """Seconds by stage, one process, one thread; everything else is ``rest``."""
    config = made.config()
    config = config.model_copy(update={"lake": str(made.folder / "stages")})
    run = RunPlan(config, "", "", "stages", available_now=True)
    with Cluster(made.bootstrap, None, 10.0) as cluster:
        plan = table_plans(config, cluster)[0]
    spent: dict[str, float] = {}
    with _timed(spent):
        began = time.perf_counter()
        _ingest(run, plan, count)
        spent["whole"] = time.perf_counter() - began
    spent["rest"] = spent["whole"] - sum(v for k, v in spent.items() if k != "whole")
    return spent


def _ingest(run: RunPlan, plan: TablePlan, count: int) -> None:
    clock = SystemClock()
    spec = plan.spec(plan.configured_payload, run.config)
    identity = OwnerIdentity.of_this_process(run.config.pipeline, run.run_id)
    owned = OwnedTable.attach(spec, identity, clock=clock)
    owned.admit(dict.fromkeys(plan.sources, 0))
    owned.set_generation(plan.sources, 1)
    owner = _HereOwner(owned)
    loop = build_consumer(ConsumerSetup(run, "consumer-0", (plan,)), {plan.name: owner}, clock)
    loop.grant(Granted(1, {plan.name: dict.fromkeys(plan.sources, 0)}))
    deadline = time.monotonic() + LIMIT_S
    while sum(s.next for s in owned.states().values()) < count:
        loop.step()
        if time.monotonic() > deadline:
            raise BenchFailed("the stages took too long")
        if sum(loop.report().positions.values()) >= count:
            loop.drain()
    loop.close()
    owned.release()


@dataclass(slots=True)
class _Answered:
    answer: Answer

    def poll(self) -> Answer:
        return self.answer


@dataclass(slots=True)
class _HereOwner:
    """An owner in this process: each unit is committed when it is handed over."""

    table: OwnedTable
    answers: list[Answer] = field(default_factory=list)

    def view(self) -> TableView:
        return TableView(self.table.table_id, self.table.schema, self.table.fingerprint)

    def ends(self, sources: Sequence[SourcePartition]) -> Mapping[SourcePartition, PartitionState]:
        return self.table.ends(sources)

    def evolve(self, additions: pa.Schema) -> TableView:
        self.table.evolve(additions)
        return self.view()

    def submit(self, unit: Unit) -> _Answered:
        return _Answered(Answer(self.table.commit([unit])[0], None))


@contextmanager
def _timed(spent: dict[str, float]) -> Iterator[None]:
    """Time the stages' methods while the block runs."""
    originals = [(c, m, getattr(c, m)) for _, c, methods in STAGES for m in methods]
    for stage, owner, methods in STAGES:
        spent[stage] = 0.0
        for method in methods:
            setattr(owner, method, _timing(getattr(owner, method), stage, spent))
    try:
        yield
    finally:
        for owner, method, original in originals:
            setattr(owner, method, original)


def _timing(work: Any, stage: str, spent: dict[str, float]) -> Any:
    @wraps(work)
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*arguments, **named)
        finally:
            spent[stage] += time.perf_counter() - began

    return timed


def _report(whole: Whole, stages: dict[str, float], count: int) -> int:
    cpu_s = sum(whole.cpu_s.values())
    rows = [[k, v, 100 * v / cpu_s] for k, v in sorted(whole.cpu_s.items(), key=lambda i: -i[1])]
    table(rows, ["process", "CPU s", "%"])
    print()
    shown = [
        [k, v, 100 * v / stages["whole"], int(count / max(v, 1e-9))] for k, v in stages.items()
    ]
    table(shown, ["stage", "s", "%", "records/s"])
    work_s = whole.cpu_s.get("PartitionConsumer", 0.0) + whole.cpu_s.get("TableOwner", 0.0)
    closing(
        "throughput",
        records=count,
        whole_s=whole.seconds,
        ingest_s=whole.ingest_s,
        records_per_s=int(count / whole.ingest_s),
        records_per_cpu_s=int(count / cpu_s),
        records_per_worker_cpu_s=int(count / work_s),
        one_process_records_per_s=int(count / stages["whole"]),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
