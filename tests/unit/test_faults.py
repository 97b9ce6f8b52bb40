"""Crash points: inert without the variable; a fault fires once, and only where it is meant to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raylake import faults

POINT = "owner.after_check"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(faults.ENV, str(tmp_path))
    return tmp_path


def test_nothing_happens_without_the_variable(tmp_path: Path) -> None:
    faults.arm(tmp_path, POINT, action="error")
    faults.reach(POINT)
    assert faults.fired(tmp_path) == []


def test_a_fault_fires_once_and_says_what_was_in_flight(folder: Path) -> None:
    faults.arm(folder, POINT, action="error", name="one")
    with pytest.raises(OSError, match="injected fault"):
        faults.reach(POINT, version=7)
    faults.reach(POINT, version=8)
    (hit,) = faults.fired(folder)
    assert (hit["point"], hit["version"], hit["action"]) == (POINT, 7, "error")


def test_a_fault_waits_for_its_match_and_its_turn(folder: Path) -> None:
    faults.arm(folder, POINT, action="error", name="two", skip=1, match={"kind": "data"})
    faults.reach(POINT, kind="epoch")
    faults.reach(POINT, kind="data")
    with pytest.raises(OSError, match=POINT):
        faults.reach(POINT, kind="data")


def test_a_fault_that_is_only_claimed_is_not_counted_yet(folder: Path) -> None:
    (folder / "fired").mkdir()
    (folder / "fired" / f".{POINT}--x.json.claimed").write_text('{"action": "kill"}')
    assert faults.fired(folder) == []


def test_an_unknown_point_cannot_be_armed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no crash point"):
        faults.arm(tmp_path, "nowhere")


FREEZES = """
import threading
from raylake import faults

def pass_by():
    faults.reach("owner.after_check")
    print("went on", flush=True)

print("ready", flush=True)
thread = threading.Thread(target=pass_by)
thread.start()
thread.join()
"""


def test_a_frozen_process_does_not_pass_the_point(folder: Path) -> None:
    faults.arm(folder, POINT, action="stop")
    with subprocess.Popen(
        [sys.executable, "-c", FREEZES], stdout=subprocess.PIPE, text=True
    ) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == "ready\n"
