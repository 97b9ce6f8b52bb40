"""An actor of a run, watched from the job: started, started again when it is lost, ended."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Generic, TypeVar

import ray

from actors.calls import SILENT_ENV, result
from actors.process import ActorProcess
from raylake.clock import Deadline, SystemClock
from raylake.errors import AlreadyRunning, Terminal
from raylake.ingest.ports import OwnerLost

T = TypeVar("T")

START_TIMEOUT_S: Final = 120.0
NAME_WAIT_S: Final = 15.0
WAIT_S: Final = 0.5
SILENT_S: Final = 60.0
MAX_LOST: Final = 5
LOST_WINDOW_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What is watched.

    Attributes:
        actor: Its class, as ``module:name``.
        name: The actor's name.
        word: What it is called.
        already: What it means that there is one already.
        hint: What to do then.
    """

    actor: str
    name: str
    word: str
    already: str
    hint: str


class Watched(Generic[T]):
    """An actor of one run, and those that follow it when it is lost.

    It keeps nothing that is not in the tables' logs, so the next one goes on where they stand. No
    call waits for one that does not answer: it may be frozen, and its run has signals to heed.

    Args:
        kind: What it is.
        plan: What it does.

    Raises:
        AlreadyRunning: There is one on this cluster already.
    """

    def __init__(self, kind: Kind, plan: Any) -> None:
        self._kind = kind
        self._plan = plan
        self._finishing = False
        self._lost_at: list[float] = []
        self._silent_s = float(os.environ.get(SILENT_ENV, SILENT_S))
        self._begin()

    def look(self, timeout_s: float = 0.0) -> T | None:
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

    def stop(self, deadline: Deadline) -> T | None:
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
        module, _, name = self._kind.actor.partition(":")
        actor_class: Any = getattr(import_module(module), name)
        deadline = Deadline.after(NAME_WAIT_S, SystemClock())
        self._process: ActorProcess | None = None
        self._told = False
        while True:
            try:
                self._actor = actor_class.options(name=self._kind.name).remote(self._plan)
                break
            except ValueError as error:
                if deadline.expired():
                    raise AlreadyRunning(self._kind.already, hint=self._kind.hint) from error
            time.sleep(WAIT_S)
        self._asked = self._actor.process.remote()
        self._asked_at = time.monotonic()

    def _looked(self, timeout_s: float) -> T | None:
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
            found: T | None = result(self._asked)
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
                f"the {self._kind.word} has not answered for {silent_s:.0f} s; after "
                f"{limit_s:g} s it is ended and started again\n"
            )

    def _again(self, error: OwnerLost) -> None:
        # It may be frozen, and would wake up as a second one.
        self.end()
        now_s = time.monotonic()
        self._lost_at = [at for at in self._lost_at if at > now_s - LOST_WINDOW_S] + [now_s]
        if len(self._lost_at) > MAX_LOST:
            raise Terminal(
                f"the {self._kind.word} was lost {len(self._lost_at)} times within "
                f"{LOST_WINDOW_S:.0f} s; the run gives up: {error.message}",
                hint="`raylake logs` shows what it said last",
            ) from error
        sys.stderr.write(f"the {self._kind.word} is gone and is started again: {error.message}\n")
        self._begin()
        if self._finishing:
            self.finish()
