"""What a pipeline writes reads the same in delta-rs, polars, DuckDB and Spark (SPEC A14)."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.harness.broker import LiveBroker
from tests.harness.readers import READERS, by_spark, rows_in_order
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import Record, produce

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SCHEMA = {
    "id": "long",
    "country": "string",
    "at": "timestamp",
    "day": "date",
    "money": "decimal(12,2)",
    "ratio": "double",
    "ok": "boolean",
    "small": "int",
    "place": "struct<city: string, geo: struct<lat: double>>",
    "tags": "array<struct<k: string>>",
    "attributes": "map<string, long>",
}
COUNTRIES = ["NO", None, "a b", "x/y=:%", "é", 'a\\b"#?', "..", "x=1%2F", ""]
COORDINATES = ("_topic", "_partition", "_offset")
TABLES = ("evolved", "rescued", "plain")
BASE_MS = 1_760_000_000_000
DAY_MS = 86_400_000


def value(number: int) -> dict[str, Any]:
    """A record of the declared fields; every third field or so is null somewhere."""
    return {
        "id": number,
        "country": COUNTRIES[number % len(COUNTRIES)],
        "at": f"2025-10-{1 + number % 28:02d}T23:59:59.{number:06d}+02:00",
        "day": f"19{10 + number:02d}-02-03" if number % 3 else None,
        "money": f"{number}.05",
        "ratio": number / 7 if number % 4 else None,
        "ok": (True, False, None)[number % 3],
        "small": -number,
        "place": {"city": "Å", "geo": {"lat": number / 3}} if number % 5 else None,
        "tags": [{"k": f"k{n}"} for n in range(number % 3)] if number % 7 else None,
        "attributes": {"a": number, "b": None} if number % 2 else None,
    }


def newer(number: int) -> dict[str, Any]:
    """The same with fields that came later: at the top, in a struct, in a list's structs."""
    found = value(number)
    found |= {"later": 1.5 * number, "tags": [{"k": "x", "n": number}]}
    found["place"] = {"city": None, "geo": {"lat": 0.5, "lon": -0.5}, "zip": "0150"}
    return found


OLDER = [value(number) for number in range(20)]
NEWER = [newer(number) for number in range(20, 30)]


@dataclass
class Read:
    """Tables of one pipeline, and what each engine reads of them."""

    bench: Bench
    paths: dict[str, Path]
    tables: dict[str, dict[str, pa.Table]]

    def rows(self, engine: str, table: str) -> list[dict[str, Any]]:
        order = ("table", "topic", "partition", "offset") if table == "letters" else COORDINATES
        return rows_in_order(self.tables[engine][table], *order)


def records(values: list[dict[str, Any]]) -> list[Record]:
    return [
        Record(
            one,
            key=f"k{one['id']}".encode() if one["id"] % 2 else None,
            headers=[("h", b"\x00\xff"), ("h", b"")],
            partition=one["id"] % 2,
            timestamp_ms=BASE_MS + one["id"] % 3 * DAY_MS,
        )
        for one in values
    ]


@pytest.fixture(scope="module")
def read(
    broker: LiveBroker,
    make_bench: MakeBench,
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
) -> Read:
    bench = make_bench()
    # Its records are of a fixed day, which is past a broker's retention.
    topic = broker.create_topic("readers", partitions=2, config={"retention.ms": "-1"})
    base = {"topics": [topic], "schema": SCHEMA, "keep_value": True}
    bench.write(
        {
            "evolved": {**base, "partition_by": ["country", "date(_timestamp)"]},
            "rescued": {**base, "unknown_fields": "rescue", "partition_by": ["hour(at)"]},
            "plain": {**base, "unknown_fields": "reject"},
        },
    )
    produce(broker, topic, [*records(OLDER), Record(None, key=b"gone"), Record(b"{broken")])
    bench.drain()
    produce(broker, topic, records(NEWER))
    bench.drain()
    bench.verify()
    paths = {name: bench.table(name) for name in TABLES}
    for path in paths.values():
        # Every reader begins with a checkpoint of ours, as an owner has it written.
        command = [sys.executable, "-m", "raylake.delta.checkpoint", str(path)]
        subprocess.run(command, check=True, capture_output=True)
    paths["letters"] = bench.lake / "dead_letters" / bench.name
    tables = {
        engine: {name: reader(path) for name, path in paths.items()}
        for engine, reader in READERS.items()
    }
    tables["Spark"] = by_spark(spark, paths, tmp_path_factory.mktemp("spark"))
    return Read(bench, paths, tables)


def expected(one: dict[str, Any]) -> dict[str, Any]:
    """The declared columns of a row, as the readers must give them."""
    at = dt.datetime.fromisoformat(one["at"]).astimezone(dt.UTC)
    place = one["place"]
    if place is not None:
        place = {"city": place["city"], "geo": {"lat": place["geo"]["lat"]}}
    attributes = one["attributes"]
    if attributes is not None:
        attributes = [{"key": key, "value": number} for key, number in attributes.items()]
    return {
        "id": one["id"],
        "country": one["country"],
        "at": at.isoformat(),
        "day": None if one["day"] is None else dt.date.fromisoformat(one["day"]),
        "money": decimal.Decimal(one["money"]),
        "ratio": one["ratio"],
        "ok": one["ok"],
        "small": one["small"],
        "place": place,
        "tags": None if one["tags"] is None else [{"k": tag["k"]} for tag in one["tags"]],
        "attributes": attributes,
    }


@pytest.mark.spec("A14")
@pytest.mark.parametrize("engine", [*READERS, "Spark"])
def test_declared_columns_are_what_was_produced(read: Read, engine: str) -> None:
    found = {row["id"]: row for row in read.rows(engine, "rescued") if row["id"] is not None}
    wanted = {one["id"]: expected(one) for one in [*OLDER, *NEWER]}
    assert {number: {name: row[name] for name in SCHEMA} for number, row in found.items()} == wanted
    for number, row in found.items():
        key = f"k{number}".encode() if number % 2 else None
        headers = [{"key": "h", "value": b"\x00\xff"}, {"key": "h", "value": b""}]
        assert (row["_key"], row["_headers"], row["_tombstone"]) == (key, headers, False)
        made = [*OLDER, *NEWER][number]
        assert json.loads(row["_value"]) == made
        said = json.loads(row["_rescued_data"] or "{}")
        assert said.get("later") == made.get("later")


@pytest.mark.spec("A14", "A6")
@pytest.mark.parametrize("engine", [*READERS, "Spark"])
def test_columns_that_came_later_are_null_before_and_whole_after(read: Read, engine: str) -> None:
    found = {row["id"]: row for row in read.rows(engine, "evolved") if row["id"] is not None}
    assert found.keys() == {one["id"] for one in [*OLDER, *NEWER]}
    for one in [*OLDER, *NEWER]:
        row = found[one["id"]]
        assert row["later"] == one.get("later")
        if one["place"] is None:
            assert row["place"] is None
        else:
            geo = {"lat": one["place"]["geo"]["lat"], "lon": one["place"]["geo"].get("lon")}
            zipped = one["place"].get("zip")
            assert row["place"] == {"city": one["place"]["city"], "geo": geo, "zip": zipped}
        wanted = None if one["tags"] is None else [{"n": None, **tag} for tag in one["tags"]]
        assert row["tags"] == wanted
        # An empty text in a partition column is null by Delta's protocol.
        assert row["country"] == (one["country"] or None)
        assert row["_timestamp_date"] == dt.date(2025, 10, 9) + dt.timedelta(days=one["id"] % 3)


@pytest.mark.spec("A14")
@pytest.mark.parametrize("table", [*TABLES, "letters"])
def test_every_engine_reads_the_same_rows_and_columns(read: Read, table: str) -> None:
    first = read.rows("delta-rs", table)
    assert first, "nothing was read: this shows nothing"
    for engine in ("polars", "DuckDB", "Spark"):
        assert read.rows(engine, table) == first, engine


@pytest.mark.spec("A14")
def test_the_readers_began_with_a_checkpoint_and_the_schema_did_change(read: Read) -> None:
    for table in TABLES:
        log = read.paths[table] / "_delta_log"
        assert (log / "_last_checkpoint").exists()
        assert json.loads((log / "_last_checkpoint").read_text())["version"] > 0
    names = {field.name for field in DeltaTable(read.paths["evolved"]).schema().fields}
    assert "later" in names
    assert len(read.rows("Spark", "letters")) > len(NEWER)
