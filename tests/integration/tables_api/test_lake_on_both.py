"""One suite for tables that this process writes, and tables that are written on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest
from deltalake import DeltaTable

from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Read
from tests.harness.cluster import ROOT, LiveCluster
from tests.integration.spark.driver import Driver
from tests.integration.tables_api import scenarios


class Side(Protocol):
    """Where programs run."""

    address: str | None

    def begin(self, client: int, program: Callable[..., Any], *arguments: Any) -> Future[Any]: ...


class Embedded:
    """In this process; a client is a thread."""

    address = None

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(2)

    def begin(self, client: int, program: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.threads.submit(program, *arguments)


class OnCluster:
    """In processes that join the cluster when they first need it."""

    def __init__(self, drivers: tuple[Driver, Driver], address: str) -> None:
        self.drivers = drivers
        self.address = address

    def begin(self, client: int, program: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.drivers[client].begin(program, *arguments)


@pytest.fixture(scope="module")
def on_cluster(
    ray_cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnCluster]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    known = {k: v for k, v in ray_cluster.environment.items() if k != "RAY_ADDRESS"}
    environment = {**inherited, **known, "PYTHONPATH": str(ROOT)}
    drivers = tuple(Driver(environment, tmp_path_factory.mktemp("driver")) for _ in range(2))
    yield OnCluster(drivers, ray_cluster.address)  # type: ignore[arg-type]
    for one in drivers:
        one.close()


@pytest.fixture(params=["embedded", "cluster"])
def side(request: pytest.FixtureRequest) -> Side:
    if request.param == "embedded":
        return Embedded()
    found: Side = request.getfixturevalue("on_cluster")
    return found


@pytest.fixture
def where(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


def numbered(where: str) -> bool:
    """Whether the table's commits carry an owner's numbers."""
    table = DeltaTable(f"{where}/silver/orders")
    return table.transaction_version("raylake/owner") is not None


@pytest.mark.spec("C1", "C2", "C3", "C4", "C6")
@pytest.mark.parametrize(
    "program",
    [
        scenarios.reads,
        scenarios.writes,
        scenarios.forms,
        scenarios.readers,
        scenarios.refusals,
    ],
    ids=lambda program: str(program.__name__),
)
def test_a_program_is_the_same_on_both(side: Side, where: str, program: Any) -> None:
    side.begin(0, program, where, side.address).result(240)
    assert numbered(where) == (side.address is not None)


@pytest.mark.spec("C6")
def test_two_clients_write_one_table_at_once_and_each_operation_lands_once(
    side: Side, where: str
) -> None:
    side.begin(0, scenarios.made, where, side.address).result(120)
    going = [
        side.begin(client, scenarios.adds, where, side.address, start, 10)
        for client, start in ((0, 0), (1, 100))
    ]
    versions = [one for client in going for one in client.result(240)]
    assert len(versions) == len(set(versions)) == 20
    found = DeltaRsEngine().read(f"{where}/silver/orders", Read()).read_all().to_pylist()
    held = sorted((row["id"], row["amount"]) for row in found)
    assert held == [(one, 5) for one in (*range(10), *range(100, 110))]


@pytest.mark.spec("C3")
def test_rows_of_a_table_of_the_cluster_are_read_there_by_ray(
    on_cluster: OnCluster, where: str
) -> None:
    found = on_cluster.begin(1, scenarios.datasets, where, on_cluster.address).result(240)
    assert found == {"few": list(range(50, 60)), "old": 150, "now": 50, "changes": 100}


@pytest.mark.spec("C6")
def test_a_table_of_the_cluster_is_left_to_its_owner_by_who_is_not_on_it(
    on_cluster: OnCluster, where: str
) -> None:
    on_cluster.begin(0, scenarios.filled, where, on_cluster.address).result(120)
    assert "address=" in scenarios.refused_elsewhere(where)
