"""Starts a failed run again, in the same process: the job's own policy (ADR 42).

Ray's Jobs API has no retries, and a client that would submit again may be a laptop that sleeps. So
the job itself waits, and then becomes a new process under its old number: nothing of the failed
run is left in it, and Ray, `raylake stop` and whoever attached to it see one job that goes on.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from typing import Any

import ray

from jobs.running import Signals, failed
from raylake.client.runs import status_document
from raylake.clock import Deadline, SystemClock
from raylake.config import Loaded
from raylake.errors import EXIT_DONE, RayLakeError
from raylake.ingest.plan import RunPlan
from raylake.ingest.restarting import FIRST_WAIT_S, Restarts
from raylake.ingest.status import write_status

RESTARTED_ENV = "RAYLAKE_RESTARTED"
FIRST_WAIT_ENV = "RAYLAKE_RESTART_WAIT_S"
"""For tests: seconds until the first new start."""
LOOK_S = 0.2


class Again:
    """Whether and when this job is started again.

    Args:
        limit: At most so often in a row.
        signals: Requests to stop.
    """

    def __init__(self, limit: int, signals: Signals) -> None:
        restarts = Restarts.read(limit, os.environ.pop(RESTARTED_ENV, None))
        if restarts.run_id is None:
            wait_s = float(os.environ.get(FIRST_WAIT_ENV, FIRST_WAIT_S))
            restarts = Restarts(limit, first_wait_s=wait_s)
        self.restarts = restarts
        self._signals = signals
        self._began_s = time.monotonic()

    @property
    def run_id(self) -> str | None:
        """The run's id, when it was started again."""
        return self.restarts.run_id

    def after(
        self,
        error: RayLakeError,
        run: RunPlan | None,
        loaded: Loaded | None,
        *,
        joined: bool = True,
    ) -> int:
        """Say what went wrong; start again when that may help, or return the exit code.

        Args:
            error: What it was.
            run: The run; None: there is none yet.
            loaded: Its file; None: it could not be read.
            joined: There is a cluster to leave; a lost one would not let go.
        """
        code = failed(error, loaded)
        if run is None or self._signals.asked:
            return code
        lasted_s = time.monotonic() - self._began_s
        following = self.restarts.after(error, run.run_id, lasted_s, time.time())
        if following is None:
            return code
        wait_s = following.wait_s(random.random())  # noqa: S311 - no secret
        sys.stderr.write(
            f"the run is started again in {wait_s:.0f} s ({following.count} of "
            f"{following.limit} times)\n"
        )
        if joined:
            ray.shutdown()
        if self._told_to_stop(run, following, wait_s):
            return EXIT_DONE
        self._become_new(following)
        return code

    def _told_to_stop(self, run: RunPlan, following: Restarts, wait_s: float) -> bool:
        _tell(run, "restarting", following, wait_s)
        deadline = Deadline.after(wait_s, SystemClock())
        while not deadline.expired():
            if self._signals.asked:
                _tell(run, "stopped", following, 0.0)
                return True
            time.sleep(LOOK_S)
        return False

    def _become_new(self, following: Restarts) -> None:
        # A signal that comes before the new process can take it waits until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        environment = {**os.environ, RESTARTED_ENV: following.text()}
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        words = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, words, environment)  # noqa: S606 - this very process


def _tell(run: RunPlan, state: str, following: Restarts, wait_s: float) -> None:
    """Say it in the run's status document, where there is one and it can be written."""
    with contextlib.suppress(RayLakeError, OSError):
        document: dict[str, Any] = status_document(run.status_file)
        if document.get("run_id") != run.run_id:
            return
        now_s = time.time()
        job = {**(document.get("job") or {}), "restarts": following.to_dict()}
        changed = {"state": state, "job": job, "at": now_s, "restart_at": now_s + wait_s}
        write_status(run.status_file, {**document, **changed})
