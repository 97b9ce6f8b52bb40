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
from raylake.tables.cow_upsert import WHY
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import (
    Append,
    Changes,
    Create,
    Delete,
    DeleteUnmatched,
    Overwrite,
    Restore,
    Update,
    UpdateUnmatched,
    Upsert,
)
from raylake.tables.scd1 import scd1
from raylake.tables.upkeep_requests import Compact
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


OTHER_WAY = pytest.param("spark, then delta-rs", marks=pytest.mark.long)
"""The engines take turns in any case; who begins is varied in the long form."""


@pytest.fixture(params=["delta-rs, then spark", OTHER_WAY])
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


@pytest.mark.spec("C2", "C3", "C6")
def test_every_reader_takes_the_same_changes_of_a_merge(
    spark: SparkSession, tmp_path: Path
) -> None:
    """RayLake's merge writes the feed; delta-rs, RayLake and Spark read it."""
    ours = Table(DeltaRsEngine(), tmp_path / "orders")
    theirs = Table(SparkEngine(one_session(spark)), ours.path)
    ours.do(Create(SCHEMA, partition_by=("region",), properties=FEED))
    ours.do(Append(orders(range(40))))
    new = orders([1, 2, 12, 41, 42], 7, region=["r1", "r9", "ü", "r1", None])
    done = ours.do(
        Upsert(
            pa.concat_tables([new, orders([3, 13], 0)]),
            ("id",),
            delete_when="source.amount = 0",
        )
    )
    assert done.why.endswith(WHY)
    found = ours.changes(from_version=2)
    assert found == [
        *((2, "delete", n, 1) for n in (3, 13)),
        *((2, "insert", n, 7) for n in (41, 42)),
        *((2, "update_postimage", n, 7) for n in (1, 2, 12)),
        *((2, "update_preimage", n, 1) for n in (1, 2, 12)),
    ]
    assert theirs.changes(from_version=2) == found
    asked = Changes(from_version=2)
    regions = [
        sorted(
            (str(r["region"]), r["_change_type"], r["id"], r["place"]["city"])
            for r in one.engine.changes(str(one.path), asked).read_all().to_pylist()
        )
        for one in (ours, theirs)
    ]
    assert regions[0] == regions[1]
    assert ("r2", "update_preimage", 12, "c12") in regions[0]
    assert ("ü", "update_postimage", 12, "c12") in regions[0]
    # And both go on.
    theirs.do(Upsert(orders([2], 9), ("id",)))
    ours.do(Upsert(orders([2], 8), ("id",)))
    after = ours.changes(from_version=3)
    assert after == theirs.changes(from_version=3)
    assert [(v, k, a) for v, k, _, a in after] == [
        *((3, "update_postimage", 9), (3, "update_preimage", 7)),
        *((4, "update_postimage", 8), (4, "update_preimage", 9)),
    ]


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

    first.do(Delete("id >= 45"))
    second.do(Update({"amount": "amount + 10"}, where="id < 5"))
    expected = {n: a + 10 if n < 5 else a for n, a in expected.items() if n < 45}
    assert amounts(pair) == expected
    first.do(Overwrite(orders([7, 8], 77), where="id between 5 and 9"))
    second.do(Overwrite(orders([10], 70), where="id between 10 and 14"))
    unmatched = DeleteUnmatched("target.id > 20")
    second.do(Upsert(orders([0], 0), ("id",), not_matched_by_source=unmatched))
    kept = {n: a for n, a in expected.items() if not 5 <= n < 15 and n <= 20}
    assert amounts(pair) == {**kept, 0: 0, 7: 77, 8: 77, 10: 70}

    first.do(Overwrite(orders(range(3))))
    second.do(Overwrite(orders(range(4))))
    first.do(Restore(version=1))
    assert first.ids() == list(range(20))
    second.do(Restore(version=5))
    assert sorted(amounts(pair)) == list(range(45))
    _the_past_is_one(pair)


def _the_past_is_one(pair: Pair) -> None:
    """Versions, times, history and the change feed tell both engines the same."""
    first, second = pair
    newest = first.version
    by_delta_rs = next(one for one in pair if one.engine.name == "delta-rs")
    for version in range(newest + 1):
        # Who wrote it matters to who reads it; Spark's reading is dear.
        both = pair if version in (1, 4, 7) else (by_delta_rs,)
        found = [one.rows(version=version, columns=("id", "amount")) for one in both]
        assert found[0] == found[-1]
        at = by_delta_rs.rows(at=by_delta_rs.made_at(version), columns=("id", "amount"))
        assert at == found[0]
    assert agreed(pair, at=first.made_at(3), columns=("id",)) == first.rows(
        version=3, columns=("id",)
    )
    assert first.engine.history(str(first.path)) == second.engine.history(str(second.path))
    # A restore's changes are told by whichever engine reads them.
    end = newest - 2
    feed = first.changes(from_version=1, to_version=end)
    assert feed == second.changes(from_version=1, to_version=end)
    assert {version for version, *_ in feed} == set(range(1, end + 1))
    times = {"from_time": first.made_at(2), "to_time": first.made_at(3)}
    inserts = first.changes(**times, ignore_changes=True)
    assert inserts == second.changes(**times, ignore_changes=True)
    assert {(version, kind) for version, kind, *_ in inserts} == {(2, "insert"), (3, "insert")}


def held(pair: Pair) -> dict[tuple[int, str], int]:
    rows = agreed(pair, columns=("id", "region", "amount"))
    found = {(row["id"], row["region"]): row["amount"] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.long
@pytest.mark.spec("C2", "C6", "D2")
def test_merges_of_every_form_build_on_each_other(pair: Pair) -> None:
    """Without a change feed, one of the two is RayLake's own copy-on-write merge."""
    first, second = pair
    first.do(Create(SCHEMA))
    first.do(Append(orders(range(40))))
    expected = {(n, f"r{n % 10}"): 1 for n in range(40)}
    ops = {"op": ["D" if n % 4 == 0 else "U" for n in range(30, 50)]}
    for table, amount, unchanged in ((second, 3, 31), (first, 4, 33)):
        source = orders(range(30, 50), amount, **ops)
        result = table.do(
            Upsert(
                source,
                ("id",),
                update_when=f"source.amount > target.amount and source.id <> {unchanged}",
                insert_when="length(region) = 2 and id < 46",
                delete_when="op = 'D'",
            )
        )
        for n in range(30, 50):
            if n % 4 == 0:
                expected.pop((n, f"r{n % 10}"), None)
            elif n < 46 and n != unchanged:
                expected[n, f"r{n % 10}"] = amount
    assert (result.rows.updated, result.rows.inserted, result.rows.deleted) == (11, 0, 0)

    for at, table in enumerate(pair):
        some = orders([5, 500 + at], 9, region=["new", f"new{at}"])
        subset = Upsert(some, ("id",), columns=("amount",), insert_columns=("region",))
        result = table.do(subset)
        assert (result.rows.updated, result.rows.inserted) == (1, 1)
        table.do(Upsert(orders([7, 600 + at], 8), ("id",), insert_only=True))
        table.do(Upsert(orders([1], 5 + at, region=["other"]), ("id", "region")))
        expected |= {(5, "r5"): 9, (500 + at, f"new{at}"): None, (600 + at, f"r{at}"): 8}
        expected[1, "other"] = 5 + at

    later = NOON + dt.timedelta(days=1)
    first.do(scd1(orders([2, 3], 20, at=[later] * 2), ("id",), ("at",)))
    second.do(scd1(orders([2, 4], 30, at=[NOON, later]), ("id",), ("at",)))
    expected |= {(2, "r2"): 20, (3, "r3"): 20, (4, "r4"): 30}
    gone = UpdateUnmatched({"amount": "-1", "region": "'gone'"}, where="id >= 600")
    first.do(Upsert(orders(range(10)), ("id",), columns=("at",), not_matched_by_source=gone))
    second.do(Upsert(orders([0]), ("id",), not_matched_by_source=DeleteUnmatched("id = 601")))
    expected[600, "gone"] = -1
    del expected[600, "r0"], expected[601, "r1"]
    assert held(pair) == expected
    ours = next(one for one in pair if one.engine.name == "delta-rs")
    whys = [line.engine for line in ours.engine.history(str(ours.path))]
    assert "RayLake" in whys


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
        some = (
            "local < '1900-02-01' and at < '1900-01-01T00:00:00Z' and day = date '1500-03-01' "
            "and flag and money < -9000000000000000 or id = 2"
        )
        assert sorted(table.ids(where=some)) == [1, 2, 11]
        if table.engine.name == "delta-rs":
            with pytest.raises(errors.BadExpression, match="before 1677"):
                table.ids(where="local < '1200-02-01'")
        else:
            assert table.ids(where="local < '1200-02-01'") == [1, 11]


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
    by_spark = next(one for one in pair if one.engine.name == "spark")
    by_spark.do(Delete("text = 'a b/c=%25&ü' and at = '2026-01-31T12:00:00.123456Z'"))
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


@pytest.mark.long
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
    expected = {n: a + 1 for n, a in {3: 2, **kept, 7: 2, 8: 4}.items()}
    assert amounts(pair) == expected
    by_spark.do(Delete("id >= 15"))
    expected = {n: a for n, a in expected.items() if n < 15}
    by_delta_rs.do(Compact())
    assert amounts(pair) == expected
    assert len(agreed(pair, version=1)) == 20
    assert len(agreed(pair, version=2)) == 15
    by_delta_rs.do(Restore(version=2))
    assert sorted(amounts(pair)) == list(range(5, 20))


@pytest.mark.long
@pytest.mark.spec("C6")
def test_checkpoints_of_both_lead_both_on(pair: Pair) -> None:
    first, second = pair
    first.do(Create(SCHEMA, properties={"delta.checkpointInterval": "3"}))
    log = first.path / "_delta_log"
    seen = -1
    for turn, table in enumerate((first, second, first)):
        for at in range(3):
            table.do(Append(orders([3 * turn + at])))
        newest = max(int(one.name[:20]) for one in log.glob("*.checkpoint.parquet"))
        assert newest > seen
        seen = newest
        # What came before is in the checkpoint alone.
        for version in range(newest):
            (log / f"{version:020d}.json").unlink(missing_ok=True)
        assert [row["id"] for row in agreed(pair, columns=("id",))] == list(range(3 * turn + 3))
    second.do(Upsert(orders([0, 9], 2), ("id",)))
    first.do(Delete("id = 1"))
    assert amounts(pair) == {0: 2, **dict.fromkeys(range(2, 9), 1), 9: 2}


FEATURES = {
    "clustering": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta CLUSTER BY (id)",
    "typeWidening": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta "
    "TBLPROPERTIES ('delta.enableTypeWidening' = 'true')",
    "inCommitTimestamp": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta "
    "TBLPROPERTIES ('delta.enableInCommitTimestamps' = 'true')",
    "columnMapping": "CREATE TABLE delta.`{0}` (id BIGINT, amount INT) USING delta "
    "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
}


@pytest.mark.spec("C6")
@pytest.mark.long
@pytest.mark.parametrize("feature", FEATURES)
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
    "m * 1.5 between 1.6 and 1.7 or m = 2.20": lambda r: (
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
    first, second = pair
    rows: list[dict[str, Any]] = [
        {"x": 1, "s": "A", "f": 0.1, "m": "1.10"},
        {"x": -7, "s": "a_c", "f": float("inf"), "m": "2.20"},
        {"x": 100, "s": "b", "f": float("nan"), "m": None},
        {"x": None, "s": None, "f": None, "m": "0.00"},
        {"x": 0, "s": " sp ", "f": None, "m": None},
        {"x": 2, "s": "", "f": None, "m": None},
    ]
    marks = {f"c{at}": text for at, text in enumerate(CONDITIONS)}
    schema = pa.schema(
        [
            ("x", pa.int32()),
            ("s", pa.string()),
            ("f", pa.float64()),
            ("m", pa.decimal128(9, 2)),
            ("at", pa.timestamp("us", tz="UTC")),
            ("d", pa.date32()),
            *((name, pa.int32()) for name in marks),
        ]
    )
    for row in rows:
        row["m"] = None if row["m"] is None else decimal.Decimal(row["m"])
        row["at"] = NOON if row["x"] == 1 else None
        row["d"] = NOON.date() if row["x"] == 1 else None
    first.do(Create(schema))
    first.do(Append(pa.Table.from_pylist(rows, schema=schema)))
    by_spark, by_delta_rs = sorted((second, first), key=lambda one: one.engine.name == "delta-rs")
    # All of them in one statement, and each in one of its own.
    values = {name: f"case when {text} then 1 else 0 end" for name, text in marks.items()}
    by_spark.do(Update(values))
    for name, text in marks.items():
        by_delta_rs.do(Update({name: f"{name} + 10"}, where=text))
        found = {row["x"] for row in by_delta_rs.rows(where=text)}
        assert found == {row["x"] for row in rows if CONDITIONS[text](row)}, text
    found = {row["x"]: row for row in agreed(pair, columns=("x", *marks))}
    for row in rows:
        for name, text in marks.items():
            assert found[row["x"]][name] == (11 if CONDITIONS[text](row) else 0), (text, row)
    for text in list(CONDITIONS)[::5]:
        assert {row["x"] for row in by_spark.rows(where=text)} == {
            row["x"] for row in rows if CONDITIONS[text](row)
        }
