"""One engine writes a table and the other goes on, in both orders."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from raylake.spark.engine import SparkEngine
from raylake.spark.engine_sessions import one_session
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import (
    Append,
    Create,
    Delete,
    DeleteUnmatched,
    Overwrite,
    Restore,
    Update,
    Upsert,
)
from tests.harness.tables import FEED, NAIVE, NOON, SCHEMA, Table, orders

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Pair = tuple[Table, Table]
EVERY_KIND = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("tiny", pa.int8()),
        ("small", pa.int16()),
        ("n", pa.int32()),
        ("f", pa.float32()),
        ("d", pa.float64()),
        ("money", pa.decimal128(18, 2)),
        ("text", pa.string()),
        ("raw", pa.binary()),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("local", pa.timestamp("us")),
        ("tags", pa.list_(pa.string())),
        ("counts", pa.map_(pa.string(), pa.int64())),
        ("place", pa.struct([("city", pa.string()), ("zip", pa.int32())])),
    ]
)


@pytest.fixture(params=["delta-rs, then spark", "spark, then delta-rs"])
def pair(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Pair:
    """One table in the hands of two engines."""
    engines = [DeltaRsEngine(), SparkEngine(one_session(spark))]
    if request.param.startswith("spark"):
        engines.reverse()
    first, second = (Table(one, tmp_path / "orders") for one in engines)
    return first, second


def agreed(pair: Pair, **request: Any) -> list[dict[str, Any]]:
    """What both engines read, which is the same."""
    one, other = (table.rows(**request) for table in pair)
    assert one == other
    return one


def amounts(pair: Pair) -> dict[int, int]:
    return {row["id"]: row["amount"] for row in agreed(pair, columns=("id", "amount"))}


@pytest.mark.spec("C1", "C2", "C3", "C4", "C6")
def test_each_goes_on_where_the_other_stopped(pair: Pair) -> None:
    first, second = pair
    first.do(Create(SCHEMA, properties=FEED))
    first.do(Append(orders(range(20))))
    second.do(Append(orders(range(20, 40))))
    first.do(Upsert(orders(range(35, 45), 2), ("id",)))
    result = second.do(Upsert(orders(range(40, 50), 3), ("id", "region")))
    assert (result.rows.updated, result.rows.inserted) == (5, 5)
    expected = {n: 1 if n < 35 else 2 if n < 40 else 3 for n in range(50)}
    assert amounts(pair) == expected

    first.do(Delete("id >= 45"))
    second.do(Update({"amount": "amount + 10"}, where="id < 5"))
    expected = {n: a + 10 if n < 5 else a for n, a in expected.items() if n < 45}
    assert amounts(pair) == expected
    first.do(Overwrite(orders([7, 8], 77), where="id between 5 and 9"))
    second.do(Overwrite(orders([10], 70), where="id between 10 and 14"))
    kept = {n: a for n, a in expected.items() if not 5 <= n < 15}
    assert amounts(pair) == {**kept, 7: 77, 8: 77, 10: 70}
    unmatched = DeleteUnmatched("target.id > 20")
    second.do(Upsert(orders([0], 0), ("id",), not_matched_by_source=unmatched))
    assert sorted(amounts(pair)) == [*range(5), 7, 8, 10, *range(15, 21)]

    first.do(Overwrite(orders(range(3))))
    second.do(Overwrite(orders(range(4))))
    first.do(Restore(version=1))
    assert [row["id"] for row in agreed(pair)] == list(range(20))
    second.do(Restore(version=5))
    assert sorted(amounts(pair)) == list(range(45))
    _the_past_is_one(pair)


def _the_past_is_one(pair: Pair) -> None:
    """Versions, times, history and the change feed tell both engines the same."""
    first, second = pair
    newest = first.version
    for version in range(newest + 1):
        by_version = agreed(pair, version=version, columns=("id", "amount"))
        made = first.made_at(version)
        assert agreed(pair, at=made, columns=("id", "amount")) == by_version
    assert first.engine.history(str(first.path)) == second.engine.history(str(second.path))
    # A restore's changes are told by whichever engine reads them.
    for start, end in ((1, 4), (5, 8), (1, newest - 2)):
        feed = first.changes(from_version=start, to_version=end)
        assert feed == second.changes(from_version=start, to_version=end)
        assert feed


@pytest.mark.spec("C1", "C3")
def test_values_of_every_kind_pass_from_one_to_the_other(pair: Pair) -> None:
    first, second = pair
    first.do(Create(EVERY_KIND))
    row = {
        "id": 1,
        "tiny": -128,
        "small": 32767,
        "n": -(2**31),
        "f": 1.5,
        "d": float("inf"),
        "money": decimal.Decimal("-9999999999999999.99"),
        "text": "ü\n\\'\"`",
        "raw": b"\x00\xff",
        "flag": True,
        "day": dt.date(1500, 3, 1),
        "at": NOON.replace(year=1200, microsecond=999_999),
        "local": NAIVE.replace(year=1200, microsecond=1),
        "tags": ["a", None, ""],
        "counts": [("x", 1), ("y", None)],
        "place": {"city": None, "zip": 7},
    }
    nothing = {**dict.fromkeys(EVERY_KIND.names), "id": 2}
    for table, start in ((first, 0), (second, 10)):
        rows = [{**one, "id": one["id"] + start} for one in (row, nothing)]
        table.do(Append(pa.Table.from_pylist(rows, schema=EVERY_KIND)))
    found = {one["id"]: one for one in agreed(pair)}
    assert found == {
        **{n: {**row, "id": n} for n in (1, 11)},
        2: nothing,
        12: {**nothing, "id": 12},
    }
    for table in pair:
        assert table.ids(where="local < '1200-02-01'") == [1, 11]
        assert table.ids(where="day = date '1500-03-01' and flag") == [1, 11]
        some = "money = -9999999999999999.99 and at < '1300-01-01T00:00:00Z' or id = 2"
        assert sorted(table.ids(where=some)) == [1, 2, 11]


@pytest.mark.spec("C1")
def test_partition_values_pass_from_one_to_the_other(pair: Pair) -> None:
    first, second = pair
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("text", pa.string()),
            ("day", pa.date32()),
            ("at", pa.timestamp("us", tz="UTC")),
            ("n", pa.int32()),
        ]
    )
    first.do(Create(schema, partition_by=("text", "day", "at", "n")))
    texts = ["plain", "a b/c=%25&ü", "", None]
    for table, start in ((first, 0), (second, 10)):
        rows = [
            {
                "id": start + at,
                "text": text,
                "day": None if text is None else dt.date(2026, 1, 31),
                "at": None if text is None else NOON.replace(microsecond=123_456),
                "n": None if text is None else -at,
            }
            for at, text in enumerate(texts)
        ]
        table.do(Append(pa.Table.from_pylist(rows, schema=schema)))
    found = {row["id"]: row for row in agreed(pair)}
    # Delta knows no empty text as a partition's value: it is a missing one.
    assert [found[n]["text"] for n in (0, 1, 2, 3)] == ["plain", "a b/c=%25&ü", None, None]
    for at in range(4):
        assert {**found[at], "id": at + 10} == found[at + 10]
    second.do(Delete("text = 'a b/c=%25&ü' and at = '2026-01-31T12:00:00.123456Z'"))
    first.do(Update({"n": "5"}, where="text = 'plain'"))
    assert {row["id"]: row["n"] for row in agreed(pair)} == {
        0: 5,
        10: 5,
        2: -2,
        3: None,
        12: -2,
        13: None,
    }


@pytest.mark.spec("C7")
def test_constraints_of_one_hold_for_the_other(pair: Pair) -> None:
    first, _ = pair
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("netAmount", pa.int32())])
    first.do(Create(schema, constraints={"positive": "netAmount >= 0 and netAmount <> 13"}))
    for table in pair:
        table.do(Append(pa.table({"id": [1], "netAmount": [5]}, schema=schema)))
        for bad in (-1, 13, None):
            rows = pa.table({"id": [2], "netAmount": [bad]}, schema=schema)
            with pytest.raises(errors.ValuesRefused, match="positive"):
                table.do(Append(rows))
        with pytest.raises(errors.ValuesRefused, match="positive"):
            table.do(Update({"netAmount": "-1"}))
    assert [row["netAmount"] for row in agreed(pair)] == [5, 5]


@pytest.mark.spec("C7")
def test_columns_that_one_adds_the_other_writes(pair: Pair) -> None:
    first, second = pair
    first.do(Create(SCHEMA))
    first.do(Append(orders([1])))
    second.do(Append(orders([2], note=["b"]), schema="merge"))
    first.do(Upsert(orders([1, 3], note=["a", "c"]), ("id",)))
    assert [row["note"] for row in agreed(pair)] == ["a", "b", "c"]
    assert "note" not in agreed(pair, version=1)[0]


@pytest.mark.spec("C6")
def test_rows_that_a_deletion_vector_took_stay_away(spark: SparkSession, tmp_path: Path) -> None:
    by_spark, by_delta_rs = (
        Table(one, tmp_path / "t") for one in (SparkEngine(one_session(spark)), DeltaRsEngine())
    )
    pair = (by_spark, by_delta_rs)
    by_spark.do(Create(SCHEMA, properties={"delta.enableDeletionVectors": "true"}))
    by_spark.do(Append(orders(range(20))))
    result = by_spark.do(Delete("id < 5"))
    assert result.rows.deleted == 5
    assert "deletionVector" in (by_spark.path / "_delta_log" / f"{2:020d}.json").read_text()
    assert [row["id"] for row in agreed(pair, columns=("id",))] == list(range(5, 20))
    by_delta_rs.do(Upsert(orders([3, 7], 2), ("id",)))
    by_spark.do(Update({"amount": "4"}, where="id = 8"))
    by_delta_rs.do(Delete("id = 9"))
    kept = {n: 1 for n in range(5, 20) if n != 9}
    assert amounts(pair) == {3: 2, **kept, 7: 2, 8: 4}
    by_delta_rs.do(Update({"amount": "amount + 1"}))
    assert amounts(pair) == {n: a + 1 for n, a in {3: 2, **kept, 7: 2, 8: 4}.items()}


@pytest.mark.spec("C6")
def test_checkpoints_of_both_lead_both_on(pair: Pair) -> None:
    first, second = pair
    first.do(Create(SCHEMA, properties={"delta.checkpointInterval": "2"}))
    for at in range(8):
        (first, second)[at % 4 // 2].do(Append(orders([at])))
    assert [row["id"] for row in agreed(pair, columns=("id",))] == list(range(8))
    log = first.path / "_delta_log"
    assert len(list(log.glob("*.checkpoint.parquet"))) >= 3
    assert (log / "_last_checkpoint").exists()


FEATURES = {
    "clustering": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta CLUSTER BY (id)",
    "rowTracking": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta "
    "TBLPROPERTIES ('delta.enableRowTracking' = 'true')",
    "typeWidening": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta "
    "TBLPROPERTIES ('delta.enableTypeWidening' = 'true')",
    "inCommitTimestamp": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta "
    "TBLPROPERTIES ('delta.enableInCommitTimestamps' = 'true')",
    "generatedColumns": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT, "
    "twice INT GENERATED ALWAYS AS (amount * 2)) USING delta",
    "identityColumns": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT, "
    "number BIGINT GENERATED ALWAYS AS IDENTITY) USING delta",
    "columnMapping": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta "
    "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
}


@pytest.mark.spec("C6")
@pytest.mark.parametrize("feature", sorted(FEATURES))
def test_what_only_spark_writes_delta_rs_refuses_by_name(
    spark: SparkSession, tmp_path: Path, feature: str
) -> None:
    path = tmp_path / "t"
    spark.newSession().sql(FEATURES[feature].format(path))
    by_spark = Table(SparkEngine(one_session(spark)), path)
    by_delta_rs = Table(DeltaRsEngine(), path)
    rows = pa.table({"id": [1, 2], "amount": pa.array([1, 1], pa.int32())})
    by_spark.do(Append(rows))
    changed = pa.table({"id": [2, 3], "amount": pa.array([2, 2], pa.int32())})
    for operation in (Append(rows), Upsert(changed, ("id",)), Delete("id = 1")):
        with pytest.raises(errors.FeatureUnsupported) as caught:
            by_delta_rs.do(operation)
        assert caught.value.context["feature"].startswith(feature)
        assert "engine: spark" in caught.value.hint
        assert by_spark.version == 1
    by_spark.do(Upsert(changed, ("id",)))
    by_spark.do(Update({"amount": "9"}, where="id = 1"))
    assert by_spark.amounts() == {1: 9, 2: 2, 3: 2}


CONDITIONS: dict[str, Callable[[Any], bool]] = {
    "x / 3.0 > 0.3333333 and x / 3.0 < 0.3333334": lambda r: r["x"] == 1,
    "x % 3 = -1": lambda r: r["x"] == -7,
    "x % 3 = 1 or s is distinct from 'A'": lambda r: r["x"] in (1, 100) or r["s"] != "A",
    "s in ('A', 'b') or x not in (1, null)": lambda r: r["s"] in ("A", "b"),
    "not (s = 'A')": lambda r: r["s"] not in ("A", None),
    "s like 'a\\_%' or s ilike 'B'": lambda r: r["s"] in ("a_c", "b"),
    "lower(s) = 'a' and length(s) = 1": lambda r: r["s"] == "A",
    "substring(s, 2, 2) = '_c'": lambda r: r["s"] == "a_c",
    "trim(s) = 'sp'": lambda r: r["s"] == " sp ",
    "coalesce(s, 'none') = 'none' or nullif(x, 1) is null": lambda r: (
        r["s"] is None or r["x"] in (1, None)
    ),
    "f > 1e300": lambda r: r["f"] is not None and r["f"] != 0.1,
    "f = 0.1": lambda r: r["f"] == 0.1,
    "m * 1.5 = 1.65 or m = 2.20": lambda r: (
        r["m"] in (decimal.Decimal("1.10"), decimal.Decimal("2.20"))
    ),
    "case when x > 1 then s = 'b' else s = 'A' end": lambda r: (
        r["s"] == "b" if (r["x"] or 0) > 1 else r["s"] == "A"
    ),
    "s || '!' = 'A!'": lambda r: r["s"] == "A",
    "cast(x as text) = '100' or cast(s as text) = 'b'": lambda r: r["x"] == 100 or r["s"] == "b",
    "at >= '2026-01-31T13:00:00+01:00' and d < '2026-02-01'": lambda r: r["at"] is not None,
}


@pytest.mark.spec("C2")
def test_conditions_mean_the_same_to_both(pair: Pair) -> None:
    first, _ = pair
    rows = [
        {"x": 1, "s": "A", "f": 0.1, "m": "1.10"},
        {"x": -7, "s": "a_c", "f": float("inf"), "m": "2.20"},
        {"x": 100, "s": "b", "f": float("nan"), "m": None},
        {"x": None, "s": None, "f": None, "m": "0.00"},
        {"x": 0, "s": " sp ", "f": None, "m": None},
        {"x": 2, "s": "", "f": None, "m": None},
    ]
    schema = pa.schema(
        [
            ("x", pa.int32()),
            ("s", pa.string()),
            ("f", pa.float64()),
            ("m", pa.decimal128(9, 2)),
            ("at", pa.timestamp("us", tz="UTC")),
            ("d", pa.date32()),
        ]
    )
    for row in rows:
        row["m"] = None if row["m"] is None else decimal.Decimal(row["m"])
        row["at"] = NOON if row["x"] == 1 else None
        row["d"] = NOON.date() if row["x"] == 1 else None
    first.do(Create(schema))
    first.do(Append(pa.Table.from_pylist(rows, schema=schema)))
    for text, holds in CONDITIONS.items():
        found = [[row["x"] for row in table.rows(where=text)] for table in pair]
        expected = [row["x"] for row in rows if holds(row)]
        for one in (*found, expected):
            one.sort(key=lambda x: (x is None, x))
        assert found == [expected, expected], text
