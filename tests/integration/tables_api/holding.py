"""Programs around versions that are held in the object store; each runs in a process of its own."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

import raylake
from actors.held_tables import HeldTables, actor_name
from raylake.client.cluster import NAMESPACE
from raylake.client.lake_table import Table
from raylake.errors import RayLakeError
from raylake.tables.errors import TooLargeToHold
from raylake.tables.held_versions import HeldKey, HeldVersion
from tests.harness.cluster import OBJECT_STORE_BYTES

ROWS = 20_000


def orders(where: str, address: str, hot_bytes: int | None = None) -> Table:
    """The table, as a client of the cluster has it."""
    return raylake.connect(where, address, hot_bytes=hot_bytes).table("silver.orders")


def rows(start: int = 0, count: int = ROWS) -> pa.Table:
    """Rows of some kinds, with some nulls."""
    ids = range(start, start + count)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "region": pa.array([None if i % 7 == 0 else f"r{i % 10}" for i in ids]),
            "amount": pa.array([i % 1000 for i in ids], pa.int32()),
            "day": pa.array([i % 400 for i in ids], pa.int32()).cast(pa.date32()),
        }
    )


def made(where: str) -> None:
    """Version 1 and version 2; written by this process, as no cluster is needed for it."""
    table = raylake.connect(where).table("silver.orders")
    table.create(rows().schema)
    table.append(rows())
    table.append(rows(ROWS))


def without_files(where: str) -> None:
    """Take every data file; the log stays."""
    for path in Path(where, "silver", "orders").rglob("*.parquet"):
        path.unlink()


def hold(where: str, address: str, version: int | None = None) -> HeldVersion:
    """Hold a version."""
    return orders(where, address).hold(version)


def held(where: str, address: str) -> list[HeldVersion]:
    """What is held; the process is on the cluster after it."""
    return list(raylake.connect(where, address).held())


def read(where: str, address: str | None, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What a read gives, in the order of the ids."""
    table = raylake.connect(where, address).table("silver.orders")
    return _sorted(table.read(**asked).to_arrow())


def read_by_ray(where: str, address: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What a dataset gives, in the order of the ids."""
    return _sorted(pa.Table.from_pylist(orders(where, address).read(**asked).to_ray().take_all()))


def stored_bytes(where: str, address: str) -> int:
    """What Ray itself says of the sizes of the objects of everything that is held."""
    lake = HeldTables(raylake.connect(where, address).where)
    references = [one for each in held(where, address) for one in lake.find(each.key) or ()]
    found = ray.experimental.get_object_locations(references)
    assert len(found) == len(references) > 0
    return sum(int(one["object_size"]) for one in found.values())


def within_a_limit(where: str, address: str) -> None:
    """Version 1 and 2 do not fit together; a limit that both exceed refuses them by name."""
    table = orders(where, address)
    first, second = table.hold(1), table.hold(2)
    assert [one.version for one in held(where, address)] == [1, 2]
    assert second.rows == 2 * first.rows == 2 * ROWS
    tight = orders(where, address, second.bytes + 1)
    tight.hold(2)
    assert [one.version for one in held(where, address)] == [2]
    tight.hold(1, columns=["id"])
    assert [(one.version, one.columns) for one in held(where, address)] == [(1, ("id",))]
    refused(orders(where, address, first.bytes - 1), 1, str(first.bytes - 1))
    assert [(one.version, one.columns) for one in held(where, address)] == [(1, ("id",))]
    refused(orders(where, address, OBJECT_STORE_BYTES * 2), 1, str(OBJECT_STORE_BYTES * 2))


def refused(table: Table, version: int, figure: str) -> None:
    """The version is refused, by name and with the figure."""
    try:
        table.hold(version)
    except TooLargeToHold as error:
        told = error.message
    else:
        raise AssertionError("it was held")
    assert f"silver.orders: version {version}" in told
    assert figure in told
    assert "object store of" in told or "more than" in told


def kill(where: str, address: str) -> None:
    """End the process that holds."""
    name = actor_name(raylake.connect(where, address).where)
    ray.kill(ray.get_actor(name, namespace=NAMESPACE))


class LostBetween(HeldTables):
    """Its actor ends after it has said where the objects are, and before they are fetched."""

    def __init__(self, where: str, address: str) -> None:
        super().__init__(raylake.connect(where, address).where)
        self.end_it = lambda: kill(where, address)

    def find(self, asked: HeldKey) -> list[Any] | None:
        found = super().find(asked)
        assert found
        self.end_it()
        deadline_s = time.monotonic() + 30.0
        while self.find_again(asked) is not None or _some_left(found):
            assert time.monotonic() < deadline_s, "Ray keeps what its owner left behind"
            time.sleep(0.1)
        return found

    def find_again(self, asked: HeldKey) -> list[Any] | None:
        return super().find(asked)


def _some_left(objects: list[Any]) -> bool:
    """Whether one of the objects still has a place."""
    try:
        ready, _ = ray.wait(objects, num_returns=1, timeout=0)
        ray.get(ready, timeout=1)
    except RayError:
        return False
    return True


def lose(where: str, address: str) -> Any:
    """What is fetched of objects that are lost meanwhile."""
    one = orders(where, address).hold()
    found = LostBetween(where, address).fetch(one.key)
    return None if found is None else sum(piece.num_rows for piece in found)


def release(where: str, address: str, version: int | None) -> list[int]:
    """Let go; the versions that were held."""
    return [one.version for one in orders(where, address).release(version)]


def end(where: str, address: str) -> None:
    """Let go of all, and of the table."""
    with contextlib.suppress(RayLakeError):
        raylake.connect(where, address).release_all()
    shutil.rmtree(where, ignore_errors=True)


def _sorted(found: pa.Table) -> list[dict[str, Any]]:
    return found.sort_by([(found.schema.names[0], "ascending")]).to_pylist()
