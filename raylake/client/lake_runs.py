"""The runs of a lake's pipelines: started, attached to, found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from raylake.client.finding import find_job, find_run
from raylake.client.jobs_api import JobsApi
from raylake.client.run import Run
from raylake.client.run_files import (
    jobs_address,
    loaded_for,
    require_derived,
    require_pipeline_name,
)
from raylake.client.submission import Kind, Wanted, WantedUpkeep
from raylake.client.submitting import Asked, on_cluster, on_this_machine
from raylake.errors import ConfigError


class LakeRuns:
    """What a lake runs.

    Args:
        where: Its normalised address.
        address: The Ray cluster; None: runs are processes of this machine.
    """

    def __init__(self, where: str, address: str | None) -> None:
        self.where = where
        self._ray_address = address

    def submit(
        self,
        file: str | Path,
        *,
        available_now: bool = False,
        replace: bool = False,
        take_over: bool = False,
        set: Mapping[str, str] | None = None,  # noqa: A002 - as the option of the commands
    ) -> Run:
        """Run a pipeline; returns at once. One that runs already is the answer, and no second one.

        With a cluster's address it is a Ray job there; without, a process of this machine, as
        ``raylake run`` starts it, which goes on when this process ends.

        Args:
            file: The pipeline file; its lake must be this one.
            available_now: Stop at the ends seen at the start.
            replace: Drain a run that is there, and start this one.
            take_over: Do not wait for an owner that may be alive.
            set: Values above the file by their dotted keys.

        Raises:
            ConfigurationChanged: One runs with another configuration; says what differs and what
                each difference takes.
            ConfigError: With every problem of the file; or it is another lake's.
            RayLakeError: As :func:`raylake.client.submitting.on_cluster`.
        """
        loaded, pairs = loaded_for(self.where, file, set)
        return self._begun(Asked(loaded, available_now, take_over, replace, pairs))

    def transform(
        self,
        file: str | Path,
        tables: Sequence[str] = (),
        *,
        full_refresh: Sequence[str] = (),
        continuous: bool = False,
        set: Mapping[str, str] | None = None,  # noqa: A002 - as the option of the commands
    ) -> Run:
        """Bring silver and gold tables up to date with what is there; otherwise as :meth:`submit`.

        A pipeline that runs does it by itself.

        Args:
            file: The pipeline file; its lake must be this one.
            tables: These and what they come from; empty: all.
            full_refresh: Tables that are made anew first.
            continuous: Go on until told to stop.
            set: Values above the file by their dotted keys.

        Raises:
            ConfigError, RayLakeError: As :meth:`submit`; or a table is none of the file's.
        """
        loaded, pairs = loaded_for(self.where, file, set)
        wanted = Wanted(tuple(tables), tuple(full_refresh), continuous)
        require_derived(loaded, (*tables, *full_refresh))
        return self._begun(Asked(loaded, overrides=pairs, transform=wanted))

    def maintain(
        self,
        file: str | Path,
        tables: Sequence[str] = (),
        *,
        once: bool = True,
        set: Mapping[str, str] | None = None,  # noqa: A002 - as the option of the commands
    ) -> Run:
        """Do what is due of a pipeline's tables by its policies; otherwise as :meth:`submit`.

        A pipeline that runs does it by itself.

        Args:
            file: The pipeline file; its lake must be this one.
            tables: Only these, ``layer.name``; empty: all.
            once: Do what is due now, and end; else go on until told to stop.
            set: Values above the file by their dotted keys.

        Raises:
            ConfigError, RayLakeError: As :meth:`submit`.
        """
        loaded, pairs = loaded_for(self.where, file, set)
        wanted = WantedUpkeep(tuple(tables), once)
        return self._begun(Asked(loaded, overrides=pairs, maintain=wanted))

    def run(self, pipeline: str, *, kind: Kind = "ingest", job: str | None = None) -> Run:
        """The newest run of a pipeline, whoever started it, or one of its jobs.

        With a cluster's address its jobs are asked, and the lake's status document where the
        cluster has had none; without, the document alone, so a laptop sees a cluster's run, too.

        Args:
            pipeline: Its name.
            kind: ``ingest``; ``transform``: of the derived tables alone; ``maintain``: upkeep.
            job: Ray's id of the job.

        Raises:
            Refused: The job is somebody else's.
            ConfigError: The pipeline has not run; or the name is none.
            DependencyUnreachable: The cluster or the lake does not answer.
        """
        require_pipeline_name(pipeline)
        address = jobs_address(self._ray_address)
        if job is not None and address is None:
            raise ConfigError(
                f"job {job}: this lake has no cluster", hint="connect(lake, address=…)"
            )
        if address is not None:
            jobs = JobsApi(address)
            if job is not None or jobs.jobs(pipeline, kind):
                return find_job(self.where, pipeline, jobs, kind, job)
        return find_run(self.where, pipeline, kind)

    def _begun(self, asked: Asked) -> Run:
        address = jobs_address(self._ray_address)
        if address is None:
            return on_this_machine(asked).run
        return on_cluster(asked, JobsApi(address)).run
