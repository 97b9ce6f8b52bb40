"""What becomes of partitions of which the adopted position says nothing, as typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from kafka import TopicPartition

from raylake.kafka.client import Cluster
from tests.harness.broker import LiveBroker
from tests.harness.typed import Type
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import Record, produce

COUNT = 10
READ = 4
GONE = 3
"""Records of each partition; those that the group has read; those of `b` that Kafka has dropped."""


@pytest.fixture(scope="module")
def topics(broker: LiveBroker) -> tuple[str, str]:
    """``a`` has two partitions, ``b`` one, whose first records are gone."""
    a = broker.create_topic("part-a", partitions=2)
    b = broker.create_topic("part-b", config={"retention.ms": "-1"})
    produce(broker, a, [Record({"id": n}, partition=n % 2) for n in range(2 * COUNT)])
    produce(broker, b, [{"id": n} for n in range(COUNT)])
    broker.admin.delete_records({TopicPartition(b, 0): GONE})
    return a, b


@pytest.fixture(scope="module")
def group(broker: LiveBroker, topics: tuple[str, str]) -> str:
    """A group that has committed for one partition of three."""
    return broker.commit_group(topics[0], READ)


@pytest.fixture(scope="module")
def bench(topics: tuple[str, str], make_bench: MakeBench) -> Bench:
    made = make_bench()
    table = {"topics": list(topics), "schema": {"id": "long"}, "start": "latest"}
    made.write(dict.fromkeys(("later", "start", "given"), table))
    return made


def adopt(bench: Bench, table: str, group: str, *more: str) -> tuple[str, ...]:
    return (
        "adopt",
        str(bench.file),
        f"bronze.{table}",
        "--from",
        "group",
        "--source",
        group,
        *more,
    )


def names(said: dict[str, Any], key: str, what: str) -> dict[str, int]:
    return {f"{one['topic']}[{one['partition']}]": one[what] for one in said[key]}


@pytest.mark.spec("A13")
@pytest.mark.parametrize("dry", [("--dry-run",), ()])
def test_partitions_that_nobody_names_are_refused_with_where_they_would_begin(
    bench: Bench, topics: tuple[str, str], group: str, type_: Type, dry: tuple[str, ...]
) -> None:
    a, b = topics
    code, said = type_(*adopt(bench, "later", group, *dry))
    assert (code, said["code"]) == (5, "refused"), said
    assert f"would begin {a}[1] at 0, {b}[0] at {GONE}" in said["message"]
    assert names(said["context"], "left", "begins") == {f"{a}[1]": 0, f"{b}[0]": GONE}
    assert "--others start" in said["hint"]
    code, said = type_(*adopt(bench, "later", group, "--others", f"{b}[0]=5", *dry))
    assert (code, names(said["context"], "left", "begins")) == (5, {f"{a}[1]": 0})
    given = ("adopt", str(bench.file), "bronze.later", "--from", "offsets", "--source")
    code, said = type_(*given, f"{a}[0]=1", *dry)
    assert (code, len(said["context"]["left"])) == (5, 2)
    assert not bench.table("later").exists()


@pytest.mark.parametrize(
    ("others", "exit_code", "said"),
    [
        ("{a}[0]=2", 2, "says itself where to begin"),
        ("{a}[9]=2", 2, "takes no"),
        ("nowhere[0]=2", 2, "takes no"),
        ("{b}[0]=99", 5, "beyond the end"),
        ("{b}[0]=1", 5, "2 offsets are gone"),
        ("earliest", 2, "--others takes start or later"),
    ],
)
def test_others_that_cannot_begin_there_are_refused(
    bench: Bench, topics: tuple[str, str], group: str, type_: Type, others: str, exit_code: int,
    said: str,
) -> None:  # fmt: skip
    a, b = topics
    more = ("--others", others.format(a=a, b=b), "--others", "start")
    code, error = type_(*adopt(bench, "later", group, *more))
    assert code == exit_code, error
    assert said in error["message"]
    assert not bench.table("later").exists()


@pytest.mark.spec("A13")
def test_a_run_begins_every_partition_where_adopt_has_said(
    bench: Bench, topics: tuple[str, str], group: str, broker: LiveBroker, type_: Type
) -> None:
    a, b = topics
    wanted = {
        "later": {f"{a}[0]": READ, f"{a}[1]": 0, f"{b}[0]": GONE},
        "start": {f"{a}[0]": READ, f"{a}[1]": COUNT, f"{b}[0]": COUNT},
        "given": {f"{a}[0]": READ, f"{a}[1]": 6, f"{b}[0]": 8},
    }
    ways = {
        "later": ("later",),
        "start": ("start",),
        "given": (f"{a}[1]=6", f"{b}[0]=8"),
    }
    for table, way in ways.items():
        order = adopt(bench, table, group, *(part for one in way for part in ("--others", one)))
        code, dry = type_(*order, "--dry-run")
        assert (code, dry["version"]) == (0, None), dry
        code, said = type_(*order)
        assert code == 0, said
        for one in (dry, said):
            begun = names(one, "partitions", "next") | names(one, "left", "begins")
            assert begun == wanted[table], table
        assert (len(said["left"]), said["adopted"].get("others")) == {
            "later": (2, None),
            "start": (0, "start"),
            "given": (0, "given"),
        }[table]
        code, again = type_(*order)
        assert (code, again["partitions"], again["version"]) == (0, [], None), again
    for topic, partitions in ((a, 2), (b, 1)):
        produce(broker, topic, [Record({"id": 99}, partition=p) for p in range(partitions)])
    bench.drain()
    bench.verify()
    for table, begins in wanted.items():
        rows = bench.rows(table).select("_topic", "_partition", "_offset").rows()
        found = {(f"{topic}[{partition}]", offset) for topic, partition, offset in rows}
        assert len(found) == len(rows)
        assert found == {(p, n) for p, begin in begins.items() for n in range(begin, COUNT + 1)}


def test_a_second_order_completes_the_first(
    make_bench: MakeBench, topics: tuple[str, str], group: str, type_: Type
) -> None:
    a, b = topics
    bench = make_bench()
    bench.write({"both": {"topics": list(topics), "schema": {"id": "long"}}})
    code, said = type_(*adopt(bench, "both", group, "--others", "later"))
    assert (code, len(said["partitions"]), len(said["left"])) == (0, 1, 2), said
    given = ("adopt", str(bench.file), "bronze.both", "--from", "offsets", "--source")
    code, said = type_(*given, f"{a}[1]=7", "--source", f"{b}[0]=7")
    assert (code, said["left"]) == (0, []), said
    assert names(said, "partitions", "next") == {f"{a}[1]": 7, f"{b}[0]": 7}


def test_values_above_the_file_are_taken(
    bench: Bench, topics: tuple[str, str], group: str, tmp_path: Path, type_: Type
) -> None:
    file = tmp_path / "elsewhere.yaml"
    file.write_text(bench.file.read_text().replace(bench.broker.bootstrap, "localhost:1"))
    above = {
        "pipeline": f"{bench.name}-set",
        "lake": str(tmp_path / "lake"),
        "kafka.bootstrap": bench.broker.bootstrap,
        "bronze.start.start": "earliest",
    }
    sets = [part for key, value in above.items() for part in ("--set", f"{key}={value}")]
    order = ("adopt", str(file), "bronze.start", "--from", "group", "--source", group, *sets)
    code, said = type_(*order, "--others", "start")
    assert code == 0, said
    wanted = {f"{topics[0]}[0]": READ, f"{topics[0]}[1]": 0, f"{topics[1]}[0]": GONE}
    assert names(said, "partitions", "next") == wanted
    assert (tmp_path / "lake" / "bronze" / "start" / "_delta_log").is_dir()
    letters = ("dlq", "stats", str(file), *sets)
    assert type_(*letters) == (0, {"format": 1, "path": ANY, "total": 0, "kinds": []})


def test_a_missing_topic_is_said_as_a_run_says_it_and_stops_no_other_table(
    make_bench: MakeBench, topics: tuple[str, str], broker: LiveBroker, type_: Type
) -> None:
    near = f"{topics[0]}x"
    bench = make_bench()
    schema = {"schema": {"id": "long"}}
    both = {"topics": [topics[1], near], **schema}
    each = {"topics": [topics[0], f"{near}y"], "table": "{topic}", **schema}
    bench.write({"well": {"topics": list(topics), **schema}, "ill": both, "each": each})
    with Cluster(broker.bootstrap) as cluster, pytest.raises(Exception, match=near) as run_says:
        cluster.topics([topics[1], near])
    begins = [part for p in (f"{topics[0]}[0]=1", f"{topics[0]}[1]=1", f"{topics[1]}[0]=5")
              for part in ("--source", p)]  # fmt: skip
    ill = str(bench.file), "bronze.ill"
    for order in (
        ("adopt", *ill, "--from", "offsets", "--source", f"{topics[1]}[0]=5"),
        ("skip", *ill, "--to", f"{topics[1]}[0]=5"),
        ("rewind", *ill, "--to", "earliest"),
    ):
        code, said = type_(*order)
        assert (code, said["code"], said["hint"]) == (2, "unknown_topic", run_says.value.hint)
        assert said["message"].startswith(run_says.value.message)
        assert f"{bench.file}:" in said["message"], "where the file names it"
    code, said = type_("skip", str(bench.file), f"bronze.{near}y", "--to", f"{near}y[0]=5")
    assert (code, said["code"]) == (2, "unknown_topic")
    code, said = type_("adopt", str(bench.file), "bronze.well", "--from", "offsets", *begins)
    assert code == 0, said
    code, said = type_("skip", str(bench.file), "bronze.well", "--to", f"{topics[0]}[0]=2")
    assert code == 0, said
