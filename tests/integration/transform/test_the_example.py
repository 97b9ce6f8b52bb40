"""``examples/orders.yaml`` as it stands: Kafka to bronze, silver and gold, on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from deltalake import DeltaTable

from raylake.config import load
from tests.harness.broker import LiveBroker
from tests.harness.cluster import LiveCluster
from tests.integration.pipeline.conftest import MakeBench
from tests.integration.transform.example import EXAMPLE, Orders
from tests.integration.transform.orders import events, expected


@pytest.fixture(scope="module")
def orders(make_bench: MakeBench, broker: LiveBroker) -> Orders:
    found = Orders(make_bench(), broker)
    found.produce(events(400, 1))
    found.bench.drain()
    return found


@pytest.mark.spec("D1", "D2", "E1", "H3", "A3")
def test_the_example_makes_all_its_tables_of_what_was_produced(orders: Orders) -> None:
    orders.check()
    tables = orders.status["tables"]
    assert {one["state"] for one in tables.values()} == {"up_to_date"}
    assert tables["silver.orders"]["rejected"] == sum(expected(orders.placed).rejected.values())


@pytest.mark.long
@pytest.mark.spec("D1", "D2", "A3")
def test_a_second_run_brings_only_what_came_since(orders: Orders) -> None:
    before = orders.status["tables"]["silver.orders"]["processed"]
    orders.produce(events(200, 2, first=400))
    orders.bench.drain()
    orders.check()
    silver = orders.status["tables"]["silver.orders"]
    assert silver["rows"] == 200
    assert silver["last_step"]["after"] >= before
    version = DeltaTable(str(orders.bench.lake / "gold" / "daily_sales")).version()
    orders.bench.drain()
    assert DeltaTable(str(orders.bench.lake / "gold" / "daily_sales")).version() == version


@pytest.mark.spec("D2")
def test_gold_is_partitioned_as_the_file_says(orders: Orders) -> None:
    handle = DeltaTable(str(orders.bench.lake / "gold" / "daily_sales"))
    assert handle.metadata().partition_columns == ["day"]


@pytest.mark.long
@pytest.mark.spec("A3", "D1")
def test_failure_24_a_transformer_killed_at_each_point_of_a_step_doubles_and_loses_nothing(
    orders: Orders, ray_cluster: LiveCluster
) -> None:
    del ray_cluster
    points = ("transform.before_files", "transform.before_commit", "transform.after_commit")
    for point in points:
        orders.bench.arm(point, "kill", table="silver.orders")
    orders.produce(events(180, 10, first=600))
    orders.bench.drain()
    orders.check()
    assert [one["point"] for one in orders.bench.fired()] == list(points)


def test_the_example_is_the_designs(tmp_path: Path) -> None:
    file = tmp_path / "orders.yaml"
    file.write_text(EXAMPLE.read_text())
    assert list(load(file).config.gold) == ["customers", "daily_sales"]
    assert yaml.safe_load(EXAMPLE.read_text())["silver"]["orders"]["mode"] == "upsert"
