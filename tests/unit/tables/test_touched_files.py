"""What an operation has to touch is read from the files' statistics, and never too little."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import (
    Append,
    Create,
    Delete,
    DeleteUnmatched,
    Overwrite,
    Read,
    Restore,
    Scd2,
    Update,
    Upsert,
    Write,
)
from raylake.tables.routing import Load
from raylake.tables.service import DirectTables
from raylake.tables.touched import load
from raylake.tables.upkeep_requests import (
    AddColumns,
    AddConstraint,
    Checkpoint,
    Clone,
    Compact,
    Convert,
    DropConstraint,
    Repartition,
    SetNotNull,
    SetProperties,
    Vacuum,
    WidenColumns,
    ZOrder,
)

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("day", pa.string()),
    ]
)
NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def rows(*ids: int) -> pa.Table:
    values = {
        "id": list(ids),
        "name": [f"n{one:05}" for one in ids],
        "at": [NOON + dt.timedelta(hours=one) for one in ids],
        "day": [f"d{one // 10}" for one in ids],
    }
    return pa.table(values, schema=SCHEMA)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four files: ids 0-9, 10-19, 20-29, 30-39, a partition each."""
    address = str(tmp_path_factory.mktemp("lake") / "t")
    engine = DeltaRsEngine()
    engine.execute(address, Create(SCHEMA, partition_by=("day",)))
    for start in range(0, 40, 10):
        engine.execute(address, Append(rows(*range(start, start + 10))))
    return address


ALL = 4


@pytest.mark.parametrize(
    ("operation", "files"),
    [
        (Append(rows(1)), 0),
        (Restore(version=1), 0),
        (Overwrite(rows(1)), 0),
        (Overwrite(rows(1), where="id < 10"), 1),
        (Upsert(rows(12, 18), ("id",)), 1),
        (Upsert(rows(12, 21), ("id",)), 2),
        (Upsert(rows(12, 21), ("id", "name")), 2),
        (Upsert(rows(100), ("id",)), 0),
        (Scd2(rows(12, 21), ("id",), ("at",)), 2),
        (Upsert(rows(12), ("id",), not_matched_by_source=DeleteUnmatched()), ALL),
        (Delete("id = 5"), 1),
        (Delete("5 >= id"), 1),
        (Delete("id between 15 and 25"), 2),
        (Delete("id > 9 and id < 20 and name <> 'x'"), 1),
        (Delete("name >= 'n00030'"), 1),
        (Delete("day = 'd2'"), 1),
        (Delete("at < timestamp '2026-01-31T20:00:00+00:00'"), 1),
        (Delete("id = 5 or name = 'x'"), ALL),
        (Delete("id + 1 = 5"), ALL),
        (Delete("id = -5"), 0),
        (Update({"name": "'x'"}, where="id <= 10"), 2),
        (Update({"name": "'x'"}), ALL),
        (Delete("no_such_column = 1"), ALL),
        (Compact(), ALL),
        (ZOrder(("id",)), ALL),
        (SetProperties({"delta.logRetentionDuration": "interval 9 days"}), 0),
    ],
)
def test_files_are_counted_by_their_statistics(table: str, operation: Write, files: int) -> None:
    found = load(table, operation)
    assert (found.touched_files, found.total_files) == (files, ALL)
    assert (found.touched_bytes > 0) == (files > 0)
    assert found.touched_bytes <= found.total_bytes


@pytest.mark.parametrize("where", ["id = 15", "id between 9 and 20", "name < 'n00011'"])
def test_no_file_that_holds_such_rows_is_left_out(table: str, where: str) -> None:
    read = DeltaRsEngine().read(table, Read(where=where)).read_all()
    days = set(read.column("day").to_pylist())
    assert load(table, Delete(where)).touched_files >= len(days) > 0


def test_only_z_order_sorts(table: str) -> None:
    assert load(table, ZOrder(("id",))).sorts
    assert not load(table, Compact()).sorts


def test_a_new_table_touches_nothing(tmp_path: Path) -> None:
    assert load(str(tmp_path / "new"), Create(SCHEMA)) == Load()


@pytest.mark.spec("C6")
def test_the_result_says_which_engine_ran_it_and_why(table: str) -> None:
    service = DirectTables()
    operation = Update({"name": "'y'"}, where="id = 39")
    planned = service.explain(table, operation)
    result = service.execute(table, operation)
    assert (planned.engine, result.engine) == ("delta-rs", "delta-rs")
    assert "touches at most 1 of 4 files" in result.why
    assert service.execute(table, operation, engine="delta-rs").why == "the engine was named"


def test_which_operations_look_at_rows(tmp_path: Path) -> None:
    table = tmp_path / "t"
    DeltaRsEngine().execute(str(table), Create(SCHEMA))
    files_alone: tuple[Write, ...] = (
        SetProperties({"team": "x"}),
        DropConstraint("low"),
        AddColumns(pa.schema([("more", pa.string())])),
        Vacuum(),
        Checkpoint(),
        Clone(str(table)),
        Convert(),
    )
    assert not any(load(str(table), one).computes for one in files_alone)
    rows_too: tuple[Write, ...] = (
        Compact(),
        ZOrder(("id",)),
        AddConstraint("low", "id > 0"),
        SetNotNull("id"),
        Repartition(("day",)),
        WidenColumns({"id": pa.int64()}),
        Append(rows(1)),
        Delete("id = 1"),
        Restore(version=0),
    )
    assert all(load(str(table), one).computes for one in rows_too)
