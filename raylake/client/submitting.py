"""Begins a run, or finds the one that is there: as a Ray job, or as a process of this machine.

One pipeline has one run. On a cluster the jobs' ids see to it, on one machine a lock beside the
logs (ADR 42); against everybody else it is each table's epoch, as ever (I11).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil

from raylake.artifacts import file_lock
from raylake.client.changes import changes, refuse_changed
from raylake.client.jobs_api import JobInfo, JobsApi
from raylake.client.launch import MaintainRequest, RunProcess, RunRequest, TransformRequest
from raylake.client.run import Run, RunName
from raylake.client.run_places import OfJob, OfProcess, OnlySeen
from raylake.client.runs import STALE_S, RunStatus, run_status, status_document
from raylake.client.submission import (
    DRAIN_MARGIN_S,
    RESTARTS,
    Kind,
    Submission,
    Wanted,
    WantedUpkeep,
)
from raylake.clock import SystemClock
from raylake.config import Loaded
from raylake.config.addresses import (
    maintenance_status_path,
    normalise_table_address,
    status_path,
    transform_status_path,
)
from raylake.errors import ConfigError, RayLakeError, Refused
from raylake.ingest.plan import new_run_id
from raylake.processes import living
from raylake.storage.place import Place, place, write_whole
from raylake.telemetry.logs import log_folder

ROUNDS: Final = 5
"""So often a run that ends while it is looked at is looked for again."""
# A child is a zombie until its parent asks for its exit code: kept, whoever holds the handle.
_children: dict[str, RunProcess] = {}


@dataclass(frozen=True, slots=True)
class Asked:
    """What shall run.

    Attributes:
        loaded: The pipeline file.
        available_now: Stop when caught up.
        take_over: Do not wait for an old owner.
        replace: Drain a run that is there, in place of attaching to it.
        overrides: ``KEY=VALUE``, above the file.
        transform: A run of the derived tables, and which; None: ingestion.
        restarts: How often it is started again after a failure that may pass.
        maintain: A run of upkeep, and what.
    """

    loaded: Loaded
    available_now: bool = False
    take_over: bool = False
    replace: bool = False
    overrides: tuple[str, ...] = ()
    transform: Wanted | None = None
    restarts: int = RESTARTS
    maintain: WantedUpkeep | None = None

    @property
    def kind(self) -> Kind:
        """Which job it is."""
        if self.maintain is not None:
            return "maintain"
        return "ingest" if self.transform is None else "transform"

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self.loaded.config.pipeline

    @property
    def lake(self) -> str:
        """The lake's address."""
        return normalise_table_address(self.loaded.config.lake).rstrip("/")

    @property
    def status(self) -> Place:
        """Its status document."""
        config = self.loaded.config
        paths = {
            "ingest": status_path,
            "transform": transform_status_path,
            "maintain": maintenance_status_path,
        }
        return place(paths[self.kind](config))

    @property
    def continuous(self) -> bool:
        """Whether it goes on until it is told to stop."""
        if self.transform is not None:
            return self.transform.continuous
        if self.maintain is not None:
            return not self.maintain.once
        return not (self.available_now or self.loaded.config.ingest.trigger == "available_now")

    @property
    def drain_s(self) -> float:
        """How long a drain may take, in seconds."""
        return self.loaded.config.ingest.drain_timeout_s + DRAIN_MARGIN_S

    def name(self, run_id: str | None, submission_id: str | None = None) -> RunName:
        """A run of this pipeline."""
        return RunName(self.lake, self.pipeline, run_id, self.status, self.kind, submission_id)


@dataclass(frozen=True, slots=True)
class Begun:
    """A run, and whether it was there before.

    Attributes:
        run: Its handle.
        attached: It was; nothing was started.
    """

    run: Run
    attached: bool


def on_cluster(asked: Asked, jobs: JobsApi, variables: Mapping[str, str] | None = None) -> Begun:
    """Submit a run to a cluster, or attach to the one that is there.

    Args:
        asked: What shall run.
        jobs: The cluster.
        variables: Of this shell; those of ours count there too.

    Raises:
        ConfigurationChanged: One runs with another configuration, and it was not said to replace
            it, or what differs cannot be replaced.
        AlreadyRunning, ConfigError, DependencyUnreachable, Terminal: As :meth:`JobsApi.submit`.
        RunFailed, WaitTimedOut: The one that is replaced did not drain.
    """
    for _ in range(ROUNDS):
        one = Submission(
            asked.loaded,
            jobs.address,
            new_run_id(),
            asked.available_now,
            asked.take_over,
            asked.overrides,
            os.environ if variables is None else variables,
            asked.transform,
            asked.restarts,
            asked.maintain,
        )
        found = jobs.submit(one)
        run = of_job(asked, jobs, found)
        if not found.attached:
            return Begun(run, attached=False)
        differs = found.config_sha256 != asked.loaded.sha256
        if not _replaced(asked, run, differs=differs, where=f"job {found.submission_id}"):
            return Begun(run, attached=True)
        asked = replace(asked, replace=False)
    raise _restless(asked)


def of_job(asked: Asked, jobs: JobsApi, found: JobInfo) -> Run:
    """The handle of a Ray job of this pipeline."""
    return Run(
        asked.name(found.run_id, found.submission_id),
        OfJob(jobs, found.submission_id),
        asked.loaded.config,
        continuous=asked.continuous,
    )


def on_this_machine(asked: Asked) -> Begun:
    """Start a run as a process of this machine, or attach to the one that is there.

    As ``raylake run``: with an embedded Ray, or on the cluster of ``RAY_ADDRESS``. The process has
    a session of its own: Ctrl-C and the end of this process leave it alone.

    Raises:
        ConfigurationChanged, RunFailed, WaitTimedOut: As :func:`on_cluster`.
        Refused: The lake's folder cannot be written.
    """
    record = record_of(asked.lake, asked.pipeline, asked.kind)
    for _ in range(ROUNDS):
        with _locked(record):
            there = None if asked.take_over else _there(asked, record)
            if there is None:
                return Begun(_started(asked, record), attached=False)
        run, sha256 = there
        differs = sha256 not in ("", asked.loaded.sha256)
        if not _replaced(asked, run, differs=differs, where=f"run {run.run_id}"):
            return Begun(run, attached=True)
        asked = replace(asked, replace=False)
    raise _restless(asked)


def _replaced(asked: Asked, run: Run, *, differs: bool, where: str) -> bool:
    """Drain the run that is there, when that was asked for and may be.

    Raises:
        ConfigurationChanged: It runs with another configuration, and must not be replaced so.
    """
    if differs:
        found = _differences(asked, run)
        refused = found is not None and any(one.takes == "refused" for one in found)
        if refused or not asked.replace:
            refuse_changed(asked.pipeline, where, found)
    if not asked.replace:
        return False
    run.drain(asked.drain_s)
    return True


def _differences(asked: Asked, run: Run) -> Any:
    try:
        document = status_document(asked.status)
    except (RayLakeError, OSError):
        return None
    values = (document.get("config") or {}).get("values")
    if values is None or not run.name.is_told_by(document):
        return None
    return changes(values, asked.loaded.values())


def record_of(lake: str, pipeline: str, kind: Kind) -> Path:
    """Where this machine keeps which process it started last for a pipeline."""
    folder = log_folder(lake, pipeline).parents[1] / "started"
    return folder / (f"{pipeline}.json" if kind == "ingest" else f"{pipeline}~{kind}.json")


def _locked(record: Path) -> Any:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the lake cannot be written: {error.filename}: {error.strerror}",
            hint="is `lake` right, and may this user write there?",
        ) from error
    return file_lock(record.with_suffix(".lock"))


def _started(asked: Asked, record: Path) -> Run:
    run_id = new_run_id()
    folder = log_folder(asked.lake, asked.pipeline) / run_id
    file = asked.loaded.path.resolve()
    request: RunRequest | TransformRequest | MaintainRequest
    if asked.maintain is not None:
        wanted = asked.maintain
        request = MaintainRequest(file, run_id, folder, wanted.tables, wanted.once, asked.overrides)
    elif asked.transform is None:
        request = RunRequest(
            file,
            run_id,
            folder,
            asked.available_now,
            asked.take_over,
            asked.overrides,
            restarts=asked.restarts,
        )
    else:
        what = asked.transform
        request = TransformRequest(
            file,
            run_id,
            folder,
            what.tables,
            what.full_refresh,
            what.continuous,
            asked.overrides,
        )
    child = RunProcess(request)
    _children[run_id] = child
    created_s = psutil.Process(child.pid).create_time()
    told = {
        "run_id": run_id,
        "pid": child.pid,
        "pid_created_s": created_s,
        "host": socket.gethostname(),
        "sha256": asked.loaded.sha256,
    }
    write_whole(record, json.dumps(told), scratch=f".{record.name}.{os.getpid()}")
    return Run(
        asked.name(run_id),
        OfProcess(child.pid, created_s, child.log, child),
        asked.loaded.config,
        continuous=asked.continuous,
    )


def _there(asked: Asked, record: Path) -> tuple[Run, str] | None:
    """The run that lives, and its configuration's hash; None: there is none."""
    config, continuous = asked.loaded.config, asked.continuous
    told = recorded(record)
    if told and living(int(told["pid"]), float(told["pid_created_s"])):
        where = process_of(asked.name(str(told["run_id"])), told)
        name = asked.name(str(told["run_id"]))
        return Run(name, where, config, continuous=continuous), str(told.get("sha256", ""))
    if asked.kind != "ingest":
        return None
    try:
        found = run_status(asked.status, SystemClock())
    except ConfigError:
        return None
    if found.life == "alive" or (found.life == "elsewhere" and found.age_s < STALE_S):
        name = asked.name(str(found.document.get("run_id")))
        sha256 = str((found.document.get("config") or {}).get("sha256", ""))
        return Run(name, seen(name, found), config, continuous=continuous), sha256
    return None


def recorded(record: Path) -> dict[str, Any]:
    """Which process this machine started last; empty: none, or on another one."""
    with suppress(OSError, ValueError):
        told = json.loads(record.read_bytes())
        if isinstance(told, dict) and told.get("host") == socket.gethostname():
            return told
    return {}


def process_of(name: RunName, told: Mapping[str, Any]) -> OfProcess:
    """A process of this machine, as a record or a status document's ``job`` tells of it."""
    log = log_folder(name.lake, name.pipeline) / str(name.run_id) / "job.log"
    child = _children.get(str(name.run_id))
    return OfProcess(int(told["pid"]), float(told["pid_created_s"]), log, child)


def seen(name: RunName, found: RunStatus) -> OfProcess | OnlySeen:
    """Where a run is that only its status document tells of."""
    job = found.document.get("job") or {}
    here = job.get("host") == socket.gethostname() and job.get("pid")
    return process_of(name, job) if here else OnlySeen(found.document)


def _restless(asked: Asked) -> RayLakeError:
    return Refused(
        f"runs of pipeline {asked.pipeline!r} came and went while this one was to begin",
        hint="who else submits it? `raylake status` shows its run; then try again",
    )
