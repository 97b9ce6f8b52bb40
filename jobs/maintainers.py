"""The maintainer of a run, watched from the job: alone, or beside ingestion."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import ray

from actors.calls import find, maintainer_name, result, supervisor_name
from jobs.watched import Kind, Watched
from raylake.clock import Deadline, SystemClock
from raylake.config.addresses import maintenance_status_path
from raylake.errors import AlreadyRunning, RayLakeError, Terminal
from raylake.ingest.plan import RunPlan
from raylake.ingest.ports import OwnerLost
from raylake.ingest.status import read_status, write_status
from raylake.maintenance.need import first_need
from raylake.maintenance.tending_plan import TendingOutcome, TendingPlan
from raylake.storage.place import place

STOP_S: Final = 5.0
"""How long a commit under way is waited for; what was only written leaves with a vacuum."""
AGAIN_S: Final = 600.0
"""A run goes without one for so long after one that could not be kept alive."""


class Maintainers(Watched[TendingOutcome]):
    """The maintainer actor of one run, and those that follow it when it is lost.

    Args:
        plan: What it does.

    Raises:
        AlreadyRunning: The pipeline's tables are looked after on this cluster already.
    """

    def __init__(self, plan: TendingPlan) -> None:
        pipeline = plan.run.config.pipeline
        kind = Kind(
            "actors.maintainer:Maintainer",
            maintainer_name(pipeline),
            "maintainer",
            f"the tables of pipeline {pipeline!r} are looked after on this cluster already",
            "a pipeline that runs does it by itself, save for `maintenance: {enabled: false}`",
        )
        super().__init__(kind, plan)


class Upkeep:
    """The maintainer of a run, from the first time that there may be something to do.

    What goes wrong with it never stops ingestion.

    Args:
        run: The run.
        job: How it was started, for the status document.
    """

    def __init__(self, run: RunPlan, job: dict[str, Any]) -> None:
        self._run = run
        self._job = job
        self._maintainers: Maintainers | None = None
        self._asked: Any = None
        self._since_s: float | None = None
        self._began_s = time.time()
        self._every_s = run.config.maintenance.look_every_s
        self._next_s = time.monotonic() + self._every_s

    def __enter__(self) -> Self:
        """It is started later: ingestion's start needs the CPUs."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End it, however the run ended."""
        del kind, error, at
        if self._maintainers is not None:
            with suppress(RayLakeError):
                self._maintainers.stop(Deadline.after(STOP_S, SystemClock()))

    def tend(self) -> None:
        """Start it when it is needed, again where it is lost; returns at once."""
        try:
            if self._maintainers is None:
                self._begin_if_needed()
                return
            found = self._maintainers.look()
        except RayLakeError as error:
            self._without(error)
            return
        if found is not None:
            self._without(found.error or Terminal("the maintainer has ended"))

    def _begin_if_needed(self) -> None:
        if not self._run.tends or time.monotonic() < self._next_s:
            return
        document = self._document()
        if document is None:
            return
        self._next_s = time.monotonic() + self._every_s
        if self._since_s is None:
            self._since_s = self._looked_after_s()
        policy, since_s = self._run.config.maintenance, self._since_s
        why = first_need(policy, document, since_s, time.time())
        if why:
            sys.stderr.write(f"the tables are looked after from now on: {why}\n")
            self._maintainers = Maintainers(TendingPlan(self._run, job=self._job, since_s=since_s))

    def _document(self) -> dict[str, Any] | None:
        """What the run counts; None: it has not answered yet."""
        if self._asked is None:
            with suppress(OwnerLost):  # it is being started again
                self._asked = find(supervisor_name(self._run.config.pipeline)).status.remote()
        if self._asked is None or not ray.wait([self._asked], timeout=0)[0]:
            return None
        asked, self._asked = self._asked, None
        with suppress(OwnerLost):
            found: dict[str, Any] = result(asked)
            return found
        return None

    def _looked_after_s(self) -> float:
        """When somebody looked after these tables last, as far as that is told."""
        with suppress(RayLakeError, OSError, ValueError, TypeError):
            said = read_status(place(maintenance_status_path(self._run.config)))
            return min(self._began_s, float(said["at"]))
        return self._began_s

    def _without(self, error: RayLakeError) -> None:
        """Go on without one, for a while."""
        self._maintainers = None
        self._next_s = time.monotonic() + AGAIN_S
        sys.stderr.write(
            f"{error}\nthe tables are not looked after for {AGAIN_S / 60:.0f} minutes; "
        )
        sys.stderr.write("ingestion goes on\n")
        if isinstance(error, AlreadyRunning):
            return  # the status document is the other one's
        run, said = self._run, {"state": "failed", "error": error.to_dict(), "job": self._job}
        told = {"pipeline": run.config.pipeline, "run_id": run.run_id, "at": time.time(), **said}
        with suppress(OSError):
            write_status(place(maintenance_status_path(run.config)), told)
