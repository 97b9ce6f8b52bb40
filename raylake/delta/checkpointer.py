"""When an owner has a checkpoint written, and the child process that writes it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import dataclass

from raylake.delta.checkpoint import MAX_LOG_FILES, CheckpointResult

log = logging.getLogger(__name__)

CLOSE_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class CheckpointFailure:
    """A checkpointer that failed; the table is unharmed.

    Attributes:
        exit_code: The child's exit code.
        message: The last of what it wrote.
    """

    exit_code: int
    message: str


class Checkpointer:
    """Starts one checkpoint child at a time, each ``interval_commits`` versions.

    Args:
        path: The table's folder.
        interval_commits: Versions between two checkpoints.
        max_log_files: Bound of the local log folder.
    """

    def __init__(
        self, path: str, *, interval_commits: int = 100, max_log_files: int = MAX_LOG_FILES
    ) -> None:
        self._path = path
        self._interval = interval_commits
        self._max_log_files = max_log_files
        self._last_version: int | None = None
        self._child: subprocess.Popen[str] | None = None

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
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._last_version = version

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
        if isinstance(result, CheckpointFailure):
            log.warning("%s: no checkpoint was written: %s", self._path, result.message)

    def poll(self) -> CheckpointResult | CheckpointFailure | None:
        """The result of the child once it has ended; None before, and when there is none."""
        if self._child is None or self._child.poll() is None:
            return None
        return self._collect()

    def wait(self, timeout_s: float) -> CheckpointResult | CheckpointFailure | None:
        """Wait for the child, for a drain; one that takes longer is killed, harmlessly."""
        if self._child is None:
            return None
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
        return self._collect()

    def _collect(self) -> CheckpointResult | CheckpointFailure:
        child, self._child = self._child, None
        if child is None:
            raise RuntimeError("no checkpointer was started")
        out, err = child.communicate()
        if child.returncode == 0:
            return CheckpointResult(**json.loads(out))
        return CheckpointFailure(child.returncode, err.strip()[-2000:])
