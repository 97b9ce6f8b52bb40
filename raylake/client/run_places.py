"""Where a run is, and how it is reached there: a process of this machine, a Ray job, or neither."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from raylake.client.jobs_api import ENDED, JobsApi
from raylake.client.launch import RunProcess
from raylake.errors import EXIT_DONE, EXIT_INTERRUPTED, Refused
from raylake.processes import living

_LAST_CHARACTERS: Final = 4000


@dataclass(frozen=True, slots=True)
class Look:
    """What can be told of a run without its status document.

    Attributes:
        alive: Whether it goes on; None: it cannot be told.
        ended_as: ``done``, ``stopped``, ``failed`` or ``interrupted``; empty: it goes on, or
            nobody knows.
        error: Why it failed.
    """

    alive: bool | None
    ended_as: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)


class RunPlace(Protocol):
    """Where a run is."""

    @property
    def words(self) -> str:
        """In words."""
        ...

    def look(self) -> Look:
        """How it stands."""
        ...

    def drain(self) -> None:
        """Ask it to commit what it has and to end; returns at once."""
        ...

    def end(self) -> None:
        """End it without waiting for a drain; returns at once."""
        ...

    def printed(self) -> str:
        """What its process printed."""
        ...


class OfProcess:
    """A process of this machine.

    Args:
        pid: The job's process.
        created_s: When it started.
        log: What it prints goes there.
        child: It, where this process started it.
    """

    def __init__(
        self, pid: int, created_s: float, log: Path, child: RunProcess | None = None
    ) -> None:
        self.pid = pid
        self._created_s = created_s
        self._log = log
        self._child = child

    @property
    def words(self) -> str:
        """Its process."""
        return f"process {self.pid} of this machine"

    def look(self) -> Look:
        """By the exit code of a child, by the table of processes else."""
        if self._child is None:
            return Look(living(self.pid, self._created_s) is not None)
        code = self._child.wait(0)
        if code is None:
            return Look(alive=True)
        if code in (EXIT_DONE, EXIT_INTERRUPTED):
            return Look(False, "done" if code == EXIT_DONE else "interrupted")
        told = {"code": "failed", "message": f"the run failed: {self._child.ended_by()}"}
        return Look(False, "failed", self._child.error() or told)

    def drain(self) -> None:
        """SIGTERM.

        Raises:
            Refused: The process is another user's.
        """
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        """The second signal ends it at once, with all that it started."""
        # Python counts a signal once until its handler has run: the two differ.
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGINT)

    def printed(self) -> str:
        """Its log."""
        with suppress(FileNotFoundError):
            return self._log.read_text("utf-8", "replace")
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if living(self.pid, self._created_s) is None:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise Refused(
                f"process {self.pid} belongs to another user", hint="stop it as that user"
            ) from error


class OfJob:
    """A Ray job.

    Args:
        jobs: The cluster.
        submission_id: Ray's id.
    """

    def __init__(self, jobs: JobsApi, submission_id: str) -> None:
        self._jobs = jobs
        self.submission_id = submission_id

    @property
    def words(self) -> str:
        """Its id and cluster."""
        return f"job {self.submission_id} on {self._jobs.address}"

    def look(self) -> Look:
        """As Ray says."""
        found = self._jobs.job(self.submission_id)
        if found.state not in ENDED:
            return Look(alive=True)
        if found.state != "FAILED":
            return Look(False, "done" if found.state == "SUCCEEDED" else "stopped")
        said = self.printed()[-_LAST_CHARACTERS:].strip().splitlines()
        hint = next((one.strip()[5:].strip() for one in said if one.strip()[:5] == "hint:"), "")
        own = [one for one in said if one.strip() and one.strip()[:5] != "hint:"]
        message = own[-1].strip() if own else found.message
        code = "failed" if found.exit_code is None else f"exit code {found.exit_code}"
        return Look(False, "failed", {"code": code, "message": message, "hint": hint})

    def drain(self) -> None:
        """Ray sends SIGTERM, and waits as long as the submission said before it kills."""
        self._jobs.stop(self.submission_id)

    def end(self) -> None:
        """As :meth:`drain`: Ray kills it itself when it takes too long."""
        self._jobs.stop(self.submission_id)

    def printed(self) -> str:
        """Ray's log of the job."""
        return self._jobs.log(self.submission_id)


class OnlySeen:
    """A run of which only its status document is seen: a Ray job, or of another machine.

    Args:
        document: The status document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._job: Mapping[str, Any] = document.get("job") or {}

    @property
    def words(self) -> str:
        """Its host, and its job."""
        job = self._job.get("submission_id")
        return f"host {self._job.get('host')}" + (f", job {job}" if job else "")

    def look(self) -> Look:
        """The document tells more."""
        return Look(alive=None)

    def drain(self) -> None:
        """Cannot be done from here.

        Raises:
            Refused: Always; says from where it can.
        """
        job = self._job.get("submission_id")
        raise Refused(
            f"the run is on host {self._job.get('host')!r} and cannot be reached from here",
            hint="connect(lake, address='http://head:8265') reaches its cluster, and so does "
            f"`ray job stop {job}`"
            if job
            else "`raylake stop FILE` there drains it",
        )

    def end(self) -> None:
        """As :meth:`drain`."""
        self.drain()

    def printed(self) -> str:
        """It is not seen from here."""
        return ""
