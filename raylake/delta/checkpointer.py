"""When an owner has a checkpoint written, and the child process that writes it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO

from raylake.clock import Clock, Deadline, SystemClock
from raylake.delta.checkpoint import MAX_LOG_FILES, CheckpointResult
from raylake.storage.access import used_stores

log = logging.getLogger(__name__)

CLOSE_WAIT_S = 30.0
KILL_WAIT_S = 5.0
MAX_CHILD_S = 600.0
LAST_BYTES = 2000


@dataclass(frozen=True, slots=True)
class CheckpointFailure:
    """A checkpointer that failed; the table is unharmed.

    Attributes:
        exit_code: The child's exit code.
        message: The last of what it wrote.
    """

    exit_code: int
    message: str


@dataclass(slots=True)
class _Child:
    """The child; it writes to files, since nobody empties a pipe while the owner is idle."""

    process: subprocess.Popen[bytes]
    out: IO[bytes]
    err: IO[bytes]
    deadline: Deadline
    killed: str = ""

    def kill(self, why: str) -> None:
        self.killed = self.killed or why
        self.process.kill()


class Checkpointer:
    """Starts one checkpoint child at a time, each ``interval_commits`` versions.

    Attributes:
        error: Why the last checkpoint was not written; empty after one that was.

    Args:
        path: The table's folder.
        interval_commits: Versions between two checkpoints.
        max_log_files: Bound of the local log folder.
        clock: Times the child, which is killed after :data:`MAX_CHILD_S`.
    """

    def __init__(
        self,
        path: str,
        *,
        interval_commits: int = 100,
        max_log_files: int = MAX_LOG_FILES,
        clock: Clock | None = None,
    ) -> None:
        self.error = ""
        self._path = path
        self._interval = interval_commits
        self._max_log_files = max_log_files
        self._last_version: int | None = None
        self._clock = clock or SystemClock()
        self._child: _Child | None = None

    def due(self, version: int) -> bool:
        """Whether a checkpoint of ``version`` should be started now."""
        if self._child is not None:
            return False
        if self._last_version is None:
            self._last_version = version - version % self._interval
        return version - self._last_version >= self._interval

    def start(self, version: int, *, keep_from: int | None = None) -> None:
        """Start the child; at once, without waiting for it.

        Args:
            version: The table's version now.
            keep_from: Log files from here on are still needed by the dead-letter redo.
        """
        command = [sys.executable, "-m", "raylake.delta.checkpoint", self._path]
        command += ["--max-log-files", str(self._max_log_files)]
        if keep_from is not None:
            command += ["--keep-from", str(keep_from)]
        if "://" in self._path:
            # References to secrets, no secrets: the child resolves them as this process does.
            command += ["--stores", json.dumps(used_stores())]
        self._last_version = version
        try:
            out = tempfile.TemporaryFile()  # noqa: SIM115 - both live as long as the child
            err = tempfile.TemporaryFile()  # noqa: SIM115
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            self._report(CheckpointFailure(-1, f"the checkpointer was not started: {error}"))
            return
        self._child = _Child(process, out, err, Deadline.after(MAX_CHILD_S, self._clock))

    def committed(self, version: int, *, keep_from: int) -> None:
        """A commit landed: start a checkpoint where one is due; never waits.

        Args:
            version: The table's version now.
            keep_from: Log files from here on are still needed by the dead-letter redo.
        """
        self._report(self.poll())
        if self.due(version):
            self.start(version, keep_from=keep_from)

    def close(self) -> None:
        """Wait for a checkpoint under way, at most :data:`CLOSE_WAIT_S`."""
        self._report(self.wait(CLOSE_WAIT_S))

    def _report(self, result: CheckpointResult | CheckpointFailure | None) -> None:
        if isinstance(result, CheckpointResult):
            self.error = ""
        if isinstance(result, CheckpointFailure):
            self.error = result.message or f"exit code {result.exit_code}"
            log.warning("%s: the checkpointer failed: %s", self._path, self.error)

    def poll(self) -> CheckpointResult | CheckpointFailure | None:
        """The result of the child once it has ended; None before, and when there is none.

        A child that takes longer than :data:`MAX_CHILD_S` is killed, harmlessly.
        """
        child = self._child
        if child is None:
            return None
        if child.process.poll() is not None:
            return self._collect(child)
        if child.deadline.expired():
            # Not waited for: a process that hangs in the kernel dies later or never.
            child.kill(f"it took longer than {MAX_CHILD_S:.0f} s and was killed")
            self.error = child.killed
        return None

    def wait(self, timeout_s: float) -> CheckpointResult | CheckpointFailure | None:
        """Wait for the child, for a drain; one that takes longer is killed, harmlessly."""
        child = self._child
        if child is None:
            return None
        try:
            child.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.kill(f"it was not done {timeout_s:.0f} s after the end and was killed")
            try:
                child.process.wait(KILL_WAIT_S)
            except subprocess.TimeoutExpired:
                log.warning("%s: the checkpointer %d does not die", self._path, child.process.pid)
        return self._collect(child)

    def _collect(self, child: _Child) -> CheckpointResult | CheckpointFailure:
        self._child = None
        with child.out, child.err:
            out, err = _written(child.out), _written(child.err)
        if child.process.returncode == 0:
            return CheckpointResult(**json.loads(out))
        code = child.process.returncode
        return CheckpointFailure(-1 if code is None else code, child.killed or err[-LAST_BYTES:])


def _written(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace").strip()
