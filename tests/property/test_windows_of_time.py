"""Windows of time are half-open and lie in UTC, whatever clock and zone a process has."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raylake.layers.bronze import partition_values
from raylake.layers.sandbox import Limits, Sandbox
from raylake.layers.triggers import AHEAD_MS, DAY_MS, Fired, Trigger

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
EDGES = [
    dt.datetime(2026, 3, 29, 1, tzinfo=dt.UTC),  # Berlin goes on an hour
    dt.datetime(2026, 10, 25, 1, tzinfo=dt.UTC),  # and back
    dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC),  # New York goes back
    dt.datetime(2028, 2, 29, tzinfo=dt.UTC),
    dt.datetime(2028, 3, 1, tzinfo=dt.UTC),
    dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
]
MOMENTS = st.builds(
    lambda edge, after: edge + dt.timedelta(microseconds=after),
    st.sampled_from(EDGES),
    st.sampled_from([-1, 0, 1]) | st.integers(-(10**11), 10**11),
)


@contextmanager
def zone(name: str) -> Iterator[None]:
    """The process's zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@pytest.mark.spec("D2")
@settings(max_examples=25)
@given(st.lists(MOMENTS, min_size=1, max_size=20), st.sampled_from(ZONES))
@example(EDGES, "Europe/Berlin")
def test_failure_42_days_and_hours_of_rows_leave_no_gap_and_do_not_overlap(
    moments: list[dt.datetime], name: str
) -> None:
    rows = pa.table({"moment": pa.array(moments, pa.timestamp("us", tz="UTC"))})
    with zone(name), Sandbox(Limits(threads=1), "windows") as box:
        box.give("given", rows)
        grouped = box.rows(
            "SELECT CAST(moment AS DATE) AS day, "
            "date_trunc('hour', moment) AS \"hour\", count(*) AS n FROM given GROUP BY ALL"
        ).to_pylist()
        column = rows.column("moment").combine_chunks()
        days, hours = (partition_values(column, one).to_pylist() for one in ("date", "hour"))
    wanted = Counter(
        (one.date(), one.replace(minute=0, second=0, microsecond=0)) for one in moments
    )
    # Half-open: each moment lies in the one window that it begins or follows the beginning of.
    assert {(one["day"], one["hour"]): one["n"] for one in grouped} == wanted
    assert Counter(zip(days, hours, strict=True)) == wanted


@pytest.mark.spec("D2")
@settings(max_examples=30)
@given(
    MOMENTS,
    st.sampled_from(["0 2 * * *", "30 2 * * *", "*/7 * * * *", "0 0 29 2 *", "5 1 1 * mon"]),
    st.sampled_from(ZONES),
)
def test_failure_42_moments_of_a_schedule_cut_time_without_gap_or_overlap(
    start: dt.datetime, text: str, name: str
) -> None:
    cron = Trigger.of(text).cron
    assert cron is not None
    start_ms = int(start.timestamp() * 1000)
    with zone(name):
        first = cron.next_after(start_ms)
        assert first is not None
        ends = [first]
        for _ in range(6):
            following = cron.next_after(ends[-1])
            assert following is not None
            ends.append(following)
        for begin, end in itertools.pairwise(ends):
            assert begin < end
            inside = (begin, begin + 1, (begin + end) // 2, end - 1)
            assert {cron.next_after(one) for one in inside} == {end}
    assert all(cron.next_after(one) == first for one in (start_ms, first - 1))


@pytest.mark.spec("D2")
@settings(max_examples=50)
@given(st.lists(st.integers(-400 * DAY_MS, 400 * DAY_MS), min_size=1, max_size=12))
def test_failure_42_a_clock_that_jumps_holds_no_table_up_and_makes_no_step_twice(
    jumps: list[int],
) -> None:
    trigger, now_ms = Trigger.of("0 2 * * *"), 1000 * DAY_MS
    state = Fired(now_ms, None)
    for jump in jumps:
        now_ms = max(0, now_ms + jump)
        if trigger.due(state, now_ms, source_moved=True):
            state = Fired(now_ms, None)
            assert not trigger.due(state, now_ms, source_moved=True)
        # Whatever the clock was, a day and the allowance later the next step is due.
        later_ms = now_ms + DAY_MS + AHEAD_MS
        assert trigger.due(state, later_ms, source_moved=True)
