"""When upkeep may begin: its CPU share, ingestion that is behind, the window of the day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from raylake.clock import ManualClock
from raylake.config.findings import Invalid
from raylake.config.window import Window
from raylake.maintenance.budget import BesideIngestion, CpuShare, Lag


def status(reached: int, end: int, at: float, state: str = "running") -> dict[str, Any]:
    partitions = {"t[0]": {"next": reached, "end": end}}
    return {"at": at, "state": state, "tables": {"bronze.t": {"partitions": partitions}}}


def test_what_was_taken_is_paid_for_by_waiting() -> None:
    clock = ManualClock()
    share = CpuShare(0.5, clock)
    assert share.closed() == ""
    share.spent(10.0)
    assert "0.5 CPUs" in share.closed()
    clock.sleep(18.9)
    assert share.closed() != ""
    clock.sleep(0.2)
    assert share.closed() == ""
    # A long rest does not let it take all of the CPUs later.
    clock.sleep(3600)
    share.spent(10.0)
    assert share.closed() != ""


def test_lag_counts_from_the_moment_at_which_the_oldest_missing_record_was_there() -> None:
    lag = Lag()
    assert lag.seen(status(10, 10, 0), 0) == 0
    assert lag.seen(status(10, 20, 5), 5) == 0
    assert lag.seen(status(10, 30, 9), 9) == 4
    # What is there now came at 9, though it lacks something ever since 5.
    assert lag.seen(status(20, 30, 12), 12) == 3
    assert lag.seen(status(30, 30, 14), 14) == 0
    assert lag.seen({"tables": {"bronze.t": {}}}, 15) == 0


def test_it_gives_way_while_ingestion_is_behind_and_goes_on_after() -> None:
    clock = ManualClock(start=1000.0)
    said: list[dict[str, Any] | None] = [None]
    gate = BesideIngestion(CpuShare(1, clock), lambda: said[0], 60, None, clock)
    assert gate.closed() == ""
    said[0] = status(0, 100, clock.now())
    assert gate.closed() == ""
    clock.sleep(61)
    said[0] = status(50, 200, clock.now())
    assert gate.closed() == "ingestion is 61 s behind (yield_above_lag)"
    # Nobody knows how far a pipeline is that has not said so for long.
    stale = dict(said[0])
    said[0] = {**stale, "at": clock.now() - 31}
    assert gate.closed() == ""
    said[0] = status(200, 200, clock.now())
    assert gate.closed() == ""
    gate.spent(5)
    assert "share" in gate.closed()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("01:00-05:30", [(1, 0), (5, 29)], [(0, 59), (5, 30)]),
        ("22:00-06:00", [(22, 0), (23, 59), (0, 0), (5, 59)], [(6, 0), (21, 59)]),
    ],
)
def test_a_window_may_reach_over_midnight(
    text: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]
) -> None:
    window = Window.of(text)
    for hour, minute in inside:
        assert window.holds(datetime(2026, 1, 31, hour, minute, tzinfo=UTC))
    for hour, minute in outside:
        assert not window.holds(datetime(2026, 1, 31, hour, minute, tzinfo=UTC))


@pytest.mark.parametrize("text", ["", "1:00-5:00", "24:00-01:00", "05:00-05:00", "a-b"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Window.of(text)


def test_outside_of_its_window_nothing_begins() -> None:
    clock = ManualClock(start=datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())
    gate = BesideIngestion(CpuShare(1, clock), lambda: None, 60, Window.of("13:00-14:00"), clock)
    assert gate.closed() == "the window is 13:00-14:00 UTC"
    clock.sleep(3600)
    assert gate.closed() == ""
