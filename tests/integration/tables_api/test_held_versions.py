"""Hot tables in the object store of a real cluster, by version, within a limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raylake
from raylake.errors import RayLakeError
from tests.harness.cluster import OBJECT_STORE_BYTES, ROOT, LiveCluster
from tests.integration.spark.driver import Driver
from tests.integration.tables_api import holding

pytestmark = pytest.mark.spec("C9")

COLUMNS = ("id", "region", "amount", "day")


class Clients:
    """Two processes on the cluster, and one lake."""

    def __init__(self, drivers: tuple[Driver, Driver], where: str, address: str) -> None:
        self.drivers = drivers
        self.where = where
        self.address = address

    def call(self, client: int, program: Any, *arguments: Any) -> Any:
        return self.drivers[client].call(program, self.where, self.address, *arguments)


@pytest.fixture(scope="module")
def drivers(
    ray_cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Driver, Driver]]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment = {**inherited, **ray_cluster.environment, "PYTHONPATH": str(ROOT)}
    first, second = (Driver(environment, tmp_path_factory.mktemp("driver")) for _ in range(2))
    yield first, second
    for one in (first, second):
        one.close()


@pytest.fixture
def clients(
    drivers: tuple[Driver, Driver], ray_cluster: LiveCluster, tmp_path: Path
) -> Iterator[Clients]:
    made = Clients(drivers, str(tmp_path / "lake"), ray_cluster.address)
    holding.made(made.where)
    yield made
    made.call(0, holding.end)


READS: list[dict[str, Any]] = [
    {},
    {"columns": ["day", "id"]},
    {"where": "region = 'r3' AND amount > 500"},
    {"where": "region IS NULL OR day < DATE '1970-03-01'", "columns": ["amount"]},
    {"where": "NOT region IN ('r1', 'r2')", "columns": ["id"]},
    {"where": "amount > 100000"},
]


def test_another_process_reads_what_one_holds_and_the_files_are_not_touched(
    clients: Clients,
) -> None:
    one = clients.call(0, holding.hold)
    assert (one.table, one.version, one.columns) == ("silver.orders", 2, COLUMNS)
    assert one.rows == 2 * holding.ROWS
    assert clients.call(1, holding.held)[0].key == one.key
    by_files = [holding.read(clients.where, None, asked) for asked in READS]
    holding.without_files(clients.where)
    for client in (0, 1):
        assert [clients.call(client, holding.read, asked) for asked in READS] == by_files
    assert len(by_files[0]) == 2 * holding.ROWS
    few = {"where": "region = 'r3' AND amount > 500", "columns": ["id", "region"]}
    found = clients.call(1, holding.read_by_ray, few)
    assert found == clients.call(0, holding.read, few)
    assert clients.call(1, holding.held)[0].last_used > one.last_used


def test_two_clients_at_once_read_it_once(clients: Clients) -> None:
    asked = (clients.where, clients.address)
    going = [one.begin(holding.hold, *asked) for one in clients.drivers for _ in range(2)]
    found = [one.result(120) for one in going]
    assert len({one.held_at for one in found}) == 1
    assert len(clients.call(0, holding.held)) == 1


def test_what_is_not_held_comes_from_the_files(clients: Clients) -> None:
    clients.call(0, holding.hold)
    before = clients.call(0, holding.read, {"version": 1})
    assert len(before) == holding.ROWS
    # A condition that DuckDB may read in another way than delta-rs is left to delta-rs.
    lower = {"where": "lower(region) LIKE 'r3%' AND id < 1000"}
    expected = holding.read(clients.where, None, lower)
    assert clients.call(0, holding.read, lower) == expected != []
    clients.call(0, holding.hold)
    assert clients.call(0, holding.read, lower) == expected


def release_one(clients: Clients) -> list[int]:
    assert clients.call(0, holding.release, 1) == []
    found: list[int] = clients.call(1, holding.release, None)
    assert clients.call(0, holding.held) == []
    return found


def test_the_newest_version_is_read_when_an_older_one_is_held(clients: Clients) -> None:
    clients.call(0, holding.hold)
    from_memory = clients.call(0, holding.read, {})
    raylake.connect(clients.where).table("silver.orders").delete("id >= 100")
    newest = clients.call(0, holding.read, {})
    assert len(newest) == 100
    assert clients.call(0, holding.read, {"version": 2}) == from_memory
    assert clients.call(0, holding.hold).version == 3
    assert [one.version for one in clients.call(0, holding.held)] == [2, 3]


def test_a_limit_holds_and_the_object_store_has_what_is_told(clients: Clients) -> None:
    clients.call(0, holding.hold, 1)
    clients.call(0, holding.hold)
    told = sum(one.bytes for one in clients.call(0, holding.held))
    stored = clients.call(1, holding.stored_bytes)
    assert stored == pytest.approx(told, rel=0.01)
    assert stored < OBJECT_STORE_BYTES / 4
    clients.call(0, holding.within_a_limit)


def test_without_the_process_that_holds_the_files_are_read(clients: Clients) -> None:
    clients.call(0, holding.hold)
    by_files = holding.read(clients.where, None, {})
    clients.call(1, holding.kill)
    for client in (0, 1):
        assert clients.call(client, holding.read, {}) == by_files
        assert clients.call(client, holding.held) == []
    assert clients.call(1, holding.hold).rows == 2 * holding.ROWS
    holding.without_files(clients.where)
    assert clients.call(0, holding.read, {}) == by_files


def test_objects_that_are_lost_on_the_way_are_no_error(clients: Clients) -> None:
    assert clients.call(0, holding.lose) is None
    assert clients.call(0, holding.held) == []
    assert len(clients.call(0, holding.read, {})) == 2 * holding.ROWS


def test_what_is_let_go_of_is_read_from_the_files_again(clients: Clients) -> None:
    clients.call(0, holding.hold)
    assert release_one(clients) == [2]
    holding.without_files(clients.where)
    with pytest.raises(RayLakeError):
        clients.call(0, holding.read, {})
