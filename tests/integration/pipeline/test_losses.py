"""What Kafka no longer has stops its partition and no other, or is counted (I6, FAILURES 10, 11).

One pipeline, a table for each kind of loss: a continuous run under which topics are created again,
and a run to the end after more was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from kafka import TopicPartition

from raylake.clock import SystemClock
from raylake.config import load
from raylake.delta.identity import OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.verify import verify
from raylake.ingest.plan import TablePlan
from raylake.ingest.unit import Counts, OffsetRange, Unit
from raylake.kafka.client import Cluster
from tests.harness.broker import LiveBroker
from tests.harness.jobs import Job
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import Record, offsets, produce, recreate

TABLES = ("fine", "gone", "recorded", "again", "anew", "beyond")


@dataclass
class World:
    """What the two runs said."""

    bench: Bench
    topics: dict[str, str]
    running: dict[str, Any]
    ended: Job
    last: dict[str, Any]


def push_beyond(bench: Bench, topic: str, start: int, end: int) -> None:
    """Make the ledger say that it has read on to ``end``, as if the log had been cut off."""
    config = load(bench.file).config
    (source,) = bench.sources(topic)
    plan = TablePlan(
        "bronze.beyond", str(bench.table("beyond")), config.bronze["beyond"], (source,)
    )
    identity = OwnerIdentity.of_this_process(bench.name, "beyond")
    table = OwnedTable.attach(
        plan.spec(None, config), identity, clock=SystemClock(), durability="none"
    )
    span = OffsetRange(source, start, end, Counts(absent=end - start))
    unit = Unit(bench.name, "consumer-x", 1, table.fingerprint, (span,))
    (outcome,) = table.commit([unit])
    assert outcome.status == "committed", outcome
    table.release()


@pytest.fixture(scope="module")
def world(broker: LiveBroker, make_bench: MakeBench) -> World:
    bench = make_bench()
    topics = {name: broker.create_topic(name) for name in TABLES}
    policies = {
        "recorded": {"on_data_loss": "record"},
        "anew": {"on_topic_recreated": "start", "start": "latest"},
    }
    tables = {
        name: {"topics": [topic], "schema": {"id": "long"}, **policies.get(name, {})}
        for name, topic in topics.items()
    }
    topics["deleted"] = broker.create_topic("deleted")
    bench.write({**tables, "deleted": {"topics": [topics["deleted"]], "schema": {"id": "long"}}})
    for name, topic in topics.items():
        if name != "anew":
            produce(broker, topic, [{"id": n} for n in range(10)])
    run = bench.start()
    bench.until_accounted(**dict.fromkeys({*TABLES, "deleted"} - {"anew"}, 10))
    produce(broker, topics["anew"], [{"id": n} for n in range(4)])
    bench.until_accounted(anew=4)
    for name in ("again", "anew"):
        recreate(broker, topics[name])
        produce(broker, topics[name], [{"id": 1000 + n} for n in range(3)])
    bench.until_accounted(anew=7)
    bench.until(lambda: "again" in str(bench.status().get("stopped")), "again is stopped")
    broker.admin.delete_topics([topics["deleted"]])
    bench.until(lambda: "does not exist" in str(bench.status().get("stopped")), "it is missed")
    broker.admin.create_partitions({topics["fine"]: 2})
    produce(broker, topics["fine"], [Record({"id": 10}, partition=1)])
    bench.until_accounted(fine=11)
    running = bench.status()
    run.stop()
    bench.write(tables)
    for name in ("gone", "recorded"):
        produce(broker, topics[name], [{"id": n} for n in range(10, 20)])
        broker.admin.delete_records({TopicPartition(topics[name], 0): 16})
    push_beyond(bench, topics["beyond"], 10, 50)
    produce(broker, topics["fine"], [{"id": 11}])
    ended = bench.drain(code=5)
    return World(bench, topics, running, ended, bench.status())


@pytest.mark.spec("A3", "A7")
def test_failure_10_offsets_gone_stop_their_partition_by_name_and_count(world: World) -> None:
    topic = world.topics["gone"]
    said = world.last["stopped"][f"{topic}[0]"]["message"]
    assert f"{topic}[0]" in said
    assert "6 offsets [10, 16) are gone" in said
    assert offsets(world.bench.rows("gone")) == list(range(10))
    assert world.bench.table_status("gone")["partitions"][f"{topic}[0]"]["next"] == 10


@pytest.mark.spec("A3", "A7")
def test_a_deleted_topic_is_named_with_what_to_do_while_new_partitions_of_others_are_found(
    world: World,
) -> None:
    stopped = world.running["stopped"][f"{world.topics['deleted']}[0]"]
    assert stopped["code"] == "unknown_topic"
    assert "on_topic_recreated" in stopped["hint"]
    assert stopped["message"] in [error["message"] for error in world.running["errors"]]
    assert 10 in world.bench.rows("fine").filter(pl.col("_partition") == 1)["id"].to_list()


@pytest.mark.spec("A3", "A4")
def test_failure_10_offsets_gone_are_counted_as_lost_where_that_is_wanted(world: World) -> None:
    topic = world.topics["recorded"]
    assert f"{topic}[0]" not in world.last["stopped"]
    assert offsets(world.bench.rows("recorded")) == [*range(10), *range(16, 20)]
    totals = world.bench.table_status("recorded")["totals"]
    assert (totals["rows"], totals["lost"], totals["dead"]) == (14, 6, 0)
    (letter,) = world.bench.letters.to_dicts()
    assert (letter["stage"], letter["topic"], letter["offset"]) == ("lost", topic, 10)
    assert "[10, 16)" in letter["reason"]


@pytest.mark.spec("A3")
def test_failure_11_an_offset_beyond_the_end_stops_its_partition(world: World) -> None:
    topic = world.topics["beyond"]
    said = world.last["stopped"][f"{topic}[0]"]["message"]
    assert f"{topic}[0]" in said
    assert "at 10, before the offset asked for, 50: 40 offsets" in said
    assert offsets(world.bench.rows("beyond")) == list(range(10))


@pytest.mark.spec("A3")
def test_failure_11_a_topic_created_again_stops_and_nothing_of_it_is_read(world: World) -> None:
    topic = world.topics["again"]
    for document in (world.running, world.last):
        said = document["stopped"][f"{topic}[0]"]["message"]
        assert "deleted and created again" in said
    assert world.bench.rows("again")["id"].to_list() == list(range(10))


@pytest.mark.spec("A3")
def test_failure_11_a_topic_created_again_begins_anew_where_that_is_wanted(world: World) -> None:
    """Also where the table began at ``latest``: nothing of the new topic is missed."""
    rows = world.bench.rows("anew").sort("_ingested_at", "_offset")
    assert rows["id"].to_list() == [0, 1, 2, 3, 1000, 1001, 1002]
    assert offsets(rows) == [0, 1, 2, 3, 0, 1, 2]


@pytest.mark.spec("A3")
def test_the_others_go_on_and_the_run_ends_with_5(world: World) -> None:
    assert sorted(world.bench.rows("fine")["id"]) == list(range(12))
    assert world.ended.process.returncode == 5
    assert "hint: " in world.ended.said
    assert world.last["error"]["exit_code"] == 5
    assert set(world.last["stopped"]) == {
        f"{world.topics[name]}[0]" for name in ("gone", "again", "beyond")
    }


@pytest.mark.spec("A3")
def test_verify_balances_by_log_and_data_and_tells_what_the_broker_lost(world: World) -> None:
    world.bench.verify(level="data")
    letters = str(world.bench.lake / "dead_letters" / world.bench.name)
    kinds = {"gone": {"expired"}, "again": {"topic_recreated"}, "beyond": {"beyond_end"}}
    with Cluster(world.bench.broker.bootstrap) as lookup:
        for name in TABLES:
            path = str(world.bench.table(name))
            report = verify(path, letters, world.bench.name, "broker", lookup)
            found = {one.kind for one in report.findings if one.is_difference}
            assert found == kinds.get(name, set()), name
