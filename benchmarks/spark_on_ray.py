"""The same MERGE on RayDP's executors and on plain pyspark with the same cores, by rounds.

Both sessions are up and have merged once before anything is measured; each has its own copy of the
table, and gets the same changes: half of them updates, spread over the whole table, half inserts.
How long the session takes to its first result is measured from where a cluster, or nothing, is.
What a machine does once, fetching jars and archiving the classes of our JVMs, is done before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from bed import ROOT, Bed, BenchFailed, bed, closing, options, table
from deltalake import DeltaTable, write_deltalake

from raylake.config.spark import Spark
from raylake.spark.classes import session_archive
from raylake.spark.host import LiveSession
from raylake.spark.jars import delta_jars
from raylake.spark.java import driver_environment, spark_java
from raylake.spark.settings import SparkSetup, session_settings
from raylake.tables.requests import Update
from raylake.tables.results import FileCounts, OperationResult, RowCounts

MIB = 2**20
AIM_MERGE, AIM_READY = 1.15, 1.3
ARCHIVED_WITHIN_S = 300.0
KINDS = ("plain", "ray")


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("merge", chosen, broker=False) as made:
        first = _table(made, chosen.rows)
        tables = {kind: made.folder / kind for kind in KINDS}
        for path in tables.values():
            shutil.copytree(first, path)
        ready: dict[str, list[float]] = {kind: [] for kind in KINDS}
        took: dict[str, list[float]] = {kind: [] for kind in KINDS}
        _prepare(made, chosen, tables["ray"])
        for n in range(chosen.starts):
            for kind in KINDS if n % 2 == 0 else reversed(KINDS):
                with _Session(made, kind, chosen) as session:
                    ready[kind].append(session.ready_s)
        sessions = {kind: _Session(made, kind, chosen) for kind in KINDS}
        try:
            for kind, session in sessions.items():
                ready[kind].append(session.ready_s)
                session.merge(tables[kind], _changes(made, chosen, 0))
            for n in range(1, chosen.rounds + 1):
                source = _changes(made, chosen, n)
                for kind in KINDS if n % 2 else reversed(KINDS):
                    took[kind].append(sessions[kind].merge(tables[kind], source))
        finally:
            for session in sessions.values():
                session.close()
        _check(tables, chosen)
        rows = [
            [kind, statistics.median(took[kind]), max(took[kind]), statistics.median(ready[kind])]
            for kind in KINDS
        ]
        table(rows, ["session", "MERGE s", "max s", "ready s"])
        merges = statistics.median(a / b for a, b in zip(took["ray"], took["plain"], strict=True))
        starts = statistics.median(a / b for a, b in zip(ready["ray"], ready["plain"], strict=True))
        closing(
            "spark_on_ray",
            rounds=chosen.rounds,
            merge_ratio=merges,
            ready_ratio=starts,
            merge_ray_s=rows[1][1],
            ready_ray_s=rows[1][3],
        )
        return 0 if merges <= AIM_MERGE and starts <= AIM_READY else 1


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=2, help="starts beside the measured ones")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=1024)


def _table(made: Bed, rows: int) -> Path:
    path = made.folder / "first"
    ids = pa.array(range(rows), pa.int64())
    write_deltalake(path, pa.table({"id": ids, "v": pa.array([f"value {n}" for n in range(rows)])}))
    return path


def _changes(made: Bed, chosen: argparse.Namespace, number: int) -> Path:
    """A file of changes; each round inserts rows that no other one has."""
    path = made.folder / f"changes-{number}.parquet"
    if not path.exists():
        half = chosen.changes // 2
        step = max(1, chosen.rows // half)
        fresh = chosen.rows + number * half
        ids = [*range(number % step, chosen.rows, step)[:half], *range(fresh, fresh + half)]
        values = [f"round {number}"] * len(ids)
        pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), "v": values}), path)
    return path


def _prepare(made: Bed, chosen: argparse.Namespace, path: Path) -> None:
    """Let a first session load what sessions load, and wait until that is archived."""
    archive = session_archive()
    if archive.file.exists():
        return
    first = made.folder / "archived"
    shutil.copytree(path, first)
    with _Session(made, "ray", chosen) as session:
        session.merge(first, _changes(made, chosen, 0))
        deadline_s = time.monotonic() + ARCHIVED_WITHIN_S
        while not archive.file.exists():
            if archive.refused.exists() or time.monotonic() > deadline_s:
                raise BenchFailed(f"no archive of Spark's classes was made in {archive.folder}")
            time.sleep(0.5)


def _check(tables: Mapping[str, Path], chosen: argparse.Namespace) -> None:
    expected = chosen.rows + (chosen.rounds + 1) * (chosen.changes // 2)
    for kind, path in tables.items():
        found = sum(
            DeltaTable(path).get_add_actions(flatten=True).column("num_records").to_pylist()
        )
        if found != expected:
            raise BenchFailed(f"{kind}: {found} rows, expected {expected}")


class _Session:
    """A session in a process of its own."""

    def __init__(self, made: Bed, kind: str, chosen: argparse.Namespace) -> None:
        log = (made.folder / f"{kind}.log").open("ab")
        environment = {
            **os.environ,
            **driver_environment(spark_java()),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}",
            "RAYLAKE_RAY_DIR": str(made.folder / "r"),
        }
        said = json.dumps({"cores": chosen.cores, "memory": chosen.memory_mib * MIB})
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, said, str(made.folder / "r")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=made.folder,
        )
        made.processes.append(self._process)
        self._log = made.folder / f"{kind}.log"
        self.ready_s = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def merge(self, path: Path, source: Path) -> float:
        """Merge a file into a table; returns the seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(path), str(source)]).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120)

    def _answer(self) -> float:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b'{"answer"'):
                return float(json.loads(line)["answer"])
        raise BenchFailed(f"Spark ended\n{self._log.read_text(errors='replace')[-3000:]}")


def _merge(session: Any, path: str, source: str) -> None:
    session.read.parquet(source).createOrReplaceTempView("source")
    session.sql(
        f"MERGE INTO delta.`{path}` t USING source s ON t.id = s.id"
        " WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )


class Merging:
    """An engine for the host that runs exactly the statement that plain pyspark runs."""

    def __init__(self, live: LiveSession) -> None:
        self._live = live

    def execute(
        self, path: str, request: Update, *, why: str, fence: object, alongside: object
    ) -> OperationResult:
        """Merge the file that ``request.where`` names; an empty one is a first, small job."""
        del fence, alongside
        session = self._live.session(path)
        if request.where:
            _merge(session, path, request.where)
        else:
            session.range(1).count()
        counts = RowCounts(), FileCounts()
        return OperationResult("merge", path, "spark", why, 0, 0, *counts, 0.0)


def _serve(kind: str, said: dict[str, int], ray_dir: str) -> None:
    spark = Spark(
        cores=said["cores"],
        memory_bytes=said["memory"],
        driver_memory_bytes=said["memory"],
        start_timeout_s=300.0,
    )
    served = _Plain(spark) if kind == "plain" else _OnRay(spark, Path(ray_dir))
    began = time.perf_counter()
    served.start()
    print(json.dumps({"answer": time.perf_counter() - began}), flush=True)
    for line in sys.stdin:
        path, source = json.loads(line)
        began = time.perf_counter()
        served.merge(path, source)
        print(json.dumps({"answer": time.perf_counter() - began}), flush=True)
    served.end()


class _Plain:
    """Plain pyspark, with the settings of ours and none of Ray."""

    def __init__(self, spark: Spark) -> None:
        java = spark_java()
        self._cores, self._settings = spark.cores, session_settings(spark, delta_jars(java), java)

    def start(self) -> None:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master(f"local[{self._cores}]").appName("plain")
        for name, value in self._settings.items():
            if not name.startswith("spark.ray."):
                builder = builder.config(name, value)
        self._session = builder.getOrCreate()
        self._session.range(1).count()

    def merge(self, path: str, source: str) -> None:
        _merge(self._session.newSession(), path, source)

    def end(self) -> None:
        self._session.stop()


class _OnRay:
    """The Spark host, on a cluster that is up."""

    def __init__(self, spark: Spark, folder: Path) -> None:
        from raylake.client.environment import prepare_ray

        prepare_ray()
        from actors.spark_calls import RaySparkHost
        from raylake.client.cluster import connect

        connect(num_cpus=spark.cores, session_dir=folder)
        self._host = RaySparkHost(SparkSetup(spark, {}, {}), Merging)

    def start(self) -> None:
        self._host.execute("/nowhere", Update({}), why="")

    def merge(self, path: str, source: str) -> None:
        self._host.execute(path, Update({}, where=source), why="")

    def end(self) -> None:
        self._host.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(sys.argv[2], json.loads(sys.argv[3]), sys.argv[4])
    else:
        sys.exit(main())
