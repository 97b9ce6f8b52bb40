"""The dead-letter queue of a run, as the supervisor has it: there is none until one is needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from actors.calls import detached, find, queue_name, result
from actors.dead_letter_queue import DeadLetterQueue
from raylake.clock import Deadline
from raylake.ingest.plan import RunPlan
from raylake.ingest.ports import OwnerLost

ATTACH_TIMEOUT_S = 60.0
ANSWER_S = 5.0


class LetterQueue:
    """Starts, replaces and ends the actor.

    Attributes:
        actor: The actor; None while there is none.

    Args:
        run: The run.
        end: Makes sure that an actor that was written off is gone.
    """

    def __init__(self, run: RunPlan, end: Callable[[Any], None]) -> None:
        self.actor: Any = None
        self._run = run
        self._end = end
        also = run.config.dead_letters.also
        self._forwards = also.kafka is not None or also.files is not None

    def prepare(self) -> None:
        """Take the one that a supervisor left that was killed; start one that will forward."""
        with suppress(OwnerLost):
            self.actor = find(queue_name(self._run.config.pipeline))
        if self._forwards:
            self.start()

    def start(self) -> None:
        """Start it, or find it, where none is known; returns at once.

        It attaches its table when it is given the first letters, or to forward some: by then an
        owner has made sure that no other run lives, so a second run that is refused takes nothing
        from the first (I11).
        """
        if self.actor is None:
            name = queue_name(self._run.config.pipeline)
            self.actor = detached(DeadLetterQueue, name, self._run)

    def begin_forwarding(self) -> None:
        """Let further targets get what waits for them since the last run.

        Raises:
            OwnerLost: It is gone; the next call starts another one.
            RayLakeError: What attaching raises.
        """
        if not self._forwards:
            return
        self.start()
        try:
            result(self.actor.attach.remote(), ATTACH_TIMEOUT_S)
        except OwnerLost:
            # Else the next try would find the same silent actor.
            self.lost()
            raise

    def lost(self) -> None:
        """Write it off."""
        self._end(self.actor)
        self.actor = None

    def ensure(self, deadline: Deadline) -> None:
        """Replace it where it is gone: owners that leave store their last letters by it."""
        if self.actor is None:
            return
        try:
            result(self.actor.ping.remote(0.0), min(ANSWER_S, deadline.left_s()))
        except OwnerLost:
            self.lost()
            self.start()

    def leave(self, deadline: Deadline) -> None:
        """Release its table and end it."""
        if self.actor is None:
            return
        try:
            result(self.actor.leave.remote(), max(1.0, deadline.left_s()))
        finally:
            ray.kill(self.actor)
            self.actor = None
