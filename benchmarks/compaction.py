"""Compaction of many small files: RayLake's run, delta-rs's ``optimize.compact``, Spark's OPTIMIZE.

Each in a process of its own on a copy of one table; CPU-seconds of the process tree and the clock,
from the open session to the commit. ``--scale 0.01`` makes it 50 files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from deltalake import DeltaTable
from upkeep_bed import Took, measured, table_of

from raylake.client.upkeep import ByHand
from raylake.maintenance.policy import Policy
from raylake.maintenance.subjects import Subject

MIB = 2**20
FILES, FILE_BYTES, TARGET = 5000, MIB, 128 * MIB


def by_raylake(table: str) -> None:
    """``raylake maintain run`` of one table, in this process."""
    took = Took()
    found = ByHand().run([Subject("t", table, Policy(target_file_bytes=TARGET), None)])
    if found.failure is not None:
        raise found.failure
    took.told()


def by_delta_rs(table: str) -> None:
    """As its documentation has it."""
    took = Took()
    DeltaTable(table).optimize.compact(target_size=TARGET)
    took.told()


def by_spark(table: str) -> None:
    """OPTIMIZE of delta-spark, ``local[2]``; the session is up before the clock runs."""
    from spark_peer import session_with

    session = session_with({"spark.databricks.delta.optimize.maxFileSize": str(TARGET)})
    session.range(10).count()
    took = Took()
    session.sql(f"OPTIMIZE delta.`{table}`")
    took.told()


WHO = {"raylake": by_raylake, "delta-rs": by_delta_rs, "spark": by_spark}


def main() -> int:
    """Print a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the 5,000 files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--who", nargs="+", default=list(WHO), choices=list(WHO))
    parser.add_argument("--child", nargs=2, metavar=("WHO", "TABLE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        WHO[options.child[0]](options.child[1])
        sys.stdout.flush()
        os._exit(0)
    files = max(4, int(FILES * options.scale))
    with tempfile.TemporaryDirectory(prefix="raylake-compaction-") as folder:
        made = Path(folder, "made")
        rows = table_of(made, files, FILE_BYTES)
        size = sum(one.stat().st_size for one in made.glob("*.parquet"))
        print(f"{files:,} files, {size / MIB:,.0f} MiB, {rows:,} rows")
        best: dict[str, tuple[float, float]] = {}
        for number in range(options.rounds):
            for who in options.who:
                table = Path(folder, f"{who}-{number}")
                shutil.copytree(made, table, copy_function=os.link)
                took = measured(__file__, who, str(table))
                left = DeltaTable(table)
                count = left.count()
                if count != rows:
                    raise SystemExit(f"{who}: {count} rows")
                now = (took["cpu_s"], took["seconds"])
                cpu_s, seconds = map(min, best.get(who, now), now)
                best[who] = (cpu_s, seconds)
                print(
                    f"{who:10} {took['seconds']:8.2f} s {took['cpu_s']:8.2f} CPU s "
                    f"{size / MIB / took['cpu_s']:7.1f} MiB a CPU s, {len(left.file_uris())} files"
                )
                shutil.rmtree(table)
        for who, (cpu_s, seconds) in best.items():
            if who != "raylake" and "raylake" in best:
                own_cpu_s, own_s = best["raylake"]
                print(
                    f"{who} takes {seconds / own_s:.2f} times RayLake's time, "
                    f"{cpu_s / own_cpu_s:.2f} times its CPU"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
