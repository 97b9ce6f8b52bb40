"""What SCD type 1 and 2 do to a table, run against each engine."""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raylake.spark.engine import SparkEngine
from raylake.spark.engine_sessions import one_session
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import TableEngine
from raylake.tables.requests import Append, Create, Read, Scd2, Write
from raylake.tables.results import OperationResult
from raylake.tables.scd1 import scd1
from raylake.tables.scd2 import no_tombstones, table_for
from tests.harness.spark import SPARK_IN_LONG
from tests.harness.versions_oracle import expected_versions

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
CHANGES = pa.schema(
    [
        ("region", pa.string()),
        ("customer", pa.int64()),
        ("segment", pa.string()),
        ("limit", pa.decimal128(18, 2)),
        ("score", pa.float64()),
        ("note", pa.string()),
        ("updated_at", pa.timestamp("us", tz="UTC")),
        ("op", pa.string()),
    ]
)
KEYS = ("region", "customer")
TRACKED = ("segment", "limit", "score")
VALUES = (*TRACKED, "note", "updated_at")


def at(minute: int) -> dt.datetime:
    return NOON + dt.timedelta(minutes=minute)


def change(customer: int, minute: int, segment: str | None = "a", **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(CHANGES.names) | {"region": "no", "customer": customer, "op": "U"}
    return row | {"segment": segment, "updated_at": at(minute)} | more


def scd2(rows: Iterable[dict[str, Any]], **options: Any) -> Scd2:
    table = pa.Table.from_pylist(list(rows), schema=CHANGES)
    wanted: dict[str, Any] = {"track": TRACKED, "delete_when": "op = 'D'"}
    return Scd2(table, KEYS, ("updated_at",), **(wanted | options))


class Versions:
    """A table of versions, and the engine that it is worked on with."""

    def __init__(self, engine: TableEngine, path: Path) -> None:
        self.engine = engine
        self.path = path

    def do(self, operation: Write) -> OperationResult:
        return self.engine.execute(str(self.path), operation)

    def bring(self, *changes: dict[str, Any], **options: Any) -> OperationResult:
        return self.do(scd2(changes, **options))

    def rows(self, **request: Any) -> list[dict[str, Any]]:
        return self.engine.read(str(self.path), Read(**request)).read_all().to_pylist()

    def shown(self) -> list[str]:
        """The versions, without what is kept beside them, as texts in order."""
        found = self.rows(where=no_tombstones(scd2([])))
        return canonical({k: v for k, v in row.items() if k != "_changes"} for row in found)

    def intervals(self, customer: int) -> list[tuple[str | None, int, int | None]]:
        """Segment, begin and end of a customer's versions, in minutes after noon."""
        found = self.rows(where=f"customer = {customer} and ({no_tombstones(scd2([]))})")
        assert [row["is_current"] for row in found] == [row["valid_to"] is None for row in found]
        spans = [
            (row["segment"], minute(row["valid_from"]), minute(row["valid_to"])) for row in found
        ]
        return sorted(spans, key=lambda span: span[1])


def minute(moment: dt.datetime | None) -> Any:
    return None if moment is None else round((moment - NOON).total_seconds() / 60)


def canonical(rows: Iterable[dict[str, Any]]) -> list[str]:
    # The zone's object may be another one, and NaN is not equal to itself.
    return sorted(
        repr(
            [
                (k, v.isoformat() if isinstance(v, dt.datetime) else v)
                for k, v in sorted(row.items())
            ]
        )
        for row in rows
    )


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> TableEngine:
    if getattr(request, "param", "delta-rs") == "spark":
        return SparkEngine(one_session(request.getfixturevalue("spark")))
    return DeltaRsEngine()


@pytest.fixture
def customers(engine: TableEngine, tmp_path: Path) -> Versions:
    """An empty table of versions."""
    made = Versions(engine, tmp_path / "customers")
    made.do(table_for(scd2([]), VALUES))
    return made


@pytest.mark.spec("D2", "C6")
@SPARK_IN_LONG
def test_a_tracked_change_ends_a_version_and_begins_the_next(customers: Versions) -> None:
    result = customers.bring(change(1, 0), change(2, 0), change(1, 10, "b"))
    assert customers.intervals(1) == [("a", 0, 10), ("b", 10, None)]
    assert customers.intervals(2) == [("a", 0, None)]
    assert (result.operation, result.engine) == ("scd2", customers.engine.name)
    assert (result.rows.source, result.rows.inserted, result.rows.updated) == (3, 3, 0)
    result = customers.bring(change(2, 5, "c"))
    assert customers.intervals(2) == [("a", 0, 5), ("c", 5, None)]
    assert (result.rows.source, result.rows.inserted, result.rows.updated) == (1, 1, 1)
    assert result.version_after == result.version_before + 1


@pytest.mark.spec("D2")
@SPARK_IN_LONG
def test_without_a_tracked_change_there_is_no_version(customers: Versions) -> None:
    customers.bring(change(1, 0, score=float("nan"), limit=None, note="first"))
    customers.bring(change(1, 10, score=float("nan"), limit=None, note="second"))
    (row,) = customers.rows()
    assert (row["note"], row["updated_at"], row["valid_from"]) == ("second", at(10), at(0))
    customers.bring(change(1, 5, score=float("nan"), note="late"))
    assert [row["note"] for row in customers.rows()] == ["second"]
    customers.bring(change(1, 7, "b"))
    assert customers.intervals(1) == [("a", 0, 7), ("b", 7, 10), ("a", 10, None)]
    notes = {row["valid_from"]: row["note"] for row in customers.rows()}
    assert notes == {at(0): "late", at(7): None, at(10): "second"}


@pytest.mark.spec("D2")
def test_a_delete_leaves_no_current_version_and_a_key_may_come_back(customers: Versions) -> None:
    customers.bring(change(1, 0), change(1, 10, op="D"))
    assert customers.intervals(1) == [("a", 0, 10)]
    customers.bring(change(1, 20))
    assert customers.intervals(1) == [("a", 0, 10), ("a", 20, None)]
    customers.bring(change(1, 30, op="D"), change(1, 30, "never"))
    assert customers.intervals(1) == [("a", 0, 10), ("a", 20, 30)]


@pytest.mark.spec("D2")
@SPARK_IN_LONG
def test_failure_26_a_delete_before_its_insert_is_remembered(customers: Versions) -> None:
    customers.bring(change(1, 10, op="D"))
    assert customers.intervals(1) == []
    assert len(customers.rows()) == 1
    customers.bring(change(1, 15, op="D"))
    customers.bring(change(1, 0))
    assert customers.intervals(1) == [("a", 0, 10)]
    customers.bring(change(1, 12, "b"))
    assert customers.intervals(1) == [("a", 0, 10), ("b", 12, 15)]
    assert len(customers.rows()) == 2


@pytest.mark.spec("D2")
def test_failure_26_what_is_brought_again_makes_no_version(customers: Versions) -> None:
    changes = [
        change(n, m, "ab"[m % 2], op="D" if m == 3 else "U") for n in range(5) for m in range(6)
    ]
    first = customers.bring(*changes)
    before = customers.rows()
    for again in (changes, changes[::-1], changes[7:9]):
        result = customers.bring(*again)
        assert not result.changed
        assert result.rows.source == len(again)
    assert canonical(customers.rows()) == canonical(before)
    assert first.rows.duplicates == 0


@pytest.mark.spec("D2")
@SPARK_IN_LONG
def test_a_late_change_takes_the_begin_of_an_equal_version(customers: Versions) -> None:
    customers.bring(change(1, 10), change(1, 20, "b"))
    result = customers.bring(change(1, 0))
    assert customers.intervals(1) == [("a", 0, 20), ("b", 20, None)]
    assert (result.rows.inserted, result.rows.updated, result.rows.deleted) == (1, 0, 1)


@pytest.mark.spec("D2")
@SPARK_IN_LONG
def test_failure_26_changes_in_any_order_make_the_same_table(
    customers: Versions, tmp_path: Path
) -> None:
    chance = random.Random(26)
    changes = [
        change(
            chance.randrange(4),
            chance.randrange(12),
            chance.choice(["a", "b", None]),
            region=chance.choice(["no", "it's"]),
            limit=chance.choice([None, Decimal("0.10"), Decimal("9999999999999999.99")]),
            score=chance.choice([float("nan"), 0.1]),
            note=chance.choice(["x", None]),
            op=chance.choice("UUUD"),
        )
        for _ in range(60)
    ]
    # The plan is the same code: what Spark reads and merges shows in one order.
    for round_number in range(1 if customers.engine.name == "spark" else 2):
        order = [*changes, *chance.sample(changes, 20)]
        chance.shuffle(order)
        table = Versions(customers.engine, tmp_path / f"again{round_number}")
        table.do(table_for(scd2([]), VALUES))
        for start in range(0, len(order), 16):
            table.bring(*order[start : start + 16])
        deletes = expected_versions(
            changes, KEYS, ("updated_at",), TRACKED, VALUES, lambda row: row["op"] == "D"
        )
        assert table.shown() == canonical(deletes)
    customers.bring(*changes)
    assert customers.shown() == table.shown()
    assert canonical(customers.rows()) == canonical(table.rows())


@pytest.mark.spec("D2")
def test_equal_times_go_by_the_rest_of_the_sequence(engine: TableEngine, tmp_path: Path) -> None:
    schema = pa.schema(
        [("id", pa.int64()), ("v", pa.string()), ("day", pa.date32()), ("lsn", pa.int64())]
    )
    day = dt.date(2026, 1, 31)

    def wanted(*rows: tuple[str, int]) -> Scd2:
        found = [{"id": 1, "v": v, "day": day, "lsn": lsn} for v, lsn in rows]
        return Scd2(pa.Table.from_pylist(found, schema=schema), ("id",), ("day", "lsn"))

    table = Versions(engine, tmp_path / "t")
    table.do(table_for(wanted()))
    table.do(wanted(("second", 2)))
    table.do(wanted(("first", 1)))
    assert [(r["v"], r["valid_from"], r["valid_to"]) for r in table.rows()] == [
        ("second", day, None)
    ]
    table.do(wanted(("third", 3), ("also third", 3)))
    assert [row["v"] for row in table.rows()] == ["third"]


@pytest.mark.spec("D2")
def test_other_keys_stay_as_they_are(customers: Versions) -> None:
    customers.bring(*(change(n, 0, region=r) for n in range(50) for r in ("no", "de")))
    result = customers.bring(change(7, 5, "b"), change(8, 5, "b", region="de"))
    assert (result.rows.inserted, result.rows.updated) == (2, 2)
    found = {(row["region"], row["customer"]) for row in customers.rows(where="is_current = false")}
    assert found == {("no", 7), ("de", 8)}
    assert len(customers.rows()) == 102


@pytest.mark.spec("D2", "C6")
def test_bad_changes_are_refused_and_nothing_happens(customers: Versions) -> None:
    customers.bring(change(1, 0))

    def refused(kind: type[errors.TableError], one: Scd2, text: str) -> None:
        before = canonical(customers.rows())
        with pytest.raises(kind, match=text) as caught:
            customers.do(one)
        assert type(caught.value) is kind
        assert caught.value.table_changed is False
        assert canonical(customers.rows()) == before

    good = scd2([change(2, 0)])
    rows = good.rows
    refused(errors.NullMergeKeys, scd2([change(2, 0, region=None)]), "'region'")
    refused(errors.ValuesRefused, scd2([change(2, 0, updated_at=None)]), "'updated_at'")
    refused(errors.BadMergeKeys, Scd2(rows, (), ("updated_at",)), "no merge keys")
    refused(errors.BadRequest, Scd2(rows, KEYS, ()), "nothing orders")
    refused(errors.UnknownColumn, Scd2(rows, KEYS, ("updated",)), "'updated'")
    refused(errors.UnknownColumn, scd2([change(2, 0)], track=("segmnt",)), "'segmnt'")
    refused(errors.BadRequest, scd2([change(2, 0)], track=("region",)), "'region'")
    refused(errors.BadExpression, scd2([change(2, 0)], delete_when="op"), "not a condition")
    refused(errors.UnknownColumn, scd2([change(2, 0)], valid_to="until"), "'until'")
    refused(errors.BadColumnName, scd2([change(2, 0)], valid_to="Note"), "'Note'")
    refused(errors.BadColumnName, scd2([change(2, 0)], valid_to="VALID_FROM"), "'VALID_FROM'")
    refused(errors.SchemaMismatch, scd2([change(2, 0)], track=("segment",)), "'_changes'")
    refused(errors.SchemaMismatch, scd2([change(2, 0)], delete_when=None), "'op'")
    lacking = Scd2(rows.drop_columns(["note"]), KEYS, ("updated_at",), TRACKED, "op = 'D'")
    refused(errors.SchemaMismatch, lacking, "'note'")
    naive = rows.set_column(6, "updated_at", rows["updated_at"].cast(pa.timestamp("us")))
    refused(errors.TimeWithoutZone, Scd2(naive, KEYS, ("updated_at",), TRACKED, "op = 'D'"), "zone")


def test_a_table_that_is_none_of_versions_is_named(engine: TableEngine, tmp_path: Path) -> None:
    table = Versions(engine, tmp_path / "t")
    table.do(Create(CHANGES))
    with pytest.raises(errors.UnknownColumn, match="no table of versions") as caught:
        table.bring(change(1, 0))
    assert "table_for" in caught.value.hint


@pytest.mark.spec("D2", "C6")
def test_versions_that_break_the_rules_are_not_built_upon(customers: Versions) -> None:
    customers.bring(change(1, 0))
    customers.do(Append(customers.engine.read(str(customers.path), Read()).read_all()))
    with pytest.raises(errors.ValuesRefused, match="1 versions of these keys"):
        customers.bring(change(1, 5, "b"))
    customers.bring(change(2, 5, "b"))
    assert len(customers.rows()) == 3


@pytest.mark.spec("D2", "C6")
def test_failure_26_racing_writers_lose_no_change(customers: Versions) -> None:
    """Read and write are of one version: who comes second reads again."""
    failures: list[BaseException] = []
    changes = [[change(1, 2 * m + which, str(m)) for m in range(4)] for which in range(2)]

    def work(which: int) -> None:
        mine = Versions(customers.engine, customers.path)
        try:
            for one in changes[which]:
                mine.bring(one)
        except errors.TableError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    wanted = [(str(m), 2 * m, 2 * m + 2 if m < 3 else None) for m in range(4)]
    assert customers.intervals(1) == wanted


@pytest.mark.spec("D2")
def test_scd1_keeps_the_last_change_of_each_key(engine: TableEngine, tmp_path: Path) -> None:
    table = Versions(engine, tmp_path / "t")
    table.do(Create(CHANGES))
    rows = [change(1, 5, "b"), change(1, 0), change(2, 0)]
    for order in (rows, rows[::-1], rows[1:]):
        for row in order:
            table.do(scd1(pa.Table.from_pylist([row], schema=CHANGES), KEYS, ("updated_at",)))
        found = {row["customer"]: row["segment"] for row in table.rows()}
        assert found == {1: "b", 2: "a"}
    gone = pa.Table.from_pylist([change(1, 4, op="D"), change(2, 4, op="D")], schema=CHANGES)
    table.do(scd1(gone, KEYS, ("updated_at",), delete_when="source.op = 'D'"))
    assert [row["customer"] for row in table.rows()] == [1]
    never = pa.Table.from_pylist([change(3, 0, op="D")], schema=CHANGES)
    table.do(scd1(never, KEYS, ("updated_at",), delete_when="source.op = 'D'"))
    assert [row["customer"] for row in table.rows()] == [1]
