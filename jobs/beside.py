"""Silver and gold beside ingestion: one transformer for as long as the run lasts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from jobs.running import Signals
from jobs.transformers import Transformers
from raylake.clock import Deadline, SystemClock
from raylake.errors import RayLakeError
from raylake.ingest.plan import RunPlan
from raylake.layers.transform_plan import TransformOutcome, TransformPlan

WAIT_S: Final = 0.5
STEP_S: Final = 30.0
"""How long a step under way is waited for when there is no time for more, at most."""
LAST_S: Final = 2.0
"""How long it is waited for where ingestion has taken all the time."""


class Beside:
    """The derived tables of a run; nothing where the pipeline has none.

    What goes wrong with them never stops ingestion: it is told, and is the run's outcome when
    ingestion itself has none.

    Args:
        run: The run.
        signals: Requests to stop.
        tend: Looks after what else runs beside ingestion; called each time that this looks.
    """

    def __init__(
        self, run: RunPlan, signals: Signals, tend: Callable[[], None] = lambda: None
    ) -> None:
        self._run = run
        self._signals = signals
        self._tend = tend
        self._transformers: Transformers | None = None
        self._outcome: TransformOutcome | None = None
        self._failure: RayLakeError | None = None

    def __enter__(self) -> Self:
        """Start the transformer."""
        if self._run.config.silver or self._run.config.gold:
            self._transformers = Transformers(TransformPlan(self._run, continuous=True))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End it, however the run ended."""
        del kind, error, at
        if self._transformers is not None and self._outcome is None:
            with contextlib.suppress(RayLakeError):
                self._transformers.end()

    def tend(self) -> None:
        """Start it again where it is lost; returns at once."""
        self._tend()
        if self._transformers is None or self._outcome is not None or self._failure is not None:
            return
        try:
            self._outcome = self._transformers.look()
        except RayLakeError as error:
            self._failure = error
            sys.stderr.write(f"{error}\nsilver and gold stay as they are; ingestion goes on\n")

    def ended(self, *, in_time: bool) -> RayLakeError | None:
        """Ingestion has ended: bring in what it brought, then end; what went wrong with it.

        Args:
            in_time: Ingestion ended well, so there is time to finish.
        """
        if self._transformers is None:
            return self._failure
        clock = SystemClock()
        began_s = clock.monotonic()
        budget_s = self._run.config.ingest.drain_timeout_s
        grace_s = min(STEP_S, budget_s / 2)
        self._transformers.finish()
        while self._outcome is None and self._failure is None:
            # A run that ends by itself ends when all is done; one that is stopped, in its time.
            since_s = self._signals.asked_at_s or (None if in_time else began_s)
            now_s = clock.monotonic()
            try:
                if since_s is not None and now_s >= since_s + budget_s - grace_s:
                    last = Deadline(max(since_s + budget_s, now_s + LAST_S), clock)
                    self._outcome = self._transformers.stop(last)
                    break
                self._outcome = self._transformers.look(WAIT_S)
            except RayLakeError as error:
                self._failure = error
        return self._failure or (None if self._outcome is None else self._outcome.error)
