"""Positions are moved deliberately: adopt, rewind and skip, as typed, against the real broker."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake
from kafka import KafkaConsumer, TopicPartition

from raylake.kafka.client import Cluster
from tests.harness.broker import LiveBroker
from tests.harness.newer_groups import newer_member
from tests.harness.typed import Type
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import offsets, produce

FOREVER = {"retention.ms": "-1"}
COUNT = 40
POISON = (25, 33)
FROM = {"offsets": 10, "group": 12, "kafka-delta-ingest": 15}


@pytest.fixture(scope="module")
def topic(broker: LiveBroker) -> str:
    """One partition of 40 values, two of them no JSON."""
    name = broker.create_topic("takeover", config=FOREVER)
    produce(broker, name, [b"{no" if n in POISON else {"id": n} for n in range(COUNT)])
    return name


@pytest.fixture(scope="module")
def bench(topic: str, make_bench: MakeBench) -> Bench:
    made = make_bench()
    table = {"topics": [topic], "schema": {"id": "long"}, "start": "latest"}
    made.write({"offsets": table, "group": table, "ingest": table, "moved": table})
    return made


@pytest.fixture(scope="module")
def group(broker: LiveBroker, topic: str) -> str:
    """A consumer group that has read some of the topic."""
    return broker.commit_group(topic, FROM["group"])


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, topic: str) -> Path:
    """A table as kafka-delta-ingest leaves it: the last offset of each partition in a txn."""
    path = tmp_path_factory.mktemp("ingested") / "table"
    end = FROM["kafka-delta-ingest"]
    for first, last in ((0, 6), (7, end - 1)):
        rows = pa.table({"id": range(first, last + 1), "offset": range(first, last + 1)})
        txns = [Transaction(f"etl-{topic}-0", last)]
        properties = CommitProperties(app_transactions=txns)
        write_deltalake(path, rows, mode="append", commit_properties=properties)
    return path


@pytest.mark.spec("A13")
def test_each_origin_is_adopted_and_the_run_goes_on_from_there(
    bench: Bench, topic: str, group: str, ingested: Path, type_: Type
) -> None:
    orders = {
        "offsets": ("offsets", f"{topic}[0]={FROM['offsets']}"),
        "group": ("group", group),
        "ingest": ("kafka-delta-ingest", str(ingested)),
        "moved": ("offsets", f"{topic}[0]=0"),
    }
    for table, (kind, source) in orders.items():
        order = ("adopt", str(bench.file), f"bronze.{table}", "--from", kind, "--source", source)
        code, said = type_(*order, "--dry-run")
        assert (code, said.get("dry_run"), said.get("version")) == (0, True, None), said
        assert not bench.table(table).exists()
        code, said = type_(*order)
        assert code == 0, said
        assert said["partitions"][0]["next"] == (0 if table == "moved" else FROM[kind])
        code, again = type_(*order)
        assert (code, again["partitions"], again["version"]) == (0, [], None)
    bench.drain()
    bench.verify()
    good = [n for n in range(COUNT) if n not in POISON]
    for table, (kind, _) in orders.items():
        first = 0 if table == "moved" else FROM[kind]
        assert offsets(bench.rows(table)) == [n for n in good if n >= first], table
    theirs = pl.read_delta(str(ingested))["offset"].to_list()
    assert sorted([*theirs, *offsets(bench.rows("ingest"))]) == good


@pytest.mark.spec("A13")
def test_rewound_and_skipped_offsets_leave_the_account_balanced(
    bench: Bench, topic: str, broker: LiveBroker, type_: Type
) -> None:
    order = (str(bench.file), "bronze.moved", "--to")
    code, said = type_("rewind", *order, f"{topic}[0]=20")
    assert (code, said["code"]) == (5, "refused")
    assert (said["context"]["rows"], said["context"]["dead"]) == (18, 2)
    code, said = type_("rewind", *order, f"{topic}[0]=20", "--replace", "--dry-run")
    assert (code, said["partitions"][0]["was"], said["partitions"][0]["next"]) == (0, COUNT, 20)
    assert len(bench.rows("moved")) == COUNT - 2
    code, said = type_("rewind", *order, f"{topic}[0]=20", "--replace")
    assert code == 0, said
    assert offsets(bench.rows("moved")) == list(range(20))
    bench.verify()
    code, said = type_("skip", *order, f"{topic}[0]=26", "--reason", "poisoned")
    assert (code, said["partitions"][0]["totals"]["dropped"]) == (0, 6), said
    produce(broker, topic, [{"id": n} for n in range(COUNT, COUNT + 5)])
    bench.drain()
    report = bench.verify()
    moved = next(one for one in report.tables if one.table.endswith("moved"))
    counts = moved.totals
    assert (counts.rows, counts.dead, counts.dropped) == (20 + 18, 1, 6)
    wanted = [n for n in range(COUNT + 5) if n not in POISON and not 20 <= n < 26]
    assert offsets(bench.rows("moved")) == wanted
    code, said = type_("rewind", *order, "earliest", "--replace")
    assert (code, said["partitions"][0]["next"]) == (0, 0), said
    bench.verify()


def test_who_still_reads_is_not_taken_over(
    bench: Bench, topic: str, broker: LiveBroker, type_: Type
) -> None:
    name = f"busy-{uuid.uuid4().hex[:6]}"
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap,
        group_id=name,
        auto_offset_reset="earliest",
    )
    with Cluster(broker.bootstrap) as cluster:
        until(
            lambda: consumer.poll(200) is not None and cluster.group_members(name),
            "the group has a member",
        )
    order = ("adopt", str(bench.file), "bronze.offsets", "--from", "group", "--source", name)
    code, said = type_(*order)
    consumer.close()
    assert (code, said["code"]) == (5, "already_running"), said
    assert "1 member" in said["message"]


def test_a_member_of_the_newer_protocol_is_seen(
    bench: Bench, topic: str, broker: LiveBroker, type_: Type
) -> None:
    name = broker.commit_group(topic, 3)
    order = ("adopt", str(bench.file), "bronze.offsets", "--from", "group", "--source", name)
    with Cluster(broker.bootstrap) as cluster:
        with newer_member(broker.bootstrap, name, topic):
            until(lambda: cluster.group_members(name), "the group has a member")
            code, said = type_(*order)
            assert (code, said["code"]) == (5, "already_running"), said
        until(lambda: not cluster.group_members(name), "the member has left")


def spark_checkpoint(folder: Path, ends: dict[str, dict[str, int]], version: str = "v1") -> str:
    for name in ("offsets", "commits"):
        (folder / name).mkdir()
    (folder / "offsets" / "0").write_text(f"{version}\n{{}}\n{json.dumps(ends)}")
    (folder / "commits" / "0").write_text("v1\n{}")
    return str(folder)


@pytest.mark.spec("A13")
@pytest.mark.parametrize(
    ("case", "exit_code", "said"),
    [
        ("another topic's checkpoint", 2, "stands in elsewhere"),
        ("a newer checkpoint", 5, "format v2"),
        ("a partition that is not there", 2, "which Kafka does not have"),
        ("a group without commits", 2, "has no committed offset"),
        ("beyond the end", 5, "beyond the end"),
        ("another position", 5, "cannot be adopted"),
        ("another table", 2, "has no table"),
        ("no job's table", 2, "none of that form"),
        ("skip committed offsets", 5, "are committed"),
        ("skip beyond the end", 5, "its log ends at"),
        ("rewind forward", 5, "does not lie before it"),
        ("another pipeline's table", 5, "belongs to pipeline"),
    ],
)
def test_bad_orders_are_refused_and_change_nothing(
    bench: Bench, topic: str, type_: Type, tmp_path: Path, case: str, exit_code: int, said: str
) -> None:
    file, table = str(bench.file), "bronze.offsets"
    adopt = ("adopt", file, table, "--from")
    ends = {"elsewhere": {"0": 1}} if case.startswith("another topic") else {topic: {"9": 1}}
    version = "v2" if case.startswith("a newer") else "v1"
    checkpoint = spark_checkpoint(tmp_path, ends, version)
    other = tmp_path / "other.yaml"
    other.write_text(bench.file.read_text().replace(f"pipeline: {bench.name}", "pipeline: other"))
    match case:
        case "a group without commits":
            order = (*adopt, "group", "--source", "nobody")
        case "beyond the end":
            order = ("adopt", file, table, "--from", "offsets", "--source", f"{topic}[0]=99999")
        case "another position":
            order = (*adopt, "offsets", "--source", f"{topic}[0]=3")
        case "another table":
            order = ("skip", file, "bronze.nothing", "--to", f"{topic}[0]=3")
        case "no job's table":
            order = (*adopt, "kafka-delta-ingest", "--source", str(bench.table("group")))
        case "skip committed offsets":
            order = ("skip", file, table, "--to", f"{topic}[0]=3")
        case "skip beyond the end":
            order = ("skip", file, table, "--to", f"{topic}[0]=99999")
        case "rewind forward":
            order = ("rewind", file, table, "--to", f"{topic}[0]=99999")
        case "another pipeline's table":
            order = ("skip", str(other), table, "--to", f"{topic}[0]=44")
        case _:
            order = (*adopt, "spark-checkpoint", "--source", checkpoint)
    before = sorted((bench.table("offsets") / "_delta_log").iterdir())
    code, error = type_(*order)
    assert code == exit_code, error
    assert said in error["message"]
    assert sorted((bench.table("offsets") / "_delta_log").iterdir()) == before


@pytest.mark.long
def test_nothing_is_moved_beside_a_run(bench: Bench, topic: str, type_: Type) -> None:
    run = bench.start()
    bench.until(lambda: bench.status().get("state") == "running", "it runs")
    for order in (("skip", "--to"), ("rewind", "--replace", "--to")):
        name, *more = order
        code, said = type_(name, str(bench.file), "bronze.offsets", *more, f"{topic}[0]=5")
        assert (code, said["code"]) == (5, "already_running")
    run.stop()


@pytest.mark.long
def test_a_rewind_beyond_retention_is_refused(
    make_bench: MakeBench, broker: LiveBroker, type_: Type
) -> None:
    topic = broker.create_topic("expired", config=FOREVER)
    produce(broker, topic, [{"id": n} for n in range(10)])
    bench = make_bench()
    bench.write({"expired": {"topics": [topic], "schema": {"id": "long"}}})
    bench.drain()
    broker.admin.delete_records({TopicPartition(topic, 0): 4})
    order = ("rewind", str(bench.file), "bronze.expired", "--replace", "--to")
    code, said = type_(*order, f"{topic}[0]=3")
    assert (code, said["code"], said["context"]["log_start"]) == (5, "offsets_lost", 4)
    code, said = type_(*order, "earliest")
    assert (code, said["partitions"][0]["next"]) == (0, 4), said
    bench.drain()
    bench.verify()
    assert offsets(bench.rows("expired")) == list(range(10))
