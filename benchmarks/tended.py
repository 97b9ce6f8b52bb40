"""Three fixed queries on a tended table and on the same one untended.

Orders as they come: each of many small files has a stretch of time, and in it customers and order
numbers of all kinds, for the numbers are handed out to shops in blocks. Tended: the same after
``raylake maintain run`` with a Z-order by customer and number. The queries are those that such a
table is kept for: the orders of one customer, those of one block of numbers, and the sum of all
amounts. They prune by the log's statistics, as every reader does. A stretch of time, which lies
together as it came, is told beside them: who asks for that alone needs no Z-order by other columns.

Two sizes of untended files: what a second brings of some 4,700 and of some 19,000 rows.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from upkeep_bed import scattered, table_of

from raylake.client.upkeep import ByHand
from raylake.maintenance.policy import Policy
from raylake.maintenance.subjects import Subject
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Read

QUERIES = {
    "one customer": Read("customer = 'customer-123'", ("id", "amount")),
    "a block of ids": Read("id BETWEEN 1000 AND 3000", ("id", "customer", "amount")),
    "all amounts": Read(None, ("amount",)),
    "ten seconds": Read(
        "at >= '2026-02-02T02:50:00Z' AND at < '2026-02-02T02:50:10Z'", ("at", "amount")
    ),
}


MOST_ROUNDS = 8


def timed(table: str, request: Read, rounds: int) -> tuple[float, float, int]:
    """The least CPU-seconds and seconds of some rounds, and the rows."""
    best_cpu, best, count = float("inf"), float("inf"), 0
    for _ in range(rounds):
        cpu_s, at = time.process_time(), time.perf_counter()
        rows: pa.Table = DeltaRsEngine().read(table, request).read_all()
        best_cpu = min(best_cpu, time.process_time() - cpu_s)
        best, count = min(best, time.perf_counter() - at), rows.num_rows
    return best_cpu, best, count


def compared(folder: Path, files: int, file_bytes: int, rounds: int) -> None:
    """Make a table, tend a copy of it, and print what the queries take."""
    untended, tended = folder / "untended", folder / "tended"
    rows = table_of(untended, files, file_bytes, ids=scattered)
    shutil.copytree(untended, tended)
    policy = Policy(zorder=("customer", "id"), zorder_depth=2)
    for _ in range(MOST_ROUNDS):
        if not ByHand().run([Subject("t", str(tended), policy, None)]).outcomes:
            break
    count = [len(DeltaTable(one).file_uris()) for one in (untended, tended)]
    each = sum(one.stat().st_size for one in untended.glob("*.parquet")) // files
    print(f"{rows:,} rows; {count[0]:,} files of {each:,} bytes untended, {count[1]:,} tended")
    for name, request in QUERIES.items():
        before = timed(str(untended), request, rounds)
        after = timed(str(tended), request, rounds)
        if before[2] != after[2]:
            raise SystemExit(f"{name}: {before[2]} and {after[2]} rows")
        print(
            f"{name:16} {before[1]:8.3f} s {before[0]:8.3f} CPU s untended, {after[1]:8.3f} s "
            f"{after[0]:8.3f} CPU s tended: {before[1] / after[1]:.1f} x, CPU "
            f"{before[0] / after[0]:.1f} x",
            flush=True,
        )


def main() -> int:
    """Print a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512, help="of the whole table, about")
    parser.add_argument("--file-kib", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for kib in options.file_kib:
        with tempfile.TemporaryDirectory(prefix="raylake-tended-") as folder:
            compared(Path(folder), options.mib * 1024 // kib, kib * 1024, options.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
