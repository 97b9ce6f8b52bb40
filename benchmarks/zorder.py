"""Z-order by two columns in little memory: RayLake's, delta-rs's ``z_order``, Spark's ZORDER BY.

Each in a process of its own on a copy of one table, small files of which each holds all customers
and ids from everywhere.
Its processes are ended when they have more resident than ``--limit-mib``; delta-rs and Spark are
told to spill, and to keep to a heap, that leaves room below it. Afterwards the log tells which part
of the files a narrow range of each column leaves out. Two sizes show the slope.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from upkeep_bed import Took, scattered, table_of, watched

from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.upkeep_requests import ZOrder

MIB = 2**20
COLUMNS = ("customer", "id")
FILE_BYTES = 4 * MIB
DELTA_RS_SPILLS_ABOVE = 400 * MIB
SPARK_HEAP = "560m"
_RANGES = 16
_ENDS = ("max", "min")
_WIDER = 1.28
"""So much larger are files whose ids are scattered; measured once."""


def by_raylake(table: str, target: int) -> None:
    """The operation as ``raylake.tables`` has it."""
    took = Took()
    DeltaRsEngine().execute(table, ZOrder(COLUMNS, target_file_bytes=target))
    took.told()


def by_delta_rs(table: str, target: int) -> None:
    """As its documentation has it for tables that do not fit into memory."""
    took = Took()
    DeltaTable(table).optimize.z_order(
        list(COLUMNS), target_size=target, max_spill_size=DELTA_RS_SPILLS_ABOVE
    )
    took.told()


def by_spark(table: str, target: int) -> None:
    """OPTIMIZE … ZORDER BY, ``local[2]``; the session is up before the clock runs."""
    from spark_peer import session_with

    sizes = {
        f"spark.databricks.delta.optimize.{one}FileSize": str(target) for one in ("max", "min")
    }
    session = session_with({"spark.driver.memory": SPARK_HEAP, **sizes})
    session.range(10).count()
    took = Took()
    session.sql(f"OPTIMIZE delta.`{table}` ZORDER BY ({', '.join(COLUMNS)})")
    took.told()


WHO = {"raylake": by_raylake, "delta-rs": by_delta_rs, "spark": by_spark}


def skipped(table: str, rows: int) -> dict[str, float]:
    """The part of the files that a narrow range of a column leaves out, on average."""
    files = pa.table(DeltaTable(table).get_add_actions(flatten=True))
    names = [f"customer-{number}" for number in range(1000, 50_000, 50_000 // _RANGES)]
    firsts = range(0, rows, rows // _RANGES)
    ranges: dict[str, list[tuple[str, str] | tuple[int, int]]] = {
        "customer": [(one, f"{one}9") for one in names],
        "id": [(one, one + rows // 10_000) for one in firsts],
    }
    found = {}
    for column, wanted in ranges.items():
        read = 0
        for low, high in wanted:
            begins = pc.less_equal(files.column(f"min.{column}"), high)
            ends = pc.greater_equal(files.column(f"max.{column}"), low)
            read += pc.sum(pc.and_(begins, ends)).as_py()
        found[column] = 1 - read / (len(wanted) * files.num_rows)
    return found


def told(who: str, table: str, rows: int) -> None:
    """Print what the log says of the files."""
    count = len(DeltaTable(table).file_uris())
    shares = ", ".join(f"{part:.1%} by {name}" for name, part in skipped(table, rows).items())
    print(f"{who:10} {count:6,} files; a narrow range leaves out {shares}")


def compare(options: argparse.Namespace, mib: int, folder: Path) -> None:
    """One size."""
    made, limit, target = folder / "made", options.limit_mib * MIB, options.target_mib * MIB
    rows = table_of(made, max(2, round(mib * MIB / FILE_BYTES / _WIDER)), FILE_BYTES, ids=scattered)
    size = sum(one.stat().st_size for one in made.glob("*.parquet"))
    print(f"{size / MIB:,.0f} MiB, {rows:,} rows")
    told("before", str(made), rows)
    seconds: dict[str, float] = {}
    for who in options.who:
        table = folder / who
        shutil.copytree(made, table, copy_function=os.link)
        took = watched(__file__, limit, who, str(table), str(target))
        if took is None:
            print(f"{who:10} does not complete below {options.limit_mib:,} MiB")
        else:
            if DeltaTable(table).count() != rows:
                raise SystemExit(f"{who}: {DeltaTable(table).count()} rows instead of {rows}")
            seconds[who] = took["seconds"]
            print(
                f"{who:10} {took['seconds']:8.1f} s {took['cpu_s']:8.1f} CPU s, at most "
                f"{took['peak'] / MIB:,.0f} MiB resident"
            )
            told(who, str(table), rows)
        shutil.rmtree(table)
    for who, one in seconds.items():
        if who != "raylake" and "raylake" in seconds:
            print(f"{who} takes {one / seconds['raylake']:.2f} times RayLake's time")
    shutil.rmtree(made)


def main() -> int:
    """Print a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, nargs="+", default=[512, 2048], help="sizes")
    parser.add_argument("--target-mib", type=int, default=8, help="of new files")
    parser.add_argument("--limit-mib", type=int, default=1024, help="resident memory")
    parser.add_argument("--who", nargs="+", default=list(WHO), choices=list(WHO))
    parser.add_argument("--folder", help="where the tables lie for a while")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        who, table, target = options.child
        WHO[who](table, int(target))
        sys.stdout.flush()
        os._exit(0)
    for mib in options.mib:
        with tempfile.TemporaryDirectory(prefix="raylake-zorder-", dir=options.folder) as folder:
            compare(options, mib, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
