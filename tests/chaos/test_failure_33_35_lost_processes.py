"""Calls of unknown outcome; drivers and supervisors that die."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal

import psutil
import pytest

from tests.harness.producing import DIRTY, Mix
from tests.harness.scope import MakeScope, Scope
from tests.harness.waiting import until


@pytest.mark.long
@pytest.mark.spec("A3")
def test_failure_33_an_owner_that_dies_after_its_commit_is_asked_again_and_commits_once(
    scope: Scope,
) -> None:
    scope.produce(600, DIRTY)
    scope.arm("owner.after_commit", match={"kind": "data"})
    scope.drain()
    scope.audit()
    ranges = [(one["partition"], one["start"]) for one in scope.ranges_in_log()]
    assert len(ranges) == len(set(ranges))
    scope.verify("all")


@pytest.mark.spec("A3")
def test_failure_32_and_35_a_killed_driver_is_started_again_and_all_is_exact(scope: Scope) -> None:
    """On a shared cluster the detached owner lives on, and the next run uses it."""
    scope.pipeline({"event_time": {"column": "at", "lateness": "1m"}})
    job = scope.start()
    scope.produce(600, DIRTY)
    scope.until_caught_up()
    scope.run_until(lambda: watermark(scope) is not None, "a watermark")
    shown = watermark(scope)
    owner = scope.status()["tables"]["bronze.events"]["owner_pid"]
    with scope.load(DIRTY):
        job.process.kill()
        job.wait()
        scope.start()
        scope.run_until(lambda: scope.status()["job"]["pid"] == scope.jobs[-1].process.pid, "it")
    scope.until_caught_up()
    assert scope.status()["tables"]["bronze.events"]["owner_pid"] == owner
    scope.jobs[-1].signal(signal.SIGTERM)
    scope.jobs[-1].ends_with(0)
    # Old events do not move the watermark back, in a run whose owner is a new one.
    scope.produce(100, Mix(at=dt.datetime.now(dt.UTC) - dt.timedelta(days=3)))
    scope.drain()
    assert (watermark(scope) or 0) >= (shown or 0) > 0
    scope.audit()
    scope.verify("all")


def watermark(scope: Scope) -> int | None:
    found: int | None = (
        scope.status().get("tables", {}).get("bronze.events", {}).get("watermark_ms")
    )
    return found


@pytest.mark.long
@pytest.mark.spec("A3", "B1")
@pytest.mark.parametrize("times", [1, 2])
def test_failure_35_a_killed_supervisor_is_started_again_by_its_job(
    scope: Scope, times: int
) -> None:
    job = scope.start()
    with scope.load(DIRTY):
        for _ in range(times):
            scope.run_until(lambda: any(sum(t.values()) for t in scope.committed()), "a commit")
            (pid,) = scope.kill("supervisor")
            scope.run_until(lambda pid=pid: set(scope.pids("supervisor")) - {pid}, "a new one")
    scope.until_caught_up()
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    scope.audit()
    scope.verify("all")


@pytest.mark.long
@pytest.mark.spec("A3")
def test_failure_35_an_embedded_cluster_dies_with_its_driver_and_is_started_again(
    make_scope: MakeScope,
) -> None:
    scope = make_scope(cluster=None)
    job = scope.start()
    scope.produce(600, DIRTY)
    scope.run_until(lambda: any(sum(t.values()) for t in scope.committed()), "a commit")
    started = _below(job.process.pid)
    assert "raylet" in started
    assert not {"monitor.py", "log_monitor.py"} & started
    job.process.kill()
    job.wait()
    for process in ("supervisor", "consumer", "owner", "dead_letters"):
        until(lambda process=process: not scope.pids(process), f"the end of {process}", 30)
    scope.drain()
    scope.audit()
    scope.verify("all")


def _below(pid: int) -> set[str]:
    """The files that a process's children run."""
    found: set[str] = set()
    for one in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found |= {word.rsplit("/")[-1] for word in one.cmdline()}
    return found
