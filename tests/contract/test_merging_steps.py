"""What a derived table's definition says of its merges, by real steps, held against each engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.layers.errors import TransformRefused
from raylake.tables.port import TableEngine
from raylake.tables.requests import Delete, Update
from tests.harness.derived_steps import ENGINE, minute
from tests.harness.spark import SPARK_IN_LONG
from tests.harness.step_lake import StepLake

PAYLOAD = pa.schema(
    [
        ("id", pa.int64()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("state", pa.string()),
        ("amount", pa.int64()),
        ("note", pa.string()),
    ]
)


NO_ENGINE = pytest.mark.parametrize("engine", ["delta-rs"], indirect=True)
"""What is decided before an engine sees it; the merges that follow are the engines' contract."""


def row(
    key: int, at: float, state: str, amount: int | None, note: str | None = None
) -> dict[str, Any]:
    return {"id": key, "at": minute(at), "state": state, "amount": amount, "note": note}


def dead(key: int, at: float) -> dict[str, Any]:
    return {"_key": str(key).encode(), "_tombstone": True, "_timestamp": minute(at)}


def lake(tmp_path: Path, engine: TableEngine, **keys: Any) -> StepLake:
    table = {"from": "bronze.t", "mode": "upsert", "keys": ["id"], "sequence_by": "at", **keys}
    return StepLake(tmp_path, {"silver": {"s": table}}, PAYLOAD, engine)


def found(of: StepLake, name: str = "silver.s") -> dict[int, tuple[Any, ...]]:
    rows = of.rows(name, "id", "state", "amount", "note")
    return {one["id"]: (one["state"], one["amount"], one["note"]) for one in rows}


@pytest.mark.spec("C1", "C2")
@NO_ENGINE
def test_insert_only_leaves_rows_that_are_there(engine: TableEngine, tmp_path: Path) -> None:
    made = lake(tmp_path, engine, insert_only=True)
    made.step([row(1, 5, "new", 1), row(2, 0, "new", 2), row(2, 1, "later", 3)])
    assert found(made) == {1: ("new", 1, None), 2: ("later", 3, None)}
    made.step([row(1, 9, "newer", 9), row(3, 0, "new", 4), dead(2, 8)])
    assert found(made) == {1: ("new", 1, None), 2: ("later", 3, None), 3: ("new", 4, None)}
    # What changes in the source, or leaves it, is nothing to it.
    made.do("bronze.t", Update({"amount": "100"}, "id = 3"))
    made.do("bronze.t", Delete("id = 1"))
    made.run()
    assert found(made) == {1: ("new", 1, None), 2: ("later", 3, None), 3: ("new", 4, None)}


@SPARK_IN_LONG
@pytest.mark.spec("C2")
def test_changes_and_new_rows_write_their_own_columns(engine: TableEngine, tmp_path: Path) -> None:
    made = lake(
        tmp_path,
        engine,
        update_columns=["state"],
        insert_columns=["state", "note"],
        partition_by=["date(at)"],
    )
    made.step([row(1, 0, "new", 1, "first"), row(2, 0, "new", 2, "first")])
    assert found(made) == {1: ("new", None, "first"), 2: ("new", None, "first")}
    made.step([row(1, 5, "paid", 7, "second"), row(3, 1500, "new", 3, "third")])
    wanted = {1: ("paid", None, "first"), 2: ("new", None, "first"), 3: ("new", None, "third")}
    assert found(made) == wanted
    # What orders rows was written with the change: an older row that comes late is known for one.
    made.step([row(1, 4, "late", 8, "late")])
    assert found(made) == wanted
    days = {(one["id"], one["at"].date(), one["at_date"]) for one in made.rows("silver.s")}
    assert len(days) == 3
    assert all(at == day for _, at, day in days)


@pytest.mark.spec("C2")
@NO_ENGINE
def test_a_change_moves_the_partition_with_its_column(engine: TableEngine, tmp_path: Path) -> None:
    made = lake(
        tmp_path, engine, partition_by=["date(at)"], update_columns=["note"], sequence_by="amount"
    )
    made.step([row(1, 0, "new", 1)])
    made.step([row(1, 1500, "new", 2, "next day")])
    [one] = made.rows("silver.s")
    # Neither the time nor its day is among the columns of a change.
    assert (one["note"], one["amount"], one["at"].date()) == ("next day", 2, one["at_date"])


@SPARK_IN_LONG
@pytest.mark.spec("C2")
def test_conditions_on_changes_and_on_new_rows(engine: TableEngine, tmp_path: Path) -> None:
    made = lake(
        tmp_path,
        engine,
        update_when="source.amount > target.amount OR target.amount IS NULL",
        insert_when="state <> 'draft'",
    )
    made.step([row(1, 0, "new", 5), row(2, 0, "draft", 1), row(3, 0, "new", None)])
    assert found(made) == {1: ("new", 5, None), 3: ("new", None, None)}
    # A later row of a smaller amount is held back, an older one of a greater amount, too.
    made.step([row(1, 5, "less", 4), row(2, 5, "new", 0), row(3, 1, "set", 1)])
    assert found(made) == {1: ("new", 5, None), 2: ("new", 0, None), 3: ("set", 1, None)}
    made.step([row(1, 9, "draft", 6), row(1, -1, "old", 99), row(3, 0.5, "old", 50)])
    assert found(made) == {1: ("draft", 6, None), 2: ("new", 0, None), 3: ("set", 1, None)}
    # Deletes are no changes: they are not held back.
    made.step([dead(1, 20)])
    assert sorted(found(made)) == [2, 3]


@pytest.mark.spec("C2")
def test_a_row_that_says_so_deletes_its_key(engine: TableEngine, tmp_path: Path) -> None:
    made = lake(tmp_path, engine, delete_when="source.state IN ('cancelled', 'void')")
    made.step([row(1, 0, "new", 1), row(2, 0, "new", 2), row(3, 5, "void", 3)])
    assert sorted(found(made)) == [1, 2]
    # In one step the greatest counts; an older row that comes late does not bring a key back.
    made.step([row(1, 5, "cancelled", 1), row(2, 4, "void", 2), row(2, 6, "new", 7)])
    assert found(made) == {2: ("new", 7, None)}
    made.step([row(1, 4, "late", 1), row(3, 4, "late", 3)])
    assert found(made) == {2: ("new", 7, None)}
    made.step([row(1, 7, "again", 8)])
    assert found(made) == {1: ("again", 8, None), 2: ("new", 7, None)}
    # A delete that is older than the table's row is none.
    made.step([row(1, 6, "void", 0)])
    assert found(made) == {1: ("again", 8, None), 2: ("new", 7, None)}


@pytest.mark.spec("C2", "D2")
@NO_ENGINE
def test_a_row_that_says_so_ends_a_version(engine: TableEngine, tmp_path: Path) -> None:
    table = {"from": "bronze.t", "mode": "scd2", "keys": ["id"], "sequence_by": "at"}
    table |= {"track": ["state"], "delete_when": "state = 'gone'"}
    made = StepLake(tmp_path, {"gold": {"past": table}}, PAYLOAD, engine)
    made.step([row(1, 0, "a", 1), row(1, 5, "gone", 1), row(2, 0, "x", 1)])
    made.step([row(1, 9, "b", 1), row(2, 3, "gone", 1)])
    versions = [
        (one["id"], one["state"], one["valid_from"], one["valid_to"])
        for one in made.rows("gold.past")
        if one["valid_from"] != one["valid_to"]
    ]
    assert sorted(versions, key=lambda one: one[:3]) == [
        (1, "a", minute(0), minute(5)),
        (1, "b", minute(9), None),
        (2, "x", minute(0), minute(3)),
    ]


@pytest.mark.spec("C2")
@NO_ENGINE
def test_a_later_table_follows_what_was_merged(engine: TableEngine, tmp_path: Path) -> None:
    """From a table with one row a key: what changes there, and what leaves it."""
    first = {"from": "bronze.t", "mode": "upsert", "keys": ["id"], "sequence_by": "at"}
    second = {**first, "from": "silver.s", "update_columns": ["state"], "mode": "scd1"}
    only = {**second, "insert_only": True}
    del only["update_columns"]
    tables = {"silver": {"s": first}, "gold": {"g": second, "o": only}}
    made = StepLake(tmp_path, tables, PAYLOAD, engine)
    made.step([row(1, 0, "new", 1, "a"), row(2, 0, "new", 2, "a")])
    made.step([row(1, 5, "paid", 9, "b"), dead(2, 5)])
    assert found(made) == {1: ("paid", 9, "b")}
    assert found(made, "gold.g") == {1: ("paid", 1, "a")}
    assert found(made, "gold.o") == {1: ("new", 1, "a"), 2: ("new", 2, "a")}


@pytest.mark.spec("C5")
@NO_ENGINE
def test_files_are_put_in_order_after_steps(engine: TableEngine, tmp_path: Path) -> None:
    log = {"from": "bronze.t", "mode": "append", "optimize_after_write": "compact"}
    last = {"from": "silver.s", "mode": "upsert", "keys": ["id"], "sequence_by": "at"}
    last |= {"zorder_by": ["id"], "optimize_after_write": "zorder"}
    tables = {"silver": {"s": log}, "gold": {"g": last}}
    upkeep = {"maintenance": {"compact": {"small_files": 2}}}
    made = StepLake(tmp_path, {**tables, **upkeep}, PAYLOAD, engine)
    for n in range(5):
        made.step([row(n, n, "new", n), row(n + 10, n, "new", n)])
    for name, count in (("silver.s", 10), ("gold.g", 10)):
        done = [one["operation"] for one in DeltaTable(str(made.path(name))).history()]
        # Two files are let be: the third step is followed by a compaction, and the fifth.
        assert done.count("OPTIMIZE") == 2, (name, done)
        assert len(DeltaTable(str(made.path(name))).file_uris()) == 1
        # Who reads the table takes no row twice.
        assert len(made.rows(name)) == count
    made.step([])
    assert len(made.rows("gold.g")) == 10


@pytest.mark.spec("C2")
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"update_when": "source.amuont > 1"}, "update_when: there is no column 'amuont'"),
        ({"insert_when": "amount"}, "a value, not a condition"),
        ({"delete_when": "state = 1 AND nothing"}, "delete_when: "),
        ({"update_columns": ["sate"]}, "update_columns: there is no column 'sate'"),
        ({"insert_columns": ["nte"]}, "insert_columns: there is no column 'nte'"),
    ],
)
def test_what_does_not_fit_the_source_is_refused_before_anything_is_made(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    made = lake(tmp_path, ENGINE, **keys)
    with pytest.raises(TransformRefused, match=r"silver\.s") as refused:
        made.step([row(1, 0, "new", 1)])
    assert message in refused.value.message
    assert not made.path("silver.s").exists()
