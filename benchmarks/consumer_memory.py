"""Memory of one consumer over millions of records: its actor's RSS, sampled to the end."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import psutil
from bed import BenchFailed, bed, closing, options, table, until

STEP_S = 0.2
LIMIT_S = 1800.0
FLAT = 1.10
MOST_MIB = 1024.0


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("memory", chosen) as made:
        topic = made.topic()
        began = time.monotonic()
        made.load(topic, chosen.count)
        print(f"produced {chosen.count:,} in {time.monotonic() - began:.0f} s")
        made.pipeline(topic, keep_value=chosen.keep_value, ingest={"consumers": 1})
        job = made.ingest("--available-now")
        pid = until(lambda: _pid(made.status()), 120.0, "the consumer", 0.1)
        samples: list[tuple[int, float]] = []
        began = time.monotonic()
        while job.poll() is None and time.monotonic() < began + LIMIT_S:
            rss = _rss(pid)
            if rss:
                samples.append((_records(made.status()), rss / 2**20))
            time.sleep(STEP_S)
        seconds = time.monotonic() - began
        if job.poll() != 0:
            raise BenchFailed(f"the job ended with {job.poll()}\n{made.tail('ingest.log')}")
        return _report(samples, chosen.count, seconds)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=3_000_000, help="10000000: the figure's")
    parser.add_argument("--keep-value", action="store_true", help="the table keeps raw values too")


def _pid(status: dict[str, Any]) -> int:
    return next((int(c["pid"]) for c in status.get("consumers", {}).values()), 0)


def _records(status: dict[str, Any]) -> int:
    """Records that the consumer has taken so far; as old as the status document."""
    return max(
        (
            int(t["records"])
            for c in status.get("consumers", {}).values()
            for t in c["tables"].values()
        ),
        default=0,
    )


def _rss(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _report(samples: list[tuple[int, float]], count: int, seconds: float) -> int:
    working = [sample for sample in samples if sample[0]]
    if len(working) < 6:
        raise BenchFailed(f"only {len(working)} samples of a working consumer: more records")
    # Of its time: the status document is too rarely written to tell records apart at this speed.
    third = len(working) // 3
    rows, tops = [], []
    for number in range(3):
        mine = [m for _, m in working[number * third :][: third if number < 2 else None]]
        tops.append(max(mine))
        rows.append([f"{number + 1}", len(mine), min(mine), sum(mine) / len(mine), max(mine)])
    table(rows, ["third", "samples", "min MiB", "mean MiB", "max MiB"])
    growth = tops[2] / tops[0]
    peak_mib = max(m for _, m in samples)
    closing(
        "consumer_memory",
        records=count,
        seconds=seconds,
        records_per_s=int(count / seconds),
        peak_mib=peak_mib,
        first_third_max_mib=tops[0],
        last_third_max_mib=tops[2],
        growth=growth,
        flat=growth <= FLAT,
    )
    return 0 if growth <= FLAT and peak_mib <= MOST_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
