"""Ray's job submission API of one cluster: one job a pipeline, and Ray's answers (ADR 42)."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from raylake.client.jobs_address import (
    WHICH_ADDRESS,
    job_headers,
    refuse_credentials,
    set_for,
)
from raylake.client.listening import require_listener
from raylake.client.runs import RunStatus, run_status
from raylake.client.submission import (
    CONFIG_KEY,
    JOB_KEY,
    LAKE_KEY,
    PIPELINE_KEY,
    RUN_KEY,
    Kind,
    Submission,
    job_prefix,
)
from raylake.clock import Clock, Deadline
from raylake.errors import (
    AlreadyRunning,
    ConfigError,
    DependencyUnreachable,
    Refused,
    Terminal,
    WrongVersion,
)
from raylake.storage.place import Place

STOP_POLL_S = 0.5
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_TIMEOUTS_S = (5.0, 60.0)
"""To connect, and between two packets of an answer."""
_TAKEN: Final = "already exists"
_GENERATION: Final = re.compile(r"\d{4,}")


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A Ray job of ours.

    Attributes:
        submission_id: Ray's id.
        state: Ray's: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ``STOPPED``.
        metadata: As it was submitted.
        message: Ray's own words.
        exit_code: Of its entry point, once it ended.
        attached: It was there before; nothing was submitted.
    """

    submission_id: str
    state: str
    metadata: Mapping[str, str]
    message: str = ""
    exit_code: int | None = None
    attached: bool = False

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self.state in ENDED

    @property
    def kind(self) -> str:
        """Which of our jobs it is."""
        return self.metadata.get(JOB_KEY, "ingest")

    @property
    def config_sha256(self) -> str:
        """Of the pipeline file as it was submitted; empty: not told."""
        return self.metadata.get(CONFIG_KEY, "")

    @property
    def run_id(self) -> str | None:
        """The run's id, where the submission told it."""
        return self.metadata.get(RUN_KEY)


class JobsApi:
    """Ray's job submission API of one cluster.

    Args:
        address: ``http://head:8265``, or as ``ray.init`` takes it where that can be reached.

    Raises:
        ConfigError: The address holds credentials.
        DependencyUnreachable: It does not answer, or refuses the token.
    """

    def __init__(self, address: str) -> None:
        refuse_credentials(address)
        require_listener(address, WHICH_ADDRESS)
        self.address = address
        with set_for(address), self._reaching():
            from ray.job_submission import JobSubmissionClient

            self._client = JobSubmissionClient(address, headers=job_headers(os.environ))
        # Its requests wait for ever else.
        self._client._do_request = partial(self._client._do_request, timeout=_TIMEOUTS_S)  # noqa: SLF001

    def ray_version(self) -> str:
        """The cluster's Ray."""
        return str(self._client._server_ray_version)  # noqa: SLF001

    def submit(self, one: Submission) -> JobInfo:
        """Submit, unless a job of this pipeline is under way: then that one is the answer.

        Of several that do this at the same time one submits: all derive the same id from the jobs
        that the cluster has had, and Ray takes an id once.

        Raises:
            AlreadyRunning: A pipeline of this name that has another lake runs there.
            ConfigError: There is too much to upload, or the versions of Ray differ.
            Terminal: Ray refused it; nothing was started.
        """
        one.check_size()
        self._check_version()
        pipeline = one.loaded.config.pipeline
        found = self.jobs(pipeline, one.kind)
        living = [job for job in found if not job.ended]
        if living and not one.take_over:
            return self._attached(living[0], one)
        submitted = _next_id(one, found)
        try:
            with set_for(self.address), self._reaching():
                self._client.submit_job(
                    entrypoint=shlex.join(one.entrypoint()),
                    submission_id=submitted,
                    runtime_env={"working_dir": str(one.folder), **one.runtime_env()},
                    metadata=one.metadata(),
                )
        except Terminal as error:
            if _TAKEN not in error.message:
                raise
            return self._attached(self.job(submitted), one)
        return JobInfo(submitted, "PENDING", one.metadata())

    def _attached(self, job: JobInfo, one: Submission) -> JobInfo:
        lake = one.metadata()[LAKE_KEY]
        theirs = job.metadata.get(LAKE_KEY, lake)
        if theirs != lake:
            raise AlreadyRunning(
                f"a pipeline {one.loaded.config.pipeline!r} of another lake, {theirs}, runs on "
                f"{self.address}: job {job.submission_id}",
                hint="a cluster runs one pipeline of a name: give this one another name",
                submission_id=job.submission_id,
            )
        return JobInfo(
            job.submission_id, job.state, job.metadata, job.message, job.exit_code, attached=True
        )

    def _check_version(self) -> None:
        ours, theirs = version("ray"), self.ray_version()
        if ours.split(".")[:2] != theirs.split(".")[:2]:
            raise WrongVersion(
                f"the cluster at {self.address} has Ray {theirs}, this client has Ray {ours}",
                hint=f"pip install 'ray=={theirs}' here, or renew the cluster's image",
            )

    def jobs(self, pipeline: str, kind: Kind = "ingest") -> list[JobInfo]:
        """The jobs of a pipeline, the oldest first; those of a plain submission too."""
        with self._reaching():
            found = self._client.list_jobs()
        mine = [
            one
            for one in found
            if one.submission_id
            and (one.metadata or {}).get(PIPELINE_KEY) == pipeline
            and (one.metadata or {}).get(JOB_KEY, "ingest") == kind
        ]
        return [_info(one) for one in sorted(mine, key=lambda one: one.start_time or 0)]

    def newest(self, pipeline: str, kind: Kind = "ingest") -> str:
        """The submission of a pipeline that was made last.

        Raises:
            ConfigError: This cluster has had none.
        """
        found = self.jobs(pipeline, kind)
        if not found:
            raise ConfigError(
                f"no job of pipeline {pipeline!r} was submitted to {self.address}",
                hint="`raylake submit FILE` makes one; without --address the lake is looked at",
            )
        return found[-1].submission_id

    def job(self, submission_id: str) -> JobInfo:
        """A job as it stands now.

        Raises:
            Terminal: There is none of this id.
        """
        with self._reaching():
            return _info(self._client.get_job_info(submission_id))

    def own_job(self, submission_id: str, pipeline: str) -> JobInfo:
        """A job by its id, which must be this pipeline's.

        Raises:
            Refused: It is somebody else's.
            Terminal: There is none of this id.
        """
        found = self.job(submission_id)
        whose = found.metadata.get(PIPELINE_KEY)
        if whose != pipeline:
            raise Refused(
                f"job {submission_id} is not one of pipeline {pipeline!r}: "
                + (f"it is of pipeline {whose!r}" if whose else "RayLake did not submit it"),
                hint="`ray job list` shows whose it is; nothing was done to it",
                submission_id=submission_id,
            )
        return found

    def state(self, submission_id: str) -> tuple[str, str, int | None]:
        """Ray's status of a job, its message, and the exit code that it ended with."""
        found = self.job(submission_id)
        return found.state, found.message, found.exit_code

    def stop(self, submission_id: str) -> None:
        """Ask for SIGTERM; Ray waits for the drain as the submission said."""
        with self._reaching():
            self._client.stop_job(submission_id)

    def log(self, submission_id: str) -> str:
        """What the job printed."""
        with self._reaching():
            return str(self._client.get_job_logs(submission_id))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError, RpcError
        from requests.exceptions import RequestException

        try:
            yield
        except AuthenticationError as error:
            raise DependencyUnreachable(
                f"the cluster at {self.address} refuses the token: {_first_line(error)}",
                hint="RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH is the cluster's own token; "
                "`raylake doctor` says which one counts",
            ) from error
        except (ConnectionError, RpcError, RequestException) as error:
            raise DependencyUnreachable(
                f"no Ray Jobs API answers at {self.address}: {_first_line(error)}",
                hint=WHICH_ADDRESS,
            ) from error
        except (RuntimeError, ValueError) as error:
            raise Terminal(
                f"the cluster at {self.address} refuses: {_reason(error)}",
                hint="`ray job list` shows its jobs; an id can be used once",
            ) from error


def _info(found: Any) -> JobInfo:
    state = str(getattr(found.status, "value", found.status))
    metadata = dict(found.metadata or {})
    code = found.driver_exit_code
    return JobInfo(str(found.submission_id), state, metadata, found.message or "", code)


def _next_id(one: Submission, found: list[JobInfo]) -> str:
    """The id after those that the cluster has had: the same for all who have seen the same."""
    prefix = job_prefix(one.loaded.config.pipeline, one.kind)
    had = [job.submission_id.removeprefix(prefix) for job in found]
    generations = [int(number) for number in had if _GENERATION.fullmatch(number)]
    return f"{prefix}{max(generations, default=0) + 1:04d}"


def stop_submitted(
    jobs: JobsApi, pipeline: str, status: Place, timeout_s: float, clock: Clock
) -> tuple[str, RunStatus | None]:
    """Let Ray stop a pipeline's newest job, and wait until it has ended.

    Args:
        jobs: The cluster.
        pipeline: Its name.
        status: The pipeline's status document.
        timeout_s: How long the drain may take, in seconds.
        clock: Time.

    Returns:
        The submission, and the run's status where the lake can be seen from here.

    Raises:
        ConfigError: No job of this pipeline was submitted there.
        Terminal: It did not end in time, or not by a drain.
    """
    submitted = jobs.newest(pipeline)
    return submitted, stop_job(jobs, submitted, status, timeout_s, clock)


def stop_job(
    jobs: JobsApi, submitted: str, status: Place, timeout_s: float, clock: Clock
) -> RunStatus | None:
    """Let Ray stop a job, and wait; otherwise as :func:`stop_submitted`."""
    deadline = Deadline.after(timeout_s, clock)
    if jobs.state(submitted)[0] not in ENDED:
        jobs.stop(submitted)
    while (state := jobs.state(submitted)[0]) not in ENDED:
        if deadline.expired():
            raise Terminal(
                f"job {submitted} has not ended within {timeout_s:.3g} s: {state}",
                hint="give more time with --timeout, or look at `raylake logs`",
            )
        clock.sleep(STOP_POLL_S)
    try:
        found = run_status(status, clock)
    except ConfigError:
        return None
    of_it = (found.document.get("job") or {}).get("submission_id") == submitted
    if of_it and found.document.get("state") not in ("done", "stopped"):
        error = found.document.get("error") or {}
        raise Terminal(
            f"job {submitted} ended as {state} and did not drain: "
            f"{error.get('message', 'it was killed before it could')}",
            hint=error.get("hint")
            or "nothing is lost: the next run goes on where the tables stand",
        )
    return found if of_it else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def _reason(error: Exception) -> str:
    """The first line; of an error of the cluster's the one that says that an id is taken."""
    lines = str(error).strip().splitlines()
    return next((line.strip()[:500] for line in lines if _TAKEN in line), _first_line(error))
