"""Tables that follow one source row by row: what they hold, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from raylake.config.derived import AppendTable, UpsertTable
from raylake.layers.errors import SourceRowsLeft, TransformRefused
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.row_wise import derivation_of
from raylake.tables.requests import Append, Create, Delete, Read, Restore, Update, Upsert
from raylake.tables.scd2 import no_tombstones
from tests.harness.derived_steps import ENGINE, Stepper, bronze, minute, put, rejections

PAYLOAD = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", tz="UTC")), ("n", pa.string())])
KEYED = RowWiseSpec("silver.t", "upsert", keys=("id",), sequence_by=("at",))


def row(key: int, at: float, n: str, offset: int, **more: Any) -> dict[str, Any]:
    known = {"id": key, "at": minute(at), "n": n, "_offset": offset, "_timestamp": minute(offset)}
    return known | more


def dead(key: bytes | None, offset: int) -> dict[str, Any]:
    return {"_key": key, "_tombstone": True, "_offset": offset, "_timestamp": minute(offset)}


def follow(tmp_path: Path, spec: RowWiseSpec, *batches: Sequence[Mapping[str, Any]]) -> Stepper:
    source = bronze(tmp_path / "bronze", PAYLOAD)
    table = Stepper(spec, source, tmp_path / "silver")
    for batch in batches:
        put(source, batch, PAYLOAD)
        table.run()
    return table


def values(table: Stepper) -> dict[int, str]:
    return {r["id"]: r["n"] for r in table.rows()}


@pytest.mark.spec("D1")
def test_a_deleted_key_stays_deleted_for_late_rows_and_comes_back_for_newer_ones(
    tmp_path: Path,
) -> None:
    table = follow(tmp_path, KEYED, [row(1, 0, "a", 0)], [dead(b"1", 5)])
    assert values(table) == {}
    put(table.source, [row(1, 4, "late", 1)], PAYLOAD)
    table.run()
    assert values(table) == {}
    put(table.source, [row(1, 6, "new", 6)], PAYLOAD)
    table.run()
    assert values(table) == {1: "new"}
    # A delete that comes late is older than the row.
    put(table.source, [dead(b"1", 3)], PAYLOAD)
    table.run()
    assert values(table) == {1: "new"}


@pytest.mark.spec("D1")
def test_nothing_is_remembered_without_deletes(tmp_path: Path) -> None:
    table = follow(tmp_path, KEYED, [row(1, 0, "a", 0)], [row(1, 2, "b", 1)])
    assert not (tmp_path / "silver_beside").exists()
    # An older row changes nothing: not even a version is made.
    put(table.source, [row(1, 1, "old", 2)], PAYLOAD)
    table.run()
    assert not table.results[-1].changed
    assert values(table) == {1: "b"}


@pytest.mark.spec("D1")
@pytest.mark.parametrize(
    ("key", "what"),
    [
        (b"2", None),
        (b'"2"', None),
        (b'{"id":2}', None),
        (b'{"schema":{},"payload":{"id":"2"}}', None),
        (b"two", "the key is no int64 of 'id'"),
        (b"\xff", "the record's key is not UTF-8"),
        (b"{", "the record's key is no JSON: "),
        (b'{"other":2}', "the record's key has no id"),
        (b'{"id":{"a":1}}', "the record's key has no id"),
        (None, "the record has neither a value nor a key"),
    ],
)
def test_the_keys_of_tombstones(tmp_path: Path, key: bytes | None, what: str | None) -> None:
    table = follow(tmp_path, KEYED, [row(1, 0, "a", 0), row(2, 0, "b", 1)], [dead(key, 2)])
    if what is None:
        assert values(table) == {1: "a"}
        assert not table.rejected
        return
    assert values(table) == {1: "a", 2: "b"}
    [found] = table.rejected
    assert found.rule == "tombstone_key"
    assert found.reason.startswith(what)
    assert found.rows.column("_offset").to_pylist() == [2]


def test_tombstones_of_several_keys(tmp_path: Path) -> None:
    spec = replace(KEYED, keys=("id", "n"))
    rows = [row(1, 0, "a", 0), row(1, 0, "b", 1)]
    table = follow(tmp_path, spec, rows, [dead(b'{"id":1,"n":"a"}', 2), dead(b"1", 3)])
    assert [r["n"] for r in table.rows()] == ["b"]
    assert rejections(table.rejected) == [("tombstone_key", "_key", "1")]


def test_tombstones_that_are_ignored_and_those_that_nothing_orders(tmp_path: Path) -> None:
    rows = [row(1, 0, "a", 0)]
    table = follow(tmp_path / "a", replace(KEYED, tombstones="ignore"), rows, [dead(b"1", 2)])
    assert values(table) == {1: "a"}
    table = follow(tmp_path / "b", replace(KEYED, sequence_by=("n",)), rows, [dead(b"1", 2)])
    assert values(table) == {1: "a"}
    assert rejections(table.rejected) == [("delete_sequence", "n", None)]


@pytest.mark.spec("D1")
def test_null_keys_and_missing_values_are_rejected(tmp_path: Path) -> None:
    spec = replace(KEYED, not_null=("n",), types={"n": "int"})
    rows = [
        row(1, 0, "1", 0),
        row(1, 1, "x", 1),
        {"id": 2, "at": minute(0), "_offset": 2},
        {"at": minute(0), "n": "3", "_offset": 3},
    ]
    table = follow(tmp_path, spec, rows)
    assert values(table) == {1: 1}
    assert rejections(table.rejected) == [
        ("key", "id", None),
        ("not_null(n)", "n", None),
        ("type_conversion", "n", "x"),
    ]
    schema = ENGINE.read(str(table.target), Read()).schema
    assert not schema.field("id").nullable
    assert not schema.field("n").nullable


@pytest.mark.spec("D4")
@pytest.mark.parametrize(
    ("resolve", "expected"),
    [
        ("latest", {1: "5", 2: "9"}),
        ("source", {1: "1", 2: "9"}),
        ("target", {1: "5", 2: "3"}),
        ("source.n < target.n", {1: "1", 2: "3"}),
    ],
)
def test_conflict_resolution(tmp_path: Path, resolve: str, expected: dict[int, str]) -> None:
    first = [row(1, 5, "5", 0), row(2, 3, "3", 1)]
    second = [row(1, 1, "1", 2), row(2, 9, "9", 3)]
    table = follow(tmp_path, replace(KEYED, resolve=resolve), first, second)
    assert values(table) == expected


@pytest.mark.spec("D4")
def test_deletes_follow_the_resolution(tmp_path: Path) -> None:
    for resolve, expected in (("source", {}), ("target", {1: "a"})):
        spec = replace(KEYED, resolve=resolve)
        # By the order the delete is older than the row.
        table = follow(tmp_path / resolve, spec, [row(1, 9, "a", 9)], [dead(b"1", 2)])
        assert values(table) == expected


def test_columns_are_chosen_renamed_and_computed(tmp_path: Path) -> None:
    spec = replace(
        KEYED,
        keys=("key",),
        columns={"key": "id", "twice": "n * 2", "n": "n"},
        types={"n": "decimal(9,2)"},
        where="n > 1",
    )
    rows = [row(1, 0, "1.5", 0), row(2, 0, "0.5", 1), row(3, 0, "2", 2)]
    table = follow(tmp_path, spec, rows, [dead(b"3", 9)])
    [found] = table.rows()
    assert (found["key"], found["n"], found["twice"]) == (1, Decimal("1.50"), Decimal("3.00"))
    assert list(found) == [
        "key",
        "twice",
        "n",
        "at",
        *("_timestamp", "_topic", "_partition", "_offset"),
    ]


def test_texts_that_a_partition_column_cannot_hold_are_rejected(tmp_path: Path) -> None:
    spec = replace(KEYED, partition_by=("n",))
    table = follow(tmp_path, spec, [row(1, 0, "", 0), row(2, 0, "x", 1)])
    assert values(table) == {2: "x"}
    assert rejections(table.rejected) == [("partition_value", "n", "")]


def test_what_rows_hold_by_default(tmp_path: Path) -> None:
    table = follow(tmp_path, KEYED, [row(1, 0, "a", 0)])
    ties = ["_timestamp", "_topic", "_partition", "_offset"]
    assert list(table.rows()[0]) == ["id", "at", "n", *ties]


@pytest.mark.spec("D1")
def test_appended_rows_refuse_a_source_that_changes(tmp_path: Path) -> None:
    spec = RowWiseSpec("silver.t", "append")
    table = follow(tmp_path, spec, [row(1, 0, "a", 0), row(2, 0, "b", 1)])
    ENGINE.execute(str(table.source), Delete("id = 1"))
    with pytest.raises(SourceRowsLeft, match=r"versions 2 to 2 of bronze\.t .* took away 1 rows"):
        table.run()
    assert values(table) == {1: "a", 2: "b"}
    table.spec = replace(spec, on_source_delete="ignore")
    table.run()
    put(table.source, [row(3, 0, "c", 2), dead(b"1", 3)], PAYLOAD)
    table.run()
    assert values(table) == {1: "a", 2: "b", 3: "c"}
    assert not table.rejected


@pytest.mark.spec("D1")
def test_rows_that_leave_the_source_uncover_older_ones(tmp_path: Path) -> None:
    table = follow(
        tmp_path,
        KEYED,
        [row(1, 0, "old", 0), row(2, 0, "b", 1)],
        [row(1, 5, "new", 2), dead(b"2", 3)],
    )
    assert values(table) == {1: "new"}
    ENGINE.execute(str(table.source), Restore(version=1))
    table.run()
    assert values(table) == {1: "old", 2: "b"}
    # What was remembered of the delete is forgotten with it.
    put(table.source, [row(2, 1, "late", 4)], PAYLOAD)
    table.run()
    assert values(table) == {1: "old", 2: "late"}
    ENGINE.execute(str(table.source), Delete("id = 1"))
    table.run()
    assert values(table) == {2: "late"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": ("idd",)}, "keys: there is no column 'idd'"),
        ({"sequence_by": ("att",)}, "sequence_by: there is no column 'att'"),
        ({"types": {"m": "int"}}, "types: there is no column 'm'"),
        ({"types": {"_headers": "int"}}, "which is not converted into int"),
        ({"where": "m = 1"}, "where: there is no column 'm'"),
        ({"where": "n"}, "is a value, not a condition"),
        ({"columns": {"id": "id", "x": "now()"}}, "which is not allowed"),
        ({"columns": {"id": "id + 1"}}, "the key 'id' is computed"),
        ({"resolve": "source.m > 1"}, "there is no column 'm'"),
        ({"partition_by": ("date(n)",)}, r"date\(n\): 'n' is string"),
        ({"partition_by": ("m",)}, "partition_by: there is no column 'm'"),
        ({"envelope": "debezium"}, "no columns op, before and after"),
        ({"sequence_by": ("score",)}, "'score' is double, which puts no rows in order"),
    ],
)
def test_definitions_that_do_not_fit_the_source(change: dict[str, Any], message: str) -> None:
    source = pa.schema(
        [
            *PAYLOAD,
            ("score", pa.float64()),
            ("_headers", pa.list_(pa.string())),
            ("_offset", pa.int64()),
            ("_tombstone", pa.bool_()),
            ("_key", pa.binary()),
        ]
    )
    with pytest.raises(TransformRefused, match=message):
        derivation_of(replace(KEYED, **change)).table(source)


def test_a_source_without_anything_that_orders_rows() -> None:
    spec = RowWiseSpec("silver.t", "upsert", keys=("id",))
    with pytest.raises(TransformRefused, match="nothing orders the rows of a key"):
        derivation_of(spec).table(PAYLOAD)


def test_a_spec_of_a_tables_model() -> None:
    known = {"from": "bronze.t", "keys": ["id"]}
    more = {"sequence_by": "at", "columns": ["id", "n"], "types": {"n": "int"}}
    model = UpsertTable.model_validate({"mode": "upsert", **known, **more})
    spec = RowWiseSpec.of("silver.t", model, source_keys=("id",))
    assert (spec.sequence_by, spec.columns) == (("at",), {"id": "id", "n": "n"})
    assert (spec.keyed, spec.tombstones_delete, spec.when_rows_leave) == (True, True, "follow")
    assert (spec.source_keys, spec.resolve) == (("id",), "latest")
    plain = RowWiseSpec.of(
        "silver.t", AppendTable.model_validate({"mode": "append", "from": "bronze.t"})
    )
    assert (plain.columns, plain.keys, plain.where) == (None, (), None)
    assert (plain.keyed, plain.tombstones_delete, plain.when_rows_leave) == (False, False, "refuse")


CUSTOMERS = RowWiseSpec(
    "gold.customers",
    "scd2",
    keys=("id",),
    sequence_by=("at",),
    track=("n",),
    source_keys=("order",),
)
ORDERS = pa.schema([("order", pa.int64()), *PAYLOAD])


def orders(*rows: tuple[int, int, float, str]) -> pa.Table:
    columns = [{"order": o, "id": c, "at": minute(at), "n": n} for o, c, at, n in rows]
    return pa.Table.from_pylist(columns, ORDERS)


def versions(table: Stepper) -> list[tuple[Any, ...]]:
    request = no_tombstones(SimpleNamespace(valid_from="valid_from", valid_to="valid_to"))  # type: ignore[arg-type]
    found = [(r["id"], r["n"], r["valid_from"], r["valid_to"]) for r in table.rows(where=request)]
    return sorted(found, key=lambda one: (one[0], one[2]))


@pytest.mark.spec("D2")
@pytest.mark.parametrize("feed", ["true", "false"])
def test_versions_of_a_source_that_is_updated(tmp_path: Path, feed: str) -> None:
    source = tmp_path / "silver"
    ENGINE.execute(str(source), Create(ORDERS, properties={"delta.enableChangeDataFeed": feed}))
    table = Stepper(CUSTOMERS, source, tmp_path / "gold")

    def do(*operations: Any) -> list[tuple[Any, ...]]:
        for one in operations:
            ENGINE.execute(str(source), one)
        table.run()
        return versions(table)

    upsert = Upsert(orders((10, 1, 5, "b")), ("order",))
    assert do(Append(orders((10, 1, 0, "a"), (11, 1, 2, "a"), (12, 2, 0, "x")))) == [
        (1, "a", minute(0), None),
        (2, "x", minute(0), None),
    ]
    # What an updated row was before says nothing new.
    assert do(upsert) == [
        (1, "a", minute(0), minute(5)),
        (1, "b", minute(5), None),
        (2, "x", minute(0), None),
    ]
    # One of a customer's rows leaves, and another one stays: the customer is still there.
    assert do(Delete('"order" = 11'))[1] == (1, "b", minute(5), None)
    # The last one leaves: its version is closed right after its place.
    end = minute(5).replace(microsecond=1)
    assert do(Delete('"order" = 10'))[:2] == [
        (1, "a", minute(0), minute(5)),
        (1, "b", minute(5), end),
    ]
    # A row that comes late does not open it again; a later one does.
    late = do(Append(orders((13, 1, 3, "late"))))
    assert late[:3] == [
        (1, "a", minute(0), minute(3)),
        (1, "late", minute(3), minute(5)),
        (1, "b", minute(5), end),
    ]
    assert do(Append(orders((14, 1, 7, "back"))))[3] == (1, "back", minute(7), None)
    # A key that moves away leaves the one that it was.
    moved = do(Update({"id": "3", "at": "timestamp '2026-01-31T12:09:00Z'"}, where='"order" = 12'))
    assert moved[4:] == [
        (2, "x", minute(0), minute(0).replace(microsecond=1)),
        (3, "x", minute(9), None),
    ]


@pytest.mark.spec("D2")
def test_versions_of_a_row_that_comes_and_leaves_in_one_step(tmp_path: Path) -> None:
    source = tmp_path / "silver"
    ENGINE.execute(str(source), Create(ORDERS))
    ENGINE.execute(str(source), Append(orders((1, 7, 0, "z"))))
    table = Stepper(CUSTOMERS, source, tmp_path / "gold").run()
    ENGINE.execute(str(source), Append(orders((2, 1, 0, "a"))))
    ENGINE.execute(str(source), Delete("id = 1"))
    table.run()
    assert versions(table) == [
        (1, "a", minute(0), minute(0).replace(microsecond=1)),
        (7, "z", minute(0), None),
    ]
