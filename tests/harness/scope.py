"""One pipeline under test: its topic, lake, pipeline file, jobs, faults and account."""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from raylake import faults
from raylake.config import Pipeline, dead_letter_path, load, status_path, table_path
from raylake.delta.verify import TableToVerify, VerifyOptions, verify_pipeline
from raylake.demo.auditor import AuditReport, audit
from raylake.demo.auditor import Scope as AuditScope
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster
from tests.harness import producing
from tests.harness.broker import LiveBroker
from tests.harness.chaos_report import Tally
from tests.harness.cluster import LiveCluster
from tests.harness.jobs import EXIT_TIMEOUT_S, Job, pids_of, start_job
from tests.harness.waiting import until

SCHEMA = {"id": "long", "at": "timestamp", "note": "string"}
TABLE = "events"


@dataclass
class Scope:
    """One pipeline, its world and its account; see the fixture ``scope``.

    Attributes:
        broker: Kafka.
        cluster: The shared Ray cluster; None: each job embeds its own.
        folder: A folder of this test alone.
        tally: Counts faults and recoveries for the chaos report.
    """

    broker: LiveBroker
    cluster: LiveCluster | None
    folder: Path
    tally: Tally
    partitions: int = 2
    name: str = field(default_factory=lambda: f"chaos-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.topic = f"t-{self.name}"
        self.lake = self.folder / "lake"
        self.fault_folder = self.folder / "faults"
        (self.fault_folder / "armed").mkdir(parents=True)
        (self.fault_folder / "fired").mkdir()
        self.records: list[Path] = []
        self.jobs: list[Job] = []
        self.produced = 0
        self.ends: dict[str, int] = {}
        self.injected = self.counted = self.passing = self.counted_passing = 0
        self.file = self.folder / "pipeline.yaml"
        self.broker.create_named_topic(self.topic, self.partitions)
        self.pipeline()

    # -- the pipeline file

    def pipeline(
        self,
        table: Mapping[str, Any] | None = None,
        *,
        tables: Mapping[str, Mapping[str, Any]] | None = None,
        **sections: Any,
    ) -> Pipeline:
        """Write the pipeline file: one table with these keys more, or several of them."""
        base = {
            "topics": [self.topic],
            "schema": SCHEMA,
            "keep_value": True,
            "commit_interval": "200ms",
            "max_batch_bytes": "64KiB",
        }
        wanted = tables or {TABLE: table or {}}
        document = {
            "pipeline": self.name,
            "lake": str(self.lake),
            "kafka": {"bootstrap": self.broker.bootstrap, "connect_timeout": "5s"},
            "bronze": {name: {**base, **more} for name, more in wanted.items()},
            "breaker": {"open": "1s", "calls": 4, "window": "20s"},
            "retry": {"initial": "100ms", "max": "1s"},
            "dead_letters": {"stop_above": "90%"},
            **sections,
        }
        document["ingest"] = {"consumers": 1, **sections.get("ingest", {})}
        self.file.write_text(yaml.safe_dump(document, sort_keys=False))
        return self.config

    @property
    def config(self) -> Pipeline:
        return load(self.file).config

    def table(self, name: str = TABLE) -> Path:
        return Path(table_path(self.config, f"bronze.{name}"))

    @property
    def letters(self) -> Path:
        return Path(dead_letter_path(self.config))

    # -- records

    def produce(
        self,
        count: int,
        mix: producing.Mix = producing.PLAIN,
        *,
        partitions: list[int] | None = None,
        seed: int = 1,
    ) -> None:
        """Produce records and write them down."""
        record = self.folder / f"record-{len(self.records)}.parquet"
        places = partitions or list(range(self.partitions))
        self.produced += producing.produce(
            self.broker.bootstrap,
            self.topic,
            count,
            record,
            partitions=places,
            mix=mix,
            seed=seed + len(self.records),
        )
        self.records.append(record)
        with Cluster(self.broker.bootstrap, None, 5.0) as lookup:
            info = lookup.topics([self.topic])[self.topic]
            sources = [SourcePartition(self.topic, info.topic_id, p) for p in info.partitions]
            self.ends = {str(s): end for s, end in lookup.latest(sources).items()}

    @contextmanager
    def load(self, mix: producing.Mix = producing.PLAIN, batch: int = 200) -> Iterator[None]:
        """Produce, batch after batch, until the block ends; then :attr:`ends` is final."""
        over = threading.Event()
        failed: list[BaseException] = []

        def work() -> None:
            try:
                while not over.wait(0.1):
                    self.produce(batch, mix)
            except Exception as error:  # noqa: BLE001 - told in the test's thread
                failed.append(error)

        thread = threading.Thread(target=work, name="load", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert not failed, failed

    # -- jobs

    def start(self, *arguments: str, **environment: str) -> Job:
        """Start an ingest job."""
        log = self.folder / f"job-{len(self.jobs)}.log"
        job = start_job(self.file, log, self.fault_folder, self.cluster, arguments, environment)
        self.jobs.append(job)
        return job

    def drain(self, *arguments: str, code: int = 0, timeout_s: float = EXIT_TIMEOUT_S) -> Job:
        """Run a job until everything that is there now is in the table."""
        job = self.start("--available-now", *arguments)
        job.ends_with(code, timeout_s)
        return job

    def run_until(self, condition: Callable[[], Any], what: str, timeout_s: float = 120.0) -> Any:
        """Wait while the newest job runs; fails at once when it ends."""
        job = self.jobs[-1]

        def holds() -> Any:
            answer = condition()
            if not answer and job.process.poll() is not None:
                pytest.fail(
                    f"the job ended ({job.process.returncode}) before {what}: {job.said[-3000:]}"
                )
            return answer

        return until(holds, what, timeout_s)

    def caught_up(self) -> bool:
        """Whether, by the status document, every table is where the topic ends."""
        places = self.committed()
        return bool(places) and all(
            place.get(source, -1) >= end for place in places for source, end in self.ends.items()
        )

    def committed(self) -> list[dict[str, int]]:
        """The next offset of each partition, for each table of the status document."""
        tables = self.status().get("tables", {}).values()
        return [{s: p["next"] for s, p in t.get("partitions", {}).items()} for t in tables]

    def status(self) -> dict[str, Any]:
        """The status document; empty when there is none."""
        path = Path(status_path(self.config))
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def pids(self, process: str) -> list[int]:
        """The live processes of this pipeline: ``supervisor``, ``consumer``, ``owner`` …"""
        return pids_of(self.lake, process)

    def breakers(self) -> dict[str, str]:
        """The breakers that the status document shows, by name, with their states."""
        document = self.status()
        found: dict[str, Any] = {}
        for one in document.get("consumers", {}).values():
            found |= one["breakers"]
        for name, table in document.get("tables", {}).items():
            found |= {f"{name}/owner/{k}": v for k, v in table.get("breakers", {}).items()}
        return {name: snapshot["state"] for name, snapshot in found.items()}

    def tripped(self, name: str) -> bool:
        """Whether a breaker whose name ends so is not closed."""
        return any(k.endswith(name) and v != "closed" for k, v in self.breakers().items())

    def until_caught_up(self, timeout_s: float = 120.0) -> None:
        self.run_until(self.caught_up, "every offset was committed", timeout_s)

    def fail_once(self, what: str) -> None:
        """Count a failure that the test itself injects and that passes, in the chaos report."""
        self.hit(what)
        self.passing += 1
        self.tally.transient += 1

    def recovered(self, dependency: str) -> int:
        """Operations that failed and succeeded when they were tried again, by the product."""
        counts = self.status().get("retries", {}).get(dependency, {})
        return int(counts.get("recovered", 0))

    def hit(self, what: str, times: int = 1) -> None:
        """Count what the test did to the run, in the chaos report."""
        self.injected += times
        self.tally.hits[what] += times

    def kill(self, process: str, number: signal.Signals = signal.SIGKILL) -> list[int]:
        """Signal all live processes of this kind; there must be one."""
        pids = until(lambda: self.pids(process), f"a process {process}", 20)
        for pid in pids:
            os.kill(pid, number)
        self.hit(f"{number.name} of {process}", len(pids))
        return pids

    # -- faults

    def arm(self, point: str, action: str = "kill", **more: Any) -> Path:
        """Arm a fault; that it fires is checked by :meth:`audit`. The file appears when it does."""
        armed = faults.arm(self.fault_folder, point, action=action, **more)
        return self.fault_folder / "fired" / armed.name

    def faults(self) -> list[dict[str, Any]]:
        """The faults that fired."""
        return faults.fired(self.fault_folder)

    def unfired(self) -> list[str]:
        return sorted(path.name for path in (self.fault_folder / "armed").glob("*.json"))

    # -- the account

    def audit(self, table: str = TABLE) -> AuditReport:
        """Compare table and dead letters with the producers' record by other means than ours.

        Fails with examples where they differ, when no record flowed, and when a fault that was
        armed did not fire.
        """
        assert self.unfired() == [], "armed faults that no process reached"
        report = audit(self.table(table), self.letters, self.records, AuditScope(f"bronze.{table}"))
        assert report.balanced, f"the books don't balance: {report.to_text()}"
        assert report.produced == self.produced > 0
        assert report.rows + report.dead_letters > 0, "no record flowed"
        fired = self.faults()
        hit, passing = len(fired) + self.injected, self.passing + len(_errors(fired))
        self.tally.recovered += hit - self.counted
        self.tally.transient_recovered += passing - self.counted_passing
        self.counted, self.counted_passing = hit, passing
        return report

    def verify(self, level: str = "data") -> None:
        """Our own account of the whole pipeline; fails with its findings."""
        config = self.config
        tables = [TableToVerify(str(self.table(name)), f"bronze.{name}") for name in config.bronze]
        with Cluster(config.kafka.bootstrap, None, 5.0) as lookup:
            options = VerifyOptions(level=level, broker_lookup=lookup)
            report = verify_pipeline(tables, str(self.letters), self.name, options)
        findings = [str(one) for one in report.findings]
        findings += [str(one) for table in report.tables for one in table.findings]
        assert report.ok, f"verify: {findings}"

    def commits(self, table: str = TABLE) -> list[tuple[int, dict[str, Any]]]:
        """Version and RayLake's metadata of each commit in the log, read with plain tools."""
        found = []
        for path in sorted((self.table(table) / "_delta_log").glob("*.json")):
            for line in path.read_text().splitlines():
                ours = json.loads(line).get("commitInfo", {}).get("raylake")
                if ours is not None:
                    found.append((int(path.stem), ours))
        return found

    def ranges_in_log(self, table: str = TABLE, upto: int = 10**9) -> list[dict[str, Any]]:
        """The ranges of all data commits up to a version."""
        return [r for v, c in self.commits(table) if v <= upto for r in c.get("ranges", [])]

    def ends_in_log(self, table: str = TABLE) -> dict[int, int]:
        """The end of each partition by the data commits, by number."""
        ends: dict[int, int] = {}
        for one in self.ranges_in_log(table):
            ends[one["partition"]] = max(ends.get(one["partition"], 0), one["end"])
        return ends

    def close(self) -> None:
        """End what still runs, and count what was injected."""
        for job in self.jobs:
            if job.process.poll() is None:
                job.process.kill()
                job.process.wait()
        for process in ("supervisor", "consumer", "owner", "dead_letters"):
            for pid in self.pids(process):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        fired = self.faults()
        self.tally.hits.update(f"{fault['action']} at {fault['point']}" for fault in fired)
        self.tally.transient += len(_errors(fired))


def _errors(fired: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [fault for fault in fired if fault["action"] == "error"]


MakeScope = Callable[..., Scope]


@pytest.fixture
def make_scope(
    broker: LiveBroker, ray_cluster: LiveCluster, tmp_path: Path, tally: Tally
) -> Iterator[MakeScope]:
    """Makes scopes: ``make_scope(partitions=…, broker=…, cluster=None)``."""
    made: list[Scope] = []

    def make(**more: Any) -> Scope:
        folder = more.pop("folder", tmp_path / f"scope-{len(made)}")
        settings = {"broker": broker, "cluster": ray_cluster, **more}
        made.append(Scope(folder=folder, tally=tally, **settings))
        return made[-1]

    yield make
    for scope in made:
        scope.close()


@pytest.fixture
def scope(make_scope: MakeScope) -> Scope:
    """A pipeline of two partitions on the shared cluster."""
    return make_scope()
