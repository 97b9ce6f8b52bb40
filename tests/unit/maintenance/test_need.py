"""When a run first needs somebody who looks after its tables, and what is said of it."""

from __future__ import annotations

import os
import socket
from typing import Any

import psutil
import pytest

from raylake.client.upkeep_status import judged
from raylake.config.maintenance import Maintenance
from raylake.ingest.plan import RunPlan
from raylake.maintenance.need import first_need
from tests.unit.config.loading import load_text
from tests.unit.maintenance.test_policies import FILE

NOON_S = 1_767_268_800.0
"""2026-01-01, 12:00 UTC."""
DAY_S = 86_400.0


def needed(policy: Maintenance | None = None, since_s: float = NOON_S, **shown: int) -> str:
    document = {"tables": {"bronze.t": shown}}
    return first_need(policy or Maintenance(), document, since_s, NOON_S + 60)


@pytest.mark.spec("F3")
def test_a_run_needs_upkeep_once_its_counters_say_that_something_may_be_due() -> None:
    assert needed() == ""
    assert first_need(Maintenance(), {}, NOON_S, NOON_S + 60) == ""
    assert needed(live_files=32, commits=99) == ""
    assert needed(live_files=33) == "bronze.t has 33 live files"
    assert needed(commits=100) == "bronze.t has 100 commits of this run"
    # Of a sorted table a few files may have decayed already.
    sorted_by = Maintenance.model_validate({"zorder": {"bronze.t": ["a"]}})
    assert needed(sorted_by, live_files=4) == ""
    assert needed(sorted_by, live_files=5) == "bronze.t has 5 live files"


@pytest.mark.spec("F3")
def test_a_run_needs_upkeep_once_a_daily_schedule_has_passed() -> None:
    assert needed(since_s=NOON_S - 8 * 3600) == ""
    assert needed(since_s=NOON_S - 10 * 3600) == "the schedule '0 3 * * *' has passed"
    early = Maintenance.model_validate({"retain": {"schedule": "0 12 * * *"}})
    assert needed(early, since_s=NOON_S - 1) == "the schedule '0 12 * * *' has passed"


@pytest.mark.spec("F3")
@pytest.mark.parametrize(
    ("section", "continuous", "available_now"),
    [
        ("", True, False),
        ("maintenance: {look_every: 5s}\n", True, True),
        ("maintenance: {enabled: false}\n", False, False),
    ],
)
def test_a_continuous_run_looks_after_its_tables_with_nothing_written(
    section: str, continuous: bool, available_now: bool
) -> None:
    config = load_text(FILE + section).config
    assert RunPlan(config, "", "", "r").tends is continuous
    assert RunPlan(config, "", "", "r", available_now=True).tends is available_now


def test_status_says_whether_tables_are_looked_after() -> None:
    job = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_created_s": psutil.Process().create_time(),
    }
    run: dict[str, Any] = {"run_id": "r", "state": "running", "job": job, "tends": True}
    said: dict[str, Any] = {"run_id": "r", "state": "running", "job": job}
    assert judged({**run, "tends": False}, {}).line == "off"
    assert judged(run, {}).line == "not needed yet"
    assert judged({**run, "state": "done"}, {}).line == "ended"
    assert judged(run, {**said, "run_id": "other"}).line == "running: by run other"
    assert judged(run, {**said, "run_id": "other", "state": "ended"}).line == "not needed yet"
    due = {"bronze.t": {"due": ["40 files"]}, "bronze.u": {"due": []}}
    assert judged(run, {**said, "tables": due}).line == "running: bronze.t: 40 files"
    waiting = {**said, "waiting": "ingestion is 70 s behind"}
    assert judged(run, waiting).line == "gives way: ingestion is 70 s behind"
    failed = {**said, "state": "failed", "error": {"message": "lost 6 times"}}
    assert judged(run, failed).line == "failed: lost 6 times"
    assert judged({**run, "state": "stopped"}, said).line == "ended"
