"""Where a table takes over, out of what somebody else's job says and what Kafka has."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raylake.client.foreign_positions import (
    ConsumerGroup,
    DeltaIngest,
    GivenOffsets,
    Origin,
    SparkCheckpoint,
    foreign_positions,
)
from raylake.errors import AlreadyRunning, ConfigError, OffsetsLost, RayLakeError
from raylake.ingest.start_positions import FixedLookups
from raylake.ingest.unit import SourcePartition

A0, A1 = (SourcePartition("a", "ida", n) for n in range(2))
B0 = SourcePartition("b", "idb", 0)
TAKEN = [A0, A1, B0]


@dataclass(frozen=True, slots=True)
class Brokers(FixedLookups):
    """Kafka, answered from memory."""

    members: dict[str, int] = field(default_factory=dict)

    def group_members(self, group_id: str) -> int:
        return self.members.get(group_id, 0)


KAFKA = Brokers(
    first={A0: 5, A1: 0, B0: 0},
    last={A0: 100, A1: 100, B0: 100},
    groups={"whole": {A0: 10, A1: 20, B0: 30}, "part": {A0: 10, B0: 1}, "b": {B0: 7}},
    members={"busy": 2},
)


def checkpoint(folder: Path, ends: dict[str, dict[str, int]]) -> SparkCheckpoint:
    for name, text in (("offsets", f"v1\n{{}}\n{json.dumps(ends)}"), ("commits", "v1\n{}")):
        (folder / name).mkdir()
        (folder / name / "3").write_text(text)
    return SparkCheckpoint(folder)


@pytest.mark.spec("A13")
def test_a_checkpoints_topics_are_adopted_and_the_others_are_named(tmp_path: Path) -> None:
    origin = checkpoint(tmp_path, {"a": {"0": 50, "1": 60}, "other": {"0": 9}})
    found = foreign_positions(origin, TAKEN, KAFKA)
    assert found.ends == {A0: 50, A1: 60}
    assert (found.fresh, found.ignored) == ((), ("other",))
    assert found.note["from"] == "spark-checkpoint"
    assert found.note["batch"] == 3


def test_a_partition_that_spark_had_not_seen_begins_at_its_first_offset(tmp_path: Path) -> None:
    found = foreign_positions(checkpoint(tmp_path, {"a": {"1": 60}}), TAKEN, KAFKA)
    assert found.ends == {A0: 5, A1: 60}
    assert (found.fresh, found.told) == ((A0,), {A1: 60})


@pytest.mark.parametrize(
    ("origin", "ends"),
    [
        (ConsumerGroup("whole"), {A0: 10, A1: 20, B0: 30}),
        (ConsumerGroup("b"), {B0: 7}),
        (ConsumerGroup("part"), {A0: 10, B0: 1}),
        (GivenOffsets({"a": {0: 6}}), {A0: 6}),
    ],
)
def test_partitions_of_which_nothing_is_said_are_left_out(
    origin: Origin, ends: dict[SourcePartition, int]
) -> None:
    found = foreign_positions(origin, TAKEN, KAFKA)
    assert (found.ends, found.fresh) == (ends, ())


def test_a_partition_without_a_txn_of_kafka_delta_ingest_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    log.mkdir()
    txn = {"txn": {"appId": "etl-1", "version": 41}}
    (log / f"{0:020d}.json").write_text(json.dumps(txn))
    found = foreign_positions(DeltaIngest(tmp_path, topic="a"), TAKEN, KAFKA)
    assert (found.ends, found.fresh) == ({A1: 42}, ())


@pytest.mark.parametrize(
    ("origin", "error", "said"),
    [
        (ConsumerGroup("nobody"), ConfigError, "no committed offset for"),
        (ConsumerGroup("busy"), AlreadyRunning, "2 members"),
        (GivenOffsets({"c": {0: 6}}), ConfigError, "stands in c; the table takes a, b"),
        (GivenOffsets({"b": {0: 6, 4: 1}}), ConfigError, "which Kafka does not have"),
        (GivenOffsets({"a": {0: 4, 1: 0}}), OffsetsLost, "1 offsets are gone"),
        (GivenOffsets({"b": {0: 101}}), OffsetsLost, "beyond the end"),
        (DeltaIngest(Path("nowhere")), ConfigError, "does not say which of them"),
        (DeltaIngest(Path("nowhere"), topic="a"), ConfigError, "is not a Delta table"),
    ],
)
def test_what_cannot_be_taken_over_is_said(
    origin: Origin, error: type[RayLakeError], said: str
) -> None:
    with pytest.raises(error, match=said):
        foreign_positions(origin, TAKEN, KAFKA)


def test_given_offsets_up_to_the_end_are_taken() -> None:
    found = foreign_positions(GivenOffsets({"b": {0: 100}, "a": {0: 5, 1: 0}}), TAKEN, KAFKA)
    assert found.ends == {A0: 5, A1: 0, B0: 100}
