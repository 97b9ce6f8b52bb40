"""``raylake stop-all``: every run of a lake on this machine, at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from raylake.client.runs import stop_all
from raylake.clock import SystemClock
from raylake.errors import Terminal
from tests.unit.cli.documents import lake_of, status_document


def test_stop_all_asks_every_living_run_once_and_waits_for_all(tmp_path: Path) -> None:
    quiet = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(0)); "
        "print(flush=True); time.sleep(60)"
    )
    runs = [subprocess.Popen([sys.executable, "-c", quiet], stdout=subprocess.PIPE) for _ in "ab"]
    documents = {}
    for number, run in enumerate(runs):
        assert run.stdout is not None
        run.stdout.readline()
        created_s = psutil.Process(run.pid).create_time()
        job = {**status_document()["job"], "pid": run.pid, "pid_created_s": created_s}
        documents[f"p{number}"] = status_document(pipeline=f"p{number}", job=job)
    documents["old"] = status_document(pipeline="old", state="stopped")
    lake = lake_of(tmp_path, **documents)
    # These processes write no last document, so each run is told to have ended without a word.
    with pytest.raises(Terminal, match="did not drain"):
        stop_all(lake, 20.0, SystemClock())
    assert [run.wait(10) for run in runs] == [0, 0]
