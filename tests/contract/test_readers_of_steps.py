"""What steps write reads the same in delta-rs, polars, DuckDB and Spark, whoever wrote it (A14)."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from raylake.spark.engine import SparkEngine
from raylake.spark.engine_sessions import one_session
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import TableEngine
from tests.harness.derived_steps import minute
from tests.harness.readers import READERS, by_spark, rows_in_order
from tests.harness.step_lake import StepLake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PAYLOAD = pa.schema(
    [
        ("id", pa.int64()),
        ("country", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
        ("money", pa.decimal128(12, 2)),
        ("ratio", pa.float64()),
        ("ok", pa.bool_()),
        ("small", pa.int32()),
        ("raw", pa.binary()),
        ("place", pa.struct([("city", pa.string()), ("geo", pa.struct([("lat", pa.float64())]))])),
        ("tags", pa.list_(pa.struct([("k", pa.string())]))),
        ("attributes", pa.map_(pa.string(), pa.int64())),
    ]
)
COUNTRIES = ["NO", None, "a b", "x/y=:%", "é", 'a\\b"#?', "..", "x=1%2F"]
KEYED = {"from": "bronze.t", "keys": ["id"], "sequence_by": "at"}
TABLES = {
    "silver": {
        "log": {"from": "bronze.t", "mode": "append", "partition_by": ["country", "date(at)"]},
        "now": {**KEYED, "mode": "upsert", "partition_by": ["day"], "not_null": ["country"]},
        "one": {**KEYED, "mode": "scd1", "update_columns": ["money", "place", "tags"]},
    },
    "gold": {
        "past": {**KEYED, "mode": "scd2", "track": ["country", "money", "ok"]},
        "sums": {
            "mode": "aggregate",
            "sql": "SELECT CAST(at AS DATE) AS on_day, country, count(*) AS n, "
            "sum(money) AS money FROM silver.now GROUP BY on_day, country",
            "partition_by": ["on_day"],
        },
    },
}
NAMES = ("silver.log", "silver.now", "silver.one", "gold.past", "gold.sums")
ORDERS: dict[str, tuple[str, ...]] = {
    "silver.log": ("_offset",),
    "gold.past": ("id", "valid_from"),
    "gold.sums": ("on_day", "country"),
}
WRITERS = ("delta-rs", pytest.param("spark", marks=pytest.mark.long))
"""`make chaos` lets Spark write the tables, too."""


def row(key: int, at: float, turn: int) -> dict[str, Any]:
    """A record; every third field or so is null somewhere, and differs from turn to turn."""
    n = key + turn
    return {
        "id": key,
        "country": COUNTRIES[n % len(COUNTRIES)],
        "at": minute(at) + dt.timedelta(microseconds=key),
        "day": dt.date(1915, 2, 3) + dt.timedelta(days=n) if n % 3 else None,
        "money": decimal.Decimal(f"{n}.05"),
        "ratio": n / 7 if n % 4 else None,
        "ok": (True, False, None)[n % 3],
        "small": -n,
        "raw": bytes([n % 256, 0, 255]) if n % 2 else None,
        "place": {"city": "Å", "geo": {"lat": n / 3}} if n % 5 else None,
        "tags": [{"k": f"k{one}"} for one in range(n % 3)] if n % 7 else None,
        "attributes": [("a", n), ("b", None)] if n % 2 else None,
    }


def dead(key: int, at: float) -> dict[str, Any]:
    return {"_key": str(key).encode(), "_tombstone": True, "_timestamp": minute(at)}


FIRST = [row(key, 0, 0) for key in range(20)]
SECOND = [row(key, 1500, 1) for key in range(10, 25)]
GONE = (3, 12)
LATE = [row(key, 700, 5) for key in (1, 12, 14, 30)]


class Tables:
    """What each writer's tables hold for each reader; made when they are asked for."""

    def __init__(self, spark: SparkSession, folders: pytest.TempPathFactory) -> None:
        self._spark = spark
        self._folders = folders
        self._engines: tuple[TableEngine, ...] = (DeltaRsEngine(), SparkEngine(one_session(spark)))
        self._lakes: dict[str, StepLake] = {}
        self._read: dict[tuple[str, str], dict[str, pa.Table]] = {}

    def lake(self, writer: str) -> StepLake:
        if writer not in self._lakes:
            self._lakes[writer] = self._written(writer)
        return self._lakes[writer]

    def read(self, writer: str, reader: str, name: str) -> pa.Table:
        lake = self.lake(writer)
        if (writer, reader) not in self._read:
            paths = {one: lake.path(one) for one in NAMES}
            if reader == "Spark":
                folder = self._folders.mktemp("spark")
                self._read[writer, reader] = by_spark(self._spark, paths, folder)
            else:
                self._read[writer, reader] = {n: READERS[reader](at) for n, at in paths.items()}
        return self._read[writer, reader][name]

    def rows(self, writer: str, reader: str, name: str) -> list[dict[str, Any]]:
        return rows_in_order(self.read(writer, reader, name), *ORDERS.get(name, ("id",)))

    def _written(self, writer: str) -> StepLake:
        (engine,) = [one for one in self._engines if one.name == writer]
        lake = StepLake(self._folders.mktemp(writer), TABLES, PAYLOAD)
        lake.step(FIRST)
        # Merges, not the first writes, are where writers differ; and Spark takes seconds for each.
        lake.by(engine)
        lake.step([*SECOND, *(dead(key, 1600) for key in GONE), *LATE])
        return lake


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(spark, tmp_path_factory)


def latest(*, with_country: bool = False) -> dict[int, dict[str, Any]]:
    """The greatest row of each key that is left, by plain Python."""
    known: dict[int, dict[str, Any]] = {}
    for one in [*FIRST, *SECOND, *LATE]:
        if with_country and one["country"] is None:
            continue
        if one["id"] not in known or one["at"] > known[one["id"]]["at"]:
            known[one["id"]] = one
    return {key: one for key, one in known.items() if key not in GONE}


def plain(one: dict[str, Any]) -> dict[str, Any]:
    attributes = one["attributes"]
    if attributes is not None:
        attributes = [{"key": key, "value": number} for key, number in attributes]
    return {**one, "at": one["at"].isoformat(), "attributes": attributes}


@pytest.mark.spec("A14")
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("reader", [*READERS, "Spark"])
def test_rows_are_what_the_steps_brought(tables: Tables, writer: str, reader: str) -> None:
    log = tables.rows(writer, reader, "silver.log")
    brought = [*FIRST, *SECOND, *LATE]
    assert [{name: one[name] for name in PAYLOAD.names} for one in log] == [
        plain(one) for one in brought
    ]
    wanted = latest(with_country=True)
    now = {one["id"]: one for one in tables.rows(writer, reader, "silver.now")}
    assert {key: {n: one[n] for n in PAYLOAD.names} for key, one in now.items()} == {
        key: plain(one) for key, one in wanted.items()
    }
    # A change of this table writes some columns, and leaves the others as they came first.
    one = {each["id"]: each for each in tables.rows(writer, reader, "silver.one")}
    assert one.keys() == latest().keys()
    assert one[11]["money"] == row(11, 0, 1)["money"]
    assert one[11]["small"] == row(11, 0, 0)["small"]
    sums = tables.rows(writer, reader, "gold.sums")
    assert sum(each["n"] for each in sums) == len(wanted)
    assert sum(each["money"] for each in sums) == sum(each["money"] for each in wanted.values())


@pytest.mark.spec("A14")
@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_reader_finds_the_same_of_every_writer(tables: Tables, name: str) -> None:
    first = tables.rows("delta-rs", "delta-rs", name)
    assert first, "nothing was read: this shows nothing"
    for writer in ("delta-rs", "spark"):
        for reader in (*READERS, "Spark"):
            assert tables.rows(writer, reader, name) == first, (writer, reader)


@pytest.mark.spec("A14")
@pytest.mark.parametrize("writer", WRITERS)
def test_each_table_was_written_by_its_writer(tables: Tables, writer: str) -> None:
    lake = tables.lake(writer)
    for name in NAMES:
        log = sorted((lake.path(name) / "_delta_log").glob("*.json"))
        assert ("Apache-Spark" in log[-1].read_text()) == (writer == "spark"), name
