"""Starting a pipeline's job as a child process of this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylake.errors import EXIT_INTERRUPTED, Refused

LAST_BYTES = 4096
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to start.

    Attributes:
        file: The pipeline file.
        run_id: The run's id.
        folder: The run's log folder.
        available_now: Stop when caught up.
        take_over: Do not wait for an old owner.
        overrides: ``KEY=VALUE``, above the file.
        address: A Ray cluster; None for ``RAY_ADDRESS``, or an embedded one.
        restarts: How often it is started again after a failure that may pass.
    """

    file: Path
    run_id: str
    folder: Path
    available_now: bool = False
    take_over: bool = False
    overrides: tuple[str, ...] = ()
    address: str | None = None
    restarts: int = 0

    def command(self) -> list[str]:
        """The job's command line."""
        flags = [f"--run-id={self.run_id}"]
        flags += ["--available-now"] if self.available_now else []
        flags += ["--take-over"] if self.take_over else []
        flags += [f"--restarts={self.restarts}"] if self.restarts else []
        flags += [f"--set={pair}" for pair in self.overrides]
        return job_command("ingest", ["--config", str(self.file), *flags])


@dataclass(frozen=True, slots=True)
class TransformRequest:
    """A run of derived tables to start.

    Attributes:
        file: The pipeline file.
        run_id: The run's id.
        folder: The run's log folder.
        tables: These and what they come from; empty: all.
        full_refresh: Tables that are made anew first.
        continuous: Go on until told to stop.
        overrides: ``KEY=VALUE``, above the file.
        address: A Ray cluster; None for ``RAY_ADDRESS``, or an embedded one.
    """

    file: Path
    run_id: str
    folder: Path
    tables: tuple[str, ...] = ()
    full_refresh: tuple[str, ...] = ()
    continuous: bool = False
    overrides: tuple[str, ...] = ()
    address: str | None = None

    def command(self) -> list[str]:
        """The job's command line."""
        flags = [f"--run-id={self.run_id}"]
        flags += [f"--table={one}" for one in self.tables]
        flags += [f"--full-refresh={one}" for one in self.full_refresh]
        flags += ["--continuous"] if self.continuous else []
        flags += [f"--set={pair}" for pair in self.overrides]
        return job_command("transform", ["--config", str(self.file), *flags])


@dataclass(frozen=True, slots=True)
class MaintainRequest:
    """A run of upkeep to start.

    Attributes:
        file: The pipeline file.
        run_id: The run's id.
        folder: The run's log folder.
        tables: These; empty: all.
        once: Do what is due now, and end.
        overrides: ``KEY=VALUE``, above the file.
        address: A Ray cluster; None for ``RAY_ADDRESS``, or an embedded one.
    """

    file: Path
    run_id: str
    folder: Path
    tables: tuple[str, ...] = ()
    once: bool = True
    overrides: tuple[str, ...] = ()
    address: str | None = None

    def command(self) -> list[str]:
        """The job's command line."""
        flags = [f"--run-id={self.run_id}"]
        flags += [f"--table={one}" for one in self.tables]
        flags += ["--once"] if self.once else []
        flags += [f"--set={pair}" for pair in self.overrides]
        return job_command("maintain", ["--config", str(self.file), *flags])


def job_command(name: str, arguments: list[str]) -> list[str]:
    """The command line of a job's entry point; no folder of the user's can hide it."""
    return [sys.executable, "-P", "-m", f"jobs.{name}", *arguments]


def job_environment(environ: Mapping[str, str], address: str | None = None) -> dict[str, str]:
    """The environment of a job: this installation is found first, and the cluster is known."""
    made = dict(environ)
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    if PACKAGE_ROOT not in installed:
        others = made.get("PYTHONPATH")
        made["PYTHONPATH"] = os.pathsep.join([str(PACKAGE_ROOT), *([others] if others else [])])
    if address:
        made["RAY_ADDRESS"] = address
    return made


class RunProcess:
    """A run under way in a child process that has a session of its own.

    What the job, Ray and other libraries print goes to ``job.log`` in the run's log folder.

    Args:
        request: What to start.

    Raises:
        Refused: The log folder cannot be written; nothing was started.
    """

    def __init__(self, request: RunRequest | TransformRequest | MaintainRequest) -> None:
        self.request = request
        self.log = request.folder / "job.log"
        self.interrupted = 0
        self._error: dict[str, Any] | None = None
        try:
            request.folder.mkdir(parents=True, exist_ok=True)
            stream = self.log.open("wb")
        except OSError as error:
            raise Refused(
                f"the lake cannot be written: {error.filename}: {error.strerror}",
                hint="is `lake` right, and may this user write there?",
            ) from error
        environment = job_environment(os.environ, request.address)
        # Not in the lake, which may be what has no room left.
        handle, name = tempfile.mkstemp(prefix="raylake-error-", suffix=".json")
        os.close(handle)
        self._error_file = Path(name)
        with stream:
            self._child = subprocess.Popen(
                request.command(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**environment, "RAYLAKE_ERROR_FILE": str(self._error_file)},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The child."""
        return self._child.pid

    def wait(self, timeout_s: float) -> int | None:
        """The exit code of the run; None while it goes on after ``timeout_s``."""
        try:
            code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._read_error()
        if code >= 0:
            return code
        return EXIT_INTERRUPTED if self.interrupted else 1

    def interrupt(self) -> None:
        """Ask for a drain; the second time the job ends at once, the third time it is killed."""
        # Python counts a signal once until its handler has run: two in a row must differ.
        step = min(self.interrupted, 2)
        self.interrupted += 1
        self._child.send_signal((signal.SIGTERM, signal.SIGINT, signal.SIGKILL)[step])

    def error(self) -> dict[str, Any] | None:
        """Why the job failed, in its own words: code, message, hint; None when it said nothing."""
        return self._error

    def _read_error(self) -> None:
        try:
            document = json.loads(self._error_file.read_bytes())
        except (OSError, ValueError):
            document = None
        self._error = document if isinstance(document, dict) else self._error
        self._error_file.unlink(missing_ok=True)

    def ended_by(self) -> str:
        """How the process ended and its last line, when the job itself gave no reason."""
        code = self._child.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - LAST_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"its process {how}" + (f"; its last line: {last[:500]}" if last else "")
