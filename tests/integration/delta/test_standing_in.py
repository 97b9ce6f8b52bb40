"""Who stands in for a pipeline's owner is polite before, and in nobody's way after."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from pathlib import Path

import pytest

from raylake.client.stand_in import stand_in
from raylake.clock import SystemClock
from raylake.delta import log_files
from raylake.delta.identity import TAKE_OVER, Claim, OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.spec import TableSpec
from raylake.errors import AlreadyRunning, DependencyUnreachable, Fenced
from tests.integration.verify.lake import PIPELINE, ROWS, Lake, Span

CLOCK = SystemClock()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.admit(Span(0, 0, 0))
    lake.ingest(Span(0, 0, 3))
    return lake


def owner(lake: Lake, run: str, claim: Claim, *, dead: bool = False) -> OwnedTable:
    identity = OwnerIdentity.of_this_process(PIPELINE, run)
    if dead:
        # Process 1 did not begin then: its like is gone.
        identity = dataclasses.replace(identity, pid=1, pid_created_s=1.0)
    spec = TableSpec(str(lake.table), ROWS)
    return OwnedTable.attach(spec, identity, clock=CLOCK, durability="none", claim=claim)


def test_a_living_owner_is_not_stood_in_for(lake: Lake) -> None:
    version = lake.owner.version
    with pytest.raises(AlreadyRunning, match="and lives"):
        stand_in(str(lake.table), "tables-1", clock=CLOCK)
    lake.ingest(Span(0, 3, 5))
    assert lake.owner.version == version + 1


@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"])
def test_a_pipeline_that_says_that_it_runs_is_not_stood_in_for(lake: Lake, host: str) -> None:
    lake.owner.release()
    status = lake.root / "_raylake" / "status" / f"{PIPELINE}.json"
    status.parent.mkdir(parents=True)
    identity = OwnerIdentity.of_this_process(PIPELINE, "run")
    job = {"host": host, "pid": identity.pid, "pid_created_s": identity.pid_created_s}
    document = {"format": 1, "state": "running", "run_id": "run", "at": time.time(), "job": job}
    status.write_text(json.dumps(document))
    with pytest.raises(AlreadyRunning, match="runs elsewhere"):
        stand_in(str(lake.table), "tables-1", clock=CLOCK)
    status.write_text(json.dumps({**document, "state": "stopped"}))
    assert stand_in(str(lake.table), "tables-1", clock=CLOCK).epoch == 2


@pytest.mark.spec("C6")
def test_a_run_that_comes_takes_the_table_at_once(lake: Lake) -> None:
    lake.owner.release()
    standing = stand_in(str(lake.table), "tables-1", clock=CLOCK, durability="none")
    new = owner(lake, "next", Claim(30.0))
    with pytest.raises(Fenced):
        standing.rewrites().refresh()
    assert new.epoch == 3
    # And it is a real owner: nobody else stands in for it.
    assert "stands_in_for" not in newest(lake)


@pytest.mark.spec("C6")
def test_a_supervisor_replaces_its_own_owner_although_somebody_stood_in(lake: Lake) -> None:
    owner(lake, "run", Claim(30.0), dead=True)
    standing = stand_in(str(lake.table), "tables-1", clock=CLOCK, durability="none")
    standing.release()
    # Another one after it: still it is that run's owner that both stand in for.
    again = stand_in(str(lake.table), "tables-2", clock=CLOCK, durability="none")
    assert newest(lake)["stands_in_for"]["identity"]["run_id"] == "run"
    assert again.epoch == 4
    with pytest.raises(Fenced, match="took the table over"):
        owner(lake, "other", Claim(30.0, replaces="another"))
    assert owner(lake, "other", Claim(30.0, replaces="run")).epoch == 5


ELSEWHERE = {"host": "elsewhere", "pid": 4711}


class LongAgo(SystemClock):
    """Longer ago than an owner that is waited for may be silent."""

    def now(self) -> float:
        return super().now() - 60.0


def silent_elsewhere(lake: Lake) -> OwnedTable:
    identity = OwnerIdentity.of_this_process(PIPELINE, "far")
    identity = dataclasses.replace(identity, **ELSEWHERE)
    spec = TableSpec(str(lake.table), ROWS)
    return OwnedTable.attach(spec, identity, clock=LongAgo(), durability="none", claim=Claim(None))


@pytest.mark.spec("C6")
def test_an_idle_pipeline_of_another_host_is_not_fenced_by_its_silence(lake: Lake) -> None:
    far = silent_elsewhere(lake)
    with pytest.raises(AlreadyRunning, match="has not said that it leaves"):
        stand_in(str(lake.table), "tables-1", clock=CLOCK)
    # It goes on as if nobody had asked.
    far.admit({Span(7, 0, 0).source: 0})
    far.release()
    assert stand_in(str(lake.table), "tables-1", clock=CLOCK).epoch == far.epoch + 1


@pytest.mark.spec("C6")
def test_who_takes_over_answers_for_it_that_a_silent_owner_is_gone(lake: Lake) -> None:
    far = silent_elsewhere(lake)
    took = stand_in(str(lake.table), "tables-1", clock=CLOCK, claim=TAKE_OVER)
    assert took.epoch == far.epoch + 1


def test_a_pipeline_that_says_that_it_has_ended_is_stood_in_for_wherever_it_ran(
    lake: Lake,
) -> None:
    far = silent_elsewhere(lake)
    status = lake.root / "_raylake" / "status" / f"{PIPELINE}.json"
    status.parent.mkdir(parents=True)
    job = {**ELSEWHERE, "pid_created_s": 1.0}
    document = {"format": 1, "state": "failed", "run_id": "far", "at": time.time(), "job": job}
    status.write_text(json.dumps(document))
    assert stand_in(str(lake.table), "tables-1", clock=CLOCK).epoch == far.epoch + 1


def test_a_log_that_cannot_be_read_just_now_is_said_so(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.owner.release()

    def refused(*_told: object) -> None:
        raise OSError("503 slow down")

    monkeypatch.setattr(log_files, "read_commit", refused)
    with pytest.raises(DependencyUnreachable, match="503 slow down"):
        stand_in(str(lake.table), "tables-1", clock=CLOCK)


def newest(lake: Lake) -> dict[str, object]:
    version = log_files.commit_versions(lake.table)[-1]
    return log_files.our_metadata(log_files.read_commit(lake.table, version) or []) or {}
