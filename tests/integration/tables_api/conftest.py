"""A lake with one table, for the tests of the Python API."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import raylake
from raylake.client.lake_table import Table

FEED = {"delta.enableChangeDataFeed": "true"}
SCHEMA = pa.schema([("id", pa.int64()), ("region", pa.string()), ("amount", pa.int32())])


def rows(ids: range, amount: int = 1) -> list[dict[str, object]]:
    """Rows as a program has them: the region by the id's last digit."""
    return [{"id": one, "region": f"r{one % 10}", "amount": amount} for one in ids]


def vacuum(table: Table) -> None:
    """Take every file that the newest version does not need, whatever its age."""
    DeltaTable(table.address).vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False
    )


def aged(table: Table, version: int, days: int) -> None:
    """Let a version's commit look as old as that."""
    path = Path(table.address) / "_delta_log" / f"{version:020d}.json"
    then = dt.datetime.now(dt.UTC).timestamp() - days * 86_400
    os.utime(path, (then, then))


@pytest.fixture
def lake(tmp_path: Path) -> raylake.Lake:
    """An empty lake."""
    return raylake.connect(lake=tmp_path / "lake")


@pytest.fixture
def orders(lake: raylake.Lake) -> Table:
    """An empty table with a change feed."""
    table = lake.table("silver.orders")
    table.create(SCHEMA, properties=FEED)
    return table


@pytest.fixture
def hundred(orders: Table) -> Table:
    """100 rows in version 1; 50 of them updated and 50 more in version 2."""
    orders.append(rows(range(100)))
    orders.merge(rows(range(50, 150), amount=2), keys="id")
    return orders


Ids = Callable[[pa.Table], list[int]]


def ids(found: pa.Table) -> list[int]:
    """The ids, sorted."""
    return sorted(found.column("id").to_pylist())
