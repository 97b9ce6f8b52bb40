"""When a scheduled action of upkeep comes, by what was done before."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake.clock import ManualClock
from raylake.maintenance.actions import Action
from raylake.maintenance.history import History
from raylake.maintenance.outcomes import Ending, Outcome
from raylake.maintenance.policy import Policy
from raylake.maintenance.price import Price
from raylake.maintenance.subjects import Subject
from raylake.maintenance.tending import Schedule

NOON_S = 1_767_268_800.0
CRON = "30 2 * * *"
VACUUM = Action("vacuum", "", "", Price())
SUBJECT = Subject("bronze.t", "/t", Policy(), None)


def ended(kind: str, ending: Ending, at_s: float) -> Outcome:
    action = Action(kind, "", "", Price())  # type: ignore[arg-type]
    return Outcome("bronze.t", "/t", action, ending, Price(), None, 0.0, 0.0, "", at_s)


@pytest.mark.spec("F3", "F4")
def test_a_table_of_which_nothing_is_known_counts_from_when_it_was_looked_after_last(
    tmp_path: Path,
) -> None:
    clock = ManualClock(NOON_S)
    history = History(str(tmp_path))
    assert not Schedule(history, clock).due(SUBJECT, VACUUM)
    assert Schedule(history, clock, NOON_S - 86_400).due(SUBJECT, VACUUM)


@pytest.mark.spec("F4")
def test_rows_leave_once_a_day_and_a_failure_is_tried_again_after_a_while(tmp_path: Path) -> None:
    clock = ManualClock(NOON_S)
    schedule = Schedule(History(str(tmp_path)), clock, NOON_S - 86_400)
    assert schedule.retains("bronze.t", CRON)
    schedule.done([ended("retain", "failed", clock.now())])
    assert not schedule.retains("bronze.t", CRON)
    clock.sleep(600)
    assert schedule.retains("bronze.t", CRON)
    schedule.done([ended("retain", "done", clock.now())])
    assert not schedule.retains("bronze.t", CRON)
    clock.sleep(86_400)
    assert schedule.retains("bronze.t", CRON)
