"""What Ray costs: the job's actors against the same classes in one bare process.

Per record, without what a start costs: CPU of a run over many records less that of a run over few,
by as many records as they differ. The share is that of records per CPU-second.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from statistics import median

from bare import ingest_here
from bed import Bed, bed, closing, options, table
from runs import ingest

AIM = 0.95


def main() -> int:
    chosen = options(__doc__, _arguments)
    few = chosen.count // 20
    with bed("overhead", chosen) as made:
        topics = {made.topic("few"): few, made.topic("many"): chosen.count}
        for topic, count in topics.items():
            made.load(topic, count)
        rounds = []
        for number in range(chosen.rounds + 1):
            spent = [_spent(made, topic, count) for topic, count in topics.items()]
            # The first round warms up.
            if number:
                rounds.append({k: spent[1][k] - spent[0][k] for k in spent[0]})
        more = chosen.count - few
        return _report({k: more / median(r[k] for r in rounds) for k in rounds[0]}, chosen.count)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)


def _spent(made: Bed, topic: str, count: int) -> dict[str, float]:
    """CPU seconds of one run of each kind."""
    # One consumer: two at once slow each other down, with Ray or without it.
    made.pipeline(topic, ingest={"consumers": 1})
    run = ingest(made, count)
    bare = made.folder / "bare"
    _, bare_s = ingest_here(made, bare, count)
    shutil.rmtree(bare)
    return {
        "one bare process": bare_s,
        "consumers and owner": run.workers_cpu_s,
        "everything": run.whole.cpu_s,
    }


def _report(rates: dict[str, float], count: int) -> int:
    bare = rates["one bare process"]
    table(
        [[name, int(rate), rate / bare] for name, rate in rates.items()],
        ["CPU of", "records/CPU-s", "share"],
    )
    workers, everything = rates["consumers and owner"] / bare, rates["everything"] / bare
    closing("ray_overhead", records=count, workers_share=workers, everything_share=everything)
    return 0 if workers >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
