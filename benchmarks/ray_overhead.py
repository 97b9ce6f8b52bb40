"""What Ray costs: the job's actors against the same classes in one bare process.

Both from their first commit to their last one, without what a start costs. The share is that of
records per CPU-second; beside it that of records per second of user time. Both find memory that
another process has just given up (``warm_memory.py``).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from statistics import median

from bed import ROOT, Bed, BenchFailed, bed, closing, options, table
from runs import Figures, ingest
from warm_memory import warm_memory

AIM = 0.95


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("overhead", chosen) as made:
        topic = made.topic()
        made.load(topic, chosen.count)
        # One consumer: two at once slow each other down, with Ray or without it.
        made.pipeline(topic, ingest={"consumers": 1})
        found: dict[str, list[Figures]] = {}
        for number in range(chosen.rounds + 1):
            for name, figures in _run(made, chosen.count).items():
                # The first round warms up.
                if number:
                    found.setdefault(name, []).append(figures)
        return _report(found, chosen.count)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=3)


def _run(made: Bed, count: int) -> dict[str, Figures]:
    """One run of each kind."""
    shutil.rmtree(made.lake, ignore_errors=True)
    with warm_memory(made, made.table / "_delta_log"):
        run = ingest(made, count)
    bare = made.folder / "bare"
    command = [sys.executable, str(ROOT / "benchmarks" / "bare.py"), "--folder", str(made.folder)]
    command += ["--bootstrap", made.bootstrap, "--lake", str(bare), "--count", str(count)]
    with warm_memory(made, bare / "bronze" / "orders" / "_delta_log"):
        if made.start(command, "bare.log").wait() != 0:
            raise BenchFailed(made.tail("bare.log"))
    shutil.rmtree(bare)
    return {
        "one bare process": Figures(**made.told("bare.log")),
        "consumer and owner": run.workers,
        "everything": run.steady,
    }


def _report(found: dict[str, list[Figures]], count: int) -> int:
    rates = {k: median(one.per_cpu_s for one in runs) for k, runs in found.items()}
    wall = {k: median(one.per_s for one in runs) for k, runs in found.items()}
    user = {k: median(one.records / one.user_s for one in runs) for k, runs in found.items()}
    (bare, rate), *others = rates.items()
    shares = {name: other / rate for name, other in others}
    user_shares = {name: one / user[bare] for name, one in user.items()}
    rows = [
        [k, int(v), shares.get(k, 1.0), int(user[k]), user_shares[k], int(wall[k])]
        for k, v in rates.items()
    ]
    heads = ["CPU of", "records/CPU-s", "share", "records/user-s", "share", "records/s"]
    table(rows, heads)
    workers, everything = shares.values()
    closing(
        "ray_overhead",
        records=count,
        workers_share=workers,
        everything_share=everything,
        workers_user_share=user_shares["consumer and owner"],
        wall_share=wall["everything"] / wall[bare],
    )
    return 0 if workers >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
