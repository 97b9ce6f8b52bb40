"""The life of a Spark session, as plain state on a clock of its own."""

from __future__ import annotations

import threading

import pytest

from raylake.clock import ManualClock
from raylake.spark.host import Asked
from raylake.spark.life import Effect, Life, Limits, State

LIMITS = Limits(idle_s=300.0, start_s=120.0, alone_s=60.0)


def up(now_s: float = 10.0) -> Life:
    life, effects = Life(LIMITS, 0.0).asked(0.0)
    assert effects == (Effect.START,)
    return life.started(1, now_s)[0]


def test_it_is_started_once_however_many_ask() -> None:
    life, effects = Life(LIMITS, 0.0).asked(5.0)
    assert (life.state, effects) == (State.STARTING, (Effect.START,))
    assert life.asked(6.0) == (life, ())
    ready, _ = life.started(2, 20.0)
    assert (ready.state, ready.executors, ready.since_s) == (State.READY, 2, 20.0)
    assert ready.asked(21.0) == (ready, ())


def test_it_is_busy_until_the_last_operation_ends() -> None:
    life = up()
    for expected in (1, 2):
        life, _ = life.began(20.0 + expected)
        assert (life.state, life.running) == (State.BUSY, expected)
    assert life.since_s == 21.0, "busy since the first one"
    life, _ = life.ended(30.0)
    assert (life.state, life.running) == (State.BUSY, 1)
    life, _ = life.ended(31.0)
    assert (life.state, life.running, life.operations, life.since_s) == (State.IDLE, 0, 2, 31.0)


@pytest.mark.parametrize("used", [False, True])
def test_it_is_given_back_when_idle_long_enough(used: bool) -> None:
    life = up(10.0)
    if used:
        life = life.began(50.0)[0].ended(100.0)[0]
    since_s = life.since_s
    assert life.passed(since_s + 299.9) == (life, ())
    gone, effects = life.passed(since_s + 300.0)
    assert (gone.state, gone.over) == (State.GIVEN_BACK, True)
    assert effects == (Effect.GIVE_BACK, Effect.LEAVE)
    assert "300 s" in gone.reason
    assert gone.asked(999.0) == (gone, ()), "a host has one life"


def test_a_long_operation_is_not_idle() -> None:
    life = up().began(20.0)[0]
    assert life.passed(20_000.0) == (life, ())


def test_a_host_that_nobody_asks_leaves() -> None:
    gone, effects = Life(LIMITS, 0.0).passed(300.0)
    assert (gone.state, effects) == (State.GIVEN_BACK, (Effect.LEAVE,))


def test_a_start_that_takes_too_long_is_given_up() -> None:
    life, _ = Life(LIMITS, 0.0).asked(0.0)
    assert life.passed(119.0) == (life, ())
    gone, effects = life.passed(120.0)
    assert (gone.state, effects) == (State.LOST, (Effect.LEAVE,))
    assert gone.started(1, 121.0) == (gone, ()), "too late"


def test_a_lost_driver_ends_it_whatever_runs() -> None:
    for life in (up(), up().began(20.0)[0], up().began(20.0)[0].ended(21.0)[0]):
        gone, effects = life.lost("killed", 30.0)
        assert (gone.state, gone.reason, effects) == (State.LOST, "killed", (Effect.LEAVE,))
        assert gone.lost("again", 31.0) == (gone, ())
        assert gone.ended(32.0)[0].state is State.LOST
    with pytest.raises(ValueError, match="no operation can begin"):
        gone.began(33.0)


def test_an_operation_without_executors_ends_when_none_comes_back() -> None:
    life = up().began(20.0)[0].counted(0, 100.0)[0]
    assert life.passed(159.0) == (life, ())
    back = life.counted(1, 130.0)[0]
    assert back.passed(10_000.0) == (back, ()), "one came back"
    gone, effects = life.passed(160.0)
    assert (gone.state, effects) == (State.LOST, (Effect.CANCEL, Effect.LEAVE))


def test_executors_are_missed_by_an_operation_only_from_its_begin_on() -> None:
    life = up().counted(0, 20.0)[0]
    assert life.passed(200.0) == (life, ())
    busy = life.began(200.0)[0]
    assert busy.passed(259.0) == (busy, ())
    assert busy.passed(260.0)[0].state is State.LOST


def test_a_driver_that_does_not_answer_is_ended_in_the_end() -> None:
    life = up().began(20.0)[0]
    assert life.silent(119.0, 140.0) == (life, ())
    gone, effects = life.silent(120.0, 141.0)
    assert (gone.state, effects) == (State.LOST, (Effect.KILL, Effect.LEAVE))
    assert "did not answer for 120 s" in gone.reason
    assert gone.silent(500.0, 200.0) == (gone, ())


def test_the_time_without_an_answer_is_that_in_which_somebody_looked() -> None:
    clock, answered = ManualClock(), threading.Event()
    asked, begun = Asked(clock), threading.Event()

    def hangs() -> None:
        begun.set()
        answered.wait(30.0)

    assert asked.again(hangs) == 0.0
    assert begun.wait(30.0)
    clock.sleep(1.0)
    assert asked.again(hangs) == 1.0
    # The process was held up itself for an hour.
    clock.sleep(3600.0)
    assert asked.again(hangs) == 3.0
    answered.set()
    next_one = threading.Event()
    while not next_one.is_set():
        assert asked.again(next_one.set) <= 3.0
