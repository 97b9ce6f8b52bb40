"""``raylake stop`` of a run that another one of its pipeline outlives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from raylake.client.runs import stop_run
from raylake.clock import SystemClock
from raylake.errors import Terminal
from tests.unit.cli.documents import status_document

ENDS = (
    "import os, signal, sys, time\n"
    "def end(*_):\n os.replace(sys.argv[2], sys.argv[1])\n os._exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\nprint(flush=True)\ntime.sleep(60)"
)


@pytest.mark.parametrize("other_ended", [False, True])
def test_stop_says_when_another_run_still_lives(tmp_path: Path, *, other_ended: bool) -> None:
    path, last = tmp_path / "status.json", tmp_path / "last.json"
    run = subprocess.Popen([sys.executable, "-c", ENDS, path, last], stdout=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.readline()
    created_s = psutil.Process(run.pid).create_time()
    job = {**status_document()["job"], "pid": run.pid, "pid_created_s": created_s}
    path.write_text(json.dumps(status_document(run_id="first", job=job)))
    state = "done" if other_ended else "running"
    last.write_text(json.dumps(status_document(run_id="second", state=state)))
    if other_ended:
        assert stop_run(path, 20.0, SystemClock()).document["run_id"] == "second"
    else:
        with pytest.raises(Terminal, match=r"run first has ended, and run second .* has not"):
            stop_run(path, 20.0, SystemClock())
    assert run.wait(10) == 0
