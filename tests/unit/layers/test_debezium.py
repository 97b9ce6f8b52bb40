"""Change events of Debezium make the table that the database has, in any order, also repeated."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raylake.codecs.infer import infer_schema
from raylake.layers.row_spec import RowWiseSpec
from tests.harness.derived_steps import Stepper, bronze, minute, put, rejections

ROW = pa.struct([("id", pa.int64()), ("email", pa.string()), ("balance", pa.string())])


def envelope(source: pa.DataType) -> pa.Schema:
    fields = [("before", ROW), ("after", ROW), ("op", pa.string()), ("ts_ms", pa.int64())]
    return pa.schema([*fields, ("source", source)])


POSTGRES = envelope(pa.struct([("lsn", pa.int64()), ("ts_ms", pa.int64())]))
MYSQL = envelope(pa.struct([("file", pa.string()), ("pos", pa.int64()), ("row", pa.int32())]))
SPEC = RowWiseSpec(
    "silver.users", "upsert", keys=("id",), envelope="debezium", types={"balance": "decimal(9,2)"}
)


def user(key: int, balance: str = "1.00") -> dict[str, Any]:
    return {"id": key, "email": f"{key}@x", "balance": balance}


def event(op: str, lsn: int, before: Any = None, after: Any = None, **more: Any) -> dict[str, Any]:
    """An event, and its record's offset and time in the order of arrival in the topic."""
    source = {"lsn": lsn, "ts_ms": lsn * 1000}
    known = {"op": op, "before": before, "after": after, "ts_ms": lsn * 1000 + 7}
    kafka = {"_offset": lsn, "_timestamp": minute(0), "_key": b'{"id":0}'}
    return known | {"source": source} | kafka | more


HISTORY = [
    event("r", 1, after=user(1)),
    event("c", 2, after=user(2)),
    event("u", 3, user(1), user(1, "5.00")),
    event("d", 4, {"id": 2, "email": None, "balance": None}),
    event("c", 5, after=user(3)),
    event("u", 6, user(3), user(3, "9.50")),
    event("d", 7, user(3, "9.50")),
    event("c", 8, after=user(3, "0.10")),
]
EXPECTED = {1: "5.00", 3: "0.10"}


def balances(table: Stepper) -> dict[int, str]:
    return {row["id"]: str(row["balance"]) for row in table.rows()}


def tombstone(offset: int) -> dict[str, Any]:
    return {
        "_tombstone": True, "_offset": offset, "_timestamp": minute(0), "_key": b'{"id":1}'
    }  # fmt: skip


@pytest.mark.spec("D1", "A5")
@pytest.mark.parametrize("seed", range(6))
def test_failure_26_inserts_updates_and_deletes_in_any_order_and_twice(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    arriving = [*HISTORY, tombstone(90)]
    if seed:
        arriving += chance.sample(HISTORY, 4)
        chance.shuffle(arriving)
    source = bronze(tmp_path / "bronze", POSTGRES)
    table = Stepper(SPEC, source, tmp_path / "silver")
    cuts = sorted({0, len(arriving), *chance.sample(range(1, len(arriving)), seed % 4)})
    for start, end in itertools.pairwise(cuts):
        put(source, arriving[start:end], POSTGRES)
        table.run()
    assert balances(table) == EXPECTED
    assert not table.rejected
    [row] = [row for row in table.rows() if row["id"] == 3]
    assert (row["email"], row["_source_lsn"], row["_offset"]) == ("3@x", 8, 8)


def test_events_that_are_no_row(tmp_path: Path) -> None:
    source = bronze(tmp_path / "bronze", POSTGRES)
    bad = [
        event("t", 20),
        event("x", 21, after=user(1)),
        event("d", 22),
        event("u", 23, before=user(1)),
        event("c", 24, after={"id": None, "email": "x", "balance": "1"}),
        event("d", 25, before={"id": None, "email": "x", "balance": "1"}),
        event("u", 26, after=user(1, "much")),
        event("u", 27, after=user(1)) | {"op": None},
    ]
    put(source, [*HISTORY, *bad], POSTGRES)
    table = Stepper(SPEC, source, tmp_path / "silver").run()
    assert balances(table) == EXPECTED
    assert rejections(table.rejected) == [
        ("envelope", "op", "d"),
        ("envelope", "op", "t"),
        ("envelope", "op", "u"),
        ("envelope", "op", "x"),
        ("envelope", "op", None),
        ("key", "id", None),
        ("key", "id", None),
        ("type_conversion", "balance", "much"),
    ]


def test_mysql_events_are_ordered_by_file_position_and_row(tmp_path: Path) -> None:
    places = [("bin.000002", 4, 0), ("bin.000001", 900, 1), ("bin.000001", 900, 0)]
    rows = [
        event("u", n, after=user(1, str(n)))
        | {"source": dict(zip(("file", "pos", "row"), p, strict=True))}
        for n, p in enumerate(places)
    ]
    source = bronze(tmp_path / "bronze", MYSQL)
    table = Stepper(SPEC, source, tmp_path / "silver")
    for one in rows:
        put(source, [one], MYSQL)
        table.run()
    assert balances(table) == {1: "0.00"}
    put(source, [event("d", 9, user(1)) | {"source": {"file": "bin.000002", "pos": 5}}], MYSQL)
    assert balances(table.run()) == {}


def test_a_column_of_the_row_orders_events_where_it_is_asked_for(tmp_path: Path) -> None:
    spec = RowWiseSpec(
        "silver.users", "upsert", keys=("id",), envelope="debezium", sequence_by=("balance",)
    )
    source = bronze(tmp_path / "bronze", POSTGRES)
    rows = [event("u", 9, after=user(1, "b")), event("u", 10, after=user(1, "a"))]
    # REPLICA IDENTITY DEFAULT: nothing but the key is known of what was deleted.
    lost = event("d", 11, {"id": 1, "email": None, "balance": None})
    put(source, [*rows, lost], POSTGRES)
    table = Stepper(spec, source, tmp_path / "silver").run()
    assert balances(table) == {1: "b"}
    assert rejections(table.rejected) == [("delete_sequence", "balance", None)]


def test_events_with_a_schema_as_kafka_connect_writes_them(tmp_path: Path) -> None:
    payload = [{k: one[k] for k in ("op", "before", "after", "ts_ms", "source")} for one in HISTORY]
    texts = [json.dumps({"schema": {"type": "struct"}, "payload": one}).encode() for one in payload]
    schema = infer_schema(texts)
    source = bronze(tmp_path / "bronze", schema)
    rows = [
        json.loads(text) | {"_offset": n, "_timestamp": minute(n)} for n, text in enumerate(texts)
    ]
    put(source, rows, schema)
    assert balances(Stepper(SPEC, source, tmp_path / "silver").run()) == EXPECTED


def test_events_are_appended_as_they_are(tmp_path: Path) -> None:
    spec = RowWiseSpec("silver.log", "append", envelope="debezium")
    source = bronze(tmp_path / "bronze", POSTGRES)
    put(source, HISTORY, POSTGRES)
    table = Stepper(spec, source, tmp_path / "silver").run()
    assert sorted(row["_source_lsn"] for row in table.rows()) == [1, 2, 3, 5, 6, 8]


@pytest.mark.spec("D2")
def test_versions_of_events(tmp_path: Path) -> None:
    spec = RowWiseSpec("gold.users", "scd2", keys=("id",), track=("balance",), envelope="debezium")
    source = bronze(tmp_path / "bronze", POSTGRES)
    table = Stepper(spec, source, tmp_path / "gold")
    for one in (HISTORY[4:], HISTORY[:5]):
        put(source, one, POSTGRES)
        table.run()
    found = [(r["id"], r["balance"], r["valid_from"], r["valid_to"]) for r in table.rows()]
    assert sorted(found, key=lambda one: (one[0], one[2])) == [
        (1, "1.00", 1, 3),
        (1, "5.00", 3, None),
        (2, "1.00", 2, 4),
        (3, "1.00", 5, 6),
        (3, "9.50", 6, 7),
        (3, "0.10", 8, None),
    ]
