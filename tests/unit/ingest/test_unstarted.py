"""Consumers that wait for a CPU: told once, and the end of a run that has none at all."""

from __future__ import annotations

import pytest

from raylake.errors import RayLakeError, Terminal
from raylake.ingest.fleet import News
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.unstarted import GIVE_UP_AFTER_S, LEFT_OUT_AFTER_S, TOLD_AFTER_S, Unstarted


def waits(consumer: str, seconds: float) -> News:
    return News(waiting={consumer: seconds})


def test_a_consumer_that_waits_is_told_once_and_again_when_it_waits_anew() -> None:
    told: list[RayLakeError] = []
    unstarted = Unstarted()
    unstarted.take(waits("consumer-0", TOLD_AFTER_S - 1), told.append)
    assert told == []
    unstarted.take(waits("consumer-0", TOLD_AFTER_S), told.append)
    unstarted.take(waits("consumer-0", TOLD_AFTER_S + 1), told.append)
    assert [error.message.split(":")[0] for error in told] == ["no free CPU for consumer-0"]
    unstarted.take(waits("consumer-1", TOLD_AFTER_S), told.append)
    assert len(told) == 2


def test_a_consumer_that_waits_for_some_seconds_is_left_out() -> None:
    unstarted = Unstarted()
    assert unstarted.take(waits("consumer-0", LEFT_OUT_AFTER_S - 1), lambda _: None) == []
    both = {"consumer-1": LEFT_OUT_AFTER_S, "consumer-0": LEFT_OUT_AFTER_S + 1, "consumer-2": 0.0}
    left_out = unstarted.take(News(waiting=both), lambda _: None)
    assert left_out == ["consumer-0", "consumer-1"]


def test_a_run_in_which_no_consumer_ever_started_gives_up() -> None:
    with pytest.raises(Terminal, match="no free CPU") as caught:
        Unstarted().take(waits("consumer-0", GIVE_UP_AFTER_S), lambda _: None)
    assert "ingest.consumers" in caught.value.hint


def test_a_run_in_which_one_started_goes_on() -> None:
    told: list[RayLakeError] = []
    unstarted = Unstarted()
    unstarted.take(News({"consumer-0": ConsumerReport("consumer-0")}), told.append)
    unstarted.take(waits("consumer-1", GIVE_UP_AFTER_S * 2), told.append)
    assert len(told) == 1
