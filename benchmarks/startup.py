"""From `python -m jobs.ingest` to the first data commit, phase by phase.

A topic with a few records waits; each run has a lake of its own. The phases are told apart by the
files that the processes leave: logs and commits. Beside it the same with no kernel in the cache,
and Spark from a new session to the first commit of its query.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bed import ROOT, Bed, BenchFailed, bed, closing, end, options, table, until
from runs import born, commit_times
from spark_peer import Spark

LIMIT_S = 240.0
AIM_S = 8.0


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("start", chosen) as made:
        topic = made.topic()
        made.load(topic, 1000)
        made.pipeline(topic, commit_interval="1s")
        _fill_cache()
        runs = [_run(made) for _ in range(chosen.runs)]
        cold = [
            _run(made, RAYLAKE_CACHE=str(made.folder / f"cache-{n}")) for n in range(chosen.cold)
        ]
        spark = [_spark(made, topic) for _ in range(chosen.spark)]
        before = 0.0
        rows = []
        for name in runs[0]:
            at = statistics.median(run[name] for run in runs)
            rows.append([name, at, at - before, max(run[name] for run in runs)])
            before = at
        table(rows, ["phase ended", "median s", "took s", "max s"])
        others = {
            "first_commit_cold_s": [run["first data commit"] for run in cold],
            "spark_first_commit_s": spark,
        }
        closing(
            "startup",
            runs=len(runs),
            first_commit_s=before,
            **{name: statistics.median(found) for name, found in others.items() if found},
        )
        return 0 if before <= AIM_S else 1


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cold", type=int, default=1, help="runs with an empty kernel cache")
    parser.add_argument("--spark", type=int, default=1, help="runs of Spark, from a new session on")


def _fill_cache() -> None:
    subprocess.run([sys.executable, "-m", "raylake.kernels"], check=True, cwd=ROOT)


def _run(made: Bed, **environ: str) -> dict[str, float]:
    shutil.rmtree(made.lake, ignore_errors=True)
    began = time.time()
    job = made.ingest(**environ)
    until(
        lambda: job.poll() is not None or commit_times(made.table).get("data"),
        LIMIT_S,
        "the first data commit",
    )
    if job.poll() is not None:
        raise BenchFailed(f"the job ended\n{made.tail('ingest.log')}")
    commits = commit_times(made.table)
    found = {
        "supervisor begins": born(made, "supervisor"),
        "dead-letter queue begins": born(made, "dead_letters"),
        "owner begins": born(made, "owner"),
        "owner has its epoch": min(commits["epoch"]),
        "partitions admitted": min(commits["admit"]),
        "first consumer begins": born(made, "consumer"),
        "first data file": min(p.stat().st_mtime for p in made.table.glob("*.parquet")),
        "first data commit": min(commits["data"]),
    }
    end(job)
    return {name: at - began for name, at in sorted(found.items(), key=lambda item: item[1])}


def _spark(made: Bed, topic: str) -> float:
    """Seconds from a new process to the first commit of its query."""
    target = made.folder / "spark-table"
    began = time.time()
    spark = Spark.start(made)
    spark.query(made, topic, target)
    first = (target / "_delta_log" / f"{0:020}.json").stat().st_mtime
    end(spark.process)
    for folder in (target, Path(f"{target}.checkpoint")):
        shutil.rmtree(folder)
    return first - began


if __name__ == "__main__":
    sys.exit(main())
