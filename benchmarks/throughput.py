"""Records per second and per CPU-second of the product, and where the time goes.

First the product as it is: the job over Ray, ``--available-now``, its processes' CPU time. Then the
same classes one after the other in this process, timed stage by stage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from bare import ingest_here
from bed import bed, closing, options, table
from runs import Run, ingest

from raylake.delta.owned_table import OwnedTable
from raylake.kafka.poll import PollFetcher
from raylake.layers.bronze_maker import BronzeMaker

STAGES = (
    ("fetch", PollFetcher, ("fetch", "check_topics")),
    ("decode", BronzeMaker, ("make",)),
    ("write", BronzeMaker, ("write_rows", "write_dead")),
    ("commit", OwnedTable, ("commit",)),
)


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("speed", chosen) as made:
        topic = made.topic()
        began = time.monotonic()
        made.load(topic, chosen.count)
        print(f"produced {chosen.count:,} in {time.monotonic() - began:.0f} s")
        made.pipeline(topic, commit_interval="1s", ingest={"consumers": chosen.consumers or "auto"})
        whole = ingest(made, chosen.count)
        spent: dict[str, float] = {}
        with _timed(spent):
            seconds, cpu_s = ingest_here(made, made.folder / "stages", chosen.count)
        rest = seconds - sum(spent.values())
        return _report(whole, {**spent, "rest": rest, "whole": seconds}, cpu_s)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=500_000)
    parser.add_argument("--consumers", type=int, help="default: as the product chooses")


@contextmanager
def _timed(spent: dict[str, float]) -> Iterator[None]:
    """Time the stages' methods while the block runs."""
    originals = [(c, m, getattr(c, m)) for _, c, methods in STAGES for m in methods]
    for stage, owner, methods in STAGES:
        spent[stage] = 0.0
        for method in methods:
            setattr(owner, method, _timing(getattr(owner, method), stage, spent))
    try:
        yield
    finally:
        for owner, method, original in originals:
            setattr(owner, method, original)


def _timing(work: Any, stage: str, spent: dict[str, float]) -> Any:
    @wraps(work)
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*arguments, **named)
        finally:
            spent[stage] += time.perf_counter() - began

    return timed


def _report(run: Run, stages: dict[str, float], bare_cpu_s: float) -> int:
    count, cpu_s = run.whole.records, run.whole.cpu_s
    rows = [[k, v, 100 * v / cpu_s] for k, v in sorted(run.by_kind.items(), key=lambda i: -i[1])]
    table(rows, ["process", "CPU s", "%"])
    print()
    shown = [
        [k, v, 100 * v / stages["whole"], int(count / max(v, 1e-9))] for k, v in stages.items()
    ]
    table(shown, ["stage", "s", "%", "records/s"])
    closing(
        "throughput",
        records=count,
        whole_s=run.whole.seconds,
        ingest_s=run.window.seconds,
        records_per_s=int(run.window.per_s),
        records_per_cpu_s=int(run.whole.per_cpu_s),
        records_per_worker_cpu_s=int(count / run.workers_cpu_s),
        one_process_records_per_s=int(count / stages["whole"]),
        one_process_records_per_cpu_s=int(count / bare_cpu_s),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
