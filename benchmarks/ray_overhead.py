"""What Ray costs: the job's actors against the same classes in one bare process.

Both from their first commit to their last one, without what a start costs. The share is that of
records per CPU-second; beside it that of records per second of user time. Each finds memory that
another process has just given up (``warm_memory.py``). What a process of Ray's costs by itself is
told by the bare loop run in an actor of an otherwise empty Ray.
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
KINDS = ("one bare process", "the same in an actor", "consumer and owner", "everything")


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("overhead", chosen) as made:
        topic = made.topic()
        made.load(topic, chosen.count)
        # One consumer: two at once slow each other down, with Ray or without it.
        made.pipeline(topic, ingest={"consumers": 1})
        found: dict[str, list[Figures]] = {}
        for number in range(chosen.rounds + 1):
            for name, figures in _run(made, chosen.count, number).items():
                # The first round warms up.
                if number:
                    found.setdefault(name, []).append(figures)
        return _report(found, chosen.count)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)


def _run(made: Bed, count: int, first: int) -> dict[str, Figures]:
    """One run of each kind; another one begins each round."""
    kinds = [
        lambda: {"one bare process": _bare(made, count)},
        lambda: {"the same in an actor": _bare(made, count, "--in-actor")},
        lambda: _actors(made, count),
    ]
    turn = first % len(kinds)
    found: dict[str, Figures] = {}
    for kind in [*kinds[turn:], *kinds[:turn]]:
        found |= kind()
    return {name: found[name] for name in KINDS}


def _actors(made: Bed, count: int) -> dict[str, Figures]:
    shutil.rmtree(made.lake, ignore_errors=True)
    with warm_memory(made, made.table / "_delta_log"):
        run = ingest(made, count)
    return {"consumer and owner": run.workers, "everything": run.steady}


def _bare(made: Bed, count: int, *flags: str) -> Figures:
    lake = made.folder / "bare"
    command = [sys.executable, str(ROOT / "benchmarks" / "bare.py"), "--folder", str(made.folder)]
    command += ["--bootstrap", made.bootstrap, "--lake", str(lake), "--count", str(count), *flags]
    with warm_memory(made, lake / "bronze" / "orders" / "_delta_log"):
        if made.start(command, "bare.log").wait() != 0:
            raise BenchFailed(made.tail("bare.log"))
    shutil.rmtree(lake)
    return Figures(**made.told("bare.log"))


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
    alone, workers, everything = shares.values()
    closing(
        "ray_overhead",
        records=count,
        actor_alone_share=alone,
        workers_share=workers,
        everything_share=everything,
        workers_user_share=user_shares["consumer and owner"],
        wall_share=wall["everything"] / wall[bare],
    )
    return 0 if workers >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
