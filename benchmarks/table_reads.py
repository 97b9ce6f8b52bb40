"""Reads of a tended table: whole, selective, as of an older version; and what it takes on disk.

One process, warm, each reading by turns with its peer in memory that another process is just giving
up (``warm_memory.py``), medians over the rounds. The table is built by plain delta-rs (10 M orders,
a file a million rows) and gets ten upserts of 100,000 rows by RayLake: it is read whole, beside the
same rows as plain Parquet, and as of the fifth version before the last, beside a copy of which that
is the latest. Then it is Z-ordered by customer and time of the order and a range of both is read,
beside a scan of all rows. At last it is vacuumed; its folder with its log stands beside plain
Parquet of the same rows in the same order and codec. An upsert stands beside what plain Parquet
needs for it: all is read, changed and written.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import table_bed
from bed import Bed, BenchFailed, bed, closing, options, table
from deltalake import DeltaTable
from warm_memory import warm_memory

from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Read, Restore, Upsert
from raylake.tables.upkeep_requests import Vacuum, ZOrder

UPSERTS = 10
Z_COLUMNS = ("customer_id", "ordered_at")
COLUMNS = (table_bed.KEY, "customer_id", "amount")
CUSTOMERS = ("c-2", "c-2001")
DAYS = (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))
FILE_BYTES = 16 * 2**20
AIMS = {"full_read": 0.95, "selective_read": 10.0, "as_of_read": 1 / 1.1}
"""Least share of the peer's speed."""
MOST_STORAGE = 1.02
Work = Callable[[], int]
ENGINE = DeltaRsEngine()


def main() -> int:
    chosen = options(__doc__, _arguments)
    found: dict[str, tuple[float, float]] = {}
    with bed("reads", chosen, broker=False) as made:
        path = made.folder / "table"
        table_bed.build(path, chosen.rows)
        found["upsert"] = _upserted(path, chosen)
        latest = DeltaTable(path).version()
        plain = _plain(path, made.folder / "plain")
        whole = {"full_read": (_read(path), partial(_plain_rows, plain))}
        found |= _measured(made, whole, chosen.rounds)
        older = latest - UPSERTS // 2
        copy = table_bed.copy(path, made.folder / "copy")
        ENGINE.execute(str(copy), Restore(version=older))
        as_of = {"as_of_read": (_read(path, version=older), _read(copy))}
        found |= _measured(made, as_of, chosen.rounds)
        ENGINE.execute(str(path), ZOrder(Z_COLUMNS, target_file_bytes=FILE_BYTES))
        few = _read(path, where=_wanted(), columns=COLUMNS)
        selective = {"selective_read": (few, partial(_scanned, plain))}
        found |= _measured(made, selective, chosen.rounds)
        ENGINE.execute(str(path), Vacuum(retention_hours=0.0, allow_short_retention=True))
        plain = _plain(path, made.folder / "tended")
        sizes = [sum(one.stat().st_size for one in plain), _bytes(path)]
    storage = sizes[1] / sizes[0]
    rows = [[name, *took, took[1] / took[0], AIMS.get(name, 0.0)] for name, took in found.items()]
    table(rows, ["", "ours s", "peer s", "times", "aim"])
    print(f"storage: {sizes[1] / 2**20:.1f} MiB, plain Parquet {sizes[0] / 2**20:.1f} MiB")
    times = {name: took[1] / took[0] for name, took in found.items()}
    closing("table_reads", **times, storage=storage)
    short = any(times[name] < aim for name, aim in AIMS.items())
    return int(short or storage > MOST_STORAGE)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the table")
    parser.add_argument("--count", type=int, default=100_000, help="rows of an upsert")
    parser.add_argument("--rounds", type=int, default=5)


def _upserted(path: Path, chosen: argparse.Namespace) -> tuple[float, float]:
    """Upsert over the whole range of keys; the median, and the same with plain Parquet, once."""
    keys = table_bed.source("clustered", chosen.count, chosen.rows).column(table_bed.KEY)
    took = []
    for number in range(UPSERTS):
        shift = (number - UPSERTS // 2) * (2 * chosen.rows // UPSERTS)
        source = table_bed.orders(pc.add(keys, shift).to_numpy(), seed=number + 1)
        began = time.perf_counter()
        ENGINE.execute(str(path), Upsert(source, (table_bed.KEY,)))
        took.append(time.perf_counter() - began)
    files = DeltaTable(path).file_uris()
    began = time.perf_counter()
    rows = pq.read_table(files)
    left = rows.filter(
        pc.invert(pc.is_in(rows.column(table_bed.KEY), source.column(table_bed.KEY)))
    )
    whole = pa.concat_tables([left, source.select(left.schema.names).cast(left.schema)])
    pq.write_table(whole, path.parent / "whole.parquet", compression="zstd")
    return median(took[1:]), time.perf_counter() - began


def _measured(
    made: Bed, pairs: Mapping[str, tuple[Work, Work]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Medians of each pair, by turns; the first round warms up."""
    found = {}
    for name, works in pairs.items():
        took: list[list[float]] = [[], []]
        for number in range(rounds + 1):
            counts = []
            for side in (0, 1) if number % 2 else (1, 0):
                rows, seconds = _timed(made, works[side])
                counts.append(rows)
                if number:
                    took[side].append(seconds)
            if counts[0] != counts[1]:
                raise BenchFailed(f"{name}: {counts} rows")
        found[name] = (median(took[0]), median(took[1]))
        print(f"{name}: {found[name]}", flush=True)
    return found


def _timed(made: Bed, work: Work) -> tuple[int, float]:
    """Rows and seconds. What this process has let go is given back first."""
    clock = made.folder / "clock"
    clock.unlink(missing_ok=True)
    pa.default_memory_pool().release_unused()
    os.sync()
    with warm_memory(made, clock):
        clock.touch()
        began = time.perf_counter()
        rows = work()
        return rows, time.perf_counter() - began


def _read(path: Path, **asked: object) -> Work:
    return lambda: ENGINE.read(str(path), Read(**asked)).read_all().num_rows


def _plain(path: Path, folder: Path) -> list[Path]:
    """The live files' rows as plain Parquet, in as many files."""
    folder.mkdir()
    found = []
    for number, file in enumerate(DeltaTable(path).file_uris()):
        found.append(folder / f"{number:04}.parquet")
        pq.write_table(pq.read_table(file), found[-1], compression="zstd")
    return found


def _plain_rows(files: list[Path]) -> int:
    return pq.read_table([str(one) for one in files]).num_rows


def _wanted() -> str:
    days = (f"'{day:%Y-%m-%dT%H:%M:%SZ}'" for day in DAYS)
    low, high = CUSTOMERS
    first, last = days
    return (
        f"customer_id >= '{low}' AND customer_id < '{high}'"
        f" AND ordered_at >= {first} AND ordered_at < {last}"
    )


def _scanned(files: list[Path]) -> int:
    """All rows are read, and those that are wanted are kept."""
    rows = pq.read_table([str(one) for one in files], columns=[*COLUMNS, "ordered_at"])
    stamps = pa.timestamp("us", tz="UTC")
    mask = pa.repeat(pa.scalar(True), rows.num_rows)
    for name, ends in (("customer_id", CUSTOMERS), ("ordered_at", DAYS)):
        low, high = (pa.scalar(end, stamps if name == "ordered_at" else None) for end in ends)
        column = rows.column(name)
        mask = pc.and_(mask, pc.and_(pc.greater_equal(column, low), pc.less(column, high)))
    return rows.filter(mask).num_rows


def _bytes(path: Path) -> int:
    """All that lies in the table's folder, its log too."""
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


if __name__ == "__main__":
    sys.exit(main())
