"""The transformer of a run, watched from the job: started, started again when lost, ended."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

import ray

from actors.calls import SILENT_ENV, result, transformer_name
from actors.process import ActorProcess
from raylake.clock import Deadline, SystemClock
from raylake.errors import AlreadyRunning, Terminal
from raylake.ingest.ports import OwnerLost
from raylake.layers.transforming import TransformOutcome, TransformPlan

START_TIMEOUT_S: Final = 120.0
NAME_WAIT_S: Final = 15.0
WAIT_S: Final = 0.5
SILENT_S: Final = 60.0
MAX_LOST: Final = 5
LOST_WINDOW_S: Final = 60.0


class Transformers:
    """The transformer actor of one run, and those that follow it when it is lost.

    It keeps nothing that is not in the tables' logs, so the next one goes on where they stand.

    Args:
        plan: What it does.

    Raises:
        AlreadyRunning: The pipeline's tables are being brought up to date on this cluster already.
    """

    def __init__(self, plan: TransformPlan) -> None:
        self._plan = plan
        self._finishing = False
        self._lost_at: list[float] = []
        self._silent_s = float(os.environ.get(SILENT_ENV, SILENT_S))
        self._begin()

    def look(self, timeout_s: float = 0.0) -> TransformOutcome | None:
        """How it ended; None while it goes on after ``timeout_s``. A lost one is started again.

        Raises:
            Terminal: It was lost too often.
        """
        try:
            found: TransformOutcome | None = result(
                self._actor.wait.remote(timeout_s), self._silent_s + timeout_s
            )
        except OwnerLost as error:
            self._again(error)
            return None
        return found

    def finish(self) -> None:
        """Let it bring in what is there, and end."""
        self._finishing = True
        with suppress(OwnerLost):  # the next one is told when it has started
            result(self._actor.finish.remote(), self._silent_s)

    def stop(self, deadline: Deadline) -> TransformOutcome | None:
        """Let it end after the step under way; None: it did not in time, and was ended."""
        self._finishing = True
        with suppress(OwnerLost):
            result(self._actor.stop.remote(), self._silent_s)
            while not deadline.expired():
                found: TransformOutcome | None = result(
                    self._actor.wait.remote(WAIT_S), self._silent_s
                )
                if found is not None:
                    return found
        self.end()
        return None

    def end(self) -> None:
        """End it at once: what it has not committed is as if it had not begun."""
        ray.kill(self._actor)
        if self._process is not None:
            self._process.kill()

    def _begin(self) -> None:
        actor_class: Any = import_module("actors.transformer").Transformer
        pipeline = self._plan.run.config.pipeline
        deadline = Deadline.after(NAME_WAIT_S, SystemClock())
        self._process: ActorProcess | None = None
        while True:
            try:
                self._actor = actor_class.options(name=transformer_name(pipeline)).remote(
                    self._plan
                )
                break
            except ValueError as error:
                if deadline.expired():
                    raise AlreadyRunning(
                        f"the silver and gold tables of pipeline {pipeline!r} are being brought "
                        "up to date on this cluster already",
                        hint="`raylake transform status` shows it; a pipeline that runs does it "
                        "by itself",
                    ) from error
            time.sleep(WAIT_S)

    def ready(self) -> None:
        """Wait until it has started.

        Raises:
            RayLakeError: What its start raised.
        """
        self._process = result(self._actor.process.remote(), START_TIMEOUT_S)

    def _again(self, error: OwnerLost) -> None:
        # It may be frozen, and would wake up as a second one.
        self.end()
        now_s = time.monotonic()
        self._lost_at = [at for at in self._lost_at if at > now_s - LOST_WINDOW_S] + [now_s]
        if len(self._lost_at) > MAX_LOST:
            raise Terminal(
                f"the transformer was lost {len(self._lost_at)} times within {LOST_WINDOW_S:.0f} "
                f"s; the run gives up: {error.message}",
                hint="`raylake logs` shows what it said last",
            ) from error
        sys.stderr.write(f"the transformer is gone and is started again: {error.message}\n")
        self._begin()
        if self._finishing:
            self.finish()
