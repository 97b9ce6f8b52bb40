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

    It keeps nothing that is not in the tables' logs, so the next one goes on where they stand. No
    call waits for one that does not answer: it may be frozen, and its run has signals to heed.

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
        """How it ended; None while it goes on after ``timeout_s``.

        One that is lost, or has been silent for too long, is ended and started again.

        Raises:
            Terminal: It was lost too often.
        """
        try:
            return self._looked(timeout_s)
        except OwnerLost as error:
            self._again(error)
            return None

    def finish(self) -> None:
        """Let it bring in what is there, and end; returns at once."""
        self._finishing = True
        # The next one is told when it has started.
        self._actor.finish.remote()

    def stop(self, deadline: Deadline) -> TransformOutcome | None:
        """Let it end after the step under way; None: it did not in time, and was ended."""
        self._finishing = True
        self._actor.stop.remote()
        with suppress(OwnerLost):
            while not deadline.expired():
                found = self._looked(min(WAIT_S, deadline.left_s()))
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
        self._told = False
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
        self._asked = self._actor.process.remote()
        self._asked_at = time.monotonic()

    def _looked(self, timeout_s: float) -> TransformOutcome | None:
        """The answer to the question that is open, if there is one; then the next is asked.

        Raises:
            OwnerLost: It is gone, or has not answered for too long.
        """
        ready, _ = ray.wait([self._asked], timeout=timeout_s)
        if not ready:
            self._refuse_silence()
            return None
        if self._process is None:
            self._process = result(self._asked)
        else:
            found: TransformOutcome | None = result(self._asked)
            if found is not None:
                return found
        self._asked, self._asked_at = self._actor.wait.remote(WAIT_S), time.monotonic()
        self._told = False
        return None

    def _refuse_silence(self) -> None:
        silent_s = time.monotonic() - self._asked_at - WAIT_S
        limit_s = START_TIMEOUT_S if self._process is None else self._silent_s
        if silent_s > limit_s:
            raise OwnerLost(f"it did not answer within {limit_s:g} s")
        if silent_s > limit_s / 2 and not self._told:
            self._told = True
            sys.stderr.write(
                f"the transformer has not answered for {silent_s:.0f} s; after {limit_s:g} s it "
                "is ended and started again\n"
            )

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
