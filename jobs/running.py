"""What the jobs share: signals, how they end, what their user is told."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

from raylake.cli.files import places
from raylake.client.cluster import SUBMITTED_ENV, ClusterHandle
from raylake.config import Loaded
from raylake.errors import EXIT_INTERRUPTED, RayLakeError


class Signals:
    """Counts the requests to stop.

    Attributes:
        asked: How many there were.
        asked_at_s: When the first one came, on the monotonic clock; None: none did.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.asked_at_s: float | None = None
        self.install()

    def install(self) -> None:
        """Take the signals; again after Ray was started, which takes SIGTERM for itself."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            signal.signal(number, self._on)
        # They wait while a job is started again.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def _on(self, _number: int, _frame: FrameType | None) -> None:
        self.asked += 1
        if self.asked_at_s is None:
            self.asked_at_s = time.monotonic()
        if self.asked > 1:
            sys.stderr.write("stopping at once; what was not committed is read again\n")
            # Ray's agents would outlive an embedded cluster by a minute.
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
            os._exit(EXIT_INTERRUPTED)


def parser_of(job: str, about: str | None) -> argparse.ArgumentParser:
    """What all jobs take: the pipeline file, the run's name, and what stands above the file."""
    parser = argparse.ArgumentParser(prog=f"python -m jobs.{job}", description=about)
    parser.add_argument("--config", required=True, help="the pipeline file")
    parser.add_argument("--run-id", help="name this run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


def job_of(cluster: ClusterHandle) -> dict[str, Any]:
    """Which process of which host, under which name on the cluster, this job is."""
    return {
        "kind": "process" if cluster.embedded else "ray",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_created_s": psutil.Process().create_time(),
        "address": cluster.address,
        "submission_id": submission_id(os.environ),
    }


def submission_id(environ: Mapping[str, str]) -> str | None:
    """Ray's id of this job; None when it was not submitted."""
    try:
        told = json.loads(environ.get(SUBMITTED_ENV) or "{}")
    except ValueError:
        return None
    found = (told.get("metadata") or {}).get("job_submission_id")
    return None if found is None else str(found)


def failed(error: RayLakeError, loaded: Loaded | None) -> int:
    """Say what went wrong, and where in the file; returns the exit code of DESIGN §10."""
    said = {"code": error.code, "message": error.message}
    at = [] if loaded is None else places(loaded, said)
    marker = os.environ.get("RAYLAKE_ERROR_FILE")
    if marker:
        document = {"code": error.code, "message": error.message, "hint": error.hint}
        Path(marker).write_text(json.dumps(document))
    with contextlib.suppress(OSError):  # the log may lie on the disk that is full
        sys.stderr.write("".join([f"{error}\n", *(f"  at {place}\n" for place in at)]))
    return error.exit_code


def end(code: int) -> NoReturn:
    """End the process with this code, also where its last words cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # Readers of Delta tables can abort a process at exit (DESIGN §3).
    os._exit(code)
