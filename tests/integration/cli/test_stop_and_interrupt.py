"""A pipeline that runs on, looked at and stopped from other processes."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil
import pytest

from tests.harness.broker import LiveBroker
from tests.integration.cli.conftest import GOOD, POISON, Shell, pipeline_text, until

ALL = GOOD + POISON
LENIENT = "dead_letters: {stop_above: 90%}\n"


def _hide_our_packages(shell: Shell) -> None:
    for name in ("jobs", "actors"):
        (shell.folder / name).mkdir()
        shell.write(f"{name}/__init__.py", "raise RuntimeError('the folder of the user')\n")
        shell.write(f"{name}/ingest.py", "raise RuntimeError('the folder of the user')\n")


@pytest.mark.spec("A11", "K1")
def test_a_running_pipeline_is_shown_guarded_and_drained_from_other_processes(
    broker: LiveBroker, topic: str, joined_shell: Shell
) -> None:
    shell = joined_shell
    _hide_our_packages(shell)
    shell.write("clicks.yaml", pipeline_text(broker, topic) + LENIENT)
    shell.write("other.yaml", pipeline_text(broker, topic, "other") + LENIENT)
    run = shell.start("run", "clicks.yaml")
    shell.until_committed("clicks", ALL)

    status = shell.here("status", "clicks.yaml", "-o", "json")
    assert (status.code, status.json["life"]) == (0, "alive")
    warned = shell("doctor", "clicks.yaml", "-o", "json").json["checks"]
    assert {one["name"]: one["state"] for one in warned}["jobs package"] == "warn"

    again = shell("run", "clicks.yaml")
    assert again.code == 5
    assert "raylake stop" in again.err
    assert run.poll() is None

    other = shell("run", "other.yaml", "--available-now", "-o", "json")
    assert other.code == 5, other.out + other.err
    assert "belongs to pipeline 'clicks'" in other.json["error"]["message"]

    stop = shell("stop", "clicks.yaml")
    assert stop.code == 0, stop.err
    assert f"{topic}[0]: committed up to offset {ALL // 2}" in stop.out
    ended = shell.end(run)
    assert ended.code == 0, ended.err
    assert "running: " in ended.err
    assert f"{topic}[1]: committed up to offset {ALL // 2}" in ended.out
    assert "\x1b" not in ended.out + ended.err
    assert shell.here("verify", "clicks.yaml", "--level", "data").code == 0
    assert shell("stop", "clicks.yaml").code == 0


@pytest.mark.long
@pytest.mark.spec("A11", "K1")
def test_one_ctrl_c_drains(broker: LiveBroker, topic: str, joined_shell: Shell) -> None:
    shell = joined_shell
    shell.write("clicks.yaml", pipeline_text(broker, topic) + LENIENT)
    run = shell.start("run", "clicks.yaml")
    job = shell.until_committed("clicks", ALL)["job"]["pid"]
    os.killpg(run.pid, signal.SIGINT)
    drained = shell.end(run)
    assert drained.code == 0, drained.err
    assert "draining" in drained.err
    assert shell.status("clicks")["state"] == "stopped"
    assert not psutil.pid_exists(job)


@pytest.mark.spec("A11", "K1")
def test_a_second_ctrl_c_ends_at_once_with_the_runs_own_cluster(
    broker: LiveBroker, topic: str, shell: Shell
) -> None:
    shell.write("clicks.yaml", pipeline_text(broker, topic) + LENIENT)
    run = shell.start("run", "clicks.yaml")
    job = shell.until_committed("clicks", ALL)["job"]["pid"]
    frozen = [p for p in psutil.Process(job).children(recursive=True) if "Supervisor" in p.name()]
    assert frozen, "the drain would end before the second Ctrl-C"
    for process in frozen:
        process.suspend()
    started = psutil.Process(job).children(recursive=True)
    os.killpg(run.pid, signal.SIGINT)
    until(lambda: "draining" in shell.said(run), "the first Ctrl-C was seen")
    os.killpg(run.pid, signal.SIGINT)
    assert shell.end(run).code == 130
    for process in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
    until(lambda: not [p for p in started if p.is_running()], "the end of every process")
    verified = shell.here("verify", "clicks.yaml", "--level", "data")
    assert verified.code == 0, verified.out
