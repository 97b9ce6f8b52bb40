"""Produce to queryable: how old a record is when a fresh reader first finds it in the table.

Records are produced at a steady rate with the moment as their Kafka timestamp. A reader opens the
table anew some ten times a second; each row of the files that it finds for the first time is as old
as the time since its timestamp. Ours, and Spark with trigger 0, one after the other, each with a
topic of its own and after a warm-up at the same rate.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bed import ROOT, Bed, BenchFailed, bed, closing, end, options, table, until
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from spark_peer import Spark

LOOK_EVERY_S = 0.1
AIM_P95_S, AIM_P99_S, AIM_SHARE = 1.5, 2.5, 0.5
COMMIT_INTERVAL = "500ms"


@dataclass(frozen=True, slots=True)
class Ages:
    """How old records were when they were first seen, seconds."""

    seconds: np.ndarray

    def quantile(self, share: float) -> float:
        """A quantile over records."""
        return float(np.quantile(self.seconds, share))


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("fresh", chosen) as made:
        found = {"ours": _ours(made, chosen)}
        if not chosen.alone:
            found["Spark"] = _spark(made, chosen)
        return _report(found, chosen.rate)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=60_000, help="records/s")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is looked at")
    parser.add_argument("--warm-up-s", type=float, default=20.0)
    parser.add_argument("--alone", action="store_true", help="without Spark")


def _ours(made: Bed, chosen: argparse.Namespace) -> Ages:
    topic = made.topic("ours")
    made.pipeline(topic, commit_interval=COMMIT_INTERVAL)
    job = made.ingest()
    until(lambda: made.status().get("state") == "running", 120, "the job runs")
    ages = _watch(made, chosen, topic, made.table, "_timestamp")
    if end(job) != 0:
        raise BenchFailed(made.tail("ingest.log"))
    return ages


def _spark(made: Bed, chosen: argparse.Namespace) -> Ages:
    topic = made.topic("spark")
    spark = Spark.start(made)
    target = made.folder / "spark-table"
    spark.follow(made, topic, target)
    ages = _watch(made, chosen, topic, target, "timestamp")
    end(spark.process)
    return ages


def _watch(made: Bed, chosen: argparse.Namespace, topic: str, path: Path, timestamp: str) -> Ages:
    """Produce, and look until everything that was produced is there."""
    command = [sys.executable, str(ROOT / "benchmarks" / "pace.py"), "--topic", topic]
    command += ["--bootstrap", made.bootstrap, "--rate", str(chosen.rate)]
    command += ["--seconds", str(chosen.warm_up_s + chosen.seconds)]
    began = time.time()
    pace = made.start(command, "pace.log")
    ages: list[np.ndarray] = []
    seen: set[str] = set()
    rows = 0
    deadline = began + chosen.warm_up_s + chosen.seconds + 120
    while pace.poll() is None or rows < made.told("pace.log")["records"]:
        if time.time() > deadline:
            raise BenchFailed(f"{path}: {rows:,} rows when it should be done")
        if pace.poll():
            raise BenchFailed(made.tail("pace.log"))
        looked = time.time()
        for moments in _new_moments(path, timestamp, seen):
            now = time.time()
            rows += len(moments)
            ages.append(now - moments[moments >= began + chosen.warm_up_s])
        time.sleep(max(0.0, looked + LOOK_EVERY_S - time.time()))
    behind_s = made.told("pace.log")["behind_s"]
    print(f"{path.name}: {rows:,} records, the generator at most {behind_s:.2f} s behind")
    return Ages(np.concatenate(ages))


def _new_moments(path: Path, timestamp: str, seen: set[str]) -> list[np.ndarray]:
    """Kafka timestamps in seconds, by file that was not there before."""
    try:
        # A fresh reader each time.
        files = set(DeltaTable(path).file_uris())
    except TableNotFoundError:
        return []
    found = []
    for file in sorted(files - seen):
        column: Any = pq.read_table(file, columns=[timestamp])[timestamp]
        found.append(column.cast(pa.int64()).to_numpy() / _per_second(column.type))
    seen |= files
    return found


def _per_second(kind: pa.DataType) -> int:
    return {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[str(kind.unit)]


def _report(found: dict[str, Ages], rate: int) -> int:
    shares = (0.5, 0.95, 0.99)
    rows = [[k, len(v.seconds), *map(v.quantile, shares)] for k, v in found.items()]
    table(rows, ["seconds until queryable", "records", "p50", "p95", "p99"])
    ours = found["ours"]
    p50, p95, p99 = map(ours.quantile, shares)
    more = {}
    if "Spark" in found:
        more = {"of_spark_p95": p95 / found["Spark"].quantile(0.95)}
    closing("freshness", rate=rate, p50_s=p50, p95_s=p95, p99_s=p99, **more)
    missed = p95 > AIM_P95_S or p99 > AIM_P99_S or more.get("of_spark_p95", 0) > AIM_SHARE
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
