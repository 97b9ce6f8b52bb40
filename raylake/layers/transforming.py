"""A run of a pipeline's derived tables: the loop of the thread that runs them, and its status."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from raylake.clock import Clock
from raylake.config.addresses import is_local, transform_status_path
from raylake.errors import ConfigError, RayLakeError, Terminal
from raylake.ingest.orders import Order, OrderBox, order_folder
from raylake.ingest.status import write_status
from raylake.layers.replay import Asked
from raylake.layers.transform_plan import TransformOutcome, TransformPlan
from raylake.layers.transform_run import TransformRun
from raylake.storage.place import place

log = logging.getLogger(__name__)

REPLAY: Final = "quarantine.replay"
"""The order that replays quarantined rows: ``table``, ``where`` and ``whole``."""

POLL_S: Final = 0.25
STORE_POLL_S: Final = 2.0
"""How long it waits when nothing was new; in a store each look is a request for each table."""
STATUS_INTERVAL_S: Final = 2.0


class Transforming:
    """The loop.

    Args:
        plan: What to do.
        make: Makes the tables' run; what it raises ends the run.
        clock: Time.
    """

    def __init__(
        self,
        plan: TransformPlan,
        make: Callable[[Callable[[], None]], TransformRun],
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._make = make
        self._clock = clock
        self._run: TransformRun | None = None
        self._finishing = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._written_at = float("-inf")
        self._poll_s = POLL_S if is_local(plan.run.lake) else STORE_POLL_S
        self._path = place(transform_status_path(plan.run.config))
        self._orders = OrderBox(order_folder(self._path), clock, f"run {plan.run.run_id}")
        self.outcome: TransformOutcome | None = None
        if not plan.continuous:
            self._finishing.set()

    def finish(self) -> None:
        """Bring in what is there, triggers or not, and end."""
        self._finishing.set()

    def stop(self) -> None:
        """End after the step under way."""
        self._stopping.set()
        self._finishing.set()

    def wait(self, timeout_s: float) -> TransformOutcome | None:
        """How it ended; None while it goes on after ``timeout_s``."""
        self._ended.wait(timeout_s)
        return self.outcome

    def main(self) -> None:
        """The thread's main."""
        error: RayLakeError | None = None
        try:
            self._run = self._make(self._tell)
            self._loop(self._run)
            error = self._run.failure
        except RayLakeError as failure:
            log.error("the transformations failed: %s", failure)  # noqa: TRY400 - says it all
            error = failure
        finally:
            lost = sys.exception()
            if lost is not None:
                log.error("the transformations failed", exc_info=lost)
                error = Terminal(f"the transformations failed: {type(lost).__name__}: {lost}")
            self.outcome = TransformOutcome(error, self._tables())
            self._write()
            self._ended.set()

    def _loop(self, run: TransformRun) -> None:
        self._tell()
        while not self._stopping.is_set():
            finishing = self._finishing.is_set()
            self._obey(run)
            if finishing:
                run.finish(stop=self._stopping.is_set)
                # What was ordered meanwhile.
                self._obey(run)
                break
            if not run.run_pass(stop=self._finishing.is_set):
                self._finishing.wait(self._poll_s)
            if self._clock.monotonic() >= self._written_at + STATUS_INTERVAL_S:
                self._tell()

    def _obey(self, run: TransformRun) -> None:
        """Carry out what was ordered from outside, one after the other."""
        for order in self._orders.take():
            try:
                self._orders.answer(order, _obeyed(run, order))
            except RayLakeError as error:
                self._orders.answer(order, error)
        for lost in self._orders.unfinished():
            log.warning("%s", lost)

    def document(self) -> dict[str, Any]:
        """The status document as of now."""
        run = self._plan.run
        error = self.outcome.error if self.outcome is not None else None
        state = "ended" if self.outcome is not None else "running"
        return {
            "pipeline": run.config.pipeline,
            "run_id": run.run_id,
            "at": self._clock.now(),
            "state": "failed" if error is not None else state,
            "error": error.to_dict() if error is not None else {},
            "tables": self._tables(),
        }

    def _tables(self) -> dict[str, Any]:
        if self._run is None:
            return {}
        return {name: state.document() for name, state in self._run.states.items()}

    def _tell(self) -> None:
        self._written_at = self._clock.monotonic()
        self._write()

    def _write(self) -> None:
        try:
            write_status(self._path, self.document())
        except OSError as error:
            log.warning("the status document cannot be written: %s", error)


def _obeyed(run: TransformRun, order: Order) -> dict[str, Any]:
    table, where, whole = (order.arguments.get(name) for name in ("table", "where", "whole"))
    known = isinstance(table, str) and isinstance(where, str | None) and isinstance(whole, str)
    if order.name != REPLAY or not known:
        raise ConfigError(f"{order.name} is no order to derived tables: {dict(order.arguments)}")
    return run.replay(str(table), Asked(where, whole=whole)).document()
