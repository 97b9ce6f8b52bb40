"""Finds the run of a pipeline by its name, from any client."""

from __future__ import annotations

from raylake.client.jobs_api import JobsApi
from raylake.client.run import Run, RunName
from raylake.client.run_places import OfJob
from raylake.client.runs import run_status
from raylake.client.submission import Kind
from raylake.client.submitting import process_of, record_of, recorded, seen
from raylake.clock import SystemClock
from raylake.errors import ConfigError
from raylake.processes import living
from raylake.storage.place import Place, place


def status_at(lake: str, pipeline: str, kind: Kind) -> Place:
    """Where the status document of a pipeline lies."""
    name = pipeline if kind == "ingest" else f"{pipeline}.{kind}"
    return place(f"{lake}/_raylake/status/{name}.json")


def find_job(
    lake: str, pipeline: str, jobs: JobsApi, kind: Kind = "ingest", job: str | None = None
) -> Run:
    """A job of a pipeline on a cluster: by its id, or the newest.

    Raises:
        Refused: It is somebody else's.
        ConfigError: The cluster has had none.
        Terminal: There is none of this id.
    """
    found = jobs.own_job(job or jobs.newest(pipeline, kind), pipeline)
    status = status_at(lake, pipeline, kind)
    name = RunName(lake, pipeline, found.run_id, status, kind, found.submission_id)
    return Run(name, OfJob(jobs, found.submission_id))


def find_run(lake: str, pipeline: str, kind: Kind = "ingest") -> Run:
    """The newest run of a pipeline as this machine and the lake's status document tell of it.

    Raises:
        ConfigError: The pipeline has not run with this lake.
        DependencyUnreachable: The lake does not answer.
    """
    status = status_at(lake, pipeline, kind)
    told = recorded(record_of(lake, pipeline, kind))
    if told and living(int(told["pid"]), float(told["pid_created_s"])):
        name = RunName(lake, pipeline, str(told["run_id"]), status, kind)
        return Run(name, process_of(name, told))
    try:
        found = run_status(status, SystemClock())
    except ConfigError:
        if not told:
            raise
        # It ended before it had a status.
        name = RunName(lake, pipeline, str(told["run_id"]), status, kind)
        return Run(name, process_of(name, told))
    job = found.document.get("job") or {}
    name = RunName(
        lake,
        pipeline,
        str(found.document.get("run_id")),
        status,
        kind,
        job.get("submission_id"),
    )
    continuous = not found.document.get("available_now", False)
    return Run(name, seen(name, found), continuous=continuous)
