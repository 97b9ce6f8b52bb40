"""One supervisor with a thousand partitions: the CPU it takes, and how long a status takes.

The loop, the status document, its file and the export of metrics are the product's own, as the
supervisor's actor runs them: a tick every 100 ms, a document every 2 s. Consumers and owner are
simulated: each answers every 500 ms with a report that is unpickled here, as Ray would; Ray's own
part in a call is not in it. Kafka's answers are made up.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pickle
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from bed import bed, closing, options, quantile, table
from rich.console import Console

from raylake.cli.status import picture
from raylake.client.runs import run_status
from raylake.clock import Deadline, SystemClock
from raylake.config import load_bytes
from raylake.ingest.breaker import Breaker, BreakerPolicy
from raylake.ingest.fleet import Left, News, Seen
from raylake.ingest.own_status import OwnStatus
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.ports import TableView
from raylake.ingest.reports import ConsumerReport, Granted
from raylake.ingest.retry import RetryCounters
from raylake.ingest.setups import ConsumerSetup, OwnerSetup
from raylake.ingest.status_document import document
from raylake.ingest.supervisor import SupervisorLoop
from raylake.ingest.switches import Switches
from raylake.ingest.unit import Counts, PartitionState, SourcePartition
from raylake.processes import Usage
from raylake.telemetry.export import MetricsExport, RunReports
from raylake.telemetry.metrics import MemoryMetrics

AIM_CORE = 0.20
AIM_STATUS_S = 0.2
TICK_S = 0.1
ANSWER_S = 0.5
DOCUMENT_S = 2.0
TURNS = 8
STEP = 1000


class _Owner:
    """What the supervisor asks of an owner, answered at once."""

    def __init__(self, sources: Sequence[SourcePartition]) -> None:
        self._states = {s: PartitionState(0, 0, Counts()) for s in sources}

    def ends(self, sources: list[SourcePartition]) -> dict[SourcePartition, PartitionState]:
        return {source: self._states[source] for source in sources}

    def generation(self) -> int:
        return 0

    def set_generation(self, sources: list[SourcePartition], generation: int) -> None:
        """Nobody is fenced here."""

    def hurry(self, for_s: float = 0.0) -> None:
        """It never waits."""


class _Fleet:
    """Consumers and an owner that answer with reports made beforehand."""

    def __init__(self, sources: Sequence[SourcePartition], name: str) -> None:
        self._table = name
        self._owner = _Owner(sources)
        self._owner_reports = itertools.cycle([_owner(sources, turn) for turn in range(TURNS)])
        self._held: dict[str, set[SourcePartition]] = {}
        self._released: dict[str, set[SourcePartition]] = {}
        self._reports: dict[str, Iterator[bytes]] = {}
        self._heard_s = 0.0

    def prepare(self, consumers: Sequence[str]) -> None:
        """They are there."""

    def start_queue(self) -> None:
        """There is none."""

    def start_owner(self, _setup: OwnerSetup) -> TableView:
        return TableView("id", pa.schema([]), "")

    def owner(self, _name: str) -> Any:
        return self._owner

    def start_consumer(self, setup: ConsumerSetup, _ids: Mapping[str, str]) -> None:
        self._held[setup.name] = set()

    def discard(self, consumer: str) -> None:
        del self._held[consumer]

    def add_table(self, consumer: str, plan: TablePlan, table_id: str) -> None:
        """It knows."""

    def grant(self, consumer: str, granted: Granted) -> None:
        self._held[consumer] |= granted.sources
        self._reports.pop(consumer, None)

    def revoke(self, consumer: str, sources: set[SourcePartition]) -> None:
        self._held[consumer] -= sources
        self._released[consumer] = sources
        self._reports.pop(consumer, None)

    def drain(self, consumer: str, *, on: bool) -> None:
        """Not here."""

    def switch(self, switches: Switches) -> None:
        """Not here."""

    def news(self) -> News:
        news = News()
        if time.monotonic() < self._heard_s + ANSWER_S:
            return news
        self._heard_s = time.monotonic()
        for name, held in self._held.items():
            if name not in self._reports:
                made = [_consumer(name, self._table, held, turn) for turn in range(TURNS)]
                self._reports[name] = itertools.cycle(made)
            report = pickle.loads(next(self._reports[name]))
            report.released = tuple(self._released.pop(name, ()))
            news.consumers[name] = report
        news.owners[self._table] = pickle.loads(next(self._owner_reports))
        return news

    def leave(self, _deadline: Deadline) -> Left:
        return Left()


class _Discovery:
    """Kafka, as it was made up."""

    def __init__(self, plan: TablePlan) -> None:
        self.retries = RetryCounters()
        self._plan = plan

    def tables(self) -> list[TablePlan]:
        return [self._plan]

    def look(self) -> Seen:
        return Seen([self._plan], {})

    def setup(self, plan: TablePlan) -> Any:
        return OwnerSetup(None, plan, None)  # type: ignore[arg-type]

    def origins(self, *_: Any) -> dict[SourcePartition, int]:
        return {}

    def stable_ends(self, sources: list[SourcePartition]) -> dict[SourcePartition, int]:
        return dict.fromkeys(sources, TURNS * STEP)

    high_ends = stable_ends

    def publish(self, offsets: Mapping[SourcePartition, int]) -> None:
        """Lag tools look away."""


def _consumer(name: str, of: str, held: set[SourcePartition], turn: int) -> bytes:
    closed = {"retries": 0, "recovered": 0, "exhausted": 0}
    counters = {
        "records": turn * STEP,
        "bytes": turn * STEP * 200,
        "rows": turn * STEP,
        "dead": 0,
        "units": turn,
        "refused": 0,
        "resets": 0,
        "evolved": 0,
        "flagged": {},
        "dead_by": {},
        "held_bytes": 10**6,
        "retries": {"store": closed, "dead_letters": closed},
    }
    budget = {"limit_bytes": 2**28, "used_bytes": 10**6, "peak_bytes": 10**7, "paused": False}
    return pickle.dumps(
        ConsumerReport(
            name,
            sources=tuple(sorted(held)),
            positions=dict.fromkeys(sorted(held), turn * STEP),
            tables={of: counters},
            budget={**budget, "paused_for_s": 0.0},
            retries={"broker": closed},
            pid=os.getpid(),
            usage=Usage.of_this(),
        )
    )


def _owner(sources: Sequence[SourcePartition], turn: int) -> bytes:
    breaker = Breaker("store", BreakerPolicy(), SystemClock()).snapshot()
    state = OwnerState(turn, turn, turn, last_commit_at=time.time(), breakers={"store": breaker})
    at = turn * STEP
    ends = {source: PartitionState(0, at, Counts(rows=at)) for source in sources}
    process = SimpleNamespace(pid=os.getpid())
    report = SimpleNamespace(process=process, pid=os.getpid(), epoch=1, state=state, ends=ends)
    return pickle.dumps(report)


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("many", chosen, broker=False) as made:
        made.bootstrap = "localhost:1"
        scaled = {"min": chosen.consumers, "max": chosen.consumers + 1}
        made.pipeline("orders", ingest={"consumers": scaled})
        file = made.folder / "bench.yaml"
        config = load_bytes(file.read_bytes(), path=str(file), environ={}).config
        run = RunPlan(config, "", str(file), "run")
        sources = tuple(SourcePartition("orders", "id", n) for n in range(chosen.partitions))
        plan = TablePlan("bronze.orders", str(made.table), config.bronze["orders"], sources)
        fleet: Any = _Fleet(sources, plan.name)
        clock, discovery = SystemClock(), _Discovery(plan)
        loop = SupervisorLoop(run, fleet, discovery, clock, chosen.consumers)
        figures = _measure(loop, run, chosen.seconds)
        shown_s = []
        console = Console(file=(made.folder / "shown.txt").open("w"))
        for _ in range(10):
            began_s = time.monotonic()
            console.print(picture(run_status(run.status_file, clock)))
            shown_s.append(time.monotonic() - began_s)
    return _tell(chosen, figures, shown_s)


def _measure(loop: SupervisorLoop, run: RunPlan, seconds: float) -> dict[str, list[float]]:
    """Run the loop as the actor does; CPU seconds of each turn, and of each document."""
    export, status = MetricsExport(MemoryMetrics(), "bench"), OwnStatus(run.status_file)
    figures: dict[str, list[float]] = {"tick": [], "document": [], "written": [], "core": []}
    loop.start()
    while not loop.crew.settled or len(loop.crew.reports) < len(loop.crew.names):
        loop.tick()
        time.sleep(TICK_S)
    began_s, cpu_s, written_s = time.monotonic(), time.process_time(), 0.0
    while time.monotonic() < began_s + seconds:
        ticked_s = time.process_time()
        loop.tick()
        figures["tick"].append(time.process_time() - ticked_s)
        if time.monotonic() >= written_s + DOCUMENT_S:
            written_s, before_s = time.monotonic(), time.process_time()
            crew = loop.crew
            export.export(
                RunReports(crew.reports, loop.owners, loop.restarts, loop.topics.stable_ends),
                time.time(),
            )
            exported_s = time.process_time()
            shown = document(loop, {"kind": "job", "host": "", "pid": os.getpid()}, time.time())
            figures["document"].append(time.process_time() - exported_s)
            status.write(shown)
            figures["written"].append(time.process_time() - before_s)
        time.sleep(TICK_S)
    figures["core"].append((time.process_time() - cpu_s) / (time.monotonic() - began_s))
    return figures


def _tell(chosen: argparse.Namespace, figures: dict[str, list[float]], shown_s: list[float]) -> int:
    core = figures.pop("core")[0]
    rows = [
        (name, len(values), statistics.mean(values) * 1e3, quantile(values, 0.95) * 1e3)
        for name, values in (*figures.items(), ("status shown", shown_s))
    ]
    table(rows, ("what", "times", "mean ms", "p95 ms"))
    status_s = max(quantile(figures["document"], 0.95), quantile(shown_s, 0.95))
    met = core <= AIM_CORE and status_s <= AIM_STATUS_S
    closing(
        "many_partitions",
        partitions=chosen.partitions,
        consumers=chosen.consumers,
        core=core,
        status_s=status_s,
        aims_met=met,
    )
    return 0 if met else 1


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--consumers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=40.0)


if __name__ == "__main__":
    raise SystemExit(main())
