"""Event time: what moves the watermark, what does not, and what counts as late."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raylake.clock import ManualClock
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit
from raylake.ingest.watermark import Watermark, WatermarkPolicy, classify, is_event_time

A, B, C = (SourcePartition("t", "id", p) for p in range(3))
POLICY = WatermarkPolicy(lateness_s=10, idle_timeout_s=60, max_ahead_s=3600)
NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def watermark(clock: ManualClock) -> Watermark:
    return Watermark(POLICY, clock)


def _unit(*maxima: tuple[SourcePartition, int | None]) -> Unit:
    ranges = (OffsetRange(s, 0, 1, Counts(rows=1), max_event_ms=ms) for s, ms in maxima)
    return Unit("p", "c", 1, "f", tuple(ranges))


def test_nothing_is_known_at_first(watermark: Watermark) -> None:
    assert watermark.value() is None
    assert watermark.partition_value(A) is None
    assert watermark.idle(A)


def test_one_partition_is_its_maximum_less_the_lateness(watermark: Watermark) -> None:
    watermark.observe(A, 100_000)
    assert watermark.value() == watermark.partition_value(A) == 90_000
    watermark.observe(A, 50_000)
    assert watermark.value() == 90_000


def test_the_slowest_active_partition_decides(watermark: Watermark) -> None:
    watermark.observe(A, 100_000)
    watermark.observe(B, 60_000)
    assert watermark.value() == 90_000
    watermark.observe(A, 200_000)
    assert watermark.value() == 90_000
    watermark.observe(B, 150_000)
    assert watermark.value() == 140_000


def test_a_partition_without_event_times_holds_back_until_it_is_idle(
    watermark: Watermark, clock: ManualClock
) -> None:
    watermark.add(A)
    watermark.add(B)
    watermark.observe(A, 100_000)
    assert watermark.value() is None
    assert not watermark.idle(B)
    assert watermark.partition_value(B) is None
    clock.sleep(59)
    watermark.observe(A, 110_000)
    watermark.observe(B, None)
    assert watermark.value() is None
    clock.sleep(1)
    assert watermark.value() == 100_000
    assert watermark.idle(B)


def test_failure_31_an_idle_partition_that_wakes_up_does_not_move_it_back(
    watermark: Watermark, clock: ManualClock
) -> None:
    watermark.observe(A, 100_000)
    watermark.observe(B, 100_000)
    clock.sleep(60)
    watermark.observe(A, 500_000)
    assert watermark.value() == 490_000
    watermark.observe(B, 101_000)
    assert watermark.value() == 490_000
    assert watermark.partition_value(B) == 91_000


def test_it_stays_while_every_partition_is_idle(watermark: Watermark, clock: ManualClock) -> None:
    watermark.observe(A, 100_000)
    clock.sleep(1e6)
    assert watermark.value() == 90_000


def test_a_new_partition_holds_but_does_not_move_it_back(watermark: Watermark) -> None:
    watermark.observe(A, 100_000)
    assert watermark.value() == 90_000
    watermark.add(B)
    watermark.observe(A, 200_000)
    assert watermark.value() == 90_000
    watermark.forget(B)
    assert watermark.value() == 190_000


def test_the_wall_clock_has_no_say(watermark: Watermark, clock: ManualClock) -> None:
    watermark.observe(A, 100_000)
    watermark.observe(B, 50_000)
    clock.jump(1e6)
    watermark.observe(A, 300_000)
    assert watermark.value() == 90_000


def test_a_read_without_a_change_computes_nothing(
    watermark: Watermark, monkeypatch: pytest.MonkeyPatch
) -> None:
    watermark.observe(A, 100_000)
    assert watermark.value() == 90_000
    monkeypatch.delattr(Watermark, "_computed")
    assert watermark.value() == watermark.published == 90_000


def test_preview_changes_nothing_and_committed_does(watermark: Watermark) -> None:
    watermark.observe(A, 100_000)
    units = [_unit((A, 150_000), (B, None)), _unit((A, 130_000), (C, 140_000))]
    assert watermark.preview(units) == 130_000
    assert watermark.value() == 90_000
    assert watermark.idle(C)
    assert watermark.committed(units) == 130_000
    assert watermark.committed([]) == 130_000


def test_failure_32_it_never_moves_back_over_a_restart(
    watermark: Watermark, clock: ManualClock
) -> None:
    watermark.restore(90_000, {A: 100_000, B: 400_000, C: None})
    assert watermark.value() == 90_000
    watermark.observe(A, 20_000)
    watermark.observe(C, 30_000)
    assert watermark.value() == 90_000
    assert watermark.partition_value(B) == 90_000
    watermark.restore(80_000, {})
    assert watermark.value() == 90_000
    clock.sleep(60)
    watermark.observe(A, 500_000)
    assert watermark.value() == 490_000


def test_restored_from_a_table_without_one(watermark: Watermark) -> None:
    watermark.restore(None, {A: None, B: 50_000})
    assert watermark.value() is None
    watermark.observe(A, 60_000)
    assert watermark.value() == 40_000


def test_the_repair_moves_it_back_and_holds_over_a_restart(clock: ManualClock) -> None:
    watermark = Watermark(POLICY, clock)
    watermark.observe(A, 9_000_000)
    assert watermark.value() == 8_990_000
    watermark.set(50_000)
    assert watermark.value() == 50_000
    watermark.observe(A, 55_000)
    assert watermark.value() == 50_000
    watermark.observe(A, 100_000)
    assert watermark.value() == 90_000
    successor = Watermark(POLICY, clock)
    successor.restore(90_000, {A: 9_000_000})
    assert successor.value() == 90_000


def test_the_repair_may_move_it_forward(watermark: Watermark) -> None:
    watermark.observe(A, 100_000)
    watermark.set(500_000)
    watermark.observe(A, 200_000)
    assert watermark.value() == 500_000


def test_snapshot(watermark: Watermark, clock: ManualClock) -> None:
    watermark.observe(A, 100_000)
    clock.sleep(60)
    watermark.add(B)
    assert watermark.snapshot() == {
        "value_ms": 90_000,
        "partitions": {
            "t/0": {"value_ms": 90_000, "idle": True},
            "t/1": {"value_ms": None, "idle": False},
        },
    }


def test_each_row_is_of_one_kind_and_only_sane_ones_count() -> None:
    times = pa.array([None, -1, NOW_MS + HOUR_MS + 1, NOW_MS + HOUR_MS, 500, 499, 0])
    broker = np.full(7, NOW_MS)
    found = classify(times, broker, 500, POLICY, now_ms=NOW_MS + 1000)
    assert found.null.tolist() == [True, False, False, False, False, False, False]
    assert found.before_1970.tolist() == [False, True, False, False, False, False, False]
    assert found.ahead.tolist() == [False, False, True, False, False, False, False]
    assert found.late.tolist() == [False, False, False, False, False, True, True]
    assert found.max_event_ms == NOW_MS + HOUR_MS
    assert found.counts() == {"null_time": 1, "before_1970": 1, "ahead": 1, "late": 2}


def test_nothing_is_late_without_a_watermark_and_nothing_sane_gives_no_maximum() -> None:
    broker = pa.array([NOW_MS, NOW_MS])
    assert classify(np.array([0, 1]), broker, None, POLICY, now_ms=NOW_MS).counts() == {}
    found = classify(pa.array([None, -5]), broker, None, POLICY, now_ms=NOW_MS)
    assert found.max_event_ms is None
    empty = classify(pa.array([], pa.int64()), pa.array([], pa.int64()), 5, POLICY, now_ms=NOW_MS)
    assert (empty.max_event_ms, empty.counts()) == (None, {})


def test_a_record_without_a_broker_time_or_from_the_future_is_measured_against_now() -> None:
    year_9999 = 253_402_300_799_000
    broker = pa.array([None, -1, year_9999, 1000])
    times = pa.array([year_9999, NOW_MS + HOUR_MS + 1, year_9999, 1000 + HOUR_MS + 1])
    found = classify(times, broker, None, POLICY, now_ms=NOW_MS)
    assert found.ahead.tolist() == [True, True, True, True]


@pytest.mark.parametrize(
    ("kind", "values", "late"),
    [
        (pa.timestamp("s"), [1, 2], [True, False]),
        (pa.timestamp("ms", "UTC"), [1999, 2000], [True, False]),
        (pa.timestamp("us", "UTC"), [1_999_999, 2_000_000], [True, False]),
        (pa.timestamp("ns"), [1_999_999_999, 2_000_000_000], [True, False]),
        (pa.int32(), [1999, 2000], [True, False]),
        (pa.date32(), [0, 1], [True, False]),
        (pa.date64(), [0, 86_400_000], [True, False]),
    ],
)
def test_every_kind_of_time_is_read(kind: pa.DataType, values: list[int], late: list[bool]) -> None:
    storage = pa.int32() if kind in (pa.date32(), pa.int32()) else pa.int64()
    times = pa.chunked_array([pa.array(values, storage).cast(kind)])
    broker = np.full(2, NOW_MS)
    assert classify(times, broker, 2000, POLICY, now_ms=NOW_MS).late.tolist() == late


def test_a_fraction_before_1970_is_before_1970() -> None:
    times = pa.array([-1, 0], pa.timestamp("us"))
    found = classify(times, np.full(2, NOW_MS), None, POLICY, now_ms=NOW_MS)
    assert found.before_1970.tolist() == [True, False]


def test_times_at_the_ends_of_the_type_do_not_wrap_round() -> None:
    ends = pa.array([2**63 - 1, -(2**63)], pa.timestamp("s"))
    found = classify(ends, np.full(2, NOW_MS), None, POLICY, now_ms=NOW_MS)
    assert (found.ahead.tolist(), found.before_1970.tolist()) == ([True, False], [False, True])


def test_a_column_that_is_no_time_has_no_event_times() -> None:
    found = classify(pa.array(["x", None]), np.full(2, NOW_MS), 1, POLICY, now_ms=NOW_MS)
    assert (found.counts(), found.max_event_ms) == ({"null_time": 2}, None)
    assert not is_event_time(pa.string())
    assert all(is_event_time(kind) for kind in (pa.timestamp("us"), pa.date32(), pa.int64()))


def test_late_is_judged_against_the_start_of_the_batch(watermark: Watermark) -> None:
    batch = pa.array([1_000_000, 5_000])
    broker = np.full(2, NOW_MS)
    found = watermark.classify(batch, broker)
    assert not found.late.any()
    watermark.observe(A, found.max_event_ms)
    assert watermark.classify(batch, broker).late.tolist() == [False, True]


@pytest.mark.parametrize(
    "wrong", [{"lateness_s": -1}, {"idle_timeout_s": 0}, {"max_ahead_s": -1}, {"late": "never"}]
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"cannot be followed|never"):
        WatermarkPolicy(**wrong)  # type: ignore[arg-type]
