"""A breaker opens on the rate of failures, probes within a budget, and survives a restart."""

from __future__ import annotations

import json

import pytest

from raylake.clock import ManualClock
from raylake.ingest.breaker import Breaker, BreakerPolicy, BreakerState

POLICY = BreakerPolicy(failure_rate=0.5, calls=4, window_s=30, open_s=10, half_open_calls=2)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker("store", POLICY, clock)


def _fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failure("disk is read-only")


def test_closed_lets_everything_through(breaker: Breaker) -> None:
    assert all(breaker.allow() for _ in range(100))
    assert breaker.state is BreakerState.CLOSED
    assert (breaker.retry_at, breaker.retry_in_s) == (None, 0.0)


def test_opens_at_the_rate_and_not_before_enough_calls(breaker: Breaker) -> None:
    _fail(breaker, 3)
    assert breaker.state is BreakerState.CLOSED
    breaker.failure("disk is read-only")
    assert breaker.state is BreakerState.OPEN
    assert breaker.reason == "disk is read-only"
    assert not breaker.allow()
    assert (breaker.opened_total, breaker.rejected_total) == (1, 1)


def test_half_of_the_calls_is_enough_and_less_is_not(breaker: Breaker) -> None:
    for _ in range(4):
        breaker.success()
    _fail(breaker, 3)
    assert breaker.state is BreakerState.CLOSED
    _fail(breaker, 1)
    assert breaker.state is BreakerState.OPEN


def test_calls_leave_the_window(breaker: Breaker, clock: ManualClock) -> None:
    _fail(breaker, 3)
    breaker.success()
    clock.sleep(30)
    _fail(breaker, 2)
    breaker.success()
    assert breaker.state is BreakerState.CLOSED


def test_a_caller_that_backs_off_opens_it_too(clock: ManualClock) -> None:
    breaker = Breaker("broker", BreakerPolicy(calls=20, window_s=30), clock)
    for _ in range(2):
        breaker.failure("refused")
        clock.sleep(20)
    assert breaker.state is BreakerState.CLOSED
    breaker.failure("refused")
    assert breaker.state is BreakerState.OPEN


def test_one_success_ends_the_streak_of_a_slow_caller(clock: ManualClock) -> None:
    breaker = Breaker("broker", BreakerPolicy(calls=20, window_s=30), clock)
    for _ in range(10):
        breaker.failure("refused")
        clock.sleep(20)
        breaker.success()
    assert breaker.state is BreakerState.CLOSED


def test_turns_half_open_after_the_pause_whatever_the_wall_clock_does(
    breaker: Breaker, clock: ManualClock
) -> None:
    _fail(breaker, 4)
    assert breaker.retry_in_s == 10
    clock.jump(-86_400)
    assert breaker.retry_at == clock.now() + 10
    clock.jump(86_400 * 2)
    assert breaker.state is BreakerState.OPEN
    clock.sleep(9.5)
    assert not breaker.allow()
    clock.sleep(0.5)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.retry_at is None


def test_half_open_admits_its_probes_only_and_closes_when_all_succeed(
    breaker: Breaker, clock: ManualClock
) -> None:
    _fail(breaker, 4)
    clock.sleep(10)
    assert [breaker.allow() for _ in range(4)] == [True, True, False, False]
    breaker.success()
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.success()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.reason == ""


def test_with_little_to_do_it_closes_soon_after_the_first_good_probe(
    breaker: Breaker, clock: ManualClock
) -> None:
    _fail(breaker, 4)
    clock.sleep(10)
    assert breaker.allow()
    breaker.success()
    clock.sleep(2.5)
    assert breaker.state is BreakerState.HALF_OPEN
    clock.sleep(0.5)
    assert (breaker.state, breaker.reason) == (BreakerState.CLOSED, "")
    _fail(breaker, 3)
    assert breaker.state is BreakerState.CLOSED


def test_a_probe_under_way_keeps_it_half_open(breaker: Breaker, clock: ManualClock) -> None:
    _fail(breaker, 4)
    clock.sleep(10)
    assert [breaker.allow(), breaker.allow()] == [True, True]
    breaker.success()
    clock.sleep(5)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.failure("still read-only")
    assert breaker.state is BreakerState.OPEN


def test_a_failed_probe_opens_it_again(breaker: Breaker, clock: ManualClock) -> None:
    _fail(breaker, 4)
    clock.sleep(10)
    assert breaker.allow()
    breaker.failure("still read-only")
    assert breaker.state is BreakerState.OPEN
    assert (breaker.opened_total, breaker.reason) == (2, "still read-only")
    assert breaker.retry_in_s == 10


def test_answers_of_earlier_calls_are_ignored(breaker: Breaker, clock: ManualClock) -> None:
    _fail(breaker, 4)
    breaker.success()
    breaker.failure("late answer")
    assert (breaker.state, breaker.reason) == (BreakerState.OPEN, "disk is read-only")
    clock.sleep(10)
    breaker.success()
    breaker.failure("late answer")
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_probe_that_is_never_answered_does_not_block_for_good(
    breaker: Breaker, clock: ManualClock
) -> None:
    _fail(breaker, 4)
    clock.sleep(10)
    assert [breaker.allow(), breaker.allow(), breaker.allow()] == [True, True, False]
    breaker.success()
    clock.sleep(10)
    assert [breaker.allow(), breaker.allow()] == [True, False]
    breaker.success()
    assert breaker.state is BreakerState.CLOSED


def test_a_manual_trip_holds_until_reset(breaker: Breaker, clock: ManualClock) -> None:
    breaker.trip("broker is being moved")
    clock.sleep(1e6)
    assert breaker.by_hand
    assert breaker.snapshot()["by_hand"]
    assert not breaker.allow()
    assert (breaker.retry_at, breaker.retry_in_s) == (None, None)
    breaker.trip("still being moved")
    assert (breaker.opened_total, breaker.reason) == (1, "still being moved")
    breaker.reset()
    assert breaker.allow()
    assert not breaker.by_hand
    _fail(breaker, 3)
    assert breaker.state is BreakerState.CLOSED


def test_a_timed_trip_ends_by_itself(breaker: Breaker, clock: ManualClock) -> None:
    breaker.trip("poison", for_s=5)
    clock.sleep(5)
    assert breaker.state is BreakerState.HALF_OPEN


def test_the_snapshot_is_plain_data_and_a_restored_open_breaker_starts_half_open(
    breaker: Breaker, clock: ManualClock
) -> None:
    _fail(breaker, 4)
    assert not breaker.allow()
    snapshot = json.loads(json.dumps(breaker.snapshot()))
    assert snapshot == {
        "name": "store",
        "state": "open",
        "reason": "disk is read-only",
        "by_hand": False,
        "since": clock.now(),
        "retry_at": clock.now() + 10,
        "opened_total": 1,
        "rejected_total": 1,
    }
    successor = Breaker("store", POLICY, ManualClock())
    successor.restore(snapshot)
    assert successor.state is BreakerState.HALF_OPEN
    assert (successor.reason, successor.opened_total) == ("disk is read-only", 1)
    assert [successor.allow() for _ in range(3)] == [True, True, False]


def test_a_restored_closed_breaker_is_closed(breaker: Breaker) -> None:
    breaker.trip("x")
    breaker.restore({"state": "closed"})
    assert (breaker.state, breaker.opened_total) == (BreakerState.CLOSED, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_rate": 0.0},
        {"failure_rate": 1.1},
        {"calls": 0},
        {"half_open_calls": 0},
        {"window_s": 0},
        {"open_s": 0},
    ],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"failure_rate|calls|positive"):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]
