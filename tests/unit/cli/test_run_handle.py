"""A run's handle: what it says a run's state is, when a wait is over, and how it shows itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raylake.client.account import Account
from raylake.client.progress import Lines, Silent
from raylake.client.run import POLL_S, LogLine, Run, RunFailed, RunName, WaitTimedOut
from raylake.client.run_places import Look, OnlySeen
from raylake.client.run_view import RunView
from raylake.clock import ManualClock
from raylake.delta.verify_model import DeadLetterAccount, Finding, PipelineReport
from raylake.errors import Refused

RUN = "20250101T000000Z-abcdef"
ALIVE = Look(alive=True)
EVIL = "<script>alert(1)</script>"


class Place:
    """A place that says what it is told to say, one thing after the other."""

    words = "a place"

    def __init__(self, *looks: Look) -> None:
        self.looks = list(looks)
        self.asked: list[str] = []

    def look(self) -> Look:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def drain(self) -> None:
        self.asked.append("drain")

    def end(self) -> None:
        self.asked.append("end")

    def printed(self) -> str:
        return "one\ntwo\n"


class Folder:
    """A lake with a status document."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "_raylake" / "status" / "clicks.json"
        self.file.parent.mkdir(parents=True)

    def says(self, **changes: Any) -> None:
        part = {"next": 5, "origin": 0, "end": 5, "target": None}
        counts = {"rows": 5, "dead": 0, "absent": 0, "lost": 0, "dropped": 0}
        table = {"partitions": {"a[0]": part}, "totals": counts, "commits": 1, "version": 3}
        base = {"format": 1, "pipeline": "clicks", "run_id": RUN, "at": 100.0, "ends_at": 99.0}
        document = {**base, "state": "running", "tables": {"bronze.clicks": table}, **changes}
        self.file.write_text(json.dumps(document))

    def run(self, place: Any, clock: ManualClock | None = None, **more: Any) -> Run:
        name = RunName(str(self.path), "clicks", RUN, self.file)
        return Run(name, place, clock=clock or ManualClock(100.0), **more)


@pytest.fixture
def lake(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("look", "told", "state"),
    [
        (ALIVE, None, "submitted"),
        (ALIVE, "running", "running"),
        (ALIVE, "restarting", "restarting"),
        (ALIVE, "failed", "draining"),
        (ALIVE, "done", "draining"),
        (Look(False), "done", "done"),
        (Look(False), "stopped", "stopped"),
        (Look(False), "failed", "failed"),
        (Look(False), "running", "dead"),
        (Look(False, "stopped"), "running", "dead"),
        (Look(False, "interrupted"), "running", "interrupted"),
        (Look(False, "failed"), "running", "failed"),
        (Look(False, "failed"), None, "failed"),
        (Look(False, "done"), None, "done"),
        (Look(False), None, "dead"),
    ],
)
def test_the_state_is_that_of_the_place_and_the_document(
    lake: Folder, look: Look, told: str | None, state: str
) -> None:
    if told is not None:
        lake.says(state=told)
    assert lake.run(Place(look)).status().state == state


def test_the_document_of_another_run_tells_nothing_of_this_one(lake: Folder) -> None:
    lake.says(run_id="another")
    view = lake.run(Place(ALIVE)).status()
    assert (view.state, dict(view.document)) == ("submitted", {})


def test_caught_up_is_what_the_broker_had_when_the_wait_began(lake: Folder) -> None:
    clock = ManualClock(100.0)
    lake.says()
    run = lake.run(Place(ALIVE), clock)
    assert run.status().caught_up
    with pytest.raises(WaitTimedOut, match="not caught up") as told:
        run.wait("caught_up", 3 * POLL_S, Silent())
    assert "the run goes on" in told.value.hint
    lake.says(ends_at=101.0)
    with pytest.raises(WaitTimedOut):
        run.wait("caught_up", POLL_S, Silent())
    run = lake.run(Place(ALIVE), clock)
    lake.says(at=90.0, ends_at=93.0)
    assert run.wait("caught_up", POLL_S, Silent()).state == "running"


@pytest.mark.parametrize(
    "changes",
    [
        {"tables": {}},
        {"tables": {"t": {"path": "/x"}}},
        {"tables": {"t": {"partitions": {"a[0]": {"next": 4, "origin": 0, "end": 5}}}}},
        {"tables": {"t": {"partitions": {"a[0]": {"next": 4, "origin": 0, "end": None}}}}},
        {"waiting": {"bronze.clicks": "no schema"}},
    ],
)
def test_what_is_not_known_is_not_caught_up(lake: Folder, changes: dict[str, Any]) -> None:
    lake.says(**changes)
    assert not lake.run(Place(ALIVE)).status().caught_up


def test_a_failure_ends_a_wait_with_its_reason(lake: Folder) -> None:
    error = {"code": "unreachable", "message": "no broker", "hint": "start it"}
    lake.says(state="failed", error=error)
    with pytest.raises(RunFailed, match="no broker") as told:
        lake.run(Place(Look(False))).wait("ended", None, Silent())
    assert (told.value.hint, told.value.context["reason"]) == ("start it", "unreachable")


def test_drain_asks_once_and_stop_cuts_off_what_does_not_end(lake: Folder) -> None:
    lake.says()
    draining = Place(ALIVE, Look(False, "done"))
    lake.says(state="stopped")
    assert lake.run(draining).drain(5.0).state == "stopped"
    assert draining.asked == ["drain"]
    lake.says(state="running")
    stuck = Place(*[ALIVE] * 5, Look(False, "interrupted"))
    assert lake.run(stuck).stop(2 * POLL_S).state == "interrupted"
    assert stuck.asked == ["drain", "end"]


def test_ctrl_c_ends_the_wait_and_leaves_the_run(lake: Folder) -> None:
    lake.says()
    place = Place(ALIVE)

    class Interrupted(Silent):
        def show(self, view: RunView) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lake.run(place).wait(progress=Interrupted())
    assert place.asked == []


def test_what_is_only_seen_cannot_be_stopped_and_says_from_where(lake: Folder) -> None:
    job = {"host": "far", "pid": 1, "pid_created_s": 0.0, "submission_id": "raylake-clicks-0001"}
    lake.says(job=job)
    document = json.loads(lake.file.read_bytes())
    run = lake.run(OnlySeen(document))
    assert run.status().state == "running"
    with pytest.raises(Refused, match="far") as told:
        run.drain()
    assert "ray job stop raylake-clicks-0001" in told.value.hint


def test_logs_are_the_jobs_own_where_the_files_are_elsewhere(lake: Folder) -> None:
    lake.says(state="done")
    run = lake.run(Place(Look(False)))
    assert [one.message for one in run.logs(lines=1)] == ["two"]
    followed = list(run.logs(follow=True))
    assert followed == [LogLine("", "", "job", "one"), LogLine("", "", "job", "two")]


def test_lines_are_said_when_the_state_changes_and_now_and_then() -> None:
    said: list[str] = []
    clock = ManualClock(100.0)
    lines = Lines(said.append, clock)
    for state in ("starting", "starting", "running", "running"):
        lines.show(RunView("clicks", RUN, state, "here"))
    assert len(said) == 2
    clock.sleep(11.0)
    lines.show(RunView("clicks", RUN, "running", "here"))
    assert len(said) == 3


def test_what_came_from_outside_is_escaped_in_a_notebook(lake: Folder) -> None:
    counts = {"rows": 1, "dead": 0, "absent": 0}
    lake.says(
        state="failed",
        tables={EVIL: {"totals": counts, "partitions": {}}},
        error={"code": "x", "message": EVIL, "hint": EVIL},
    )
    view = lake.run(Place(Look(False))).status()
    shown = view._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert view.to_dict()["state"] == "failed"
    letters = DeadLetterAccount(None, None, 0, 0, 0)
    report = PipelineReport("clicks", "log", (), letters, (Finding(EVIL, EVIL, "1", "2", EVIL),))
    account = Account(report)
    assert not account.ok
    assert "DIFFERENCE" in repr(account)
    assert "<script>" not in account._repr_html_()
    assert "&lt;script&gt;" in account._repr_html_()
