"""Only the very process that an actor was is ever killed."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys

import psutil

from actors.process import ActorProcess


def test_a_process_is_killed_only_when_host_pid_and_start_are_its_own() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    created_s = psutil.Process(child.pid).create_time()
    known = ActorProcess(ActorProcess.of_this().host, child.pid, created_s)
    assert not dataclasses.replace(known, host="another-host").kill()
    assert not dataclasses.replace(known, created_s=created_s - 5.0).kill()
    assert child.poll() is None
    assert known.kill()
    assert child.wait(10) == -signal.SIGKILL
    assert not known.kill()
