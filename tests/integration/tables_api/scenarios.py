"""What a program does with a lake: run in the test's process, and in one that joins a cluster."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import raylake
from raylake.client.lake_table import Table
from raylake.tables import errors
from raylake.tables.requests import DeleteUnmatched
from raylake.tables.upkeep_requests import AddConstraint, Compact
from tests.integration.tables_api.conftest import FEED, SCHEMA, ids, rows

NAME = "silver.orders"


def opened(where: str, address: str | None) -> Table:
    """A table with 100 rows, of which 50 were updated, and 50 that came later."""
    table = raylake.connect(where, address).table(NAME)
    table.create(SCHEMA, properties=FEED)
    table.append(rows(range(100)))
    table.merge(rows(range(50, 150), amount=2), keys="id")
    return table


def reads(where: str, address: str | None) -> None:
    """Every way to read, of versions that the results name."""
    lake = raylake.connect(where, address)
    table = lake.table(NAME)
    assert list(lake.tables()) == []
    assert table.create(SCHEMA, properties=FEED).version_after == 0
    first = table.append(rows(range(100)))
    second = table.merge(rows(range(50, 150), amount=2), keys="id")
    assert (second.rows.updated, second.rows.inserted) == (50, 50)
    assert second.version_before >= first.version_after
    assert [one.name for one in lake.tables()] == [NAME]
    assert lake.require(NAME).version == second.version_after
    assert ids(table.read().to_arrow()) == list(range(150))
    assert ids(table.read(version=first.version_after).to_arrow()) == list(range(100))
    found = table.read("amount = 2 AND id < 60", ["id"])
    assert found.to_arrow().schema == pa.schema([("id", pa.int64())])
    assert sorted(found.to_polars()["id"].to_list()) == list(range(50, 60))
    assert sorted(found.to_pandas()["id"].tolist()) == list(range(50, 60))
    assert found.to_duckdb().aggregate("count(*)").fetchall() == [(10,)]
    made = {one.version: one.at for one in table.history()}
    assert table.read(at=made[first.version_after]).to_arrow().num_rows == 100
    assert table.versions()[0].version == second.version_after
    # On a cluster the owner's epoch is a version, too.
    kinds = {one.version: one.operation for one in table.history()}
    assert (kinds[first.version_after], kinds[second.version_after]) == ("WRITE", "MERGE")
    fed = table.changes(from_version=second.version_after).to_arrow()
    counted = fed.group_by("_change_type").aggregate([("id", "count")]).to_pylist()
    assert {one["_change_type"]: one["id_count"] for one in counted} == {
        "insert": 50,
        "update_preimage": 50,
        "update_postimage": 50,
    }
    before = table.read()
    table.delete("true")
    assert (before.to_arrow().num_rows, table.read().to_arrow().num_rows) == (150, 0)


def writes(where: str, address: str | None) -> None:
    """Every way to write, each with its rows counted."""
    table = opened(where, address)
    lake = raylake.connect(where, address)
    good = table.version
    assert table.explain(Compact()).engine == "delta-rs"
    assert table.update({"amount": "amount * 10"}, "id < 3").rows.updated == 3
    assert table.delete("id = 7").rows.deleted == 1
    result = table.overwrite(rows(range(7, 8), amount=9), where="id = 7")
    assert (result.rows.inserted, result.rows.deleted) == (1, 0)
    merged = table.merge(
        rows(range(10)),
        ["id"],
        update_when="source.amount <> target.amount",
        not_matched_by_source=DeleteUnmatched("amount = 2"),
    )
    assert (merged.rows.updated, merged.rows.deleted) == (4, 100)
    restored = table.restore(good)
    assert restored.version_after == table.version > merged.version_after
    assert ids(table.read().to_arrow()) == list(range(150))
    assert table.run(AddConstraint("positive", "amount > 0")).changed
    assert table.append(rows(range(150, 160))).rows.inserted == 10
    assert table.run(Compact()).changed
    copy = lake.table("gold.copy")
    assert table.clone(copy, version=good).rows.inserted == 150
    assert copy.append(rows(range(500, 501))).changed
    assert (copy.read().to_arrow().num_rows, table.read().to_arrow().num_rows) == (151, 160)
    assert [one.name for one in lake.tables()] == ["gold.copy", NAME]
    assert table.overwrite(rows(range(3))).rows.deleted == 160
    assert ids(table.read().to_arrow()) == [0, 1, 2]


def forms(where: str, address: str | None) -> None:
    """Rows in whatever form: what is handed to the process that writes is Arrow."""
    table = raylake.connect(where, address).table(NAME)
    table.create(SCHEMA)
    one = pa.table({"id": [1], "region": ["a"], "amount": pa.array([1], pa.int32())})
    frame = pd.DataFrame({"id": [1], "region": ["a"], "amount": pd.array([1], "int32")})
    given: list[Any] = [one, frame, pl.from_arrow(one), {"id": 1, "region": "a", "amount": 1}]
    for form in given:
        assert table.append(form).rows.inserted == 1
    table.append(table.read())
    wanted = {"id": 1, "region": "a", "amount": 1}
    assert table.read().to_arrow().to_pylist() == [wanted] * 2 * len(given)
    assert pa.array(pd.Series([1.0, float("nan")])).null_count == 1, "pyarrow knows pandas"


def readers(where: str, address: str | None) -> None:
    """A reader that remembers its place, while the table is written."""
    table = opened(where, address)
    reader = table.reader("mart")
    with reader.read_new() as new:
        assert new.to_arrow().num_rows == 150
    table.append(rows(range(150, 160)))
    table.delete("id = 0")
    with reader.read_new() as new:
        kinds = new.to_arrow().column("_change_type").to_pylist()
    assert sorted(kinds) == ["delete", *["insert"] * 10]
    assert reader.read_new().to_arrow().num_rows == 0


def refusals(where: str, address: str | None) -> None:
    """Errors arrive as what they are, and say that the table did not change."""
    table = opened(where, address)
    table.run(AddConstraint("positive", "amount > 0"))
    version = table.version
    day = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
    asked: list[tuple[Any, type[errors.TableError]]] = [
        (lambda: table.append([{"id": 1, "amount": -1}]), errors.ValuesRefused),
        (lambda: table.append([{"nonsense": 1}]), errors.SchemaMismatch),
        (lambda: table.append([{"id": 1, "amount": 2**40}]), errors.SchemaNarrowed),
        (lambda: table.merge(rows(range(2)), "nonsense"), errors.BadMergeKeys),
        (lambda: table.merge([*rows(range(2))] * 2, "id"), errors.DuplicateMergeKeys),
        (lambda: table.delete("nonsense = 1"), errors.UnknownColumn),
        (lambda: table.update({"amount": "1;2"}), errors.BadExpression),
        (lambda: table.restore(version + 9), errors.VersionUnknown),
        (lambda: table.restore(1, at=day), errors.VersionAndTime),
        (lambda: table.create(SCHEMA), errors.TableExists),
        (lambda: table.clone(table), errors.TableExists),
    ]
    for attempt, kind in asked:
        with pytest.raises(kind) as told:
            attempt()
        assert type(told.value) is kind
        assert told.value.table_changed is False
    missing = raylake.connect(where, address).table("silver.nothing")
    with pytest.raises(errors.TableMissing, match="silver/nothing"):
        missing.append(rows(range(1)))
    data = [one for one in table.history() if one.version > version and one.operation != "WRITE"]
    assert [one.operation for one in data] == []
    assert ids(table.read().to_arrow()) == list(range(150))


def adds(where: str, address: str | None, start: int, count: int) -> list[int]:
    """Appends and merges of a client of its own; the versions that they made."""
    table = raylake.connect(where, address).table(NAME)
    made = []
    for at in range(start, start + count, 2):
        made.append(table.append(rows(range(at, at + 1))).version_after)
        both = rows(range(at, at + 2), amount=5)
        made.append(table.merge(both, keys="id").version_after)
    return made


def made(where: str, address: str | None) -> None:
    """An empty table."""
    raylake.connect(where, address).table(NAME).create(SCHEMA)


def filled(where: str, address: str | None) -> None:
    """A table with rows."""
    opened(where, address)


def datasets(where: str, address: str | None) -> dict[str, Any]:
    """Rows as Ray's datasets, on the cluster that the table is written on."""
    table = opened(where, address)
    last = table.version
    found = table.read("amount = 2 AND id < 60", ["id"]).to_ray()
    table.delete("id < 100")
    return {
        "few": sorted(one["id"] for one in found.take_all()),
        "old": table.read(version=last).to_ray().count(),
        "now": table.read().to_ray().count(),
        "changes": table.changes(from_version=last + 1).to_ray().count(),
    }


def refused_elsewhere(where: str) -> str:
    """What somebody without the cluster hears of a table that has an owner."""
    table = raylake.connect(where).table(NAME)
    assert table.read().to_arrow().num_rows > 0
    with pytest.raises(errors.OwnerOnly) as told:
        table.append(rows(range(1)))
    assert told.value.table_changed is False
    return told.value.hint
