"""The options of the commands that move positions: what they say and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake.cli.adopt import Kind, origin_of, others_of
from raylake.cli.output import Output
from raylake.cli.positions import offsets_of, tell
from raylake.cli.rewind import target_of
from raylake.client.adoption import Others
from raylake.client.foreign_positions import (
    ConsumerGroup,
    DeltaIngest,
    GivenOffsets,
    SparkCheckpoint,
)
from raylake.client.position_orders import Done, PartitionMove
from raylake.client.rewind_orders import (
    ToEarliest,
    ToMoment,
    ToOffsets,
    ToVersion,
    refuse_compacted,
    taken_topics,
)
from raylake.delta.rewinding import Survey, TakenBack
from raylake.errors import ConfigError, Refused
from raylake.ingest.unit import Counts, PartitionState, SourcePartition
from raylake.storage.objects import StorePath

P0 = SourcePartition("orders", "id", 0)
AT_50 = PartitionState(0, 50, Counts(rows=50))


@pytest.mark.spec("A13")
def test_each_origin_is_made_from_its_options() -> None:
    here = Path.cwd()
    assert origin_of(Kind.spark, ["c"], []) == SparkCheckpoint(here / "c")
    both = SparkCheckpoint(here / "c", here / "t=1")
    assert origin_of(Kind.spark, ["c"], ["sink=t=1"]) == both
    assert origin_of(Kind.group, ["etl"], []) == ConsumerGroup("etl")
    job = origin_of(Kind.ingest, ["t"], ["app-id=a", "topic=orders"])
    assert job == DeltaIngest(here / "t", "a", "orders")
    given = origin_of(Kind.offsets, ["a.b[0]=1", "a.b[12]=0", "c[0]=7"], [])
    assert given == GivenOffsets({"a.b": {0: 1, 12: 0}, "c": {0: 7}})


def test_origins_may_lie_in_stores() -> None:
    origin = origin_of(Kind.spark, ["s3a://b/c/"], ["sink=gs://b/t"])
    assert origin == SparkCheckpoint(StorePath("s3://b/c"), StorePath("gs://b/t"))
    assert origin_of(Kind.ingest, ["s3://b/t"], []) == DeltaIngest(StorePath("s3://b/t"))
    with pytest.raises(ConfigError, match="not a store that is known"):
        origin_of(Kind.ingest, ["hdfs://name/t"], [])


def test_what_becomes_of_the_others_is_said_by_name_or_by_position() -> None:
    assert others_of([]) == Others()
    assert others_of(["start"]) == Others("start")
    assert others_of(["a[0]=1", "later", "a[1]=2"]) == Others("later", {"a": {0: 1, 1: 2}})


@pytest.mark.parametrize("given", [["latest"], ["start", "later"], ["start", "start"], [""]])
def test_others_are_nothing_else(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="--others takes start or later"):
        others_of(given)


@pytest.mark.parametrize(
    ("kind", "source", "more"),
    [
        (Kind.spark, ["a", "b"], []),
        (Kind.group, [""], []),
        (Kind.group, ["etl"], ["sink=x"]),
        (Kind.spark, ["c"], ["app-id=x"]),
        (Kind.spark, ["c"], ["sink"]),
        (Kind.offsets, ["orders[0]=1"], ["topic=x"]),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    kind: Kind, source: list[str], more: list[str]
) -> None:
    with pytest.raises(ConfigError):
        origin_of(kind, source, more)


@pytest.mark.parametrize("text", ["orders=1", "orders[0]", "orders[0]=-1", "[0]=1", "o[x]=1", ""])
def test_what_is_no_position_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a position"):
        offsets_of([text])


def test_a_partition_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="named twice"):
        offsets_of(["orders[0]=1", "orders[0]=2"])


def test_a_rewind_goes_to_the_beginning_a_moment_or_offsets() -> None:
    assert target_of(["earliest"]) == ToEarliest()
    assert target_of(["1970-01-01T00:00:01Z"]) == ToMoment(1000)
    assert target_of(["a[0]=1", "a[1]=2"]) == ToOffsets({"a": {0: 1, 1: 2}})
    assert target_of(["version:12"]) == ToVersion(12)


@pytest.mark.parametrize(
    "to", [[], ["latest"], ["earliest", "earliest"], ["version:-1"], ["2026-01-31T12:00:00"]]
)
def test_a_rewind_to_anything_else_is_refused(to: list[str]) -> None:
    with pytest.raises(ConfigError):
        target_of(to)


SKIPPED = PartitionState(0, 1050, Counts(rows=50, dropped=1000))
BACK = PartitionState(0, 20, Counts(rows=20))
LEFT = [{"topic": "orders", "partition": 1, "begins": 1000}]
NOTE = {"adopted": {"from": "group", "group": "etl"}, "ignored_topics": ["b"], "left": LEFT}
TAKEN = {"taken_back": {"orders[0]": {"rows": 29, "dead": 1, "absent": 0}}}


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (
            Done("adopt", "bronze.o", (PartitionMove(P0, None, BACK),), False, 3, NOTE),
            [
                "from consumer group 'etl'",
                "topic b",
                "orders[0]: begins at 20",
                "orders[1]: no position by this; a run begins it at 1,000",
                "adopt is done, the table is at version 3",
            ],
        ),
        (
            Done("skip", "bronze.o", (PartitionMove(P0, AT_50, SKIPPED),), True),
            ["from 50 to 1,050: 1,000 offsets are dropped", "dry run, nothing was changed"],
        ),
        (
            Done("rewind", "bronze.o", (PartitionMove(P0, AT_50, BACK),), False, 9, TAKEN),
            ["from 50 to 20: 30 offsets are read again, 29 rows, 1 dead taken back"],
        ),
        (
            Done(
                "rewind", "bronze.o", (PartitionMove(P0, AT_50, BACK),), False, 9, TAKEN, ("late",)
            ),
            ["warning: late", "rewind is done, the table is at version 9"],
        ),
        (Done("rewind", "bronze.o", (), False), ["stands there already; nothing to do"]),
    ],
)
def test_what_an_order_did_is_said_in_words(
    capsys: pytest.CaptureFixture[str], done: Done, said: list[str]
) -> None:
    tell(done, Output.text)
    printed = capsys.readouterr().out
    for part in said:
        assert part in printed


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ({"orders": "compact"}, "topic 'orders' is compacted"),
        ({"orders": "compact,delete", "other": "delete"}, "topic 'orders' is compacted"),
        ({"orders": None}, "not told whether topic 'orders' is compacted"),
    ],
)
def test_what_kafka_may_have_compacted_away_is_not_taken_back_unasked(
    policies: dict[str, str | None], said: str
) -> None:
    counts = Counts(rows=29, dead=1)
    found = Survey(7, {P0: TakenBack(AT_50, BACK, counts, 29, 1)}, ())
    assert taken_topics(found) == ["orders"]
    with pytest.raises(Refused, match=said) as caught:
        refuse_compacted("bronze.orders", policies, found)
    assert "up to 29 rows and 1 dead letters" in caught.value.message
    assert "--replace-compacted" in caught.value.hint
    refuse_compacted("bronze.orders", {"orders": "delete"}, found)


def test_nothing_is_asked_of_kafka_where_nothing_is_taken_back() -> None:
    assert taken_topics(Survey(7, {P0: TakenBack(AT_50, BACK, Counts(), 0, 0)}, ())) == []
