"""When a derived table is brought up to date: from its last step, the clock and its source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylake.config.derived import AggregateTable, AppendTable
from raylake.config.findings import Invalid
from raylake.layers.triggers import DAY_MS, HOUR_MS, Fired, Trigger, interval_of

MINUTE_MS = 60_000


def due(trigger: Trigger, state: Fired, now_ms: int = 0, **more: object) -> bool:
    return trigger.due(state, now_ms, **{"source_moved": True, **more})  # type: ignore[arg-type]


def test_a_changed_source_makes_a_step_due_and_an_unchanged_one_never() -> None:
    trigger = Trigger.of("source_changed")
    assert due(trigger, Fired())
    assert not due(trigger, Fired(), source_moved=False)
    assert not due(trigger, Fired(), source_moved=False, ending=True)


def test_a_watermark_makes_a_step_due_once_it_has_passed_an_end() -> None:
    trigger = Trigger.of("watermark", HOUR_MS)
    assert not due(trigger, Fired(), watermark_ms=None)
    assert due(trigger, Fired(), watermark_ms=5)
    state = Fired(at_ms=1, watermark_ms=5)
    assert not due(trigger, state, watermark_ms=HOUR_MS - 1)
    assert due(trigger, state, watermark_ms=HOUR_MS)
    assert due(trigger, state, watermark_ms=99 * HOUR_MS)
    assert not due(trigger, state, watermark_ms=0)
    assert not due(trigger, Fired(1, HOUR_MS), watermark_ms=2 * HOUR_MS - 1)


def test_what_goes_by_the_watermark_is_made_once_at_the_end_of_a_run() -> None:
    trigger = Trigger.of("watermark")
    assert due(trigger, Fired(1, 5), watermark_ms=6, ending=True)
    assert due(trigger, Fired(), watermark_ms=None, ending=True)
    assert not due(trigger, Fired(1, 5), source_moved=False, watermark_ms=6, ending=True)


def test_missed_moments_of_a_schedule_make_one_step() -> None:
    trigger = Trigger.of("0 2 * * *")
    two = 120 * MINUTE_MS
    assert due(trigger, Fired())
    assert not due(trigger, Fired(at_ms=0), now_ms=two - 1)
    assert due(trigger, Fired(at_ms=0), now_ms=two)
    assert due(trigger, Fired(at_ms=0), now_ms=7 * DAY_MS)
    assert not due(trigger, Fired(at_ms=7 * DAY_MS), now_ms=7 * DAY_MS + two - 1)
    assert not due(trigger, Fired(at_ms=0), now_ms=two - 1, ending=True)
    assert not due(trigger, Fired(at_ms=0), now_ms=two, source_moved=False)


@given(
    st.lists(st.integers(1, 10 * DAY_MS), min_size=1, max_size=30),
    st.sampled_from(["0 2 * * *", "*/7 * * * *", "30 4 1 * mon"]),
)
def test_a_process_that_starts_anew_decides_as_the_one_before(waits: list[int], text: str) -> None:
    trigger, state, now_ms, made = Trigger.of(text), Fired(0, None), 0, 0
    for wait in waits:
        before, now_ms = now_ms, now_ms + wait
        again = Fired.of({"raylake": 1, **state.to_metadata()})
        assert again == state
        fires = due(trigger, again, now_ms)
        # Due exactly where a moment of the schedule lies after the last step.
        assert trigger.cron is not None
        moment = trigger.cron.next_after(state.at_ms or 0)
        assert moment is not None
        assert fires == (moment <= now_ms)
        if fires:
            assert moment > before or made == 0
            state, made = Fired(now_ms, None), made + 1


def test_what_a_commit_says_is_all_that_is_remembered() -> None:
    assert Fired.of(None) == Fired()
    assert Fired.of({}) == Fired()
    assert Fired.of({"at_ms": 7, "watermark_ms": None, "kind": "step"}) == Fired(7, None)
    assert Fired.of(Fired(7, 9).to_metadata()) == Fired(7, 9)


def test_what_the_next_step_waits_for() -> None:
    assert Trigger.of("source_changed").next_text(Fired(), 0) == "the source's next version"
    assert Trigger.of("0 2 * * *").next_text(Fired(at_ms=0), 0) == "1970-01-01T02:00:00Z"
    hourly = Trigger.of("watermark", HOUR_MS)
    assert hourly.next_text(Fired(), 0) == "a watermark of the source"
    assert hourly.next_text(Fired(1, 5), 0) == "a watermark from 1970-01-01T01:00:00Z on"
    with pytest.raises(Invalid):
        Trigger.of("hourly")


@pytest.mark.parametrize(
    ("sql", "interval_ms"),
    [
        ("SELECT country, count(*) AS n FROM silver.o GROUP BY country", DAY_MS),
        ("SELECT CAST(at AS DATE) AS day, count(*) AS n FROM silver.o GROUP BY day", DAY_MS),
        ("SELECT date_trunc('hour', at) AS h, count(*) AS n FROM silver.o GROUP BY h", HOUR_MS),
        ("SELECT date_trunc('hour', at) AS x, count(*) AS n FROM silver.o GROUP BY 1", HOUR_MS),
        (
            "SELECT count(*) n FROM silver.o GROUP BY CAST(at AS DATE), date_trunc('minute', at)",
            MINUTE_MS,
        ),
        ("SELECT date_trunc('hour', max(at)) AS x, c FROM silver.o GROUP BY c", DAY_MS),
        ("SELECT date_trunc('hour', at) AS h, count(*) AS n FROM silver.o GROUP BY ALL", HOUR_MS),
        ("SELECT date_trunc('month', at) AS m, count(*) AS n FROM silver.o GROUP BY ALL", DAY_MS),
    ],
)
def test_the_interval_of_a_query(sql: str, interval_ms: int) -> None:
    assert interval_of(AggregateTable(mode="aggregate", sql=sql)) == interval_ms


def test_the_interval_of_partitions_is_the_finest() -> None:
    table = AppendTable.model_validate(
        {"from": "bronze.o", "mode": "append", "partition_by": ["date(at)", "hour(at)", "c"]}
    )
    assert interval_of(table) == HOUR_MS
    day = table.model_copy(update={"partition_by": ("date(at)",)})
    assert interval_of(day) == interval_of(table.model_copy(update={"partition_by": ()})) == DAY_MS
