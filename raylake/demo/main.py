"""``raylake demo``: Kafka to gold on real components, with kills, and the account of each layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from raylake.clock import Clock, SystemClock
from raylake.config import Pipeline, dead_letter_path, load, table_path
from raylake.config.addresses import quarantine_path
from raylake.delta import log_files
from raylake.delta.verify import VerifyReport, verify
from raylake.demo.generate import create_topic
from raylake.demo.kills import MAX_SPREAD_S, Kills, of_derived, told
from raylake.demo.read_back import read_back
from raylake.demo.result import DemoResult, found_wrong, lines
from raylake.demo.tables import BRONZE, GOLD, PIPELINE, SILVER, document
from raylake.errors import RayLakeError, Terminal
from raylake.faults import fired
from raylake.ingest.plan import new_run_id
from raylake.ingest.status import read_status
from raylake.kafka.client import Cluster
from raylake.kafka.dev import DevBroker
from raylake.tables.routing import SPARK, EngineChoice

PARTITIONS = 4
SHARDS = 2
SPREAD_RECORDS = 500_000
RECORD_BYTES = 600
"""Of one event as it is held: columns and the exact bytes."""
RUN_LIMIT_S = 1800.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to do.

    Attributes:
        count: Records to produce.
        seed: Decides the records and the kills.
        engine: Who writes silver and gold.
        kills: How many SIGKILLs.
        lake: The lake's folder; None: a new folder below the current one.
        keep_broker: Leave the broker running.
        as_json: Print one JSON object instead of lines.
    """

    count: int = 1_000_000
    seed: int = 1
    kills: int = 9
    lake: Path | None = None
    keep_broker: bool = False
    as_json: bool = False
    engine: EngineChoice = "auto"


def run(options: DemoOptions) -> int:
    """Run the demo.

    Returns:
        0 when the books of all layers balance and every kill hit, 1 when the run failed or too few
        kills hit, 3 when the books don't balance.
    """
    return Demo(options, Console(stderr=options.as_json, highlight=False, soft_wrap=True)).run()


class Demo:
    """One run of the demo.

    Args:
        options: What to do.
        console: Where lines go.
    """

    def __init__(self, options: DemoOptions, console: Console) -> None:
        self._options = options
        self._console = console
        self._clock: Clock = SystemClock()
        run_id = new_run_id()
        self._lake = (options.lake or Path("raylake-demo") / run_id).absolute()
        self._topic = f"orders-{run_id.lower()}"
        self._work = self._lake / "_raylake" / "demo"
        self._start_ms = int((self._clock.now() - 3600) * 1000)
        self._result = DemoResult(str(self._lake))

    def run(self) -> int:
        """All of it; returns the exit code of :func:`run`."""
        broker = DevBroker(instance="demo")
        self._work.mkdir(parents=True, exist_ok=True)
        try:
            with self._step("broker"):
                bootstrap = broker.up().bootstrap
            self._say(f"broker     {bootstrap}, a real Apache Kafka; topic {self._topic}")
            with self._step("produce"):
                self._produce(bootstrap)
            config = self._pipeline(bootstrap)
            with self._step("run"):
                self._ingest(config)
            with self._step("account"):
                self._account(config)
        finally:
            if not self._options.keep_broker:
                broker.down()
        return self._report(config)

    def _produce(self, bootstrap: str) -> None:
        self._say(
            f"produce    {self._options.count:,} order events on {PARTITIONS} partitions: late and "
            "malformed ones, far futures, tombstones, aborted transactions, a new field half-way"
        )
        create_topic(bootstrap, self._topic, PARTITIONS)
        shards = [self._shard(bootstrap, number) for number in range(SHARDS)]
        for number, shard in enumerate(shards):
            if shard.wait() != 0:
                raise self._failed("the producer", [self._work / f"produce-{number}.log"])
        self._say(f"           written down by the {len(shards)} producers themselves")

    def _shard(self, bootstrap: str, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "raylake.demo.generate", "--bootstrap", bootstrap]
        command += ["--topic", self._topic, "--count", str(self._options.count)]
        command += ["--seed", str(self._options.seed), "--partitions", str(PARTITIONS)]
        command += ["--shard", f"{number}/{SHARDS}", "--record", str(self._record(number))]
        command += ["--start-ms", str(self._start_ms)]
        with (self._work / f"produce-{number}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _record(self, number: int) -> Path:
        return self._work / f"record-{number}.parquet"

    def _pipeline(self, bootstrap: str) -> Pipeline:
        """The pipeline file of the demo, written beside the lake and loaded again."""
        bronze = {
            "topics": [self._topic],
            "commit_interval": "500ms" if self._options.count > SPREAD_RECORDS else "100ms",
            "max_batch_bytes": self._batch_bytes(),
        }
        said = document(self._lake, bootstrap, bronze, self._options.engine)
        self._file = self._lake / "demo.yaml"
        self._file.write_text(yaml.safe_dump(said, sort_keys=False))
        return load(self._file).config

    def _batch_bytes(self) -> str:
        """Small enough that there is work in flight for every kill, also with few records."""
        per_kill = self._options.count * RECORD_BYTES // (8 * max(1, self._options.kills))
        return f"{max(64, min(16 * 1024, per_kill // 1024))}KiB"

    def _ingest(self, config: Pipeline) -> None:
        kills = self._kills(config)
        command = [sys.executable, "-P", "-m", "jobs.ingest", "--config", str(self._file)]
        command.append("--available-now")
        log_file = self._work / "ingest.log"
        environment = {**os.environ, "RAYLAKE_FAULTS": str(kills.folder)}
        environment.pop("RAY_ADDRESS", None)
        self._say(
            f"ingest     into {BRONZE}, {SILVER} and {GOLD} (engine: {config.engine}), with "
            f"{self._options.kills} SIGKILLs on the way"
        )
        kills.start()
        began_s, table = time.time(), Path(table_path(config, BRONZE))
        try:
            with log_file.open("wb") as log:
                job = subprocess.Popen(
                    command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
                )
            try:
                code = self._watch(job)
            finally:
                if job.poll() is None:
                    job.kill()
                    job.wait()
        finally:
            hit = kills.stop()
        self._result.kills = [told(fault) for fault in hit]
        self._result.seconds["bronze"] = round(_last_commit_s(table) - began_s, 1)
        if code != 0:
            raise self._failed("the ingest job", [log_file, self._logs()])
        if len(hit) < self._options.kills:
            self._result.problems.append(
                f"only {len(hit)} of {self._options.kills} kills hit: too few records for them"
            )

    def _kills(self, config: Pipeline) -> Kills:
        faults = self._work / "faults"
        (faults / "armed").mkdir(parents=True)
        (faults / "fired").mkdir()
        count, wanted = self._options.count, self._options.kills
        by_spark = Path(table_path(config, SILVER)) if config.engine == SPARK else None
        derived = of_derived(wanted, by_spark)
        # With few records the work is soon done: kills follow each other more closely.
        spread_s = min(MAX_SPREAD_S, count / SPREAD_RECORDS * MAX_SPREAD_S)
        table, rest = Path(table_path(config, BRONZE)), wanted - len(derived)
        return Kills(faults, table, rest, derived, self._options.seed, spread_s, self._clock)

    def _watch(self, job: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + RUN_LIMIT_S
        shown = 0
        folder = self._work / "faults"
        while job.poll() is None and time.monotonic() < deadline:
            for fault in fired(folder)[shown:]:
                shown += 1
                self._say(f"           SIGKILL {shown}: {told(fault)}")
            time.sleep(POLL_S)
        if job.poll() is None:
            raise self._failed("the ingest job (it took too long)", [self._logs()])
        return int(job.returncode)

    def _account(self, config: Pipeline) -> None:
        table, letters = table_path(config, BRONZE), dead_letter_path(config)
        kafka = config.kafka
        with Cluster(kafka.bootstrap, kafka.security, kafka.connect_timeout_s) as cluster:
            for level in ("log", "data", "broker"):
                report: VerifyReport = verify(
                    table, letters, PIPELINE, level=level, broker_lookup=cluster
                )
                self._result.verify[level] = report.ok
                self._result.problems += [f"verify ({level}): {one}" for one in report.findings]
        command = [sys.executable, "-P", "-m", "raylake.demo.auditor", "--json"]
        command += ["--table", table, "--dead-letters", letters]
        command += ["--derived", table_path(config, SILVER), table_path(config, GOLD)]
        command.append(quarantine_path(config))
        command += ["--record", *(str(self._record(number)) for number in range(SHARDS))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):
            raise Terminal(f"the auditor failed: {done.stderr.strip()[-2000:]}")
        audit = json.loads(done.stdout)
        self._result.derived = audit.pop("derived")
        self._result.audit = audit
        self._result.problems += found_wrong(audit, self._result.derived, config.engine)
        versions = log_files.commit_versions(Path(table))
        self._result.commits = (versions[-1] + 1) if versions else 0

    def _report(self, config: Pipeline) -> int:
        result = self._result
        status = read_status(self._lake / "_raylake" / "status" / f"{PIPELINE}.json")
        result.files = len(list(Path(table_path(config, BRONZE)).rglob("*.parquet")))
        result.rate_per_s = self._options.count / result.seconds["bronze"]
        if self._options.as_json:
            sys.stdout.write(json.dumps(asdict(result), default=str) + "\n")
        else:
            self._print(config, status)
        return result.exit_code

    def _print(self, config: Pipeline, status: dict[str, Any]) -> None:
        for line in lines(self._result, status["restarts"]):
            self._say(line)
        self._say(f"\nThe lake stays at {self._lake}. Read it with DuckDB, polars or Spark:")
        for line in read_back(table_path(config, BRONZE), sys.executable).lines():
            self._say(line)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._result.seconds[name] = round(time.monotonic() - started, 1)

    def _say(self, line: str) -> None:
        if not self._options.as_json:
            self._console.print(line, markup=False)

    def _logs(self) -> Path:
        return self._lake / "_raylake" / "logs" / PIPELINE

    def _failed(self, what: str, logs: Sequence[Path]) -> RayLakeError:
        named = ", ".join(str(path) for path in logs)
        return Terminal(f"{what} failed", hint=f"what it said: {named}")


def _last_commit_s(table: Path) -> float:
    """When the last commit landed; seconds since the epoch."""
    versions = log_files.commit_versions(table)
    return log_files.commit_path(table, versions[-1]).stat().st_mtime if versions else time.time()
