"""Runs of a pipeline as their status document shows them: finding, judging and stopping them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raylake.clock import Clock, Deadline
from raylake.errors import AlreadyRunning, ConfigError, RayLakeError, Refused, Terminal
from raylake.ingest.status import read_status
from raylake.processes import living
from raylake.storage.objects import StorePath
from raylake.storage.place import Place
from raylake.storage.reach import explained

ENDED = ("done", "stopped", "failed")
POLL_S = 0.2
STALE_S = 30.0
OTHERS = (".transform.json", ".maintain.json")
"""Status documents in the same folder that are no run's of a pipeline."""

Life = Literal["ended", "alive", "dead", "elsewhere"]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A status document, and what this machine can say about it.

    Attributes:
        document: As the supervisor wrote it.
        life: ``ended`` by its own word; ``alive``; ``dead``: the document says that it runs and
            its process is gone; ``elsewhere``: on another host, or of another user's.
        age_s: Seconds since the document was written.
    """

    document: Mapping[str, Any]
    life: Life
    age_s: float

    @property
    def pid(self) -> int:
        """The job's process."""
        return int(self.document.get("job", {}).get("pid", 0))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--output json``."""
        return {"life": self.life, "age_s": round(self.age_s, 1), "status": dict(self.document)}


def run_status(path: Place, clock: Clock) -> RunStatus:
    """Read a pipeline's status document.

    Raises:
        ConfigError: The pipeline has not run with this lake.
        Refused: The file is no status document.
    """
    document = status_document(path)
    return RunStatus(document, life_of(document), max(0.0, clock.now() - float(document["at"])))


def status_document(path: Place) -> dict[str, Any]:
    """A pipeline's status document, whose store is named where it cannot be read.

    Raises:
        ConfigError, Refused: As :func:`~raylake.ingest.status.read_status`, or what is wrong with
            the store's configuration.
        DependencyUnreachable: It lies in a store that does not answer.
    """
    try:
        return read_status(path)
    except OSError as error:
        if isinstance(path, StorePath):
            raise explained(path, error) from error
        raise


def life_of(document: Mapping[str, Any]) -> Life:
    """Whether the run of a document lives, as far as this machine can tell."""
    if document.get("state") in ENDED:
        return "ended"
    job = document.get("job", {})
    if job.get("host") != socket.gethostname() or not job.get("pid"):
        return "elsewhere"
    process = living(int(job["pid"]), float(job.get("pid_created_s", 0)))
    return "dead" if process is None else "alive"


def refuse_second_run(path: Place, pipeline: str, clock: Clock) -> None:
    """Refuse while a run of this pipeline lives on this machine.

    Only a courtesy, before anything is started: the lock is each table's epoch (I11).

    Raises:
        AlreadyRunning: One lives; nothing was started.
    """
    try:
        found = run_status(path, clock)
    except ConfigError:
        return
    if found.life == "alive":
        raise AlreadyRunning(
            f"pipeline {pipeline!r} is running already: run {found.document.get('run_id')}, "
            f"process {found.pid}",
            hint="`raylake status` shows it; `raylake stop` drains it",
            pid=found.pid,
            run_id=found.document.get("run_id"),
        )


def refuse_process(path: Place, pipeline: str, clock: Clock) -> None:
    """Refuse while a run of this pipeline that is no Ray job lives on this machine.

    Raises:
        AlreadyRunning: As :func:`refuse_second_run`.
    """
    try:
        job = status_document(path).get("job") or {}
    except RayLakeError:
        return
    if not job.get("submission_id"):
        refuse_second_run(path, pipeline, clock)


def stop_run(path: Place, timeout_s: float, clock: Clock) -> RunStatus:
    """Ask the run to drain and wait until it has ended.

    Args:
        path: The status document.
        timeout_s: How long the drain may take.
        clock: Time.

    Returns:
        The status after the end; at once when the run had ended before.

    Raises:
        Refused: The run is on another machine, or not this user's.
        Terminal: It did not end in time, failed while it drained, or its process was gone already.
    """
    found = run_status(path, clock)
    if found.life == "ended":
        return found
    _ask_to_drain(found)
    return _await_end(path, found, Deadline.after(timeout_s, clock))


def lake_runs(lake: Path, clock: Clock) -> dict[Path, RunStatus]:
    """The newest run of every pipeline that ran with this lake, by its status document.

    Raises:
        ConfigError: No pipeline has run with this lake.
        Refused: A file there is no status document.
    """
    found = (lake / "_raylake" / "status").glob("[!.]*.json")
    paths = sorted(path for path in found if not path.name.endswith(OTHERS))
    if not paths:
        raise ConfigError(f"no pipeline has run with a lake at {lake}", hint="is this the lake?")
    return {path: run_status(path, clock) for path in paths}


def stop_all(lake: Path, timeout_s: float, clock: Clock) -> list[RunStatus]:
    """Ask every run of this lake that lives on this machine to drain, and wait for all of them.

    Args:
        lake: The lake's folder.
        timeout_s: How long the drains may take, together.
        clock: Time.

    Raises:
        ConfigError: No pipeline has run with this lake.
        Terminal, Refused: One of them did not end well; all were asked, and all were waited for.
    """
    alive = {p: f for p, f in lake_runs(lake, clock).items() if f.life == "alive"}
    deadline = Deadline.after(timeout_s, clock)
    failures: list[RayLakeError] = []
    for found in alive.values():
        try:
            _ask_to_drain(found)
        except RayLakeError as error:
            failures.append(error)
    ended: list[RunStatus] = []
    for path, found in alive.items():
        try:
            ended.append(_await_end(path, found, deadline))
        except RayLakeError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return ended


def _ask_to_drain(found: RunStatus) -> None:
    run_id = found.document.get("run_id")
    if found.life == "elsewhere":
        job = found.document.get("job", {})
        submitted = job.get("submission_id")
        raise Refused(
            f"run {run_id} is on host {job.get('host')!r}, this is {socket.gethostname()!r}",
            hint=f"`raylake stop FILE --address …`, or `ray job stop {submitted}`"
            if submitted
            else "run `raylake stop` there",
        )
    if found.life == "dead":
        raise Terminal(
            f"run {run_id} did not end by itself: its process {found.pid} is gone",
            hint="nothing is lost: the next `raylake run` goes on where the tables stand",
        )
    _terminate(found)


def _await_end(path: Place, found: RunStatus, deadline: Deadline) -> RunStatus:
    run_id = found.document.get("run_id")
    began_s = deadline.clock.monotonic()
    created_s = float(found.document["job"]["pid_created_s"])
    while living(found.pid, created_s) is not None:
        if deadline.expired():
            waited_s = deadline.clock.monotonic() - began_s
            raise Terminal(
                f"run {run_id} (process {found.pid}) has not ended within {waited_s:.3g} s; "
                "it still drains",
                hint="give more time with --timeout, or look at `raylake logs`",
            )
        deadline.clock.sleep(POLL_S)
    ended = run_status(path, deadline.clock)
    if ended.document.get("run_id") != run_id and ended.life in ("alive", "elsewhere"):
        raise Terminal(
            f"run {run_id} has ended, and run {ended.document.get('run_id')} of the same pipeline "
            f"({ended.life}, process {ended.pid}) has not: one of them took over from the other",
            hint="`raylake stop` again ends that one; `raylake status` shows it",
        )
    if ended.document.get("run_id") != run_id or ended.document.get("state") in ("done", "stopped"):
        return ended
    error = ended.document.get("error") or {}
    raise Terminal(
        f"run {run_id} did not drain: {error.get('message', 'its process ended without a word')}",
        hint=error.get("hint") or "nothing is lost: the next run goes on where the tables stand",
    )


def _terminate(found: RunStatus) -> None:
    try:
        os.kill(found.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise Refused(
            f"process {found.pid} belongs to another user", hint="stop it as that user"
        ) from error
