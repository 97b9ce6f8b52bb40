"""Every start option becomes an explicit offset for each partition, or a clear error."""

from __future__ import annotations

import pickle

import pytest

from raylake.config.bronze import Earliest, FromGroup, FromOffsets, FromTimestamp, Latest
from raylake.errors import ConfigError, OffsetsLost
from raylake.ingest.start_positions import FixedLookups, resolve
from raylake.ingest.unit import SourcePartition

A, B, C = (SourcePartition("orders", "id", p) for p in range(3))
LOOKUPS = FixedLookups(
    first={A: 10, B: 20, C: 0},
    last={A: 100, B: 200, C: 0},
    timestamps=lambda source, ms: 50 if source == A and ms < 1000 else None,
    groups={"old": {A: 42, B: 43}, "full": {A: 10, B: 200, C: 0}, "stale": {A: 9, B: 43, C: 0}},
)
ALL = [C, A, B]


def test_earliest_and_latest() -> None:
    assert resolve(Earliest(), ALL, LOOKUPS) == {A: 10, B: 20, C: 0}
    assert resolve(Latest(), ALL, LOOKUPS) == {A: 100, B: 200, C: 0}


def test_a_timestamp_without_a_record_after_it_is_the_end() -> None:
    assert resolve(FromTimestamp(timestamp_ms=999), ALL, LOOKUPS) == {A: 50, B: 200, C: 0}
    assert resolve(FromTimestamp(timestamp_ms=1000), ALL, LOOKUPS) == {A: 100, B: 200, C: 0}


def test_explicit_offsets_and_what_is_not_named_starts_at_earliest() -> None:
    start = FromOffsets(offsets={"orders": {0: 10, 1: 200}})
    assert resolve(start, ALL, LOOKUPS) == {A: 10, B: 200, C: 0}
    assert resolve(FromOffsets(offsets={"orders": {1: 99}}), ALL, LOOKUPS) == {A: 10, B: 99, C: 0}


def test_a_groups_offsets() -> None:
    assert resolve(FromGroup(group="full"), ALL, LOOKUPS) == {A: 10, B: 200, C: 0}
    assert resolve(FromGroup(group="old"), [A, B], LOOKUPS) == {A: 42, B: 43}


@pytest.mark.parametrize(
    "start",
    [Earliest(), Latest(), FromTimestamp(timestamp_ms=5), FromGroup(group="old")],
    ids=lambda start: start.kind,
)
def test_failure_12_partitions_that_appear_later_start_at_0(start: Earliest) -> None:
    assert resolve(start, [A, C], LOOKUPS, appeared_later=[B, C])[C] == 0
    assert resolve(start, [B], LOOKUPS, appeared_later=[B]) == {B: 0}


def test_nothing_to_admit_asks_nothing() -> None:
    assert resolve(Earliest(), [], FixedLookups({}, {})) == {}


@pytest.mark.parametrize("start", [Earliest(), Latest(), FromTimestamp(timestamp_ms=5)])
def test_a_partition_that_the_broker_does_not_know(start: Earliest) -> None:
    with pytest.raises(
        ConfigError, match=r"the broker gave no .* offset for orders\[1\]"
    ) as caught:
        resolve(start, [A, B], FixedLookups({A: 0}, {A: 0}))
    assert caught.value.context["missing"] == [["orders", 1]]
    assert "still exist" in caught.value.hint


def test_offsets_for_a_partition_that_does_not_exist() -> None:
    start = FromOffsets(offsets={"orders": {7: 0}})
    with pytest.raises(ConfigError, match=r"names orders\[7\], which does not exist") as caught:
        resolve(start, ALL, LOOKUPS)
    assert "orders[0], orders[1], orders[2]" in caught.value.hint
    many = FromOffsets(offsets={"other": dict.fromkeys(range(7), 0)})
    with pytest.raises(ConfigError, match=r"other\[4\] and 2 more, which do not exist"):
        resolve(many, ALL, LOOKUPS)


def test_offsets_may_name_partitions_that_were_admitted_before() -> None:
    start = FromOffsets(offsets={"orders": {0: 11, 1: 22, 2: 0}})
    assert resolve(start, [B], LOOKUPS, admitted=[A, C]) == {B: 22}
    assert resolve(start, [B], LOOKUPS, admitted=[A], appeared_later=[C]) == {B: 22}


def test_a_group_without_any_offset_is_probably_misspelt() -> None:
    with pytest.raises(ConfigError, match=r"group 'nobody' has no committed offset for") as caught:
        resolve(FromGroup(group="nobody"), ALL, LOOKUPS)
    assert "name right?" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_group_that_lacks_some_partitions_names_them() -> None:
    with pytest.raises(
        ConfigError, match=r"'old' has no committed offset for orders\[2\]"
    ) as caught:
        resolve(FromGroup(group="old"), ALL, LOOKUPS)
    assert "offsets" in caught.value.hint


def test_a_negative_answer_is_no_offset() -> None:
    lookups = FixedLookups({A: 0}, {A: 5}, timestamps=lambda *_: -1, groups={"g": {A: -1}})
    assert resolve(FromTimestamp(timestamp_ms=5), [A], lookups) == {A: 5}
    with pytest.raises(ConfigError, match="no committed offset"):
        resolve(FromGroup(group="g"), [A], lookups)


def test_failure_10_an_offset_that_is_gone() -> None:
    with pytest.raises(OffsetsLost, match=r"orders\[0\]: cannot start at offset 9") as caught:
        resolve(FromGroup(group="stale"), ALL, LOOKUPS)
    error = pickle.loads(pickle.dumps(caught.value))
    assert "1 offsets are gone" in error.message
    assert error.context == {
        "topic": "orders",
        "partition": 0,
        "asked": 9,
        "log_start": 10,
        "log_end": 100,
        "count": 1,
    }


def test_an_offset_beyond_the_end() -> None:
    with pytest.raises(OffsetsLost, match="5 beyond the end"):
        resolve(FromOffsets(offsets={"orders": {1: 205}}), ALL, LOOKUPS)
