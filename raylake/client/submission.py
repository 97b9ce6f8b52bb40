"""A pipeline as a Ray job: what is submitted, and the plain line that does the same.

The job is `raylake job ingest`, the same entry point that `raylake run` starts (or `raylake job
transform`, `raylake job maintain`). Of the pipeline file's folder only the file and its schema
files are uploaded. Nothing of it holds a secret: what a pipeline file may hold are references, and
they are resolved on the cluster.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from raylake import __version__
from raylake.config import Loaded, SchemaFile
from raylake.config.addresses import is_local, normalise_table_address
from raylake.config.findings import dotted
from raylake.errors import ConfigError

STOP_WAIT_ENV = "RAY_JOB_STOP_WAIT_TIME_S"
"""Ray's: seconds from SIGTERM to SIGKILL when a job is stopped; 3 unless set."""
CLIENT_VERSION_ENV: Final = "RAYLAKE_CLIENT_VERSION"
"""Which RayLake submitted the job; the job refuses to run as another one."""
DRAIN_MARGIN_S = 15.0
UPLOAD_LIMIT_BYTES: Final = 100 * 2**20
"""Ray's own limit is 512 MiB for all packages; a pipeline file and its schemas take a few kB."""
PIPELINE_KEY: Final = "raylake.pipeline"
LAKE_KEY: Final = "raylake.lake"
JOB_KEY: Final = "raylake.job"
CONFIG_KEY: Final = "raylake.config_sha256"
RUN_KEY: Final = "raylake.run_id"
RESTARTS: Final = 5
"""How often a submitted run is started again after failures that may pass."""
WHOLE_FOLDER_ENV: Final = "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"
_PREFIX = "RAYLAKE__"

Kind = Literal["ingest", "transform", "maintain"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run of derived tables shall do.

    Attributes:
        tables: These and what they come from; empty: all.
        full_refresh: Tables that are made anew first.
        continuous: Go on until told to stop.
    """

    tables: tuple[str, ...] = ()
    full_refresh: tuple[str, ...] = ()
    continuous: bool = False

    def flags(self) -> list[str]:
        """As the job takes them."""
        flags = [f"--table={one}" for one in self.tables]
        flags += [f"--full-refresh={one}" for one in self.full_refresh]
        return flags + (["--continuous"] if self.continuous else [])


@dataclass(frozen=True, slots=True)
class WantedUpkeep:
    """What a run of upkeep shall do.

    Attributes:
        tables: These; empty: all.
        once: Do what is due now, and end.
    """

    tables: tuple[str, ...] = ()
    once: bool = True

    def flags(self) -> list[str]:
        """As the job takes them."""
        return [*(f"--table={one}" for one in self.tables), *(["--once"] if self.once else [])]


@dataclass(frozen=True, slots=True)
class Submission:
    """What is submitted.

    Attributes:
        loaded: The pipeline file.
        address: The cluster's, as Ray takes it: ``http://head:8265``.
        run_id: The run's id. Empty where what is written down starts many runs, each with an id
            of its own.
        available_now: Stop when caught up.
        take_over: Do not wait for an old owner.
        overrides: ``KEY=VALUE``, above the file.
        variables: ``RAYLAKE__…`` variables of this shell, which count above the file.
        transform: A run of the derived tables, and which; None: ingestion.
        restarts: How often it is started again after a failure that may pass.
        maintain: A run of upkeep, and what; None: ``transform``, or ingestion.
    """

    loaded: Loaded
    address: str
    run_id: str
    available_now: bool = False
    take_over: bool = False
    overrides: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None
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
    def submission_id(self) -> str:
        """Ray's id of a job that the plain line starts; a cluster takes each one once."""
        return f"{job_prefix(self.loaded.config.pipeline, self.kind)}{self.run_id}"

    @property
    def folder(self) -> Path:
        """The pipeline file's folder."""
        return self.loaded.path.resolve().parent

    def entrypoint(self, config: str | None = None) -> list[str]:
        """The job's command line; ``-P``: no folder of the job's can hide our packages.

        Args:
            config: Where the pipeline file lies there; the job's working directory when None.
        """
        command = ["python", "-P", "-m", "raylake", "job", self.kind]
        command += ["--config", self.loaded.path.name if config is None else config]
        command += [f"--run-id={self.run_id}"] if self.run_id else []
        wanted = self.transform or self.maintain
        if wanted is not None:
            command += wanted.flags()
        else:
            command += ["--available-now"] if self.available_now else []
            command += ["--take-over"] if self.take_over else []
            # What starts many runs has a policy of its own for those that failed.
            command += [f"--restarts={self.restarts}"] if self.run_id else []
        return command + [f"--set={pair}" for pair in (*self.overrides, *self._absolute())]

    def runtime_env(self) -> dict[str, Any]:
        """Ray's runtime environment, without the working directory."""
        env_vars = self.variables_there() | {CLIENT_VERSION_ENV: __version__}
        return {"env_vars": env_vars, "excludes": self._excludes()}

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
        told = {RUN_KEY: self.run_id} if self.run_id else {}
        return told | {
            PIPELINE_KEY: self.loaded.config.pipeline,
            JOB_KEY: self.kind,
            LAKE_KEY: normalise_table_address(self.loaded.config.lake).rstrip("/"),
            "raylake.version": __version__,
            CONFIG_KEY: self.loaded.sha256,
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
        return f"{before} {WHOLE_FOLDER_ENV}=1 {shlex.join(words)}"

    def check_size(self) -> None:
        """Refuse what is too large to be uploaded.

        Raises:
            ConfigError: It is; names the largest file.
        """
        sizes = {file: file.stat().st_size for file in self.files().values() if file.exists()}
        total = sum(sizes.values())
        if total > UPLOAD_LIMIT_BYTES:
            largest = max(sizes, key=lambda file: sizes[file])
            raise ConfigError(
                f"{total / 2**20:,.0f} MiB would be uploaded with the job, the limit is "
                f"{UPLOAD_LIMIT_BYTES / 2**20:,.0f} MiB; the largest is {largest}",
                hint="a pipeline file and its schema files take a few kB: is `schema` the right "
                "file?",
            )

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


def job_prefix(pipeline: str, kind: Kind) -> str:
    """What the ids of a pipeline's jobs begin with; ``~`` is in no pipeline's name."""
    return f"raylake-{pipeline}-" if kind == "ingest" else f"raylake-{pipeline}~{kind}-"


def _escaped(name: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\ " else char for char in name)
