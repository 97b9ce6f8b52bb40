"""Bytes are bounded, pausing has two marks, and nothing waits for ever."""

from __future__ import annotations

import pytest

from raylake.clock import ManualClock
from raylake.ingest.backpressure import ByteBudget


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def budget(clock: ManualClock) -> ByteBudget:
    return ByteBudget(100, clock, high=0.8, low=0.4)


def test_pauses_at_the_high_mark_and_resumes_at_the_low_one(budget: ByteBudget) -> None:
    assert budget.reserve(79)
    assert not budget.paused
    assert budget.reserve(1)
    assert budget.paused
    budget.release(39)
    assert budget.paused
    budget.release(1)
    assert not budget.paused
    assert budget.reserve(39)
    assert not budget.paused


def test_what_does_not_fit_is_refused_and_pauses(budget: ByteBudget) -> None:
    assert budget.reserve(50)
    assert not budget.reserve(51)
    assert (budget.used_bytes, budget.paused) == (50, True)
    budget.release(10)
    assert not budget.paused
    assert budget.reserve(60)


def test_an_item_larger_than_the_budget_gets_in_alone(budget: ByteBudget) -> None:
    assert budget.reserve(1)
    assert not budget.reserve(1000)
    budget.release(1)
    assert budget.reserve(1000)
    assert not budget.reserve(1)
    budget.release(1000)
    assert budget.reserve(1)
    assert not budget.paused
    assert budget.peak_bytes == 1000


def test_bytes_that_are_in_memory_already_are_charged(budget: ByteBudget) -> None:
    budget.charge(70)
    budget.charge(70)
    assert (budget.used_bytes, budget.paused) == (140, True)


def test_tells_how_long_it_has_been_paused(budget: ByteBudget, clock: ManualClock) -> None:
    assert budget.paused_for_s == 0.0
    budget.charge(90)
    clock.sleep(5)
    budget.charge(1)
    clock.sleep(2)
    assert budget.snapshot() == {
        "limit_bytes": 100,
        "used_bytes": 91,
        "peak_bytes": 91,
        "paused": True,
        "paused_for_s": 7.0,
    }


def test_releasing_more_than_is_held_is_an_error(budget: ByteBudget) -> None:
    budget.charge(5)
    for wrong in (6, -1):
        with pytest.raises(ValueError, match="released"):
            budget.release(wrong)
    with pytest.raises(ValueError, match="bytes"):
        budget.charge(-1)
    assert budget.used_bytes == 5


@pytest.mark.parametrize(("limit", "low", "high"), [(0, 0.5, 0.9), (9, 0.9, 0.9), (9, 0.1, 1.1)])
def test_marks_that_cannot_work_are_refused(limit: int, low: float, high: float) -> None:
    with pytest.raises(ValueError, match="no budget"):
        ByteBudget(limit, ManualClock(), low=low, high=high)
