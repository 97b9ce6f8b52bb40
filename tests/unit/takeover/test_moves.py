"""What a deliberate move does to the states of partitions, and what it must not do."""

from __future__ import annotations

import pytest

from raylake.delta.moves import Adopt, Skip, adopted, skipped
from raylake.errors import ConfigError, Refused
from raylake.ingest.unit import Counts, PartitionState, SourcePartition

P0, P1 = (SourcePartition("orders", "id", n) for n in range(2))
AT_50 = PartitionState(10, 50, Counts(rows=35, dead=5), leader_epoch=3, max_event_ms=7)


@pytest.mark.spec("A13")
def test_adopted_partitions_begin_at_the_given_offsets() -> None:
    found = adopted(Adopt("p", {P0: 100, P1: 0}), {}, "t")
    assert {s: (one.origin, one.next) for s, one in found.items()} == {P0: (100, 100), P1: (0, 0)}


def test_adopting_the_same_again_changes_nothing() -> None:
    assert adopted(Adopt("p", {P0: 50}), {P0: AT_50}, "t") == {}


@pytest.mark.parametrize("offset", [0, 10, 49, 51])
def test_a_partition_that_stands_elsewhere_is_not_adopted(offset: int) -> None:
    with pytest.raises(Refused, match="stands at 50; it cannot be adopted"):
        adopted(Adopt("p", {P0: offset, P1: 3}), {P0: AT_50}, "t")


@pytest.mark.spec("A13")
def test_skipped_offsets_are_counted_as_dropped() -> None:
    found = skipped(Skip("p", {P0: 60}, {P0: 4}), {P0: AT_50}, "t")
    one, after = found[P0]
    assert (one.start, one.end, one.counts) == (50, 60, Counts(dropped=10))
    assert after == PartitionState(10, 60, Counts(35, 5, dropped=10), 4, 7)
    assert after.next - after.origin == after.totals.total


@pytest.mark.parametrize("end", [0, 10, 49, 50])
def test_committed_offsets_are_not_skipped(end: int) -> None:
    with pytest.raises(Refused, match="stands at 50"):
        skipped(Skip("p", {P0: end}), {P0: AT_50}, "t")


def test_what_was_never_admitted_has_nothing_to_skip() -> None:
    with pytest.raises(ConfigError, match="not admitted"):
        skipped(Skip("p", {P1: 9}), {P0: AT_50}, "t")
