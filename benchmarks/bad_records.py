"""What bad records cost: throughput with some of them against the same topic without any.

Half of the bad ones are broken JSON, half ill-typed; each must become one dead letter (both tables'
rows are counted). ``stop_above`` is 20 %, the product's default, so nothing stops. Measured from
the first commit on: a start would hide a part of the loss.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median

from bed import bed, closing, options, table
from runs import Run, ingest

AIMS = {0.0: 1.0, 0.001: 0.95, 0.01: 0.80, 0.1: 0.40}


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("bad", chosen) as made:
        shares = [0.0, *map(float, chosen.shares.split(","))]
        bad = {}
        for share in shares:
            topic = made.topic(_name(share))
            bad[share] = made.load(topic, chosen.count, bad=share)
        made.pipeline(_name(0.0))
        ingest(made, chosen.count)
        runs: dict[float, list[Run]] = {share: [] for share in shares}
        for number in range(chosen.rounds):
            for share in shares:
                made.pipeline(_name(share))
                runs[share].append(ingest(made, chosen.count, dead=bad[share]))
            print(f"round {number + 1} of {chosen.rounds} done", flush=True)
        return _report(runs, bad)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--shares", default="0.001,0.01,0.1", help="beside none, which of the aims'"
    )


def _name(share: float) -> str:
    return f"bad-{share:g}"


def _report(runs: dict[float, list[Run]], bad: dict[float, int]) -> int:
    wall = {share: median(run.steady.per_s for run in found) for share, found in runs.items()}
    cpu = {share: median(run.steady.per_cpu_s for run in found) for share, found in runs.items()}
    kept = {share: wall[share] / wall[0.0] for share in runs}
    rows = [
        [
            *(f"{share:.1%}", bad[share], int(wall[share]), int(cpu[share])),
            *(kept[share], cpu[share] / cpu[0.0], AIMS[share]),
        ]
        for share in runs
    ]
    head = ["bad", "dead letters", "records/s", "records/CPU-s", "kept", "kept per CPU-s", "aim"]
    table(rows, head)
    closing("bad_records", **{f"kept_{share * 1000:g}_per_mille": kept[share] for share in runs})
    return 0 if all(kept[share] >= AIMS[share] for share in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
