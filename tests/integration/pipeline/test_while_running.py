"""What changes under a running pipeline: fields, partitions, topics, event times (A6, A7, A10)."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.harness.broker import LiveBroker
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import Record, offsets, produce

SCHEMA = {"id": "long", "place": "struct<city: string>"}
LATENESS_S = 10
NOW_S = int(time.time())


def at(seconds: float) -> str:
    """An event time, in seconds after this module began."""
    return dt.datetime.fromtimestamp(NOW_S + seconds, dt.UTC).isoformat()


EVOLVING = [
    {"id": 10, "top": 1.5, "place": {"city": "a", "zip": "0150"}, "tags": [{"k": "v"}]},
    {"id": 11, "top": 2, "place": {"zip": None}, "tags": [{"k": "w", "n": 1}]},
]
AWKWARD = {"id": 12, "a b": 1, "a;b": 2, "ID": 3, "_offset": 4, "a.b": 5, "x" * 300: 6}
WIDER = [{"id": 1.5}]
WRONG = [{"id": 2**70}, {"id": "text"}, {"id": {"a": 1}}, {"place": 7}]
TIMES_1 = [{"id": n, "at": at(n)} for n in range(0, 60, 10)]
TIMES_2 = [
    {"id": 100, "at": at(60)},
    {"id": 101, "at": at(-3600)},
    {"id": 102, "at": at(2 * 86400)},
    {"id": 103, "at": "1969-12-31T23:59:59Z"},
    {"id": 104, "at": None},
    {"id": 105},
]
TIMES_3 = [{"id": 200, "at": at(45)}, {"id": 201, "at": at(70)}]


@dataclass
class World:
    """A pipeline that went through changes, was stopped and started again."""

    bench: Bench
    topics: dict[str, str]
    first: dict[str, Any]
    watermark_before_ms: int


@pytest.fixture(scope="module")
def world(broker: LiveBroker, make_bench: MakeBench) -> World:
    bench = make_bench()
    tag = uuid.uuid4().hex[:6]
    topics = {name: f"{name}-{tag}" for name in ("fields", "growing", "times")}
    for name, topic in topics.items():
        broker.create_named_topic(topic, 2 if name == "fields" else 1)
    topics |= {"old": f"app.{tag}.old", "new": f"app.{tag}.new"}
    broker.create_named_topic(topics["old"])
    timed = {
        "topics": [topics["times"]],
        "schema": {"id": "long", "at": "timestamp"},
        "commit_interval": "100ms",
    }
    event_time = {"column": "at", "lateness": f"{LATENESS_S}s", "max_ahead": "1h"}
    times: dict[str, Any] = {
        "flag": {**timed, "event_time": {**event_time, "late": "flag"}},
        "bury": {**timed, "event_time": {**event_time, "late": "dead_letter"}},
        "keep": {**timed, "event_time": event_time},
    }
    bench.write(
        {
            "evolve": {"topics": [topics["fields"]], "schema": SCHEMA},
            "rescue": {
                "topics": [topics["fields"]],
                "schema": SCHEMA,
                "unknown_fields": "rescue",
            },
            "reject": {
                "topics": [topics["fields"]],
                "schema": SCHEMA,
                "unknown_fields": "reject",
            },
            "growing": {
                "topics": [topics["growing"]],
                "schema": {"id": "long"},
                "start": "latest",
            },
            "apps": {"topics": {"pattern": rf"app\.{tag}\..*"}, "table": "{topic}"},
            **times,
        },
        ingest={"consumers": 2},
    )
    produce(broker, topics["fields"], [Record({"id": n}, partition=n % 2) for n in range(4)])
    produce(broker, topics["growing"], [{"id": n} for n in range(3)])
    produce(broker, topics["old"], [{"v": n} for n in range(3)])
    produce(broker, topics["times"], TIMES_1)
    run = bench.start()
    bench.until_accounted(evolve=4, rescue=4, reject=4, flag=6, bury=6, keep=6)
    bench.until(lambda: bench.table_status("growing").get("partitions"), "growing admitted")
    # Both consumers meet new fields at once, each other ones.
    halves = [Record({**value, f"only{p}": p}, partition=p) for p in (0, 1) for value in EVOLVING]
    produce(broker, topics["fields"], halves)
    rest = [AWKWARD, *WIDER, *WRONG]
    produce(broker, topics["fields"], [Record(value, partition=1) for value in rest])
    broker.create_named_topic(topics["new"])
    broker.admin.create_partitions({topics["growing"]: 2})
    produce(broker, topics["growing"], [Record({"id": 100 + n}, partition=1) for n in range(5)])
    produce(broker, topics["growing"], [Record({"id": 200 + n}) for n in range(2)])
    produce(broker, topics["times"], TIMES_2)
    bench.until_accounted(evolve=14, rescue=14, reject=14, flag=12, bury=12, keep=12, growing=7)
    # The new topic is there and empty for a while: its table waits for a first record.
    assert not bench.table(topics["new"]).exists()
    produce(broker, topics["new"], [{"w": "first"}, {"w": "second"}])
    bench.until_accounted(**{topics["new"]: 2, topics["old"]: 3})
    first = bench.status()
    run.stop()
    watermark = first["tables"]["bronze.flag"]["watermark_ms"]
    produce(broker, topics["times"], TIMES_3)
    # Each table is a process: the others have nothing to read.
    bench.write(times)
    bench.drain()
    return World(bench, topics, first, watermark)


@pytest.mark.spec("A3", "A11")
def test_all_tables_balance_after_a_drain_and_a_restart(world: World) -> None:
    names = ("evolve", "rescue", "reject", "growing", "flag", "bury", "keep")
    world.bench.verify(*names, world.topics["old"], world.topics["new"])
    assert len(world.first["consumers"]) == 2
    assert world.first["errors"] == []


@pytest.mark.spec("A6")
def test_failure_30_new_fields_evolve_at_the_top_and_inside_structs(world: World) -> None:
    frame = world.bench.rows("evolve")
    assert frame.schema["top"] == pl.Float64
    found = frame.filter(pl.col("id").is_in([10, 11])).sort("id", "_partition")
    columns = ["id", "top", "place", "tags", "only0", "only1"]
    assert found.select(columns).to_dicts() == [
        {
            "id": value["id"],
            "top": value["top"],
            "place": {"city": None, "zip": None, **value["place"]},
            "tags": [{"k": None, "n": None, **tag} for tag in value["tags"]],
            "only0": 0 if partition == 0 else None,
            "only1": 1 if partition == 1 else None,
        }
        for value in EVOLVING
        for partition in (0, 1)
    ]
    assert frame.filter(pl.col("id") < 4)["top"].null_count() == 4
    # Each consumer added what it met, or found it added by the other one.
    counters = [one["tables"]["bronze.evolve"] for one in world.first["consumers"].values()]
    assert sum(one["evolved"] for one in counters) >= 2


@pytest.mark.spec("A6")
def test_rescued_fields_keep_their_exact_text_and_rejected_ones_are_dead(world: World) -> None:
    rescue = world.bench.rows("rescue")
    assert "top" not in rescue.columns
    found = rescue.filter(pl.col("id") == 10).sort("_partition")["_rescued_data"].to_list()
    for partition, text in enumerate(found):
        said = json.loads(text)
        assert said["top"] == 1.5
        assert said["place"] == {"zip": "0150"}
        assert said[f"only{partition}"] == partition
    reject = world.bench.rows("reject")
    assert reject["id"].to_list() == [0, 2, 1, 3]
    letters = world.bench.letters.filter(pl.col("table") == "bronze.reject")
    assert letters.height == 10
    assert "UnknownField" in set(letters["error_class"])


@pytest.mark.spec("A6")
def test_failure_15_awkward_names_and_types_that_do_not_fit(world: World) -> None:
    frame = world.bench.rows("evolve")
    awkward = frame.filter(pl.col("id") == 12).to_dicts()[0]
    assert json.loads(awkward["_rescued_data"]) == {k: v for k, v in AWKWARD.items() if k != "id"}
    assert not {"a b", "a;b", "ID", "a.b"} & set(frame.columns)
    kept = frame.filter(pl.col("id").is_null() & pl.col("_rescued_data").is_not_null())
    assert [json.loads(text) for text in kept["_rescued_data"]] == WIDER
    letters = world.bench.letters.filter(pl.col("table") == "bronze.evolve")
    assert [json.loads(value) for value in letters["value"]] == WRONG
    assert set(letters["error_class"]) == {"TypeMismatch"}
    wanted = ["'id': expected long"] * 3 + ["'place': expected object"]
    assert [said in one for said, one in zip(wanted, letters["reason"], strict=True)] == [True] * 4


@pytest.mark.spec("A7", "A1")
def test_failure_12_partitions_that_appear_later_start_at_0(world: World) -> None:
    frame = world.bench.rows("growing")
    by_partition = {p: f["id"].to_list() for (p,), f in frame.group_by("_partition")}
    # The table started at latest; what the new partition held already is not missed.
    assert by_partition == {0: [200, 201], 1: [100, 101, 102, 103, 104]}
    states = world.first["tables"]["bronze.growing"]["partitions"]
    assert {one["origin"] for one in states.values()} == {3, 0}


@pytest.mark.spec("A1", "A7")
def test_a_new_topic_that_matches_the_pattern_is_taken_while_running(world: World) -> None:
    frame = world.bench.rows(world.topics["new"])
    assert frame["w"].to_list() == ["first", "second"]
    assert offsets(frame) == [0, 1]


@pytest.mark.spec("A10")
def test_failure_31_late_and_wild_event_times_are_kept_flagged_and_counted(world: World) -> None:
    flag = world.bench.rows("flag")
    late = flag.filter(pl.col("_late"))["id"].to_list()
    # 200 is late after the restart too: the watermark was 50 s, lateness included.
    assert late == [101, 200]
    by_id = {row["id"]: row["_event_time_flag"] for row in flag.to_dicts()}
    wild = {102: "ahead", 103: "before_1970", 104: "missing", 105: "missing"}
    assert {k: v for k, v in by_id.items() if v is not None} == wild
    assert world.bench.rows("keep")["id"].to_list() == flag["id"].to_list()
    buried = world.bench.letters.filter(pl.col("table") == "bronze.bury")
    assert [json.loads(value)["id"] for value in buried["value"]] == [101, 200]
    assert set(buried["stage"]) == {"late"}
    assert not set(late) & set(world.bench.rows("bury")["id"])
    flagged = [one["tables"]["bronze.flag"]["flagged"] for one in world.first["consumers"].values()]
    counted = {k: v for one in flagged for k, v in one.items()}
    assert counted == {"null_time": 2, "before_1970": 1, "ahead": 1, "late": 1}


def commits(table: Path) -> list[dict[str, Any]]:
    """What our commits say of themselves, in order, read as plain JSON."""
    found = []
    for path in sorted((table / "_delta_log").glob("*.json")):
        for line in path.read_text().splitlines():
            said = json.loads(line).get("commitInfo", {}).get("raylake")
            if said is not None:
                found.append(json.loads(said) if isinstance(said, str) else said)
    return found


@pytest.mark.spec("A10")
def test_property_35_the_watermark_is_in_each_commit_and_never_moves_back(world: World) -> None:
    sane = [NOW_S * 1000 + s * 1000 for s in (60, 70)]
    assert world.watermark_before_ms == sane[0] - LATENESS_S * 1000
    after = world.bench.table_status("flag")["watermark_ms"]
    assert after == sane[1] - LATENESS_S * 1000
    for table in ("flag", "bury", "keep"):
        said = [
            one["watermark_ms"]
            for one in commits(world.bench.table(table))
            if one["kind"] == "data"
        ]
        assert len(said) >= 3
        assert None not in said
        assert said == sorted(said)
        assert said[-1] == after
