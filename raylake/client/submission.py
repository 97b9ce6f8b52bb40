"""A pipeline as a Ray job: what is submitted, the plain line that does the same, and Ray's answers.

The job is `raylake job ingest`, the same entry point that `raylake run` starts. Of the pipeline
file's folder only the file and its schema files are uploaded. Nothing of it holds a secret: what a
pipeline file may hold are references, and they are resolved on the cluster.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from raylake import __version__
from raylake.client.environment import prepare_ray
from raylake.client.runs import RunStatus, run_status
from raylake.clock import Clock, Deadline
from raylake.config import Loaded, SchemaFile
from raylake.config.addresses import is_local
from raylake.config.findings import dotted
from raylake.errors import AlreadyRunning, ConfigError, DependencyUnreachable, Terminal
from raylake.storage.place import Place

STOP_WAIT_ENV = "RAY_JOB_STOP_WAIT_TIME_S"
"""Ray's: seconds from SIGTERM to SIGKILL when a job is stopped; 3 unless set."""
DRAIN_MARGIN_S = 15.0
STOP_POLL_S = 0.5
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
PIPELINE_KEY = "raylake.pipeline"
_PREFIX = "RAYLAKE__"
_TIMEOUTS_S = (5.0, 60.0)
"""To connect, and between two packets of an answer."""
_WHOLE_FOLDER = "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"


@dataclass(frozen=True, slots=True)
class Submission:
    """What is submitted.

    Attributes:
        loaded: The pipeline file.
        address: The cluster's, as Ray takes it: ``http://head:8265``.
        run_id: The run's id; the submission's is made of it. Empty where what is written down
            starts many runs, each with an id of its own.
        available_now: Stop when caught up.
        take_over: Do not wait for an old owner.
        overrides: ``KEY=VALUE``, above the file.
        variables: ``RAYLAKE__…`` variables of this shell, which count above the file.
    """

    loaded: Loaded
    address: str
    run_id: str
    available_now: bool = False
    take_over: bool = False
    overrides: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None

    @property
    def submission_id(self) -> str:
        """Ray's id of the job; a cluster takes each one once."""
        return f"raylake-{self.loaded.config.pipeline}-{self.run_id}"

    @property
    def folder(self) -> Path:
        """The pipeline file's folder."""
        return self.loaded.path.resolve().parent

    def entrypoint(self, config: str | None = None) -> list[str]:
        """The job's command line; ``-P``: no folder of the job's can hide our packages.

        Args:
            config: Where the pipeline file lies there; the job's working directory when None.
        """
        command = ["python", "-P", "-m", "raylake", "job", "ingest"]
        command += ["--config", self.loaded.path.name if config is None else config]
        command += [f"--run-id={self.run_id}"] if self.run_id else []
        command += ["--available-now"] if self.available_now else []
        command += ["--take-over"] if self.take_over else []
        return command + [f"--set={pair}" for pair in (*self.overrides, *self._absolute())]

    def runtime_env(self) -> dict[str, Any]:
        """Ray's runtime environment, without the working directory."""
        return {"env_vars": self.variables_there(), "excludes": self._excludes()}

    def variables_there(self) -> dict[str, str]:
        """The variables that the job gets beside those of its node."""
        found = {
            name: value
            for name, value in sorted((self.variables or {}).items())
            if name.startswith(_PREFIX)
        }
        wait_s = self.loaded.config.ingest.drain_timeout_s + DRAIN_MARGIN_S
        return found | {STOP_WAIT_ENV: str(math.ceil(wait_s))}

    def files(self) -> dict[str, Path]:
        """The pipeline file and the schema files below its folder, by their paths from there.

        Those that lie elsewhere have to be on the nodes.
        """
        wanted = {self.loaded.path.resolve()}
        for table in self.loaded.config.bronze.values():
            if isinstance(table.schema_, SchemaFile):
                wanted.add(Path(table.schema_.path).resolve())
        return {
            file.relative_to(self.folder).as_posix(): file
            for file in sorted(wanted)
            if file.is_relative_to(self.folder)
        }

    def metadata(self) -> dict[str, str]:
        """What Ray shows of the job beside its command line."""
        return {
            PIPELINE_KEY: self.loaded.config.pipeline,
            "raylake.version": __version__,
            "raylake.config_sha256": self.loaded.sha256,
        }

    def line(self) -> str:
        """The plain ``ray job submit`` that does the same; the token stays where Ray finds it."""
        words = [
            *("ray", "job", "submit", "--no-wait", "--address", self.address),
            *("--submission-id", self.submission_id, "--working-dir", str(self.folder)),
            *("--runtime-env-json", json.dumps(self.runtime_env())),
            *("--metadata-json", json.dumps(self.metadata()), "--", *self.entrypoint()),
        ]
        # Ray itself prefers these variables to --address, and is without a token by default.
        before = f"RAY_API_SERVER_ADDRESS={shlex.quote(self.address)} RAY_AUTH_MODE=token"
        return f"{before} {_WHOLE_FOLDER}=1 {shlex.join(words)}"

    def _absolute(self) -> Iterator[str]:
        """Local places as they are here: a relative one would lie in the job's own folder."""
        config = self.loaded.config
        given = {("lake",): config.lake, ("dead_letters", "path"): config.dead_letters.path}
        given |= {("bronze", name, "path"): table.path for name, table in config.bronze.items()}
        for key, address in given.items():
            if address is not None and is_local(address):
                yield f"{dotted(key)}={address}"

    def _excludes(self) -> list[str]:
        """Patterns of gitignore that leave the pipeline file and its schema files."""
        # Not "/*": Ray asks for the folder itself, too, as ".".
        patterns = ["/[!.]*", "/.?*"]
        for name in self.files():
            parts = PurePosixPath(name).parts
            for depth in range(1, len(parts)):
                above = "/".join(_escaped(part) for part in parts[:depth])
                patterns += [f"!/{above}", f"/{above}/*"]
            patterns.append("!/" + "/".join(_escaped(part) for part in parts))
        return list(dict.fromkeys(patterns))


def _escaped(name: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\ " else char for char in name)


def cluster_address(given: str | None, environ: MutableMapping[str, str] = os.environ) -> str:
    """The cluster to submit to, after Ray's own variables were set for it.

    Args:
        given: ``--address``; without it Ray's own variables count.
        environ: The process's variables; changed, before Ray is imported.

    Raises:
        ConfigError: There is none, or it holds credentials.
    """
    address = given or environ.get("RAY_API_SERVER_ADDRESS") or environ.get("RAY_ADDRESS")
    if not address:
        raise ConfigError(
            "no cluster to submit to",
            hint="--address http://head:8265 or RAY_ADDRESS; `raylake run` needs none",
        )
    if "@" in address:
        raise ConfigError(
            "the cluster's address holds credentials, which would be seen by everybody",
            hint="give them by RAY_JOB_HEADERS, and the token by RAY_AUTH_TOKEN_PATH",
        )
    environ["RAY_API_SERVER_ADDRESS"] = environ["RAY_ADDRESS"] = address
    environ[_WHOLE_FOLDER] = "1"
    prepare_ray(environ)
    return address


class JobsApi:
    """Ray's job submission API of one cluster.

    Args:
        address: As :func:`cluster_address` returned it.

    Raises:
        DependencyUnreachable: It does not answer, or refuses the token.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        with self._reaching():
            from ray.job_submission import JobSubmissionClient

            headers = os.environ.get("RAY_JOB_HEADERS")
            self._client = JobSubmissionClient(
                address, headers=json.loads(headers) if headers else None
            )
        # Its requests wait for ever else.
        self._client._do_request = partial(self._client._do_request, timeout=_TIMEOUTS_S)  # noqa: SLF001

    def ray_version(self) -> str:
        """The cluster's Ray."""
        return str(self._client._server_ray_version)  # noqa: SLF001

    def submit(self, one: Submission) -> str:
        """Submit; returns the submission's id.

        Raises:
            AlreadyRunning: A job of this pipeline is under way, or the id was used before.
            Terminal: Ray refused it; nothing was started.
        """
        with self._reaching():
            pipeline = one.loaded.config.pipeline
            living = self.living(pipeline)
            if living and not one.take_over:
                raise AlreadyRunning(
                    f"pipeline {pipeline!r} runs on {self._address} already: job {living[0]}",
                    hint="`raylake status` shows it; `raylake stop` drains it",
                    submission_id=living[0],
                )
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(one.entrypoint()),
                    submission_id=one.submission_id,
                    runtime_env={"working_dir": str(one.folder), **one.runtime_env()},
                    metadata=one.metadata(),
                )
            )

    def living(self, pipeline: str) -> list[str]:
        """The submissions of a pipeline that have not ended."""
        return [str(one.submission_id) for one in self._of(pipeline) if one.status not in ENDED]

    def newest(self, pipeline: str) -> str:
        """The submission of a pipeline that was made last.

        Raises:
            ConfigError: This cluster has had none.
        """
        found = self._of(pipeline)
        if not found:
            raise ConfigError(
                f"no job of pipeline {pipeline!r} was submitted to {self._address}",
                hint="`raylake submit FILE` makes one; without --address the lake is looked at",
            )
        return str(found[-1].submission_id)

    def _of(self, pipeline: str) -> list[Any]:
        with self._reaching():
            found = self._client.list_jobs()
        mine = [one for one in found if (one.metadata or {}).get(PIPELINE_KEY) == pipeline]
        return sorted(mine, key=lambda one: one.start_time or 0)

    def state(self, submission_id: str) -> tuple[str, str, int | None]:
        """Ray's status of a job, its message, and the exit code that it ended with."""
        with self._reaching():
            found = self._client.get_job_info(submission_id)
        return str(found.status.value), found.message or "", found.driver_exit_code

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
        from ray.exceptions import AuthenticationError
        from requests.exceptions import RequestException

        try:
            yield
        except AuthenticationError as error:
            raise DependencyUnreachable(
                f"the cluster at {self._address} refuses the token: {_first_line(error)}",
                hint="RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH is the cluster's own token; "
                "`raylake doctor` says which one counts",
            ) from error
        except (ConnectionError, RequestException) as error:
            raise DependencyUnreachable(
                f"no Ray Jobs API answers at {self._address}: {_first_line(error)}",
                hint="is it the dashboard's address (http://head:8265), and does the cluster "
                "run its dashboard?",
            ) from error
        except (RuntimeError, ValueError) as error:
            raise Terminal(
                f"the cluster at {self._address} refuses: {_first_line(error)}",
                hint="`ray job list` shows its jobs; an id can be used once",
            ) from error


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
        return submitted, None
    of_it = (found.document.get("job") or {}).get("submission_id") == submitted
    if of_it and found.document.get("state") not in ("done", "stopped"):
        error = found.document.get("error") or {}
        raise Terminal(
            f"job {submitted} ended as {state} and did not drain: "
            f"{error.get('message', 'it was killed before it could')}",
            hint=error.get("hint")
            or "nothing is lost: the next run goes on where the tables stand",
        )
    return submitted, found if of_it else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
