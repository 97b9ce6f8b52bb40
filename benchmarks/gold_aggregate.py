"""A daily aggregate after 0.1 % of its source's rows changed, beside computing it anew.

One process, warm. The source is a silver table of orders over a year with a change feed, a file
some days. In each round some orders get another amount, country or time, and a few leave: once
among the last days, and once scattered over the year. Ours is one step of the aggregate table: the
change feed is read, the groups are brought up to date, the upsert is committed. The peer reads the
columns that the query needs from the whole source (Arrow's dataset of delta-rs), computes the same
SQL with DuckDB and overwrites its table (``write_deltalake``). Both tables are compared after each
round. Sums and counts go on by what came and left; distinct customers, for which there is no
exact way to do so, are recomputed for the days concerned: where changes are scattered that is the
whole source, and stated without an aim.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bed import BenchFailed, bed, closing, options, table
from deltalake import DeltaTable, write_deltalake

from raylake.layers import source_changes
from raylake.layers.aggregates import Aggregates, AggregateSpec
from raylake.layers.asked_of_logs import newest_version
from raylake.layers.derived import NEVER, SourceRows
from raylake.layers.source_logs import live_rows, schema_at
from raylake.storage.place import place
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Delete, Read, Upsert

AIM = 20.0
DAYS = 365
FILE_ROWS = 250_000
RECENT_DAYS = 3
START_US = 1_767_225_600_000_000
DAY_US = 86_400_000_000
SOURCE = "silver.orders"
TIME = pa.timestamp("us", tz="UTC")
QUERIES = {
    "sums": """
        SELECT CAST(ordered_at AS DATE) AS day, country, count(*) AS orders, sum(amount) AS revenue,
               avg(quantity) AS mean_quantity
        FROM silver.orders GROUP BY day, country
    """,
    "distinct": """
        SELECT CAST(ordered_at AS DATE) AS day, country, count(DISTINCT customer_id) AS customers
        FROM silver.orders GROUP BY day, country
    """,
}
WITH_AIM = (("sums", "recent"), ("sums", "scattered"), ("distinct", "recent"))
ENGINE = DeltaRsEngine()


class Took(NamedTuple):
    """Seconds, by the clock and of all threads."""

    seconds: float
    cpu_s: float


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("gold", chosen, broker=False) as made:
        source = made.folder / "orders"
        _build(source, chosen.rows)
        followers = {
            name: Follower(source, made.folder / name, made.folder / f"{name}-anew", sql)
            for name, sql in QUERIES.items()
        }
        for one in followers.values():
            one.step()
        found: dict[tuple[str, str], list[tuple[Took, Took]]] = {}
        for number in range(chosen.rounds + 1):
            for kind in ("recent", "scattered"):
                _change(source, chosen.rows, kind, number)
                for name, one in followers.items():
                    ours, theirs = _timed(one.step), _timed(one.anew)
                    one.compare()
                    if number:
                        # The first round is the warm-up.
                        found.setdefault((name, kind), []).append((ours, theirs))
            print(f"round {number} of {chosen.rounds} done", flush=True)
    return _report(found)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=25_000_000, help="rows of the source")
    parser.add_argument("--rounds", type=int, default=3)


class Follower:
    """An aggregate table of ours, and the peer's."""

    def __init__(self, source: Path, target: Path, peer: Path, sql: str) -> None:
        self._source, self._target, self._peer, self._sql = source, target, peer, sql
        self._derivation = Aggregates("gold.daily", AggregateSpec(sql), [SOURCE])
        self._after = NEVER
        self._last = NEVER

    def step(self) -> None:
        """One step of ours."""
        root = place(str(self._source))
        span = source_changes.look_for(root, SOURCE, self._after)
        if span is None:
            raise BenchFailed("nothing changed")
        schema = schema_at(root, span.last)
        names = self._derivation.columns(schema)
        self._last = span.last
        if self._after == NEVER:
            ENGINE.execute(str(self._target), self._derivation.table(schema))
            none = pa.schema([schema.field(name) for name in names]).empty_table()
            changes = SourceRows(span, none, none)
        else:
            changes = source_changes.read(span, names)
        shaped = self._derivation.shape(changes, self)
        deed = self._derivation.deed(shaped.rows, changes, self)
        if deed.last is not None:
            ENGINE.execute(str(self._target), deed.last)
        self._after = self._last

    def source(self, request: Read) -> pa.RecordBatchReader:
        """See :class:`raylake.layers.derived.Look`."""
        pinned = Read(request.where, request.columns, self._last)
        return ENGINE.read(str(self._source), pinned)

    def target(self, request: Read) -> pa.RecordBatchReader:
        """See :class:`raylake.layers.derived.Look`."""
        return ENGINE.read(str(self._target), request)

    def target_rows(self) -> int | None:
        """See :class:`raylake.layers.derived.Look`."""
        root = place(str(self._target))
        return live_rows(root, newest_version(str(root)))

    def other(self, name: str, request: Read) -> pa.RecordBatchReader:
        """See :class:`raylake.layers.derived.Look`."""
        raise BenchFailed(f"{name} is read: {request}")

    def anew(self) -> None:
        """The peer: all of it, computed and overwritten."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("orders", DeltaTable(self._source).to_pyarrow_dataset())
            rows = connection.sql(self._sql.replace(SOURCE, "orders")).to_arrow_table()
        write_deltalake(self._peer, rows, mode="overwrite")

    def compare(self) -> None:
        """Fail unless both tables hold the same."""
        names = self._derivation.query.outputs
        mine, theirs = (
            pa.table(DeltaTable(path).to_pyarrow_table(columns=list(names))).sort_by(
                [("day", "ascending"), ("country", "ascending")]
            )
            for path in (self._target, self._peer)
        )
        alike = mine.num_rows == theirs.num_rows and all(
            _alike(mine.column(name), theirs.column(name)) for name in names
        )
        if not alike:
            raise BenchFailed(f"{self._target.name}: the tables differ")


def _alike(mine: pa.ChunkedArray, theirs: pa.ChunkedArray) -> bool:
    if pa.types.is_string(mine.type) or pa.types.is_date(mine.type):
        return bool(mine.cast(theirs.type).equals(theirs))
    numbers = [column.cast(pa.float64()).to_numpy() for column in (mine, theirs)]
    return bool(np.allclose(*numbers, rtol=1e-12, atol=0))


def _orders(ids: np.ndarray, rows: int, seed: int) -> pa.Table:
    draw = np.random.default_rng([seed, int(ids[0]), len(ids)])
    count = len(ids)
    at = START_US + ids * (DAYS * DAY_US // rows) + draw.integers(0, DAY_US // 24, count)
    cents = pa.array(draw.integers(100, 100_000, count)).cast(pa.decimal128(19, 0))
    cent = pa.scalar(Decimal("0.01"), pa.decimal128(2, 2))
    countries = pa.array(["AT", "CH", "DE", "DK", "FI", "NO", "SE"])
    return pa.table(
        {
            "order_id": pa.array(ids),
            "customer_id": pc.cast(pa.array(draw.integers(0, 500_000, count)), pa.string()),
            "country": countries.take(pa.array(draw.integers(0, 7, count))),
            "amount": pc.multiply(cents, cent).cast(pa.decimal128(18, 2)),
            "quantity": pa.array(draw.integers(1, 20, count).astype(np.int32)),
            "ordered_at": pa.array(at).cast(TIME),
        }
    )


def _build(path: Path, rows: int) -> None:
    feed = {"delta.enableChangeDataFeed": "true"}
    for start in range(0, rows, FILE_ROWS):
        ids = np.arange(start, min(start + FILE_ROWS, rows), dtype=np.int64)
        write_deltalake(path, _orders(ids, rows, 0), mode="append", configuration=feed)


def _change(path: Path, rows: int, kind: str, number: int) -> None:
    """0.1 % of the rows change; one in a hundred of these leaves."""
    draw = np.random.default_rng(number)
    first = 0 if kind == "scattered" else rows - rows * RECENT_DAYS // DAYS
    ids = np.sort(draw.choice(np.arange(first, rows), rows // 1000, replace=False))
    ENGINE.execute(str(path), Upsert(_orders(ids, rows, number + 1), ("order_id",)))
    left = ", ".join(map(str, ids[::100].tolist()))
    ENGINE.execute(str(path), Delete(f"order_id IN ({left})"))


def _timed(work: Callable[[], None]) -> Took:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - began, time.process_time() - cpu)


def _report(found: dict[tuple[str, str], list[tuple[Took, Took]]]) -> int:
    rows, values, missed = [], {}, False
    for (name, kind), took in found.items():
        ours, theirs = (
            Took(*(median(one[side][at] for one in took) for at in (0, 1))) for side in (0, 1)
        )
        times, cpu_times = (b / a for a, b in zip(ours, theirs, strict=True))
        aim = AIM if (name, kind) in WITH_AIM else 0.0
        rows.append([name, kind, *ours, *theirs, times, cpu_times, aim or "stated"])
        values |= {f"{name}_{kind}_times": times, f"{name}_{kind}_cpu_times": cpu_times}
        missed |= times < aim
    head = ("aggregate", "changes", "step s", "CPU s", "anew s", "CPU s", "times", "CPU", "aim")
    table(rows, head)
    closing("gold_aggregate", **values)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
