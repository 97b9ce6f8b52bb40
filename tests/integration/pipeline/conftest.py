"""A pipeline as a job of its own on the shared cluster, against the real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from raylake import faults
from raylake.config import dead_letter_path, load, status_path
from raylake.delta.verify import PipelineReport, TableToVerify, VerifyOptions, verify_pipeline
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster
from tests.harness.broker import LiveBroker
from tests.harness.cluster import LiveCluster
from tests.harness.jobs import Job, start_job
from tests.harness.waiting import until
from tests.integration.pipeline.records import letters_of, rows_of

ROOT = Path(__file__).resolve().parents[3]
RUN_TIMEOUT_S = 180.0


class Bench:
    """One pipeline file with its lake, jobs and account."""

    def __init__(
        self, broker: LiveBroker, cluster: LiveCluster | None, folder: Path, name: str = ""
    ) -> None:
        self.broker = broker
        self.cluster = cluster
        self.folder = folder
        self.name = name or f"p-{uuid.uuid4().hex[:8]}"
        self.lake = folder / "lake"
        self.file = folder / f"{self.name}.yaml"
        self.faults = folder / "faults"
        self.runs: list[Job] = []
        self.document: dict[str, Any] = {}
        self.faults.mkdir(parents=True, exist_ok=True)

    def write(self, bronze: Mapping[str, Mapping[str, Any]], **sections: Any) -> None:
        """Write the pipeline file; commits are quick and dead letters never stop a table."""
        tables = {name: {"commit_interval": "200ms", **table} for name, table in bronze.items()}
        kafka = {"bootstrap": self.broker.bootstrap, "connect_timeout": "5s"}
        self.document = {
            "pipeline": self.name,
            "lake": str(self.lake),
            "kafka": {**kafka, **sections.pop("kafka", {})},
            "bronze": tables,
            "dead_letters": {"stop_above": "100%"},
            **sections,
        }
        self.document["ingest"] = {
            "consumers": 1,
            "durability": "none",
            **sections.get("ingest", {}),
        }
        self.file.write_text(yaml.safe_dump(self.document, sort_keys=False))

    def start(self, *arguments: str, **environment: str) -> Job:
        """Start the job."""
        log = self.folder / f"{self.name}-{len(self.runs)}.log"
        self.runs.append(
            start_job(self.file, log, self.faults, self.cluster, arguments, environment)
        )
        return self.runs[-1]

    def drain(self, *arguments: str, code: int = 0) -> Job:
        """Run until everything that is there now is in the tables."""
        return self.start("--available-now", *arguments).ends_with(code)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait while the newest run goes on; fails at once when it ends."""
        run = self.runs[-1]

        def holds() -> Any:
            answer = condition()
            if not answer and run.process.poll() is not None:
                pytest.fail(
                    f"it ended ({run.process.returncode}) before {what}: {run.said[-3000:]}"
                )
            return answer

        try:
            return until(holds, what, RUN_TIMEOUT_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(self.status())[:4000]}") from None

    def status(self) -> dict[str, Any]:
        """The status document; empty when there is none."""
        try:
            found: dict[str, Any] = json.loads(
                Path(status_path(load(self.file).config)).read_bytes()
            )
        except FileNotFoundError:
            return {}
        return found

    def table_status(self, table: str) -> dict[str, Any]:
        """What the status document says of one table."""
        found: dict[str, Any] = self.status().get("tables", {}).get(f"bronze.{table}", {})
        return found

    def accounted(self, table: str) -> int:
        """Offsets that a table accounts for, over all incarnations of its topics."""
        return sum(self.table_status(table).get("totals", {}).values())

    def until_accounted(self, **wanted: int) -> None:
        """Wait until the tables account for that many offsets each."""

        def reached() -> bool:
            return all(self.accounted(table) >= count for table, count in wanted.items())

        self.until(reached, f"{wanted} offsets accounted for")

    def table(self, name: str) -> Path:
        return self.lake / "bronze" / name

    def rows(self, table: str) -> pl.DataFrame:
        """The table by polars, in the order of the coordinates."""
        return rows_of(self.table(table))

    @property
    def letters(self) -> pl.DataFrame:
        """The dead letters by polars, in the order of the coordinates."""
        return letters_of(Path(dead_letter_path(load(self.file).config)))

    def verify(self, *tables: str, level: str = "all") -> PipelineReport:
        """Our own account; fails with its findings."""
        config = load(self.file).config
        names = tables or tuple(config.bronze)
        asked = [TableToVerify(str(self.table(name)), f"bronze.{name}") for name in names]
        with Cluster(self.broker.bootstrap) as lookup:
            options = VerifyOptions(level, lookup)
            report = verify_pipeline(asked, dead_letter_path(config), self.name, options)
        found = [str(one) for one in report.findings]
        found += [f"{table.table}: {one}" for table in report.tables for one in table.findings]
        assert report.ok, f"verify: {found}"
        return report

    def sources(self, topic: str) -> list[SourcePartition]:
        """The partitions of a topic as it is now."""
        with Cluster(self.broker.bootstrap) as lookup:
            return lookup.topics([topic])[topic].sources()

    def log_lines(self, process: str = "*") -> list[dict[str, Any]]:
        """What the processes of the runs logged."""
        folder = self.lake / "_raylake" / "logs" / self.name
        lines = [
            json.loads(line)
            for path in sorted(folder.glob(f"*/{process}.jsonl"))
            for line in path.read_text().splitlines()
        ]
        return sorted(lines, key=lambda line: str(line["time"]))

    def arm(self, point: str, action: str, **more: Any) -> None:
        """Arm a fault."""
        faults.arm(self.faults, point, action=action, **more)

    def fired(self) -> list[dict[str, Any]]:
        """The faults that fired."""
        return faults.fired(self.faults)

    def close(self) -> None:
        """End what still runs; the supervisor's actor goes with its job."""
        for run in self.runs:
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGTERM)
        for run in self.runs:
            try:
                run.process.wait(30)
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.process.wait()


MakeBench = Callable[..., Bench]


@pytest.fixture(scope="module")
def make_bench(
    broker: LiveBroker, ray_cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeBench]:
    """Makes pipelines: ``make_bench(name=…, cluster=None, broker=…, folder=…)``."""
    made: list[Bench] = []

    def make(**more: Any) -> Bench:
        settings = {"broker": broker, "cluster": ray_cluster, **more}
        folder = settings.pop("folder", None) or tmp_path_factory.mktemp("bench")
        made.append(Bench(folder=folder, **settings))
        return made[-1]

    yield make
    for bench in made:
        bench.close()
