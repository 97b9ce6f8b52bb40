"""The owner of a table that a pipeline feeds, while that pipeline does not run (ADR 34)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import ray

from actors.table_slots import SlotSetup
from actors.turns import OwnerTurns
from raylake.client.stand_in import stand_in
from raylake.clock import SystemClock
from raylake.delta.owned_table import OwnedTable
from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.owner_turns import RewriteTurns
from raylake.delta.rewritten import Rewritten
from raylake.errors import Fenced, LogDamaged, RayLakeError
from raylake.ingest.ports import OwnerLost
from raylake.storage.access import stores_from_json, use_stores

log = logging.getLogger("raylake.stand_in")

T = TypeVar("T")

QUIET_S: Final = 2.0
"""Seconds without a turn after which it leaves: the pipeline's owner is to find nobody."""
TELL_S: Final = 0.5


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class TableStandIn:
    """Grants turns of one table; detached, and gone as soon as nobody wants one."""

    def __init__(self, setup: SlotSetup) -> None:
        os.environ.update(setup.environment)
        use_stores(stores_from_json(setup.stores))
        self._setup = setup
        # One thread does everything that touches the table, in order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="owner")
        self._starting = asyncio.Lock()
        self._table: OwnedTable | None = None
        self._turns: OwnerTurns | None = None
        self._failure: RayLakeError | None = None
        self._asked = 0

    async def start(self) -> int:
        """Take the table's epoch, once; returns it.

        Raises:
            OwnerLost: It has stopped, and leaves; ask the next one.
            AlreadyRunning: The table's pipeline runs.
            RayLakeError: As :func:`raylake.client.stand_in.stand_in`.
        """
        self._asked += 1
        async with self._starting:
            if self._failure is not None:
                raise OwnerLost(f"{self._setup.path}: the stand-in has stopped, and leaves")
            if self._table is None:
                try:
                    table = await self._on_thread(self._attach)
                except RayLakeError as error:
                    self._stop(error)
                    raise
                turns = RewriteTurns(table.rewrites())
                self._turns = OwnerTurns(
                    turns, self._on_thread, self._setup.path, silent_s=self._setup.silent_s
                )
                self._table = table
                self._leaving = asyncio.create_task(self._leave_when_quiet())
        return self._table.epoch

    def _attach(self) -> OwnedTable:
        one = self._setup
        return stand_in(one.path, one.run_id, clock=SystemClock(), claim=one.claim)

    async def take_turn(self, request: str, worker: Any) -> Grant:
        """See :meth:`actors.turns.OwnerTurns.take`."""
        return await self._started().take(request, worker)

    async def commit_turn(self, one: Rewritten) -> Verdict:
        """See :meth:`actors.turns.OwnerTurns.commit`."""
        return await self._started().commit(one)

    async def end_turn(self, request: str) -> Verdict | None:
        """See :meth:`actors.turns.OwnerTurns.ended`."""
        return await self._started().ended(request)

    async def turns(self) -> tuple[Grant | None, tuple[str, ...]]:
        """The turn that is open, and who waits."""
        return await self._started().open()

    def _started(self) -> OwnerTurns:
        self._asked += 1
        if self._failure is not None:
            raise self._failure
        if self._turns is None:
            raise OwnerLost(f"{self._setup.path}: the stand-in has not started")
        return self._turns

    async def _on_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (Fenced, LogDamaged) as error:
            self._stop(error)
            raise

    async def _leave_when_quiet(self) -> None:
        asked = -1
        while asked != self._asked or not (self._turns is None or self._turns.idle):
            asked = self._asked
            await asyncio.sleep(QUIET_S)
        self._failure = OwnerLost(f"{self._setup.path}: the stand-in leaves")
        if self._table is not None:
            try:
                await self._on_thread(self._table.release)
            except RayLakeError as error:
                log.warning("not released: %s", error.message)
        self._end()

    def _stop(self, error: RayLakeError) -> None:
        log.error("the stand-in of %s stops: %s", self._setup.path, error)
        if self._failure is None:
            self._failure = error
            self._end()

    def _end(self) -> None:
        # Those who wait are told first; then the name is free.
        asyncio.get_running_loop().call_later(TELL_S, os._exit, 0)
