"""The exit codes of DESIGN §10, again and again."""

from __future__ import annotations

import signal

import psutil
import pytest
import yaml

from tests.harness.producing import DIRTY
from tests.harness.scope import TABLE, Job, Scope

LONG = [pytest.mark.long, pytest.mark.timeout(1200)]
TIMES = [pytest.param(3, id="3 times"), pytest.param(20, id="20 times", marks=LONG)]


@pytest.mark.spec("A3", "A11")
@pytest.mark.parametrize("times", TIMES)
def test_a_drained_run_ends_with_0_each_time(scope: Scope, times: int) -> None:
    for number in range(times):
        scope.produce(40, DIRTY)
        scope.drain()
        if number == 1:
            scope.drain()
    scope.audit()
    scope.verify("all")


@pytest.mark.spec("A11")
@pytest.mark.parametrize("times", TIMES)
def test_a_stopped_run_ends_with_0_and_an_impatient_one_with_130(scope: Scope, times: int) -> None:
    for number in range(times):
        scope.produce(40)
        job = scope.start()
        if number % 2:
            scope.until_caught_up()
            job.signal(signal.SIGINT)
            job.ends_with(0)
        else:
            scope.run_until(lambda job=job: _supervised(scope, job), "its supervisor writes")
            (pid,) = scope.pids("supervisor")
            frozen = psutil.Process(pid)
            frozen.suspend()
            job.signal(signal.SIGINT)
            job.signal(signal.SIGTERM)
            job.ends_with(130)
            frozen.kill()
    scope.drain()
    scope.audit()


def _supervised(scope: Scope, job: Job) -> bool:
    """Whether the status document is this job's: until then Ray may hold the signals."""
    return bool(scope.status().get("job", {}).get("pid") == job.process.pid)


@pytest.mark.parametrize("times", TIMES)
def test_what_cannot_start_says_so_by_its_code(scope: Scope, times: int) -> None:
    good = yaml.safe_load(scope.file.read_text())
    (scope.folder / "no-table").mkdir()
    (scope.folder / "no-table" / "note.txt").write_text("not a Delta table")
    elsewhere = {**good["bronze"][TABLE], "path": str(scope.folder / "no-table")}
    wrong = {
        2: {**good, "pipelin": "x"},
        5: {**good, "bronze": {TABLE: elsewhere}},
        4: {**good, "kafka": {"bootstrap": "127.0.0.1:1", "connect_timeout": "1s"}},
    }
    for _ in range(1 if times < 20 else times):
        for code, document in wrong.items():
            scope.file.write_text(yaml.safe_dump(document))
            scope.start("--available-now").ends_with(code)


@pytest.mark.spec("A3")
def test_a_second_start_is_refused_with_5_and_harms_nothing(scope: Scope) -> None:
    scope.produce(200)
    job = scope.start()
    scope.until_caught_up()
    again = scope.start()
    again.ends_with(5)
    assert "already" in again.said
    assert job.process.poll() is None
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    scope.audit()
