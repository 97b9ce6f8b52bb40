"""From `python -m jobs.ingest` to the first data commit, phase by phase.

A topic with a few records waits; each run has a lake of its own. The phases are told apart by the
files that the processes leave: logs, the status document, commits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bed import PIPELINE, Bed, BenchFailed, bed, closing, end, options, table, until

LIMIT_S = 120.0


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("start", chosen) as made:
        topic = made.topic()
        made.produce(topic, 1000)
        made.pipeline(topic, commit_interval="1s")
        runs = [_run(made) for _ in range(chosen.runs)]
        names = list(runs[0])
        rows = []
        before = 0.0
        for name in names:
            at = statistics.median(run[name] for run in runs)
            rows.append([name, at, at - before, max(run[name] for run in runs)])
            before = at
        table(rows, ["phase ended", "median s", "took s", "max s"])
        closing("startup", runs=len(runs), first_commit_s=before)
        return 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=3)


def _run(made: Bed) -> dict[str, float]:
    shutil.rmtree(made.lake, ignore_errors=True)
    began = time.time()
    job = made.ingest()
    log = made.table / "_delta_log"
    until(lambda: job.poll() is not None or _first(log, "data"), LIMIT_S, "the first data commit")
    if job.poll() is not None:
        raise BenchFailed(f"the job ended\n{made.tail('ingest.log')}")
    logs = made.lake / "_raylake" / "logs" / PIPELINE
    found = {
        "supervisor begins": _born(logs, "supervisor"),
        "dead-letter queue begins": _born(logs, "dead_letters"),
        "owner begins": _born(logs, "owner"),
        "owner has its epoch": _first(log, "epoch"),
        "partitions admitted": _first(log, "admit"),
        "first consumer begins": _born(logs, "consumer"),
        "first data file": min(p.stat().st_mtime for p in made.table.glob("*.parquet")),
        "first data commit": _first(log, "data"),
    }
    end(job)
    return {name: at - began for name, at in sorted(found.items(), key=lambda item: item[1])}


def _born(logs: Path, process: str) -> float:
    """When the first such process opened its log file: the file's birth."""
    files = [str(path) for path in logs.glob(f"*/{process}*.jsonl")]
    told = subprocess.run(["stat", "-c", "%.W", *files], capture_output=True, text=True, check=True)
    return min(float(line) for line in told.stdout.split())


def _first(log: Path, kind: str) -> float:
    for path in sorted(log.glob("*.json")):
        for line in path.read_text().splitlines():
            ours = json.loads(line).get("commitInfo", {}).get("raylake")
            if ours and (json.loads(ours) if isinstance(ours, str) else ours)["kind"] == kind:
                return path.stat().st_mtime
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
