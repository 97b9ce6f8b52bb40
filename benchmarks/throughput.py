"""Records per second and per CPU-second of the product, and where the time goes.

First the product as it is: the job over Ray, ``--available-now``, its processes' CPU time. Then the
stages one after the other in this process, as ``raylake bench`` measures them.
"""

from __future__ import annotations

import argparse
import sys
import time

from bed import bed, closing, options, table
from runs import Run, ingest

from raylake.client.bench import TableBench, bench
from raylake.clock import SystemClock
from raylake.config import load


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("speed", chosen) as made:
        topic = made.topic()
        began = time.monotonic()
        made.load(topic, chosen.count)
        print(f"produced {chosen.count:,} in {time.monotonic() - began:.0f} s")
        path = made.pipeline(topic, ingest={"consumers": chosen.consumers or "auto"})
        run = ingest(made, chosen.count)
        return _report(run, bench(load(path), chosen.count, SystemClock())[0])


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=500_000)
    parser.add_argument("--consumers", type=int, help="default: as the product chooses")


def _report(run: Run, bare: TableBench) -> int:
    count, cpu_s = run.whole.records, run.whole.cpu_s
    rows = [[k, v, 100 * v / cpu_s] for k, v in sorted(run.by_kind.items(), key=lambda i: -i[1])]
    table(rows, ["process", "CPU s", "%"])
    print()
    stages = [(stage.name, stage.cpu_s) for stage in bare.stages]
    stages += [("between", bare.between_s), ("all", bare.cpu_s)]
    shown = [[k, v, 100 * v / bare.cpu_s, 1e6 * v / bare.records] for k, v in stages]
    table(shown, ["stage", "CPU s", "%", "µs a record"])
    closing(
        "throughput",
        records=count,
        whole_s=run.whole.seconds,
        ingest_s=run.window.seconds,
        records_per_s=int(run.window.per_s),
        records_per_cpu_s=int(run.whole.per_cpu_s),
        ingest_records_per_cpu_s=int(run.window.per_cpu_s),
        records_per_worker_cpu_s=int(count / run.workers_cpu_s),
        one_process_records_per_cpu_s=int(bare.records / bare.cpu_s),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
