"""Table operations: upsert, append, overwrite, read; ours, plain delta-rs, plain delta-spark.

Each side runs each operation in a fresh process, by turns, on the same files (a copy of the table
by hard links), after a small operation of the same kind. Medians over the rounds; the first round
warms up the disk's cache and does not count. Memory is the process's peak, with the source in it.
All but Spark have the environment of a child process of RayLake's, where heavy merges run
(``raylake.tables.child``). Each finds a disk without unwritten pages of the one before, and memory
that another process is just giving up (``warm_memory.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq
import table_bed
from bed import ROOT, Bed, BenchFailed, bed, closing, options, table
from spark_peer import environment
from warm_memory import warm_memory

from raylake.tables import child

FOLDER = Path(__file__).parent
LIMIT_S = 900
OWN, DELTA_RS, RANGED, SPARK = "ours", "delta-rs", "delta-rs, range given", "delta-spark"
WRITER, PARQUET = "write_deltalake", "parquet"
AIMS = {
    "upsert_clustered": {SPARK: 3.0, DELTA_RS: 1.2},
    "upsert_scattered": {SPARK: 3.0, DELTA_RS: 1.2},
    "append": {WRITER: 1.0},
    "overwrite": {WRITER: 1.0},
    "read": {PARQUET: 0.95},
}
LEAST_ROWS_PER_S = {"upsert_clustered": 100_000, "append": 100_000, "overwrite": 80_000}
MOST_MEMORY = 0.5
"""Of plain delta-rs's, for upserts."""


@dataclass(frozen=True, slots=True)
class Took:
    """What one side's operation took."""

    rows: int
    seconds: float
    cpu_s: float
    peak_bytes: int


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("tables", chosen, broker=False) as made:
        base = made.folder / "base"
        table_bed.build(base, chosen.rows)
        sources = {}
        for kind in ("clustered", "scattered"):
            sources[f"upsert_{kind}"] = made.folder / f"{kind}.parquet"
            rows = table_bed.source(kind, chosen.count, chosen.rows)
            pq.write_table(rows, sources[f"upsert_{kind}"])
        plain = made.folder / "plain.parquet"
        pq.write_table(table_bed.plain(chosen.append), plain)
        sources |= {"append": plain, "overwrite": plain, "read": sources["upsert_clustered"]}
        found: dict[tuple[str, str], list[Took]] = {}
        for number in range(chosen.rounds + 1):
            for operation in chosen.only:
                for side in (OWN, *AIMS[operation], *_more(operation)):
                    if side == SPARK and chosen.no_spark:
                        continue
                    copy = table_bed.copy(base, made.folder / "copy")
                    took = _one(made, (operation, side), copy, sources[operation])
                    subprocess.run(["rm", "-rf", str(copy)], check=True)
                    if number:
                        found.setdefault((operation, side), []).append(took)
            print(f"round {number} of {chosen.rounds} done", flush=True)
    return _report(found)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the table")
    parser.add_argument("--count", type=int, default=100_000, help="rows of an upsert")
    parser.add_argument("--append", type=int, default=1_000_000, help="rows of an append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-spark", action="store_true")
    parser.add_argument("--only", nargs="+", choices=sorted(AIMS), default=list(AIMS))


def _more(operation: str) -> tuple[str, ...]:
    return (RANGED,) if operation.startswith("upsert") else ()


def _one(made: Bed, kind: tuple[str, str], target: Path, source: Path) -> Took:
    operation, side = kind
    script = [str(FOLDER / "table_side.py"), operation.split("_", maxsplit=1)[0], side]
    if side == SPARK:
        script = [str(FOLDER / "table_spark.py")]
    environ = environment() if side == SPARK else {**os.environ, **child.ENVIRONMENT}
    clock = target.parent / "clock"
    clock.unlink(missing_ok=True)
    command = [sys.executable, *script, str(target), str(source), str(clock)]
    os.sync()
    with warm_memory(made, clock):
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=environ,
            cwd=ROOT,
            check=False,
        )
    for line in ended.stdout.splitlines():
        if line.startswith('{"answer"'):
            return Took(**json.loads(line)["answer"])
    raise BenchFailed(f"{operation}, {side}: {ended.stderr[-3000:]}")


def _report(found: dict[tuple[str, str], list[Took]]) -> int:
    rows, values, missed = [], {}, False
    for (operation, side), took in found.items():
        own = found[operation, OWN]
        seconds, cpu_s, peak = _medians(took)
        ratios = [a / b for a, b in zip((seconds, cpu_s, peak), _medians(own), strict=True)]
        per_s = took[0].rows / seconds
        rows.append([operation, side, int(per_s), seconds, cpu_s, peak / 2**20, *ratios])
        name = f"{operation}_{side.split(',')[0].replace('-', '_')}{'_ranged' * (side == RANGED)}"
        values[f"{name}_rows_per_s"] = int(per_s)
        if side != OWN:
            values |= {f"{name}_times": ratios[0], f"{name}_cpu_times": ratios[1]}
            missed |= ratios[0] < AIMS[operation].get(side, 0.0)
            missed |= (
                operation.startswith("upsert") and side == DELTA_RS and ratios[2] * MOST_MEMORY < 1
            )
        else:
            missed |= per_s < LEAST_ROWS_PER_S.get(operation, 0)
    head = ["", "", "rows/s", "s", "CPU s", "peak MiB", "× ours: s", "CPU s", "peak"]
    table(rows, head)
    closing("table_operations", **values)
    return int(missed)


def _medians(took: list[Took]) -> tuple[float, float, float]:
    return (
        median(one.seconds for one in took),
        median(one.cpu_s for one in took),
        median(float(one.peak_bytes) for one in took),
    )


if __name__ == "__main__":
    sys.exit(main())
