"""When a table at rest is looked at, and what of that is told."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from raylake.quality.freshness_watch import LOOK_AGAIN_S, TELL_AGAIN_S, FreshnessWatch
from raylake.quality.named import NamedRule
from raylake.quality.results import RuleResult
from raylake.quality.table_rules import Age
from tests.harness.quality import NOW, rule

MAX_AGE_S = 900.0


def watch(last: tuple[bool, float] | None = None, **given: Any) -> FreshnessWatch:
    made = rule("freshness", column="at", max_age="15m", **given)
    return FreshnessWatch(NamedRule("fresh", made), last)


def after(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def aged(age_s: float, now: dt.datetime) -> Age:
    """A table whose newest value is so old."""
    return Age(round((now.timestamp() - age_s) * 1e6), age_s > MAX_AGE_S)


def test_a_fresh_table_is_left_alone_until_it_would_be_stale() -> None:
    one = watch()
    assert one.due(NOW.timestamp())
    assert one.looked(aged(100, NOW), NOW) is None
    assert one.standing is not None
    assert not one.standing.stale
    limit_s = NOW.timestamp() + MAX_AGE_S - 100
    assert not one.due(limit_s)
    assert one.due(limit_s + 0.001)


def test_each_change_is_told_once() -> None:
    one = watch(severity="warning")
    one.looked(aged(899, NOW), NOW)
    later = after(10)
    told = one.again(later)
    assert told is not None
    assert (told.passed, told.severity, told.category) == (False, "warning", "freshness")
    assert "older than 15m" in told.message
    assert told.recommendation
    assert not one.due(later.timestamp() + LOOK_AGAIN_S)
    assert one.again(after(100)) is None
    assert one.standing is not None
    assert one.standing.since == later.timestamp()
    back = one.looked(aged(0, after(200)), after(200))
    assert back is not None
    assert back.passed
    assert one.standing.since is None
    assert one.looked(aged(0, after(201)), after(201)) is None


def test_while_it_lasts_it_is_told_now_and_then() -> None:
    one = watch()
    moments = [after(minutes * 60) for minutes in range(181)]
    told = [now for now in moments if one.looked(Age(0, stale=True), now) is not None]
    assert told == [after(n * TELL_AGAIN_S) for n in range(4)]


def test_a_table_without_a_value_is_stale() -> None:
    told = watch().looked(Age(None, stale=True), NOW)
    assert told is not None
    assert told.message == "at has no value yet"


def test_a_process_that_starts_goes_on_where_the_last_one_was() -> None:
    long_ago, lately = NOW.timestamp() - TELL_AGAIN_S, NOW.timestamp() - 60
    stale = aged(2000, NOW)
    assert watch((False, lately)).looked(stale, NOW) is None
    assert watch((False, long_ago)).looked(stale, NOW) is not None
    assert watch((True, lately)).looked(stale, NOW) is not None
    back = watch((False, lately)).looked(aged(1, NOW), NOW)
    assert back is not None
    assert back.passed
    # A clock that was set back hides nothing for long.
    assert watch((False, NOW.timestamp() + 9999)).looked(stale, NOW) is not None


@pytest.mark.parametrize("passed", [True, False])
def test_what_a_step_tells_is_not_told_again(passed: bool) -> None:
    one = watch()
    one.looked(aged(2000 if passed else 0, NOW), NOW)
    newest = after(-10 if passed else -1000)
    values = (newest.isoformat().replace("+00:00", "Z"),)
    found = RuleResult("fresh", "freshness", "error", "continue", 1, int(not passed), values)
    one.stepped(found, NOW)
    assert one.standing is not None
    assert one.standing.stale is not passed
    assert one.again(after(1)) is None
    assert one.due(newest.timestamp() + MAX_AGE_S + LOOK_AGAIN_S * 20)
    if passed:
        assert not one.due(newest.timestamp() + MAX_AGE_S)


@pytest.mark.parametrize("values", [(), ("4000000000000000 us after 1970",)])
def test_a_step_that_does_not_say_how_new_the_table_is(values: tuple[str, ...]) -> None:
    one = watch()
    one.stepped(RuleResult("fresh", "freshness", "error", "continue", 1, 0, values), NOW)
    assert not one.due(after(LOOK_AGAIN_S).timestamp())
    assert one.due(after(LOOK_AGAIN_S + 1).timestamp())


def test_abort_counts_as_failing_and_continue_does_not() -> None:
    for on_failure in ("abort", "continue"):
        one = watch(on_failure=on_failure)
        one.looked(Age(None, stale=True), NOW)
        assert one.standing is not None
        assert one.standing.fails is (on_failure == "abort")
        assert one.standing.document()["stale"] is True
