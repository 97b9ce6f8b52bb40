"""Upkeep of tables that lie in an object store."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylake.storage.place import place
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.migrate import Migrate, migrate, roll_back
from raylake.tables.requests import Append, Create, Read
from raylake.tables.upkeep_requests import (
    Checkpoint,
    Clone,
    Compact,
    Convert,
    Repartition,
    Vacuum,
    WidenColumns,
    ZOrder,
)
from tests.harness.store import store, store_lake

__all__ = ["store", "store_lake"]

ENGINE = DeltaRsEngine()
SCHEMA = pa.schema([("id", pa.int32()), ("part", pa.string())])


def rows(start: int) -> pa.Table:
    ids = list(range(start, start + 10))
    return pa.table({"id": ids, "part": [f"p {n % 2}" for n in ids]}, schema=SCHEMA)


def ids(table: str, **request: int) -> list[int]:
    return sorted(
        ENGINE.read(table, Read(columns=("id",), **request)).read_all().column("id").to_pylist()
    )


@pytest.mark.spec("C4", "C8", "F1")
def test_a_table_in_a_store_is_kept_up(store_lake: str) -> None:
    table, clone = f"{store_lake}/kept", f"{store_lake}/clone"
    ENGINE.execute(table, Create(SCHEMA, ("part",)))
    for start in (0, 10, 20):
        ENGINE.execute(table, Append(rows(start)))
    result = ENGINE.execute(table, Compact())
    assert (result.files.removed, result.files.added) == (6, 2)
    ENGINE.execute(table, ZOrder(("id",)))
    ENGINE.execute(table, WidenColumns({"id": pa.int64()}))
    ENGINE.execute(table, Repartition(()))
    ENGINE.execute(table, Checkpoint())
    ENGINE.execute(clone, Clone(table, version=2))
    assert (ids(table), ids(clone), ids(table, version=1)) == (
        list(range(30)),
        list(range(20)),
        list(range(10)),
    )
    assert ENGINE.execute(table, Vacuum(orphans=True)).paths == ()
    short = Vacuum(retention_hours=0, allow_short_retention=True)
    assert ENGINE.execute(table, short).files.removed >= 8
    assert ids(table) == list(range(30))


@pytest.mark.spec("C4", "C8")
def test_a_folder_in_a_store_is_converted_and_migrated(store_lake: str, tmp_path: Path) -> None:
    folder, target = f"{store_lake}/parquet", f"{store_lake}/migrated"
    for start in (0, 10):
        pq.write_table(rows(start).drop_columns(["part"]), tmp_path / "one.parquet")
        data = (tmp_path / "one.parquet").read_bytes()
        file = place(folder) / f"day=2026-01-{start + 11}/a.parquet"
        file.put(data)  # type: ignore[union-attr]
    done = migrate([Migrate(folder, target)], str(tmp_path / "journal"))
    assert [(one.state, one.rows, one.files) for one in done] == [("switched", 20, 2)]
    assert ids(target) == list(range(20))
    roll_back(str(tmp_path / "journal"))
    ENGINE.execute(folder, Convert())
    assert ids(folder) == list(range(20))
    ENGINE.execute(target, Clone(folder, deep=False))
    assert ids(target) == list(range(20))
