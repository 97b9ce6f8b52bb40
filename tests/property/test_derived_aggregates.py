"""Aggregate tables brought up to date by steps hold what plain Python computes of the source."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import os
import random
import statistics
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from raylake.layers.aggregates import AggregateSpec
from raylake.layers.sandbox import Limits
from raylake.tables.requests import Append, Delete, Update
from tests.harness.aggregate_steps import SCHEMA, Followed, InMemory

Row = dict[str, Any]
Recompute = Callable[[list[Row]], list[Row]]
MIDNIGHT = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
HISTORIES = int(os.environ.get("RAYLAKE_EXAMPLES", "60"))
DELTA_HISTORIES = max(9, HISTORIES // 20)
World = Followed | InMemory


def some(rows: list[Row], name: str) -> list[Any]:
    return [row[name] for row in rows if row[name] is not None]


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def day(row: Row) -> dt.date | None:
    return None if row["at"] is None else row["at"].astimezone(dt.UTC).date()


def mean(values: list[Any]) -> float | None:
    return float(sum(map(Decimal, values))) / len(values) if values else None


def quantile(values: list[Any], at: float) -> float | None:
    if not values:
        return None
    ordered, place = sorted(values), (len(values) - 1) * at
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def daily(rows: list[Row]) -> list[Row]:
    return [
        {
            "day": when,
            "country": country,
            "orders": len(some_rows),
            "revenue": sum(some(some_rows, "amount")) if some(some_rows, "amount") else None,
            "mean_qty": mean(some(some_rows, "qty")),
            "priced": len(some(some_rows, "price")),
            "all_ok": all(some(some_rows, "ok")) if some(some_rows, "ok") else None,
            "any_ok": any(some(some_rows, "ok")) if some(some_rows, "ok") else None,
            "large": sum(1 for row in some_rows if row["qty"] is not None and row["qty"] > 3),
        }
        for (when, country), some_rows in grouped(
            rows, lambda row: (day(row), row["country"])
        ).items()
    ]


def extremes(rows: list[Row]) -> list[Row]:
    return [
        {
            "country": country,
            "n": len(some_rows),
            "least": min(some(some_rows, "qty"), default=None),
            "last": max(some(some_rows, "at"), default=None),
            "dearest": max(some(some_rows, "price"), default=None),
        }
        for country, some_rows in grouped(rows, lambda row: row["country"]).items()
    ]


def values(rows: list[Row]) -> list[Row]:
    return [
        {
            "day": when,
            "countries": len(set(some(some_rows, "country"))),
            "middle": statistics.median(some(some_rows, "qty")) if some(some_rows, "qty") else None,
            "p90": quantile(some(some_rows, "price"), 0.9),
            "mean_price": statistics.fmean(some(some_rows, "price"))
            if some(some_rows, "price")
            else None,
        }
        for when, some_rows in grouped(rows, day).items()
        if len(some_rows) > 1
    ]


def monthly(rows: list[Row]) -> list[Row]:
    kept = [row for row in rows if row["ok"]]
    return [
        {
            "month": None if when is None else dt.datetime(*when, 1, tzinfo=dt.UTC),
            "per_order": float(sum(some(some_rows, "amount"))) / len(some_rows)
            if some(some_rows, "amount")
            else None,
            "what": "many" if len(some_rows) > 2 else "few",
        }
        for when, some_rows in grouped(
            kept, lambda row: None if row["at"] is None else (row["at"].year, row["at"].month)
        ).items()
    ]


def whole(rows: list[Row]) -> list[Row]:
    quantities = some(rows, "qty")
    return [{"n": len(rows), "total": sum(quantities) if quantities else None}]


def ranked(rows: list[Row]) -> list[Row]:
    counts = {key: len(found) for key, found in grouped(rows, lambda row: row["country"]).items()}
    return [
        {"country": key, "n": count, "place": 1 + sum(other > count for other in counts.values())}
        for key, count in counts.items()
    ]


TABLES: dict[str, tuple[AggregateSpec, Recompute]] = {
    "daily": (
        AggregateSpec(
            """
            SELECT CAST(at AS DATE) AS day, country, count(*) AS orders, sum(amount) AS revenue,
                   avg(qty) AS mean_qty, count(price) AS priced, bool_and(ok) AS all_ok,
                   bool_or(ok) AS any_ok, count(*) FILTER (WHERE qty > 3) AS large
            FROM silver.orders GROUP BY day, country
            """,
            partition_by=("day",),
        ),
        daily,
    ),
    "extremes": (
        AggregateSpec(
            "SELECT country, count(*) AS n, min(qty) AS least, max(at) AS last, "
            "max(o.price) AS dearest FROM silver.orders AS o GROUP BY country"
        ),
        extremes,
    ),
    "values": (
        AggregateSpec(
            "SELECT at::DATE AS day, count(DISTINCT country) AS countries, median(qty) AS middle, "
            "quantile_cont(price, 0.9) AS p90, avg(price) AS mean_price "
            "FROM silver.orders GROUP BY ALL HAVING count(*) > 1",
            zorder_by=("day",),
        ),
        values,
    ),
    "monthly": (
        AggregateSpec(
            "SELECT date_trunc('month', at) AS month, sum(amount) / count(*) AS per_order, "
            "CASE WHEN count(*) > 2 THEN 'many' ELSE 'few' END AS what "
            "FROM silver.orders WHERE ok GROUP BY 1"
        ),
        monthly,
    ),
    "whole": (AggregateSpec("SELECT count(*) AS n, sum(qty) AS total FROM silver.orders"), whole),
    "ranked": (
        AggregateSpec(
            "SELECT country, count(*) AS n, rank() OVER (ORDER BY count(*) DESC) AS place "
            "FROM silver.orders GROUP BY country"
        ),
        ranked,
    ),
}
STRATEGIES = {
    "daily": "maintain",
    "extremes": "maintain",
    "values": "groups",
    "monthly": "maintain",
    "whole": "maintain",
    "ranked": "whole",
}


def an_order(chance: random.Random, number: int) -> Row:
    def maybe(value: Any) -> Any:
        return None if chance.random() < 0.15 else value

    hours = chance.choice([0, 1, 23, 24, 25, 47, 24 * 20, -24 * 40])
    return {
        "id": number,
        "country": maybe(chance.choice(["NO", "DE", "it's", 'a "b"'])),
        "at": maybe(MIDNIGHT + dt.timedelta(hours=hours, microseconds=chance.choice([0, 999_999]))),
        "amount": maybe(Decimal(chance.randint(-500, 500)) / 100),
        "qty": maybe(chance.randint(-2, 6)),
        "price": maybe(chance.randint(-8, 8) / 4),
        "ok": maybe(chance.random() < 0.5),
    }


def change(chance: random.Random, world: World) -> None:
    """One change of the source: rows that come, move between groups, and leave."""
    chosen = chance.sample(range(8), chance.randint(1, 4))
    rows = pa.Table.from_pylist([an_order(chance, one) for one in chosen], schema=SCHEMA)
    what = chance.random()
    if what < 0.65:
        world.upsert(rows)
    elif what < 0.8:
        world.delete(chosen)
    elif what < 0.9:
        world.move(chosen[0], "DE")
    elif what < 0.95:
        # The source gets a column that the query knows nothing of.
        world.upsert(rows.append_column("note", pa.array(["new"] * rows.num_rows)))
    else:
        world.delete(range(8))


def assert_same(found: list[Row], wanted: list[Row]) -> None:
    def text(value: Any) -> str:
        if isinstance(value, dt.datetime):
            return value.astimezone(dt.UTC).isoformat()
        if isinstance(value, float | int | Decimal) and not isinstance(value, bool):
            return f"{round(float(value), 9) + 0.0:.12g}"
        return repr(value)

    def texts(rows: list[Row]) -> list[list[str]]:
        return sorted([f"{name}: {text(value)}" for name, value in row.items()] for row in rows)

    assert texts(found) == texts(wanted)


def follow(seed: int, make: Callable[[AggregateSpec], World], steps: int) -> World:
    """A random history; the table is compared with the source after each step."""
    chance = random.Random(seed)
    name = list(TABLES)[seed % len(TABLES)]
    spec, recompute = TABLES[name]
    # On so few rows a second thread costs more than it does.
    world = make(dataclasses.replace(spec, limits=Limits(threads=1)))
    world.upsert(pa.Table.from_pylist([an_order(chance, n) for n in range(6)], schema=SCHEMA))
    for number in range(steps):
        deed = world.step()
        assert deed.counts.get("strategy", STRATEGIES[name]) == STRATEGIES[name], seed
        assert_same(world.rows(), recompute(world.source_rows()))
        if number + 1 < steps:
            for _ in range(chance.choice([1, 1, 2])):
                change(chance, world)
    return world


@pytest.mark.spec("D2", "D3")
@pytest.mark.parametrize("block", range(4))
def test_property_33_34_each_step_of_random_histories_ends_as_full_recomputation(
    block: int,
) -> None:
    for seed in range(block, HISTORIES, 4):
        world = follow(seed, InMemory, 3)
        # One step from nothing makes the same table, with all that it keeps.
        assert_same(world.whole_rows(), world.at_once().whole_rows())


@pytest.mark.spec("D2", "D3")
@pytest.mark.parametrize("seed", range(1000, 1000 + DELTA_HISTORIES))
def test_property_34_each_step_on_delta_tables_ends_as_full_recomputation(
    seed: int, tmp_path: Path
) -> None:
    follow(seed, lambda spec: Followed(tmp_path, spec), 4)


DAYS = 40
A_DAY = 50


def many_days(folder: Path, spec: AggregateSpec, partition_by: tuple[str, ...] = ()) -> Followed:
    """A source with a file a day, followed up to now."""
    followed = Followed(folder, spec)
    for when in range(DAYS):
        rows = [
            {
                "id": when * A_DAY + n,
                "country": ["NO", "DE", None][n % 3],
                "at": MIDNIGHT + dt.timedelta(days=when, minutes=n),
                "qty": n % 7,
                "price": n / 8,
            }
            for n in range(A_DAY)
        ]
        followed.do(Append(pa.Table.from_pylist(rows, schema=SCHEMA)))
    followed.step()
    return followed


@pytest.mark.spec("D2")
def test_property_34_incremental_efficiency_rows_read_are_those_of_affected_groups(
    tmp_path: Path,
) -> None:
    spec, recompute = TABLES["values"]
    followed = many_days(tmp_path, spec)
    assert followed.look.read == DAYS * A_DAY
    chance = random.Random(0)
    for days in ([3], [3, 4, 5], [0, DAYS - 1], [20]):
        ids = [chance.choice(range(one * A_DAY, (one + 1) * A_DAY)) for one in days]
        followed.do(Update({"price": "-1.5"}, f"id IN ({', '.join(map(str, ids))})"))
        followed.step()
        assert 0 < followed.look.read <= len(days) * A_DAY
        assert_same(followed.rows(), recompute(followed.source_rows()))


@pytest.mark.spec("D2")
def test_property_34_incremental_efficiency_sums_go_on_without_the_source(tmp_path: Path) -> None:
    spec, recompute = TABLES["daily"]
    followed = many_days(tmp_path, spec)
    followed.do(Update({"qty": "qty + 10"}, "id % 97 = 0"))
    followed.do(Delete("id % 101 = 1"))
    followed.step()
    assert followed.look.read == 0
    assert_same(followed.rows(), recompute(followed.source_rows()))


def test_property_34_a_minimum_that_left_is_looked_for_in_its_group_alone(tmp_path: Path) -> None:
    spec = AggregateSpec(
        "SELECT date_trunc('week', at) AS week, min(qty) AS least FROM silver.orders GROUP BY week"
    )
    followed = many_days(tmp_path, spec)
    followed.do(Update({"qty": "qty + 1"}, "id = 3"))
    followed.step()
    assert followed.look.read == 0, "three is no least quantity"
    followed.do(Delete(f"qty = 0 AND id < {A_DAY}"))
    followed.step()
    assert 0 < followed.look.read <= 7 * A_DAY


@pytest.mark.spec("D2")
def test_property_13_z_order_of_a_first_write_lets_files_be_left_out(tmp_path: Path) -> None:
    spec = AggregateSpec(
        "SELECT id % 1000 AS shop, id // 1000 AS region, count(*) AS n "
        "FROM silver.orders GROUP BY ALL",
        zorder_by=("shop", "region"),
    )
    followed = Followed(tmp_path, spec)
    ids = random.Random(1).sample(range(8000), 8000)
    followed.do(Append(pa.table({"id": ids}, schema=pa.schema([SCHEMA.field("id")]))))
    followed.step()
    (file,) = DeltaTable(followed.target).file_uris()
    written = pq.read_table(file)
    stretches = [written.slice(start, 500) for start in range(0, written.num_rows, 500)]
    for name, width in (("shop", 1000), ("region", 8)):
        spans = [
            max(values) - min(values)
            for values in (one.column(name).to_pylist() for one in stretches)
        ]
        assert statistics.mean(spans) < 0.6 * width
