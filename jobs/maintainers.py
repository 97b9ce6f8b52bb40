"""The maintainer of a run, watched from the job: alone, or beside ingestion."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from actors.calls import maintainer_name
from jobs.watched import Kind, Watched
from raylake.clock import Deadline, SystemClock
from raylake.errors import RayLakeError
from raylake.ingest.plan import RunPlan
from raylake.maintenance.tending_plan import TendingOutcome, TendingPlan

STOP_S: Final = 5.0
"""How long a commit under way is waited for; what was only written leaves with a vacuum."""


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
            "a pipeline that runs does it by itself where its file has a section `maintenance`",
        )
        super().__init__(kind, plan)


class Upkeep:
    """The maintainer of a run; nothing where its file does not ask for one.

    What goes wrong with it never stops ingestion.

    Args:
        run: The run.
        job: How it was started, for the status document.
    """

    def __init__(self, run: RunPlan, job: dict[str, Any]) -> None:
        self._plan = TendingPlan(run, job=job)
        self._maintainers: Maintainers | None = None
        self._wanted = run.config.tends
        self._begins_s = time.monotonic() + run.config.maintenance.look_every_s

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
        """Start it when it is time, again where it is lost; returns at once."""
        try:
            if self._wanted and time.monotonic() >= self._begins_s:
                self._wanted = False
                self._maintainers = Maintainers(self._plan)
            if self._maintainers is None:
                return
            found = self._maintainers.look()
        except RayLakeError as error:
            _say(error)
            self._maintainers = None
            return
        if found is not None:
            _say(found.error)
            self._maintainers = None


def _say(error: RayLakeError | None) -> None:
    sys.stderr.write(f"{error or 'upkeep has ended'}\nthe tables are not looked after any more; ")
    sys.stderr.write("ingestion goes on\n")
