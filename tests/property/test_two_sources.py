"""Aggregates over two tables: after any history of both they hold what plain Python computes."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake.clock import SystemClock
from raylake.config import load
from raylake.ingest.plan import RunPlan
from raylake.layers.build import build
from raylake.layers.transform_plan import TransformPlan
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Create, Delete, Read, Restore, Upsert
from raylake.tables.service import DirectTables
from raylake.tables.upkeep_requests import Compact

ENGINE = DeltaRsEngine()
ORDERS = pa.schema([("id", pa.int64()), ("shop", pa.int64()), ("amount", pa.int64())])
SHOPS = pa.schema([("id", pa.int64()), ("country", pa.string())])
QUERIES = {
    "joined": """
        SELECT s.country AS country, count(*) AS orders, sum(o.amount) AS revenue
        FROM silver.orders AS o JOIN silver.shops AS s ON o.shop = s.id GROUP BY s.country
    """,
    "left_out": """
        SELECT o.shop AS shop, count(s.id) AS known, sum(o.amount) AS revenue
        FROM silver.orders AS o LEFT JOIN silver.shops AS s ON o.shop = s.id GROUP BY o.shop
    """,
    "united": """
        SELECT shop, count(*) AS n FROM
        (SELECT shop FROM silver.orders UNION ALL SELECT id AS shop FROM silver.shops) AS both
        GROUP BY shop
    """,
}
OPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "restore", "compact", "step", "step"]),
        st.sampled_from(["orders", "shops"]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=8,
)


class World:
    """Two tables of somebody else's, and the tables that follow both."""

    def __init__(self, folder: Path) -> None:
        self.lake = folder / "lake"
        self.file = folder / "p.yaml"
        gold = {name: {"mode": "aggregate", "sql": sql} for name, sql in QUERIES.items()}
        document = {
            "pipeline": "p",
            "lake": str(self.lake),
            "kafka": {"bootstrap": "localhost:1"},
            "bronze": {"t": {"topics": ["t"], "schema": {"id": "int"}}},
            "gold": gold,
        }
        self.file.write_text(yaml.safe_dump(document))
        for name, schema in (("orders", ORDERS), ("shops", SHOPS)):
            ENGINE.execute(self.path(name), Create(schema))

    def path(self, name: str) -> str:
        return str(self.lake / "silver" / name)

    def do(self, op: str, name: str, a: int, b: int) -> None:
        if op == "step":
            self.step()
            return
        if name == "orders":
            row: dict[str, Any] = {"id": a, "shop": b % 3, "amount": a * b}
            rows = pa.Table.from_pylist([row], ORDERS)
        else:
            rows = pa.Table.from_pylist([{"id": a % 3, "country": "DNU"[b % 3]}], SHOPS)
        version = ENGINE.history(self.path(name), 1)[0].version
        made: dict[str, Any] = {
            "put": Upsert(rows, ("id",)),
            "delete": Delete(f"id = {a if name == 'orders' else a % 3}"),
            "restore": Restore(version=(a * 7 + b) % (version + 1)),
            "compact": Compact(),
        }
        ENGINE.execute(self.path(name), made[op])

    def step(self) -> None:
        loaded = load(self.file)
        plan = TransformPlan(RunPlan(loaded.config, loaded.sha256, str(self.file), "r"))
        run = build(plan, DirectTables(), SystemClock())
        run.finish()
        assert run.failure is None, str(run.failure)

    def rows(self, name: str) -> list[dict[str, Any]]:
        found = ENGINE.read(self.path(name), Read()).read_all().to_pylist()
        return [dict(row) for row in found]

    def found(self, name: str) -> list[tuple[Any, ...]]:
        rows = ENGINE.read(str(self.lake / "gold" / name), Read()).read_all().to_pylist()
        return sorted(
            tuple(value for key, value in row.items() if not key.startswith("_")) for row in rows
        )

    def wanted(self) -> dict[str, list[tuple[Any, ...]]]:
        orders, shops = self.rows("orders"), self.rows("shops")
        country = {one["id"]: one["country"] for one in shops}
        joined: dict[str, list[int]] = defaultdict(list)
        by_shop: dict[int, list[int]] = defaultdict(list)
        for one in orders:
            by_shop[one["shop"]].append(one["amount"])
            if one["shop"] in country:
                joined[country[one["shop"]]].append(one["amount"])
        every = [*(one["shop"] for one in orders), *country]
        return {
            "joined": sorted((key, len(found), sum(found)) for key, found in joined.items()),
            "left_out": sorted(
                (key, len(found) if key in country else 0, sum(found))
                for key, found in by_shop.items()
            ),
            "united": sorted((key, every.count(key)) for key in set(every)),
        }


@pytest.mark.spec("D2", "D3")
@settings(max_examples=6)
@given(OPS)
def test_property_33_34_tables_over_two_sources_end_as_full_recomputation(
    ops: list[tuple[str, str, int, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for one in ops:
            world.do(*one)
        world.step()
        assert {name: world.found(name) for name in QUERIES} == world.wanted()
