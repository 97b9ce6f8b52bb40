"""One table operation by one side, in a process of its own; prints what it took as JSON.

``table_operations.py`` starts it: ``table_side.py OPERATION SIDE TABLE SOURCE CLOCK``. A small
operation of the same kind comes first, so that nothing is loaded or compiled while the clock runs;
the file CLOCK appears when it starts.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from table_bed import KEY

from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Overwrite, Read, Upsert

Work = Callable[[Path, pa.Table], int]


def own_upsert(table: Path, source: pa.Table) -> int:
    result = DeltaRsEngine().execute(str(table), Upsert(source, (KEY,)))
    return result.rows.updated + result.rows.inserted


def delta_rs_upsert(table: Path, source: pa.Table) -> int:
    merge = DeltaTable(table).merge(
        source, f"target.{KEY} = source.{KEY}", source_alias="source", target_alias="target"
    )
    found = merge.when_matched_update_all().when_not_matched_insert_all().execute()
    return int(found["num_target_rows_updated"] + found["num_target_rows_inserted"])


def delta_rs_upsert_in_range(table: Path, source: pa.Table) -> int:
    """As a careful user writes it: with the range of the source's keys."""
    ends = pa.compute.min_max(source.column(KEY)).as_py()
    within = f"target.{KEY} >= {ends['min']} AND target.{KEY} <= {ends['max']}"
    merge = DeltaTable(table).merge(
        source,
        f"target.{KEY} = source.{KEY} AND {within}",
        source_alias="source",
        target_alias="target",
    )
    found = merge.when_matched_update_all().when_not_matched_insert_all().execute()
    return int(found["num_target_rows_updated"] + found["num_target_rows_inserted"])


def own_append(table: Path, source: pa.Table) -> int:
    return DeltaRsEngine().execute(str(table), Append(source)).rows.inserted


def delta_rs_append(table: Path, source: pa.Table) -> int:
    write_deltalake(table, source, mode="append")
    return source.num_rows


def own_overwrite(table: Path, source: pa.Table) -> int:
    return DeltaRsEngine().execute(str(table), Overwrite(source)).rows.inserted


def delta_rs_overwrite(table: Path, source: pa.Table) -> int:
    write_deltalake(table, source, mode="overwrite")
    return source.num_rows


def own_read(table: Path, _: pa.Table) -> int:
    return DeltaRsEngine().read(str(table), Read()).read_all().num_rows


def parquet_read(table: Path, _: pa.Table) -> int:
    return pq.read_table([str(one) for one in sorted(table.glob("*.parquet"))]).num_rows


WORK: dict[tuple[str, str], Work] = {
    ("upsert", "ours"): own_upsert,
    ("upsert", "delta-rs"): delta_rs_upsert,
    ("upsert", "delta-rs, range given"): delta_rs_upsert_in_range,
    ("append", "ours"): own_append,
    ("append", "write_deltalake"): delta_rs_append,
    ("overwrite", "ours"): own_overwrite,
    ("overwrite", "write_deltalake"): delta_rs_overwrite,
    ("read", "ours"): own_read,
    ("read", "parquet"): parquet_read,
}


def peak_bytes() -> int:
    """The most that this process had resident; ``ru_maxrss`` would be its parent's, if greater."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    operation, side, table, given, clock = sys.argv[1:]
    work = WORK[operation, side]
    source = pq.read_table(given)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, "t")
        DeltaRsEngine().execute(str(small), Create(source.schema))
        write_deltalake(small, source.slice(0, 1000), mode="append")
        work(small, source.slice(500, 1000))
    Path(clock).touch()
    cpu = time.process_time()
    began = time.perf_counter()
    rows = work(Path(table), source)
    seconds = time.perf_counter() - began
    found = {
        "rows": rows,
        "seconds": seconds,
        "cpu_s": time.process_time() - cpu,
        "peak_bytes": peak_bytes(),
    }
    print(json.dumps({"answer": found}), flush=True)
    # deltalake may hang or abort when a short process ends.
    os._exit(0)


if __name__ == "__main__":
    main()
