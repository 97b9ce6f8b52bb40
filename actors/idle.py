"""Detached actors that nobody asks any more leave by themselves (I11)."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from raylake.errors import RayLakeError

log = logging.getLogger("raylake.idle")

ENV = "RAYLAKE_IDLE_EXIT_S"
IDLE_EXIT_S = 300.0


class IdleExit:
    """Ends the process when nothing was asked of it for ``RAYLAKE_IDLE_EXIT_S`` (300 s).

    A supervisor always has a question on its way to every process of its run, so a silent one
    belongs to a job that is gone.

    Args:
        leave: Releases what is held; the process ends after it, also when it fails.
    """

    def __init__(self, leave: Callable[[], Awaitable[None]]) -> None:
        self._leave = leave
        self._idle_s = float(os.environ.get(ENV, IDLE_EXIT_S))
        self._asked_at_s = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def touch(self) -> None:
        """Somebody asked."""
        self._asked_at_s = time.monotonic()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            left_s = self._asked_at_s + self._idle_s - time.monotonic()
            if left_s <= 0:
                break
            await asyncio.sleep(left_s)
        log.warning("nobody asked for %.0f s: leaving", self._idle_s)
        try:
            await self._leave()
        except RayLakeError as error:
            log.warning("not released: %s", error.message)
        os._exit(0)
