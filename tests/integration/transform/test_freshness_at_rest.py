"""A table grows stale while nothing comes, and is fresh again when rows do; steps leave lines."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from raylake.client.lake import Lake
from raylake.clock import ManualClock
from tests.integration.transform.shop import NOON, Shop

FRESH: dict[str, Any] = {
    "rule": "freshness",
    "column": "ordered_at",
    "max_age": "15m",
    "severity": "warning",
    "name": "fresh",
}
MINUTE = 60.0


def polls(run: Any, clock: ManualClock, minutes: int) -> None:
    """Passes as the loop makes them, a minute apart."""
    for _ in range(minutes):
        clock.sleep(MINUTE)
        run.run_pass()


@pytest.mark.spec("E1")
@pytest.mark.parametrize("on_failure", ["continue", "abort"])
def test_a_table_that_gets_nothing_grows_stale_and_recovers(
    tmp_path: Path, on_failure: str
) -> None:
    shop = Shop(tmp_path, {"quality": [{**FRESH, "on_failure": on_failure}]})
    clock = ManualClock(NOON.timestamp())
    run = shop.tables(clock)
    shop.put({})
    assert run.run_pass()
    state = run.states["silver.orders"]
    version = DeltaTable(str(shop.lake / "silver/orders")).version()
    polls(run, clock, 15)
    assert (state.state, [one.stale for one in state.freshness]) == ("up_to_date", [False])
    assert shop.lines("fresh")["passed"].to_list() == [True]
    polls(run, clock, 150)
    # One line of the change, and one an hour while it lasts.
    lines = shop.lines("fresh")
    assert lines["passed"].to_list() == [True, False, False, False]
    assert lines["target_version"].to_list()[1:] == [None] * 3
    assert state.state == ("stale" if on_failure == "abort" else "up_to_date")
    assert run.failure is None
    told = state.document()["freshness"][0]
    assert told["stale"]
    assert "older than 15m" in told["message"]
    assert DeltaTable(str(shop.lake / "silver/orders")).version() == version
    shop.put({"ordered_at": NOON + dt.timedelta(minutes=164)})
    assert run.run_pass()
    assert (state.state, state.freshness[0].stale) == ("up_to_date", False)
    assert shop.table("silver.orders").height == 2
    assert shop.lines("fresh")["passed"].to_list() == [True, False, False, False, True]


@pytest.mark.spec("E1")
def test_processes_that_start_anew_do_not_repeat_what_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path, {"quality": [FRESH]})
    clock = ManualClock(NOON.timestamp())
    shop.put({})
    shop.tables(clock).finish()
    clock.sleep(60 * MINUTE)
    for _ in range(3):
        shop.running(clock).main()
    assert shop.lines("fresh")["passed"].to_list() == [True, False]
    said = shop.said(capsys, "transform", "status")
    assert "silver.orders: warning: the newest ordered_at is 2026-01-31T12:00:00Z" in said
    (table,) = shop.said(capsys, "transform", "status", "-o", "json")["tables"]
    assert table["freshness"][0]["stale"]


@pytest.mark.spec("E1")
def test_a_rule_on_the_source_sees_rows_that_the_trigger_leaves_for_later(tmp_path: Path) -> None:
    rule = {**FRESH, "when": "before", "column": "_timestamp"}
    shop = Shop(tmp_path, {"quality": [rule], "trigger": "0 0 1 1 *"})
    clock = ManualClock(NOON.timestamp())
    run = shop.tables(clock)
    shop.put({})
    assert run.run_pass()
    polls(run, clock, 20)
    (stands,) = run.states["silver.orders"].freshness
    assert stands.stale
    shop.put({"_timestamp": NOON + dt.timedelta(minutes=20)})
    polls(run, clock, 2)
    (stands,) = run.states["silver.orders"].freshness
    assert not stands.stale
    assert shop.table("silver.orders").height == 1
    assert shop.lines("fresh")["passed"].to_list() == [True, False, True]


ABORTS: dict[str, Any] = {
    "rule": "range",
    "column": "amount",
    "max": 10,
    "on_failure": "abort",
    "name": "cheap",
}


@pytest.mark.spec("E1", "E2")
@pytest.mark.parametrize("when", ["after", "before"])
def test_an_aborted_step_leaves_one_line_however_often_it_is_tried(
    tmp_path: Path, when: str
) -> None:
    rule = {**ABORTS, "when": when}
    if when == "before":
        rule |= {"rule": "in_set", "column": "amount", "values": ["1.00"]}
        del rule["max"]
    shop = Shop(tmp_path, {"quality": [rule]})
    shop.put({})
    shop.done()
    version = DeltaTable(str(shop.lake / "silver/orders")).version()
    shop.put({"amount": "99.00"})
    for _ in range(3):
        refused = shop.run()
        assert refused.failure is not None
        assert refused.failure.code == "quality_abort"
    assert DeltaTable(str(shop.lake / "silver/orders")).version() == version
    lines = shop.lines("cheap").to_dicts()
    assert [(row["passed"], row["target_version"]) for row in lines[1:]] == [(False, None)]
    assert (lines[1]["source_after"], lines[1]["source_version"]) == (0, 1)
    # What is not written is no measure of what is usual.
    assert shop.lines("completeness").height == 1
    shop.put({"amount": "98.00"})
    shop.run()
    assert shop.lines("cheap")["passed"].to_list() == [True, False, False]
    shop.table_is({"quality": []})
    shop.done()
    assert shop.table("silver.orders").height == 3


@pytest.mark.spec("E2")
def test_a_step_without_rows_leaves_no_line(tmp_path: Path) -> None:
    shop = Shop(tmp_path, {"quality": [{**ABORTS, "on_failure": "continue"}]})
    shop.put({}, {})
    shop.done()
    lines = shop.table("_quality.orders").height
    bronze = DeltaTable(str(shop.lake / "bronze/orders"))
    for _ in range(64):
        bronze.alter.set_table_properties({"delta.appendOnly": "false"})
    shop.done()
    assert shop.run().states["silver.orders"].steps == 0
    assert DeltaTable(str(shop.lake / "silver/orders")).version() == 2
    assert shop.table("_quality.orders").height == lines


@pytest.mark.spec("E1", "E2")
def test_the_report_says_what_failed_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path, {"quality": [{**ABORTS, "on_failure": "continue"}]})
    assert "nothing was checked yet" in shop.said(capsys, "quality", "report")
    shop.put({}, {"amount": "99.00"})
    shop.done()
    said = shop.said(capsys, "quality", "report")
    assert said.startswith("1 of 8 checks failed (1 error)")
    assert "error  silver.orders  cheap" in said
    assert "what to do: correct the values at their source" in said
    assert "completeness" in said.split("passed:")[1]
    found = shop.said(capsys, "quality", "report", "silver.orders", "-o", "json")
    assert found["checks"][0]["rule"] == "cheap"
    assert len(found["checks"]) == 8
    shop.put({})
    shop.done()
    assert "all 8 checks passed" in shop.said(capsys, "quality", "report")
    both = shop.said(capsys, "quality", "report", "--last", "2", "-o", "json")
    assert [one["state"] for one in both["checks"] if one["rule"] == "cheap"] == ["error", "passed"]
    shop.said(capsys, "quality", "report", "silver.none", code=2)
    lake = Lake(str(shop.lake))
    assert len(lake.quality()) == len(lake.table("silver.orders").quality()) == 8
    assert "cheap" in lake.quality(last=2)._repr_html_()
    assert len(lake.table("bronze.orders").quality()) == 0
    assert isinstance(shop.lines("cheap"), pl.DataFrame)
