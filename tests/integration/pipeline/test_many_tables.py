"""One pipeline, many tables: what lies in them after one run, and after a second one (SPEC A1, A2).

All tables are filled by the same two runs; each test looks at one of them.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from raylake.config import dead_letter_path, load
from raylake.kafka.client import Cluster
from tests.harness.broker import LiveBroker
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import Record, offsets, produce, transaction

ORDERS = {
    "id": "long",
    "country": "string",
    "at": "timestamp",
    "lines": "array<struct<sku: string, n: int>>",
    "place": "struct<city: string>",
}
HOUR_MS = 3_600_000
# 2025-03-01T23:30:00Z: hours and dates are those of UTC.
BASE_MS = 1_740_871_800_000


def order(number: int) -> Record:
    """A record with everything in it; each third has no key, each fourth is a tombstone."""
    value = {
        "id": number,
        "country": ["NO", "DE", None, "a/b=c d%"][number // 4 % 4],
        "at": dt.datetime.fromtimestamp(BASE_MS / 1000 + number * 60, dt.UTC).isoformat(),
        "lines": [{"sku": f"s{number}", "n": number}, {"sku": "ø", "n": None}],
        "place": {"city": f"c{number}"},
    }
    return Record(
        None if number % 4 == 3 else json.dumps(value, ensure_ascii=number % 2 == 0).encode(),
        key=None if number % 4 == 1 else b"\x00key-%d" % number,
        headers=[("trace", b"1"), ("trace", b"\xff\x00"), ("empty", b"")] if number % 2 else [],
        partition=number % 2,
        timestamp_ms=BASE_MS + number * 10 * 60_000,
    )


@dataclass
class World:
    """What was produced, and where it went."""

    bench: Bench
    topics: dict[str, str]
    sent: dict[str, list[Record]]
    logs: list[list[dict[str, Any]]]

    def ledger(self, table: str) -> dict[str, int]:
        """The totals of a table in the status document."""
        found: dict[str, int] = self.bench.table_status(table)["totals"]
        return found


def fill(broker: LiveBroker, topics: dict[str, str], sent: dict[str, list[Record]]) -> None:
    """First or second helping of every topic."""
    begin = len(sent.get("orders", []))
    more = {
        "orders": [order(n) for n in range(begin, begin + 40)],
        "guessed": [
            Record({"n": n, "big": 2**40 + n, "x": n / 4, "deep": {"a": [n], "b": {"c": "z"}}})
            for n in range(begin, begin + 10)
        ],
        "dead": [
            Record(b"{%d" % n, key=b"k%d" % n, headers=[("trace", b"%d" % n)])
            for n in range(begin, begin + 12)
        ],
        "fan.eu": [Record({"v": n}) for n in range(begin, begin + 5)],
        "fan.us": [Record({"w": f"{n}"}) for n in range(begin, begin + 7)],
    }
    for name, records in more.items():
        sent.setdefault(name, []).extend(produce(broker, topics[name], records))
    with transaction(broker, commit=False) as producer:
        for number in range(6):
            producer.send(topics["aborted"], value=b'{"id": %d}' % number)


def compacted(broker: LiveBroker) -> str:
    """A topic of which compaction took most: holes in the middle and at the end."""
    settings = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "0",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "100",
    }
    topic = broker.create_topic("compacted", config=settings)
    produce(broker, topic, [Record({"id": n}, key=b"k%d" % (n % 5)) for n in range(50)])
    return topic


@pytest.fixture(scope="module")
def world(broker: LiveBroker, make_bench: MakeBench) -> World:
    bench = make_bench()
    tag = uuid.uuid4().hex[:6]
    topics = {name: f"{name}-{tag}" for name in ("orders", "guessed", "aborted", "dead")}
    topics |= {"fan.eu": f"fan.{tag}.eu", "fan.us": f"fan.{tag}.us"}
    for name, topic in topics.items():
        broker.create_named_topic(topic, 2 if name == "orders" else 1, {"retention.ms": "-1"})
    topics["compacted"] = compacted(broker)
    (bench.folder / "orders.schema.yaml").write_text(json.dumps(ORDERS))
    bench.write(
        {
            "orders": {
                "topics": [topics["orders"]],
                "schema": ORDERS,
                "keep_value": True,
                "partition_by": ["country", "date(_timestamp)", "hour(_timestamp)"],
            },
            "by_day": {
                "topics": [topics["orders"]],
                "schema": "orders.schema.yaml",
                "partition_by": ["date(at)"],
                "commit_interval": "900ms",
            },
            "two": {"topics": [topics["orders"], topics["guessed"]], "format": "raw"},
            "guessed": {"topics": [topics["guessed"]]},
            "nothing": {
                "topics": [topics["aborted"], topics["dead"], topics["compacted"]],
                "schema": {"id": "long"},
            },
            "fan": {"topics": {"pattern": rf"fan\.{tag}\..*"}, "table": "{topic}"},
        }
    )
    sent: dict[str, list[Record]] = {}
    logs = []
    fill(broker, topics, sent)
    for _ in range(2):
        before = len(bench.log_lines())
        bench.drain()
        logs.append(bench.log_lines()[before:])
        if len(logs) == 1:
            fill(broker, topics, sent)
    return World(bench, topics, sent, logs)


@pytest.mark.spec("A1", "A3")
def test_every_table_balances_by_log_data_and_broker(world: World) -> None:
    tables = ("orders", "by_day", "two", "guessed", "nothing")
    fans = (world.topics["fan.eu"], world.topics["fan.us"])
    report = world.bench.verify(*tables, *fans)
    assert report.ok
    assert world.bench.status()["state"] == "done"
    for table in report.tables:
        assert all(one.balanced for one in table.partitions)
        assert sum(one.next - one.origin for one in table.partitions) > 0


def check_metadata(frame: pl.DataFrame, sent: list[Record], topic: str) -> None:
    """Each record's row: coordinates, key, headers, timestamp, tombstone."""
    of_topic = frame.filter(pl.col("_topic") == topic)
    assert of_topic.height == len(sent)
    for partition in {one.partition for one in sent}:
        mine = [one for one in sent if one.partition == partition]
        rows = of_topic.filter(pl.col("_partition") == partition).to_dicts()
        assert [row["_offset"] for row in rows] == list(range(len(mine)))
        for row, one in zip(rows, mine, strict=True):
            assert row["_key"] == one.key
            assert [(h["key"], h["value"]) for h in row["_headers"]] == list(one.headers)
            assert row["_tombstone"] is (one.payload is None)
            if one.timestamp_ms is not None:
                assert row["_timestamp"].timestamp() * 1000 == one.timestamp_ms
            assert row["_ingested_at"].tzinfo is not None
            assert row["_schema_id"] is None


@pytest.mark.spec("A2")
def test_property_03_every_metadata_column_is_kept(world: World) -> None:
    topics, sent = world.topics, world.sent
    check_metadata(world.bench.rows("orders"), sent["orders"], topics["orders"])
    check_metadata(world.bench.rows("by_day"), sent["orders"], topics["orders"])
    raw = world.bench.rows("two")
    check_metadata(raw, sent["orders"], topics["orders"])
    check_metadata(raw, sent["guessed"], topics["guessed"])
    wanted = {(n, p) for n in ("orders", "guessed") for p in {r.partition for r in sent[n]}}
    assert raw.select("_topic", "_partition").unique().height == len(wanted)


@pytest.mark.spec("A2")
def test_property_02_every_payload_field_is_kept(world: World) -> None:
    by_place = {
        (one.partition, offset): one
        for partition in (0, 1)
        for offset, one in enumerate(r for r in world.sent["orders"] if r.partition == partition)
    }
    for row in world.bench.rows("orders").to_dicts():
        one = by_place[row["_partition"], row["_offset"]]
        assert row["_value"] == one.payload
        wanted = json.loads(one.payload) if one.payload is not None else dict.fromkeys(ORDERS)
        at = wanted.pop("at")
        assert {name: row[name] for name in wanted} == wanted
        assert row["at"] == (None if at is None else dt.datetime.fromisoformat(at))
    for row in world.bench.rows("two").to_dicts():
        if row["_topic"] == world.topics["orders"]:
            assert row["value"] == by_place[row["_partition"], row["_offset"]].payload


@pytest.mark.spec("A2", "C1")
def test_tables_are_partitioned_by_columns_dates_and_hours(world: World) -> None:
    frame = world.bench.rows("orders")
    stamp = pl.col("_timestamp")
    assert (frame["_timestamp_date"] == frame.select(stamp.dt.date()).to_series()).all()
    hours = frame.select(stamp.dt.truncate("1h")).to_series()
    assert (frame["_timestamp_hour"] == hours).all()
    assert frame["_timestamp_date"].n_unique() > 1
    adds = live_files(world.bench.table("orders"))
    names = {"country", "_timestamp_date", "_timestamp_hour"}
    assert all(set(one["partitionValues"]) == names for one in adds)
    assert {one["partitionValues"]["country"] for one in adds} >= {"NO", "DE", None}
    by_day = world.bench.rows("by_day")
    assert (by_day["at_date"].is_null() == by_day["at"].is_null()).all()
    dates = by_day.select(pl.col("at").dt.date()).to_series()
    assert by_day["at_date"].drop_nulls().equals(dates.drop_nulls(), check_names=False)


def live_files(table: Path) -> list[dict[str, Any]]:
    """The add actions of a log without removes, read as plain JSON."""
    actions = [
        json.loads(line)
        for path in sorted((table / "_delta_log").glob("*.json"))
        for line in path.read_text().splitlines()
    ]
    assert not any("remove" in action for action in actions)
    return [action["add"] for action in actions if "add" in action]


@pytest.mark.spec("A1")
def test_property_01_a_table_is_only_ever_appended_to(world: World) -> None:
    for name in ("orders", "by_day", "two", "guessed", "nothing"):
        table = world.bench.table(name)
        assert '"delta.appendOnly":"true"' in (table / "_delta_log" / f"{0:020}.json").read_text()
        files = {path for path in table.rglob("*.parquet") if "_delta_log" not in path.parts}
        adds = live_files(table)
        assert len(adds) == len(files)
        assert sum(one["size"] for one in adds) == sum(path.stat().st_size for path in files)
    # What the first run wrote is in the second run's table as it was.
    frame = world.bench.rows("orders")
    cut = len(world.sent["orders"]) // 4
    first_run = frame.filter(pl.col("_offset") < cut)
    later = frame.filter(pl.col("_offset") >= cut)
    assert first_run.height == later.height == len(world.sent["orders"]) // 2
    assert first_run["_ingested_at"].max() < later["_ingested_at"].min()  # type: ignore[operator]


@pytest.mark.spec("A1", "A7")
def test_a_schema_is_inferred_once_printed_and_kept_in_the_table(world: World) -> None:
    said = [
        [line["message"] for line in log if "inferred schema" in line["message"]]
        for log in world.logs
    ]
    assert any("bronze.guessed" in line and "'deep': 'struct<" in line for line in said[0])
    # Three tables had none: the guessed one and the two of the fan-out.
    assert len(said[0]) == 3
    assert said[1] == []
    frame = world.bench.rows("guessed")
    assert frame.schema["n"] == pl.Int64
    assert frame.schema["x"] == pl.Float64
    wanted = [json.loads(one.payload or b"") for one in world.sent["guessed"]]
    assert frame.select("n", "big", "x", "deep").to_dicts() == wanted


@pytest.mark.spec("A1")
def test_a_pattern_fans_out_into_one_table_a_topic(world: World) -> None:
    for name, column in (("fan.eu", "v"), ("fan.us", "w")):
        topic = world.topics[name]
        frame = world.bench.rows(topic)
        assert frame["_topic"].unique().to_list() == [topic]
        wanted = [json.loads(one.payload or b"")[column] for one in world.sent[name]]
        assert frame[column].to_list() == wanted
    assert not world.bench.table("fan").exists()


def check_letters(bench: Bench, sent: list[Record]) -> None:
    """A dead letter says all that is known; their table is a partitioned Delta table."""
    place = dead_letter_path(load(bench.file).config)
    assert DeltaTable(place).metadata().partition_columns == ["date", "hour", "pipeline", "stage"]
    for letter, one in zip(bench.letters.to_dicts(), sent, strict=True):
        assert (letter["pipeline"], letter["table"]) == (bench.name, "bronze.nothing")
        assert letter["partition"] == one.partition
        assert letter["key"] == one.key
        assert [(h["key"], h["value"]) for h in letter["headers"]] == list(one.headers)
        assert letter["timestamp"] is not None
        assert letter["error_class"]
        failed_at = letter["failed_at"]
        assert abs(failed_at - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)
        assert (letter["date"], letter["hour"]) == (failed_at.date(), failed_at.hour)


@pytest.mark.spec("A4", "A3", "B3")
def test_aborted_dead_and_compacted_records_are_accounted_for(world: World) -> None:
    bench, topics = world.bench, world.topics
    states = bench.table_status("nothing")["partitions"]
    assert {p["next"] for t, p in states.items() if t.startswith(topics["aborted"])} == {14}
    letters = bench.letters
    assert letters["topic"].unique().to_list() == [topics["dead"]]
    assert offsets(letters) == list(range(24))
    assert letters["value"].to_list() == [one.payload for one in world.sent["dead"]]
    assert set(letters["stage"]) == {"decode"}
    assert letters["reason"].null_count() == 0
    check_letters(bench, world.sent["dead"])
    rows = bench.rows("nothing")
    assert rows["_topic"].unique().to_list() == [topics["compacted"]]
    totals = world.ledger("nothing")
    assert totals["dead"] == 24
    assert totals["absent"] == 14 + (50 - rows.height)
    assert totals["rows"] == rows.height


@pytest.mark.spec("A3", "A7")
def test_i13_two_tables_of_one_topic_have_an_end_each(world: World) -> None:
    with Cluster(world.bench.broker.bootstrap) as lookup:
        sources = lookup.topics([world.topics["orders"]])[world.topics["orders"]].sources()
        ends = {str(source): end for source, end in lookup.latest(sources).items()}
    for table in ("orders", "by_day", "two"):
        of_table = world.bench.table_status(table)["partitions"]
        assert {name: of_table[name]["next"] for name in ends} == ends
        assert all(one["next"] - one["origin"] > 0 for one in of_table.values())


@pytest.mark.spec("A11")
def test_lag_tools_see_the_group_of_the_pipeline(world: World) -> None:
    """Committed afterwards, and never read back: see the ledger's own tests (I2)."""
    group = f"raylake-{world.bench.name}"
    with Cluster(world.bench.broker.bootstrap) as lookup:
        for name in ("orders", "dead", "aborted", "fan.eu"):
            sources = lookup.topics([world.topics[name]])[world.topics[name]].sources()
            assert lookup.group(sources, group) == lookup.latest(sources)
