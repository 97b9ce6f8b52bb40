"""Bronze to silver with conversion, rules and an upsert: ours beside Spark Structured Streaming.

One million new rows, half of them updates of orders spread over a tenth of the keys, come upon a
silver table of 10 million. Both convert ``amount`` from text to a decimal, hold rows against the
same five rules and keep the newest row of each order. Ours is one step of a derived table. The peer
is Structured Streaming from the same bronze table on ``local[2]`` with ``foreachBatch``: a window
for the newest row of a key and one MERGE, as its documentation has it, its session warm and its
checkpoint behind the first ten million. By turns, each on a copy of the same tables, and what they
made of it is compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import table_bed
import yaml
from bed import BenchFailed, bed, closing, options, table
from deltalake import write_deltalake
from spark_peer import environment
from tree import Tree

from raylake.clock import SystemClock
from raylake.config import load
from raylake.ingest.plan import RunPlan
from raylake.layers.build import build
from raylake.layers.transform_plan import TransformPlan
from raylake.tables.service import DirectTables

AIM, AIM_ROWS_PER_S = 3.0, 50_000
FOLDER = Path(__file__).resolve().parent
RULES = [
    {"rule": "not_null", "columns": ["customer_id"], "on_failure": "quarantine"},
    {"rule": "range", "column": "amount", "min": 0, "max": 1_000_000, "on_failure": "quarantine"},
    {"rule": "in_set", "column": "country", "values": ["AT", "CH", "DE", "DK", "FI", "NO", "SE"]},
    {"rule": "regex", "column": "customer_id", "pattern": "c-[0-9]+", "on_failure": "quarantine"},
    {"rule": "range", "column": "quantity", "min": 1, "max": 1000, "on_failure": "quarantine"},
]


def main() -> int:
    chosen = options(__doc__, _arguments)
    ours: list[tuple[float, float]] = []
    peer: list[tuple[float, float]] = []
    with bed("silver", chosen, broker=False) as made:
        first = made.folder / "first"
        _bronze(first / "lake" / "bronze" / "orders", chosen.rows)
        plan = _plan(first)
        _transformed(plan)
        spark = _Peer(made.folder / "peer", first, chosen.log)
        for number in range(chosen.rounds + 1):
            fresh = _new_rows(chosen.rows, chosen.count, number)
            kept = number > 0
            for side in ("ours", "peer") if number % 2 else ("peer", "ours"):
                if side == "ours":
                    write_deltalake(first / "lake" / "bronze" / "orders", fresh, mode="append")
                    took = _transformed(plan)
                    ours += [took] if kept else []
                else:
                    took = spark.take(fresh)
                    peer += [took] if kept else []
                print(f"round {number} {side}: {took}", flush=True)
        _compare(first / "lake" / "silver" / "orders", spark.silver)
        spark.close()
    return _report(ours, peer, chosen.count)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the silver table")
    parser.add_argument("--count", type=int, default=1_000_000, help="new rows of bronze")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log", type=Path, default=None, help="what the peer prints")


def _events(keys: np.ndarray[Any, Any], number: int) -> pa.Table:
    """Orders as bronze holds them: the amount is text, and there is more metadata."""
    rows = table_bed.orders(keys, seed=number)
    amount = rows.column("amount").cast(pa.string())
    rows = rows.set_column(rows.schema.get_field_index("amount"), "amount", amount)
    rows = rows.append_column("_ingested_at", rows.column("_timestamp"))
    return rows.append_column("_tombstone", pa.repeat(False, rows.num_rows))


def _bronze(path: Path, rows: int) -> None:
    for start in range(0, rows, table_bed.FILE_ROWS):
        keys = 2 * np.arange(start, min(start + table_bed.FILE_ROWS, rows), dtype=np.int64)
        write_deltalake(path, _events(keys, 0), mode="append")


def _new_rows(rows: int, count: int, number: int) -> pa.Table:
    """Half updates of a tenth of the keys, half new orders behind all others; updates are newer."""
    draw = np.random.default_rng(number)
    span = rows // 10
    updated = 2 * (rows - span + draw.choice(span, count // 2, replace=False))
    new = 2 * (rows + number * count + np.arange(count - count // 2))
    found = _events(np.concatenate([updated, new]).astype(np.int64), number + 1)
    later = pc.add(found.column("updated_at"), pa.scalar(number * 10**12, pa.duration("us")))
    place = found.schema.get_field_index("updated_at")
    found = found.set_column(place, "updated_at", later.cast(pa.timestamp("us", tz="UTC")))
    return found.take(pa.array(draw.permutation(found.num_rows)))


def _plan(folder: Path) -> TransformPlan:
    document = {
        "pipeline": "silver",
        "lake": str(folder / "lake"),
        "kafka": {"bootstrap": "localhost:1"},
        "bronze": {"orders": {"topics": ["orders"]}},
        "silver": {
            "orders": {
                "from": "bronze.orders",
                "mode": "upsert",
                "keys": ["order_id"],
                "sequence_by": "updated_at",
                "types": {"amount": "decimal(18,2)"},
                "quality": RULES,
            }
        },
    }
    file = folder / "silver.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    loaded = load(file)
    return TransformPlan(RunPlan(loaded.config, loaded.sha256, str(file), "bench"))


def _transformed(plan: TransformPlan) -> tuple[float, float]:
    """Seconds and CPU seconds of bringing silver up to date."""
    began, cpu = time.perf_counter(), time.process_time()
    run = build(plan, DirectTables(), SystemClock())
    run.finish()
    if run.failure is not None:
        raise BenchFailed(str(run.failure))
    return time.perf_counter() - began, time.process_time() - cpu


class _Peer:
    """Structured Streaming in a process of its own, with its own copy of bronze."""

    def __init__(self, folder: Path, first: Path, log: Path | None) -> None:
        folder.mkdir()
        subprocess.run(["cp", "-al", str(first / "lake"), str(folder / "lake")], check=True)
        self._bronze = folder / "lake" / "bronze" / "orders"
        self.silver = folder / "lake" / "silver" / "orders"
        self._log = (log or folder / "peer.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(FOLDER / "silver_spark.py"), str(self._bronze), str(self.silver),
             str(folder / "checkpoint")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment(),
        )  # fmt: skip
        self._tree = Tree(self._process.pid)
        self._answer()

    def take(self, rows: pa.Table) -> tuple[float, float]:
        """Append rows to its bronze and let it bring them in; seconds and CPU seconds."""
        write_deltalake(self._bronze, rows, mode="append")
        before = self._tree.sample()
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        return self._answer(), self._tree.sample() - before

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._log.close()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b'{"answer"'):
                return float(json.loads(line)["answer"])
        raise BenchFailed(f"Spark ended; what it said is in {self._log.name}")


def _compare(ours: Path, peer: Path) -> None:
    """Both tables hold the same orders."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as found:
        found.execute(f"SET temp_directory = '{folder}'")
        sums = []
        for path in (ours, peer):
            files = [str(one) for one in _files(path)]
            found.execute(
                "SELECT count(*), sum(hash(order_id, customer_id, amount::VARCHAR, updated_at)) "
                "FROM read_parquet(?)",
                [files],
            )
            sums.append(found.fetchone())
    if sums[0] != sums[1]:
        raise BenchFailed(f"the tables differ: {sums}")


def _files(path: Path) -> list[str]:
    from deltalake import DeltaTable

    return DeltaTable(path).file_uris()


def _report(ours: list[tuple[float, float]], peer: list[tuple[float, float]], count: int) -> int:
    own, other = ([median(one[place] for one in took) for place in (0, 1)] for took in (ours, peer))
    ratio, cpu = other[0] / own[0], other[1] / own[1]
    rows = [["ours", *own, int(count / own[0])], ["spark", *other, int(count / other[0])]]
    table(rows, ["", "s", "CPU s", "records/s"])
    closing("silver", times=ratio, cpu_times=cpu, records_per_s=int(count / own[0]))
    return int(ratio < AIM or count / own[0] < AIM_ROWS_PER_S)


if __name__ == "__main__":
    sys.exit(main())
