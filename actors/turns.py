"""Turns of one table's owner behind Ray calls; the two owner actors share it (ADR 34)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from ray.exceptions import RayError

from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.owner_turns import RewriteTurns, TurnOver
from raylake.delta.rewritten import Rewritten
from raylake.errors import RayLakeError

log = logging.getLogger("raylake.turns")

LOOK_EVERY_S: Final = 1.0
SILENT_S: Final = 30.0
"""Seconds without an answer after which a worker is taken for lost; its turn ends."""

Between = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs something between two commits of the owner."""


class OwnerTurns:
    """Grants turns, ends those of workers that are gone, and commits.

    Args:
        turns: The table's turns; touched only by ``between``.
        between: Runs something on the owner's thread.
        where: The table, for messages.
        silent_s: Seconds without an answer after which a worker is taken for lost.
        busy: Called now and then while there is a turn, or who waits for one.
    """

    def __init__(
        self,
        turns: RewriteTurns,
        between: Between,
        where: str,
        *,
        silent_s: float = SILENT_S,
        busy: Callable[[], None] = lambda: None,
    ) -> None:
        self._busy = busy
        self._turns = turns
        self._between = between
        self._where = where
        self._silent_s = silent_s
        self._moved = asyncio.Condition()
        self._watches: dict[str, asyncio.Task[None]] = {}
        # Requests that were given up while the log could not tell what became of them.
        self._given_up: set[str] = set()

    @property
    def idle(self) -> bool:
        """Whether nobody has a turn or waits for one."""
        return self._turns.idle

    async def take(self, request: str, worker: Any) -> Grant:
        """Wait for a turn.

        Args:
            request: Who asks.
            worker: The actor that is to do the work; it lives as long as who asks.

        Raises:
            SlotsTaken: Too many wait.
            TurnOver: The request ended before its turn came.
            RayLakeError: As :meth:`RewriteTurns.ask`.
        """
        while True:
            found = await self._between(partial(self._turns.ask, request))
            if isinstance(found, Verdict):
                raise TurnOver(
                    f"{self._where}: the turn ended before it was used",
                    hint="nothing was done; run the operation again",
                )
            if request not in self._watches:
                self._watches[request] = asyncio.create_task(self._watch(request, worker))
            if isinstance(found, Grant):
                return found
            with contextlib.suppress(asyncio.TimeoutError):
                async with self._moved:
                    await asyncio.wait_for(self._moved.wait(), LOOK_EVERY_S)

    async def commit(self, one: Rewritten) -> Verdict:
        """Commit what a turn led to; raises as :meth:`RewriteTurns.commit`."""
        try:
            verdict: Verdict = await self._between(partial(self._turns.commit, one))
        finally:
            await self._tell()
        return verdict

    async def ended(self, request: str) -> Verdict | None:
        """End a turn; raises as :meth:`RewriteTurns.ended`, and is then tried again from here."""
        try:
            verdict: Verdict | None = await self._between(partial(self._turns.ended, request))
        except RayLakeError:
            self._given_up.add(request)
            raise
        finally:
            await self._tell()
        if verdict is not None and (watch := self._watches.pop(request, None)) is not None:
            watch.cancel()
            self._given_up.discard(request)
        return verdict

    async def open(self) -> tuple[Grant | None, tuple[str, ...]]:
        """The turn that is open, and who waits."""
        return self._turns.open, self._turns.waiting

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def _watch(self, request: str, worker: Any) -> None:
        """End the turn of a worker that is gone, or does not answer, or of who gave it up."""
        while self._concerns(request) and request not in self._given_up:
            self._busy()
            try:
                await asyncio.wait_for(_alive(worker), self._silent_s)
            except (TimeoutError, RayError) as error:
                log.warning("%s: a worker is lost: %s", self._where, type(error).__name__)
                break
        while self._concerns(request):
            try:
                await self._between(partial(self._turns.ended, request))
                await self._tell()
            except RayLakeError as error:
                log.warning("%s: not settled: %s", self._where, error.message)
                await asyncio.sleep(LOOK_EVERY_S)
        self._watches.pop(request, None)
        self._given_up.discard(request)

    def _concerns(self, request: str) -> bool:
        # In this order: the owner's thread may grant the turn meanwhile.
        if request in self._turns.waiting:
            return True
        opened = self._turns.open
        return opened is not None and opened.request == request


async def _alive(worker: Any) -> None:
    await worker.alive.remote()
