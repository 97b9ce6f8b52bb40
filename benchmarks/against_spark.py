"""Kafka JSON to a Delta table, exactly once: ours, Spark Structured Streaming, plain Python.

The same preloaded topic (four partitions, order events of 198 bytes in eight fields), by turns,
each time into a new table whose rows are counted. Warm on both sides: our processes run when
the clock starts, as Spark's session does, which has run the query before; ratios with our
consumers' start in them stand beside. Ours is the job as a user starts it, over an embedded
Ray. ``--bench`` is the small form: 2 M records, two rounds, without plain Python.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NoReturn

from bed import Bed, BenchFailed, bed, closing, options, table
from runs import Figures, Run, check, ingest
from spark_peer import Spark

HERE = Path(__file__).parent
AIM_CPU, AIM_WALL, AIM_PYTHON = 5.0, 5.0, 7.0
PYTHON = "plain Python"
SMALL = {"count": 2_000_000, "rounds": 2, "peers": "spark", "limit_s": 480}


def main() -> int:
    chosen = options(__doc__, _arguments)
    if chosen.bench:
        vars(chosen).update(SMALL)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(chosen.limit_s)
    peers = [name for name in chosen.peers.split(",") if name]
    with bed("against", chosen) as made:
        topic, warm = made.topic(), made.topic("warm")
        few = min(1_000_000, chosen.count // 4)
        began = time.monotonic()
        made.load(warm, few, compression=chosen.compression)
        made.load(topic, chosen.count, compression=chosen.compression)
        print(f"produced {chosen.count:,} in {time.monotonic() - began:.0f} s")
        spark = Spark.start(made, **_pairs(chosen.spark_conf)) if "spark" in peers else None
        flags = [part for one in chosen.set for part in ("--set", one)]
        made.pipeline(warm)
        ingest(made, few, flags=flags)
        if spark:
            _spark(made, spark, warm, few)
        made.pipeline(topic)
        runs: list[Run] = []
        others: dict[str, list[Figures]] = defaultdict(list)
        for number in range(chosen.rounds):
            runs.append(ingest(made, chosen.count, flags=flags))
            shutil.rmtree(made.lake)
            for batch in map(int, chosen.spark_batch.split(",")) if spark else ():
                name = f"Spark, batches of {batch:,}" if batch else "Spark"
                others[name].append(_spark(made, spark, topic, chosen.count, batch))
            if "python" in peers:
                others[PYTHON].append(_python(made, topic, chosen.count))
            print(f"round {number + 1} of {chosen.rounds} done", flush=True)
        signal.alarm(0)
        missed = _report(runs, others)
        return int(missed and not chosen.bench)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="spark,python", help="which of them: spark,python")
    parser.add_argument("--limit-s", type=int, default=3600, help="it fails when it takes longer")
    parser.add_argument("--bench", action="store_true", help="what `make bench` runs")
    parser.add_argument("--compression", default="none", help="of the topic's batches")
    parser.add_argument("--set", action="append", default=[], help="for our job: KEY=VALUE")
    parser.add_argument(
        "--spark-batch",
        default="0",
        help="maxOffsetsPerTrigger; 0: unset; 0,1000000: both, and the better one counts",
    )
    parser.add_argument("--spark-conf", action="append", default=[], help="KEY=VALUE")


def _too_long(*_: object) -> NoReturn:
    raise BenchFailed("it takes too long: see --limit-s")


def _pairs(given: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (one.partition("=") for one in given)}


def _spark(made: Bed, spark: Spark, topic: str, count: int, batch: int = 0) -> Figures:
    target = made.folder / "spark-table"
    figures = spark.query(made, topic, target, batch)
    check("Spark", target, count)
    shutil.rmtree(target)
    shutil.rmtree(f"{target}.checkpoint")
    return replace(figures, records=count)


def _python(made: Bed, topic: str, count: int) -> Figures:
    target = made.folder / "python-table"
    command = [sys.executable, str(HERE / "python_peer.py"), "--bootstrap", made.bootstrap]
    peer = made.start([*command, "--topic", topic, "--table", str(target)], "python.log")
    if peer.wait(3600) != 0:
        raise BenchFailed(made.tail("python.log"))
    check("plain Python", target, count)
    shutil.rmtree(target)
    return Figures(**made.told("python.log"))


def _report(runs: list[Run], others: dict[str, list[Figures]]) -> bool:
    windows = [run.window for run in runs]
    up = [run.steady for run in runs]
    rows = [_row("ours: first commit to last commit", up)]
    rows += [_row("consumers' start to last commit", windows)]
    rows += [_row("the job, start to end", [run.whole for run in runs])]
    rows += [_row(name, figures) for name, figures in others.items()]
    table(rows, ["median of the rounds", "s", "CPU s", "records/s", "records/CPU-s", "all rounds"])
    print()
    kinds = sorted({kind for run in runs for kind in run.by_kind})
    spent = {kind: median(run.by_kind.get(kind, 0.0) for run in runs) for kind in kinds}
    table(sorted(spent.items(), key=lambda item: -item[1]), ["our process", "CPU s"])
    cpu, wall, start_cpu, start_wall = {}, {}, {}, {}
    for peer in ("Spark", PYTHON):
        mine = [figures for name, figures in others.items() if name.startswith(peer)]
        if mine:
            # Against the best of its settings.
            best_cpu, best_wall = max(map(_median_cpu, mine)), max(map(_median_wall, mine))
            cpu[peer], wall[peer] = _median_cpu(up) / best_cpu, _median_wall(up) / best_wall
            start_cpu[peer] = _median_cpu(windows) / best_cpu
            start_wall[peer] = _median_wall(windows) / best_wall
    closing(
        "against_spark",
        records=runs[0].whole.records,
        records_per_s=int(_median_wall(up)),
        records_per_cpu_s=int(_median_cpu(up)),
        **{
            f"{peer.split()[-1].lower()}_ratio_{what}": ratios[peer]
            for what, ratios in {
                "cpu": cpu,
                "wall": wall,
                "cpu_with_start": start_cpu,
                "wall_with_start": start_wall,
            }.items()
            for peer in ratios
        },
    )
    if "Spark" in cpu:
        print(f"spark_ratio_cpu={cpu['Spark']:.2f} spark_ratio_wall={wall['Spark']:.2f}")
    return (
        cpu.get(PYTHON, AIM_PYTHON) < AIM_PYTHON
        or cpu.get("Spark", AIM_CPU) < AIM_CPU
        or wall.get("Spark", AIM_WALL) < AIM_WALL
    )


def _row(name: str, figures: list[Figures]) -> list[object]:
    seconds, cpu_s = (median(getattr(f, what) for f in figures) for what in ("seconds", "cpu_s"))
    each = " ".join(f"{f.per_s / 1000:.0f}k/{f.per_cpu_s / 1000:.0f}k" for f in figures)
    return [name, seconds, cpu_s, int(_median_wall(figures)), int(_median_cpu(figures)), each]


def _median_wall(figures: list[Figures]) -> float:
    return median(one.per_s for one in figures)


def _median_cpu(figures: list[Figures]) -> float:
    return median(one.per_cpu_s for one in figures)


if __name__ == "__main__":
    sys.exit(main())
