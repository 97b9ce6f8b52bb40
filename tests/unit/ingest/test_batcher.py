"""Held batches leave by bytes, by time or at drain, in contiguous ranges."""

from __future__ import annotations

import pytest

from raylake.clock import ManualClock
from raylake.ingest.batcher import Batcher, BatchPolicy, FlushReason
from raylake.ingest.moments import Moments
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition

A, B = (SourcePartition("t", "id", p) for p in range(2))
POLICY = BatchPolicy(max_batch_bytes=100, commit_interval_s=5, idle_commit_interval_s=60)


@pytest.fixture
def clock() -> ManualClock:
    """A second before one of the table's moments."""
    clock = ManualClock()
    clock.sleep(Moments("bronze.t", 5).next_in_s(clock) + 4)
    return clock


@pytest.fixture
def batcher(clock: ManualClock) -> Batcher[str]:
    held: Batcher[str] = Batcher("bronze.t", POLICY, clock)
    held.begin(A, 0)
    held.begin(B, 100)
    # The first plan does not wait for a moment.
    held.add(_rows(A, 0, 1), "first", 1)
    assert held.flush() is not None
    held.begin(A, 0)
    return held


def _rows(source: SourcePartition, start: int, end: int) -> OffsetRange:
    return OffsetRange(source, start, end, Counts(rows=end - start))


def _absent(source: SourcePartition, start: int, end: int) -> OffsetRange:
    return OffsetRange(source, start, end, Counts(absent=end - start))


def test_nothing_held_is_never_due(batcher: Batcher[str], clock: ManualClock) -> None:
    clock.sleep(1e6)
    assert batcher.due() is None
    assert batcher.due_in_s() is None
    assert batcher.flush() is None
    assert batcher.flush(drain=True) is None
    assert batcher.hand_over([A]) is None


def test_flushes_by_bytes(batcher: Batcher[str]) -> None:
    batcher.add(_rows(A, 0, 10), "a", 99)
    assert batcher.flush() is None
    batcher.add(_rows(B, 100, 101), "b", 1)
    plan = batcher.flush()
    assert plan is not None
    assert (plan.reason, plan.nbytes, plan.rows, plan.table) == ("bytes", 100, 11, "bronze.t")
    assert (batcher.held_bytes, batcher.held_rows) == (0, 0)
    assert batcher.due() is None


def test_one_item_larger_than_the_limit_leaves_alone(batcher: Batcher[str]) -> None:
    batcher.add(_rows(A, 0, 1), "huge", 10_000)
    plan = batcher.flush()
    assert plan is not None
    assert [held.item for held in plan.batches] == ["huge"]


def test_the_first_plan_is_due_at_once(clock: ManualClock) -> None:
    batcher: Batcher[str] = Batcher("bronze.t", POLICY, clock)
    batcher.begin(A, 0)
    batcher.add(_absent(A, 0, 1))
    assert batcher.due() is None, "there is nothing to show"
    batcher.add(_rows(A, 1, 2), "a", 1)
    plan = batcher.flush()
    assert plan is not None
    assert (plan.reason, plan.held_for_s) == (FlushReason.INTERVAL, 0)
    batcher.add(_rows(A, 2, 3), "b", 1)
    assert batcher.due_in_s() == pytest.approx(1)


def test_flushes_at_the_moment_after_the_first_record(
    batcher: Batcher[str], clock: ManualClock
) -> None:
    clock.sleep(1002)
    batcher.add(_rows(A, 0, 1), "a", 1)
    assert batcher.due_in_s() == pytest.approx(4)
    clock.sleep(3)
    batcher.add(_rows(A, 1, 2), "b", 1)
    assert (batcher.flush(), batcher.due_in_s()) == (None, pytest.approx(1))
    clock.sleep(1)
    plan = batcher.flush()
    assert plan is not None
    assert (plan.reason, plan.held_for_s) == (FlushReason.INTERVAL, pytest.approx(4))
    assert plan.ranges == (_rows(A, 0, 2),)
    assert [held.item for held in plan.batches] == ["a", "b"]


@pytest.mark.parametrize("jump_s", [-3600.0, -2.0, 2.0, 3600.0])
def test_a_wall_clock_that_is_set_moves_no_hand_over_that_is_due(
    batcher: Batcher[str], clock: ManualClock, jump_s: float
) -> None:
    batcher.add(_rows(A, 0, 1), "a", 1)
    clock.jump(jump_s)
    batcher.add(_rows(B, 100, 101), "b", 1)
    clock.sleep(1)
    plan = batcher.flush()
    assert plan is not None
    assert plan.rows == 2


def test_ranges_are_joined_and_ordered_by_partition(batcher: Batcher[str]) -> None:
    batcher.add(_rows(B, 100, 103), "b1", 1)
    batcher.add(_rows(A, 0, 2), "a1", 1)
    batcher.add(_absent(A, 2, 7))
    batcher.add(_rows(B, 103, 104), "b2", 1)
    batcher.add(_rows(A, 7, 9), "a2", 1)
    plan = batcher.flush(drain=True)
    assert plan is not None
    assert plan.ranges == (
        OffsetRange(A, 0, 9, Counts(rows=4, absent=5)),
        OffsetRange(B, 100, 104, Counts(rows=4)),
    )
    assert [held.item for held in plan.batches] == ["a1", "a2", "b1", "b2"]
    assert plan.reason == "drain"
    assert (batcher.expected(A), batcher.expected(B)) == (9, 104)


@pytest.mark.parametrize("start", [1, 9, 11, 500])
def test_a_gap_or_an_overlap_is_refused_and_nothing_is_held(
    batcher: Batcher[str], start: int
) -> None:
    batcher.add(_rows(A, 0, 10), "a", 1)
    with pytest.raises(ValueError, match="expected at 10"):
        batcher.add(_rows(A, start, start + 5), "x", 50)
    assert (batcher.held_bytes, batcher.expected(A)) == (1, 10)


def test_rows_want_an_item_and_a_partition_wants_begin(batcher: Batcher[str]) -> None:
    with pytest.raises(ValueError, match="no item"):
        batcher.add(_rows(A, 0, 1))
    with pytest.raises(ValueError, match="no item"):
        batcher.add(_absent(A, 0, 1), None, 7)
    with pytest.raises(KeyError):
        batcher.add(_rows(SourcePartition("t", "other", 0), 0, 1), "a", 1)
    with pytest.raises(ValueError, match="-1 is not an offset"):
        batcher.begin(A, -1)
    assert batcher.flush(drain=True) is None


def test_an_empty_range_is_nothing(batcher: Batcher[str]) -> None:
    batcher.add(_absent(A, 0, 0))
    assert batcher.flush(drain=True) is None


def test_offsets_without_records_leave_once_an_idle_interval(
    batcher: Batcher[str], clock: ManualClock
) -> None:
    left = []
    for second in range(300):
        batcher.add(_absent(A, second, second + 1))
        plan = batcher.flush()
        if plan is not None:
            left.append((second, plan.reason, plan.ranges[0].end))
        clock.sleep(1)
    assert left == [(n, FlushReason.OFFSETS_ONLY, n + 1) for n in (60, 120, 180, 240)]


def test_offsets_without_records_ride_along(batcher: Batcher[str], clock: ManualClock) -> None:
    batcher.add(_absent(A, 0, 5))
    clock.sleep(50)
    batcher.add(_rows(B, 100, 101), "b", 1)
    clock.sleep(5)
    plan = batcher.flush()
    assert plan is not None
    assert (plan.reason, len(plan.ranges), plan.held_for_s) == ("interval", 2, 55)
    batcher.add(_absent(A, 5, 6))
    assert batcher.due_in_s() == 60


@pytest.mark.parametrize("counts", [Counts(dead=1), Counts(lost=1)])
def test_dead_and_lost_records_do_not_wait_for_the_idle_interval(
    batcher: Batcher[str], clock: ManualClock, counts: Counts
) -> None:
    batcher.add(OffsetRange(A, 0, 1, counts))
    clock.sleep(5)
    plan = batcher.flush()
    assert plan is not None
    assert plan.reason == "interval"


def test_drain_takes_offsets_without_records(batcher: Batcher[str]) -> None:
    batcher.add(_absent(A, 0, 5))
    plan = batcher.flush(drain=True)
    assert plan is not None
    assert (plan.ranges, plan.batches) == ((_absent(A, 0, 5),), ())


def test_hand_over_takes_the_partitions_that_leave(batcher: Batcher[str]) -> None:
    batcher.add(_rows(A, 0, 5), "a", 10)
    batcher.add(_rows(B, 100, 105), "b", 20)
    plan = batcher.hand_over([A, SourcePartition("t", "other", 9)])
    assert plan is not None
    assert (plan.ranges, plan.reason) == ((_rows(A, 0, 5),), "drain")
    assert batcher.held_bytes == 20
    assert batcher.hand_over([A]) is None


def test_drop_says_where_to_seek(batcher: Batcher[str], clock: ManualClock) -> None:
    batcher.add(_rows(A, 0, 5), "a", 10)
    batcher.flush(drain=True)
    assert batcher.drop(A) == 5
    batcher.add(_rows(A, 5, 8), "b", 10)
    batcher.add(_rows(A, 8, 9), "c", 10)
    batcher.add(_rows(B, 100, 101), "d", 1)
    assert batcher.drop(A) == 5
    assert (batcher.held_bytes, batcher.held_rows, batcher.expected(A)) == (1, 1, 5)
    batcher.drop(B)
    clock.sleep(10)
    assert batcher.due() is None
    with pytest.raises(KeyError):
        batcher.drop(SourcePartition("t", "other", 0))


def test_a_refused_partition_begins_again_at_the_tables_end(batcher: Batcher[str]) -> None:
    batcher.add(_rows(A, 0, 50), "a", 10)
    batcher.begin(A, 30)
    assert (batcher.held_bytes, batcher.expected(A)) == (0, 30)
    batcher.forget(A)
    batcher.forget(A)
    assert batcher.sources == {B}


def test_a_table_gets_only_what_lies_beyond_its_own_end(batcher: Batcher[str]) -> None:
    assert batcher.wanted(B, 50, 100) is None
    assert batcher.wanted(B, 50, 120) == (100, 120)
    assert batcher.wanted(B, 100, 120) == (100, 120)
    assert batcher.wanted(SourcePartition("t", "other", 0), 0, 5) is None
    with pytest.raises(ValueError, match="expected at 100, not 101"):
        batcher.wanted(B, 101, 120)


@pytest.mark.parametrize(
    "wrong", [{"max_batch_bytes": 0}, {"commit_interval_s": -1}, {"idle_commit_interval_s": -1}]
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be followed"):
        BatchPolicy(**wrong)
