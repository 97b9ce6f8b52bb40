"""What a commit carries beside its rows, on each engine: once, with the rows, or not at all."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.delta import log_files
from raylake.delta.ledger import OWNER_APP
from raylake.tables import errors
from raylake.tables.alongside import Alongside
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.landing import operation_metadata
from raylake.tables.port import TableEngine
from raylake.tables.requests import (
    Advance,
    Append,
    Create,
    Delete,
    Overwrite,
    Restore,
    Scd2,
    Update,
    Upsert,
    Write,
)
from raylake.tables.results import OperationResult
from raylake.tables.scd2 import table_for
from raylake.tables.upkeep_requests import Compact, Vacuum
from tests.harness.spark import SPARK_IN_LONG
from tests.harness.tables import FEED, NOON, SCHEMA, Table, number, orders, takes_over

APP = "raylake/from/7e1c"
OTHER = "raylake/seen/9"
VERSIONS = pa.schema([("k", pa.string()), ("v", pa.int64()), ("at", pa.timestamp("us", "UTC"))])


def step(after: int | None, last: int, **metadata: Any) -> Alongside:
    """From one version of a source to another."""
    return Alongside({APP: last, OTHER: last + 100}, {APP: after}, metadata)


def do(table: Table, operation: Write, carried: Alongside, **more: Any) -> OperationResult:
    return table.engine.execute(str(table.path), operation, alongside=carried, **more)


def txns(table: Table) -> tuple[int | None, int | None]:
    """As delta-rs reads them."""
    handle = DeltaTable(table.path)
    return handle.transaction_version(APP), handle.transaction_version(OTHER)


def told(table: Table) -> dict[str, Any]:
    """What the newest commit says of its operation."""
    actions = log_files.read_commit(table.path, DeltaTable(table.path).version())
    return dict(operation_metadata(log_files.commit_info(actions or [])))


def changes(*rows: tuple[str, int, int]) -> Scd2:
    found = [{"k": k, "v": v, "at": NOON + dt.timedelta(minutes=m)} for k, v, m in rows]
    return Scd2(pa.Table.from_pylist(found, schema=VERSIONS), ("k",), ("at",), track=("v",))


def made_of(engine: TableEngine, path: Path, create: Create, rows: pa.Table | None = None) -> Table:
    """A table with its first rows; delta-rs makes it, which takes no time."""
    made = Table(DeltaRsEngine(), path)
    made.do(create)
    if rows is not None:
        made.do(Append(rows))
    return Table(engine, path)


@pytest.fixture
def table(engine: TableEngine, tmp_path: Path) -> Table:
    """The ids 0 to 9 in version 1, with a change feed."""
    return made_of(engine, tmp_path / "t", Create(SCHEMA, properties=FEED), orders(range(10)))


@SPARK_IN_LONG
@pytest.mark.spec("D1")
def test_each_operation_carries_its_txns_and_metadata_once(table: Table) -> None:
    steps: list[tuple[Write, dict[int, int]]] = [
        (Append(orders([10])), {10: 1}),
        (Upsert(orders([1, 11], 2), ("id",)), {1: 2, 11: 2}),
        (Overwrite(orders([2], 3), where="id = 2"), {2: 3}),
        (Update({"amount": "4"}, where="id = 3"), {3: 4}),
        (Delete("id = 0"), {}),
        (Upsert(orders([5], 9), ("id",), delete_when="target.id = 5"), {}),
    ]
    expected = dict.fromkeys(range(10), 1)
    for at, (operation, after) in enumerate(steps):
        carried = step(at - 1 if at else None, at, rule=[{"name": "é", "rows": at}])
        result = do(table, operation, carried)
        assert (result.version_before, result.version_after) == (at + 1, at + 2)
        assert txns(table) == (at, at + 100)
        assert told(table).items() >= {"rule": [{"name": "é", "rows": at}]}.items()
        assert told(table)["operation"] == type(operation).__name__.lower()
        expected |= after
        # Repeated, it is refused: what it was made for has moved.
        with pytest.raises(errors.ProgressMoved) as caught:
            do(table, operation, carried)
        assert caught.value.to_dict()["table_changed"] is False
        context = {"app": APP, "expected": at - 1 if at else None, "found": at}
        assert caught.value.context == context
        assert table.version == at + 2
    assert table.amounts() == {n: a for n, a in expected.items() if n not in {0, 5}}
    feed = table.changes(from_version=2)
    assert feed == [
        (2, "insert", 10, 1),
        (3, "insert", 11, 2),
        (3, "update_postimage", 1, 2),
        (3, "update_preimage", 1, 1),
        *((4, "delete", 2, 1), (4, "insert", 2, 3)),
        *((5, "update_postimage", 3, 4), (5, "update_preimage", 3, 1)),
        (6, "delete", 0, 1),
        (7, "delete", 5, 1),
    ]
    do(table, Overwrite(orders([77])), step(5, 6))
    assert (txns(table), table.amounts()) == ((6, 106), {77: 1})


@SPARK_IN_LONG
@pytest.mark.spec("D1")
def test_versions_of_rows_carry_them_too(engine: TableEngine, tmp_path: Path) -> None:
    first = changes(("a", 1, 0), ("b", 1, 0))
    table = made_of(engine, tmp_path / "t", table_for(first))
    assert do(table, first, step(None, 3)).rows.inserted == 2
    assert do(table, changes(("a", 2, 10)), step(3, 4)).rows.source == 1
    # What the table knows already makes a version all the same.
    known = do(table, changes(("a", 2, 10)), step(4, 5))
    assert (known.version_after, known.rows.inserted, known.files.added) == (3, 0, 0)
    assert txns(table) == (5, 105)
    with pytest.raises(errors.ProgressMoved):
        do(table, changes(("a", 3, 20)), step(4, 6))
    assert sorted((r["k"], r["v"]) for r in table.rows()) == [("a", 1), ("a", 2), ("b", 1)]


@pytest.mark.spec("D1")
@SPARK_IN_LONG
def test_what_changes_no_row_makes_a_version_all_the_same(table: Table) -> None:
    before = table.amounts()
    empty: list[Write] = [
        Advance(),
        Append(orders([])),
        Upsert(orders([1], 5), ("id",), update_when="source.amount < 0"),
        Upsert(orders([1], 5), ("id",), insert_only=True),
        Delete("id = 12345"),
        Update({"amount": "9"}, where="id = 12345"),
        Overwrite(orders([]), where="id = 12345"),
    ]
    for at, operation in enumerate(empty):
        result = do(table, operation, step(at - 1 if at else None, at, at=at))
        assert (result.version_before, result.version_after) == (at + 1, at + 2), operation
        assert (result.rows.inserted, result.rows.updated, result.rows.deleted) == (0, 0, 0)
        assert (txns(table), told(table)["at"]) == ((at, at + 100), at)
    assert table.amounts() == before
    assert table.changes(from_version=2) == []


@pytest.mark.spec("D1", "C7")
@SPARK_IN_LONG
def test_new_columns_come_with_what_is_carried(engine: TableEngine, tmp_path: Path) -> None:
    kept = {"delta.logRetentionDuration": "interval 9 days"}
    create = Create(SCHEMA, properties=kept)
    table = made_of(engine, tmp_path / "t", create, orders(range(10)))
    noted = orders([10], note=["x"])
    do(table, Append(noted, schema="merge"), step(None, 1))
    assert {r["id"]: r["note"] for r in table.rows() if r["id"] > 8} == {9: None, 10: "x"}
    again = orders([9, 11], 2, other=[1.5, 2.5])
    do(table, Upsert(again, ("id",), schema="merge"), step(1, 2))
    found = {r["id"]: (r["amount"], r["note"], r["other"]) for r in table.rows() if r["id"] > 7}
    assert found == {8: (1, None, None), 9: (2, None, 1.5), 10: (1, "x", None), 11: (2, None, 2.5)}
    whole = orders([1], note=["y"], other=[0.5], third=[True])
    do(table, Overwrite(whole, where="id = 1", schema="merge"), step(2, 3))
    assert {r["id"]: r["third"] for r in table.rows() if r["id"] < 3} == {0: None, 1: True, 2: None}
    assert (txns(table), table.version) == ((3, 103), 4)
    schema = DeltaTable(table.path).schema().to_arrow()
    assert b"in cents" in pa.schema(schema).field("amount").metadata.values()
    assert DeltaTable(table.path).metadata().configuration == kept


@pytest.mark.spec("D1", "C7")
@SPARK_IN_LONG
def test_a_new_schema_comes_with_what_is_carried(engine: TableEngine, tmp_path: Path) -> None:
    create = Create(pa.schema([("id", pa.int64()), ("v", pa.string())]), properties=FEED)
    table = made_of(engine, tmp_path / "t", create, pa.table({"id": [1], "v": ["a"]}))
    other = pa.table({"id": [2], "w": [0.5]})
    do(table, Overwrite(other, schema="overwrite"), step(None, 1))
    assert table.rows() == [{"id": 2, "w": 0.5}]
    assert table.rows(version=1) == [{"id": 1, "v": "a"}]
    assert (txns(table), table.version) == ((1, 101), 2)


@pytest.mark.spec("D1")
@SPARK_IN_LONG
def test_partitions_and_constraints_are_kept(engine: TableEngine, tmp_path: Path) -> None:
    create = Create(SCHEMA, partition_by=("region",), constraints={"positive": "amount > 0"})
    table = made_of(engine, tmp_path / "t", create, orders([3, 4, 13, 14]))
    do(table, Overwrite(orders([3, 13], 9), where="region = 'r3'"), step(None, 2))
    do(table, Upsert(orders([4, 24], 7), ("id",)), step(2, 3))
    found = table.amounts(where="region = 'r3' or region = 'r4'")
    assert found == {3: 9, 13: 9, 4: 7, 14: 1, 24: 7}
    with pytest.raises(errors.ValuesRefused):
        do(table, Append(orders([99], 0)), step(3, 4))
    assert (txns(table), table.version) == ((3, 103), 3)


@SPARK_IN_LONG
@pytest.mark.spec("D1", "C6")
def test_what_no_commit_can_carry_is_refused_by_name(table: Table) -> None:
    carried = step(None, 1)
    for operation in (Restore(version=0), Compact(), Vacuum(dry_run=True), Create(SCHEMA)):
        name = type(operation).__name__.lower()
        with pytest.raises(errors.BadRequest, match=f"{name}: its commit carries nothing"):
            do(table, operation, carried)
    with pytest.raises(errors.BadRequest, match="nothing that its version is to carry"):
        table.do(Advance())
    for wrong in (
        Alongside({OWNER_APP: 1}),
        Alongside({"raylake/shop/orders/topic-id/0/next": 3}),
        Alongside({APP: -1}),
        Alongside(metadata={"batch": "mine"}),
        Alongside(metadata={"x": float("nan")}),
        Alongside(metadata={"x": NOON}),
    ):
        with pytest.raises(errors.BadRequest):
            do(table, Append(orders([99])), wrong)
    assert (txns(table), table.version) == ((None, None), 1)


@pytest.mark.spec("D1", "C6")
def test_under_a_slot_the_commit_carries_the_slots_number_too(table: Table) -> None:
    takes_over(table.path, 3)
    work: list[Write] = [
        Upsert(orders([1, 50], 2), ("id",)),
        Advance(),
        Delete("id = 12345"),
        Overwrite(orders([60])),
    ]
    for at, operation in enumerate(work, start=1):
        with pytest.raises(errors.OwnerOnly):
            do(table, operation, step(at - 1 or None, at))
        do(table, operation, step(at - 1 or None, at), fence=number(at, 3))
        assert DeltaTable(table.path).transaction_version(OWNER_APP) == number(at, 3).number
        assert txns(table) == (at, at + 100)
        with pytest.raises(errors.SlotClosed):
            do(table, operation, step(at, at + 1), fence=number(at, 3))
    assert (table.ids(), table.version) == ([60], 2 + len(work))


@pytest.mark.spec("D1", "C6")
def test_of_two_that_began_with_the_same_progress_one_lands(table: Table) -> None:
    operations: list[Write] = [Append(orders([100])), Upsert(orders([1, 101], 2), ("id",))]
    together = threading.Barrier(len(operations))
    ends: list[str] = []

    def work(operation: Write) -> None:
        together.wait()
        try:
            do(table, operation, step(None, 1))
            ends.append("landed")
        except errors.TableError as error:
            ends.append(error.code)

    threads = [threading.Thread(target=work, args=(one,)) for one in operations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["landed", "progress_moved"]
    assert (txns(table), table.version) == ((1, 101), 2)
    assert len({100, 101} & set(table.ids())) == 1


@pytest.mark.spec("D1")
@SPARK_IN_LONG
def test_other_writers_in_between_are_no_reason_to_refuse(table: Table) -> None:
    """The progress is what it was, on a later version."""
    do(table, Append(orders([20])), step(None, 1))
    other = Table(DeltaRsEngine(), table.path)
    other.do(Append(orders([21])))
    other.do(Delete("id = 9"))
    result = do(table, Upsert(orders([21], 3), ("id",)), step(1, 2))
    assert (result.version_after, table.amounts(where="id >= 20")) == (5, {20: 1, 21: 3})


@pytest.mark.spec("D1")
@SPARK_IN_LONG
def test_a_table_that_is_only_written_so_gets_its_checkpoints(
    engine: TableEngine, tmp_path: Path
) -> None:
    create = Create(SCHEMA, properties={"delta.checkpointInterval": "2"})
    table = made_of(engine, tmp_path / "t", create)
    do(table, Advance(), step(None, 1))
    do(table, Append(orders([1])), step(1, 2))
    do(table, Advance(), step(2, 3))
    names = {one.name for one in (table.path / "_delta_log").glob("*.checkpoint.parquet")}
    assert names == {f"{version:020d}.checkpoint.parquet" for version in (1, 3)}
    assert (txns(table), table.ids()) == ((3, 103), [1])
