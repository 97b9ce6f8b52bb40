"""The exit codes of DESIGN §10, again and again.

Once they are shown in ``tests/integration``, 0, 1, 3, 5 and 130 in ``cli``, 2 and 4 in
``pipeline``, and 6 in ``test_failure_02_two_owners.py``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
import yaml

from tests.harness.cluster import ROOT
from tests.harness.jobs import Job
from tests.harness.producing import DIRTY
from tests.harness.scope import TABLE, Scope
from tests.harness.successor import Successor
from tests.harness.waiting import until

LONG = [pytest.mark.long, pytest.mark.timeout(1200)]
TWENTY = pytest.param(20, id="20 times", marks=LONG)
TWICE = [pytest.param(2, id="twice"), TWENTY]


@pytest.mark.spec("A3", "A11")
@pytest.mark.parametrize("times", [TWENTY])
def test_a_drained_run_ends_with_0_each_time(scope: Scope, times: int) -> None:
    for number in range(times):
        scope.produce(40, DIRTY)
        scope.drain()
        if number == 1:
            scope.drain()
    scope.audit()
    scope.verify("all")


@pytest.mark.spec("A11")
@pytest.mark.parametrize("times", [TWENTY])
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


@pytest.mark.parametrize("times", [TWENTY])
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
    for _ in range(times):
        for code, document in wrong.items():
            scope.file.write_text(yaml.safe_dump(document))
            scope.start("--available-now").ends_with(code)


@pytest.mark.spec("A3")
@pytest.mark.parametrize("times", [TWENTY])
def test_a_run_whose_table_was_taken_over_ends_with_6(scope: Scope, times: int) -> None:
    for _ in range(times):
        scope.produce(40)
        job = scope.start("--take-over")
        scope.until_caught_up()
        successor = Successor(scope)
        scope.produce(40)
        job.ends_with(6)
        assert "took the table over" in job.said
        assert successor.ingest() == 40
        successor.release()
    scope.drain()
    scope.audit()


@pytest.mark.spec("A11")
@pytest.mark.parametrize("times", [TWENTY])
def test_a_run_that_cannot_drain_in_time_ends_with_1(scope: Scope, times: int) -> None:
    scope.pipeline(ingest={"drain_timeout": "1s"})
    for number in range(times):
        job = scope.start()
        scope.produce(40)
        scope.until_caught_up()
        scope.arm("consumer.handing_over", "delay", name=str(number), delay_s=6)
        scope.produce(40)
        scope.run_until(lambda number=number: len(scope.faults()) > number, "it is held up")
        job.signal(signal.SIGTERM)
        job.ends_with(1)
        assert "drain_timeout" in job.said
    scope.pipeline()
    scope.drain()
    scope.audit()


@pytest.mark.spec("A3", "K1")
@pytest.mark.parametrize("times", [TWENTY])
def test_a_difference_ends_verify_with_3_and_none_with_0(scope: Scope, times: int) -> None:
    scope.produce(40, DIRTY)
    scope.drain()
    last = sorted((scope.table() / "_delta_log").glob("*.json"))
    (data,) = [path for path in last if '"add"' in path.read_text()][-1:]
    whole = data.read_text()
    rest = [line for line in whole.splitlines(keepends=True) if '"add"' not in line]
    command = [sys.executable, "-P", "-m", "raylake", "verify", str(scope.file), "--level", "log"]
    for _ in range(times):
        for code, text in ((3, "".join(rest)), (0, whole)):
            data.write_text(text)
            done = subprocess.run(
                command,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=scope.folder,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == code, done.stdout + done.stderr


@pytest.mark.spec("A3")
@pytest.mark.parametrize("times", TWICE)
def test_failure_39_of_racing_starts_one_runs_and_each_other_one_is_refused_with_5(
    scope: Scope, times: int
) -> None:
    scope.produce(200)
    racing = [scope.start() for _ in range(times)]

    def under_way() -> list[Job]:
        return [job for job in racing if job.process.poll() is None]

    until(lambda: len(under_way()) < 2, "all but one were refused", 60.0 + 10.0 * times)
    (alive,) = under_way()
    refused = [job.ends_with(5) for job in racing if job is not alive]
    scope.jobs.append(alive)
    scope.until_caught_up()
    refused.append(scope.start().ends_with(5))
    assert all("already" in job.said and "hint: " in job.said for job in refused)
    assert all(scope.name in job.said for job in refused)
    assert alive.process.poll() is None
    alive.stop()
    scope.audit()
