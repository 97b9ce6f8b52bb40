"""The owner of a table that no pipeline feeds: ``raylake.delta.slot_owner`` behind Ray calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import ray
from ray.exceptions import RayError

from actors.idle import IdleExit
from raylake.client.cluster import NAMESPACE
from raylake.clock import SystemClock
from raylake.delta.identity import COURTEOUS, Claim, OwnerIdentity
from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.slot_owner import SlotOwner
from raylake.delta.slot_table import SlotTable
from raylake.errors import Fenced, LogDamaged, RayLakeError
from raylake.ingest.ports import OwnerLost
from raylake.storage.access import stores_from_json, use_stores
from raylake.tables.errors import SlotClosed

log = logging.getLogger("raylake.slots")

LOOK_EVERY_S: Final = 1.0
SILENT_S: Final = 30.0
"""Seconds without an answer after which a runner is taken for lost; its slot is closed."""
LEAVE_AFTER_S: Final = 0.5
SPARK_HOST: Final = "raylake/spark"
CANCEL_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SlotSetup:
    """What an owner needs.

    Attributes:
        path: The table's address.
        run_id: Who starts it.
        environment: Variables of its process.
        stores: How object stores are reached, references instead of secrets.
        claim: By what right it takes the table from an owner that may be alive.
        silent_s: Seconds without an answer after which a runner is taken for lost.
    """

    path: str
    run_id: str
    environment: Mapping[str, str] = field(default_factory=dict)
    stores: Mapping[str, Any] = field(default_factory=dict)
    claim: Claim = COURTEOUS
    silent_s: float = SILENT_S


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class TableSlots:
    """Grants slots of one table; detached, named by the table's id, never restarted by Ray."""

    def __init__(self, setup: SlotSetup) -> None:
        os.environ.update(setup.environment)
        use_stores(stores_from_json(setup.stores))
        self._setup = setup
        self._owner: SlotOwner | None = None
        self._failure: RayLakeError | None = None
        self._turn = asyncio.Lock()
        self._moved = asyncio.Condition()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._idle = IdleExit(self._leave)

    async def start(self) -> int:
        """Take the table's epoch, once; returns it.

        Raises:
            OwnerLost: This owner has stopped and leaves; the next one begins with what is there.
            RayLakeError: As :meth:`SlotTable.attach`.
        """
        self._idle.touch()
        async with self._turn:
            if self._failure is not None:
                # Those who waited are told why; who comes now asks the next owner.
                raise OwnerLost(f"{self._setup.path}: the owner has stopped, and leaves")
            if self._owner is None:
                await self._cancel_spark()
                try:
                    self._table = await asyncio.to_thread(self._attach)
                except RayLakeError as error:
                    # Who asks next may have another claim, or stores that answer.
                    self._stop(error)
                    raise
                self._owner = SlotOwner(self._table)
        return self._table.epoch

    def _attach(self) -> SlotTable:
        identity = OwnerIdentity.of_this_process("", self._setup.run_id)
        return SlotTable.attach(
            self._setup.path, identity, clock=SystemClock(), claim=self._setup.claim
        )

    async def take(self, request: str, runner: Any) -> Grant:
        """Wait for a slot.

        Args:
            request: Who asks.
            runner: The actor that is to run the operation, or lives as long as who does.

        Raises:
            SlotsTaken: Too many wait.
            Fenced, LogDamaged: This owner stopped for good.
        """
        owner = await self._started()
        while True:
            found = owner.queue.ask(request)
            if isinstance(found, Grant):
                return found
            if isinstance(found, Verdict):
                raise SlotClosed(
                    f"{self._setup.path}: the slot ended before it was used",
                    hint="nothing was done; run the operation again",
                )
            if request not in self._watches:
                watch = asyncio.create_task(self._watch(request, runner))
                self._watches[request] = watch
            advanced = False
            try:
                await self._advance()
                advanced = True
            finally:
                if not advanced:
                    # Who is told of an error does not come back: nobody would end its slot.
                    async with self._turn:
                        owner.queue.ended(request, for_sure=True)
            if owner.queue.ask(request) is None:
                await self._until_moved()

    async def ended(self, request: str, for_sure: bool) -> Verdict:
        """A runner is done or lost: what the log says of it.

        Raises:
            OwnerLost: It was another owner that granted the slot.
            Fenced, LogDamaged: This owner stopped for good, and could not tell before.
            RayLakeError: The log could not be read or written; ask again.
        """
        owner = await self._started()
        if not owner.queue.knows(request):
            raise OwnerLost(f"{self._setup.path}: this owner did not grant that slot")
        if not for_sure and owner.queue.has_slot(request):
            # A commit of Spark's and the one that closes the slot must not be under way at once.
            await self._cancel_spark()
        async with self._turn:
            found = owner.queue.ended(request, for_sure=for_sure)
        while found is None:
            try:
                await self._advance()
            except (Fenced, LogDamaged):
                if owner.queue.verdict(request) is None:
                    raise
            found = owner.queue.verdict(request)
        return found

    async def waiting(self) -> tuple[str, ...]:
        """The requests that wait, in order."""
        return (await self._started()).queue.waiting

    async def open_slot(self) -> Grant | None:
        """The slot that is open."""
        return (await self._started()).queue.open

    async def _started(self) -> SlotOwner:
        self._idle.touch()
        if self._failure is not None:
            raise self._failure
        if self._owner is None:
            await self.start()
        if self._owner is None:
            raise RuntimeError("the owner has not started")
        return self._owner

    async def _advance(self) -> None:
        owner = await self._started()
        try:
            async with self._turn:
                await asyncio.to_thread(owner.advance)
        except (Fenced, LogDamaged) as error:
            self._stop(error)
            raise
        finally:
            async with self._moved:
                self._moved.notify_all()

    async def _until_moved(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            async with self._moved:
                await asyncio.wait_for(self._moved.wait(), LOOK_EVERY_S)

    async def _watch(self, request: str, runner: Any) -> None:
        """Settle the slot of a runner that is gone, or does not answer."""
        owner = await self._started()
        while owner.queue.verdict(request) is None and self._failure is None:
            self._idle.touch()
            try:
                await asyncio.wait_for(_alive(runner), self._setup.silent_s)
            except (TimeoutError, RayError) as error:
                log.warning("%s: a runner is lost: %s", self._setup.path, type(error).__name__)
                break
        while self._failure is None and owner.queue.verdict(request) is None:
            try:
                await self.ended(request, for_sure=False)
            except RayLakeError as error:
                log.warning("%s: not settled: %s", self._setup.path, error.message)
                await asyncio.sleep(LOOK_EVERY_S)
        self._watches.pop(request, None)

    async def _cancel_spark(self) -> None:
        """Ask the Spark host, if there is one, to end what it runs on this table."""
        try:
            host = ray.get_actor(SPARK_HOST, namespace=NAMESPACE)
            cancel = host.cancel.options(concurrency_group="control")
            await asyncio.wait_for(cancel.remote(self._setup.path, CANCEL_S), 2 * CANCEL_S)
        except ValueError:
            return
        except (TimeoutError, RayError) as error:
            # The number in the log keeps it out; this only saves its work.
            log.warning("%s: Spark did not cancel: %s", self._setup.path, error)

    def _stop(self, error: RayLakeError) -> None:
        log.error("the owner of %s stops: %s", self._setup.path, error)
        if self._failure is None:
            self._failure = error
            # The name becomes free for the next owner once all who wait have been told.
            asyncio.get_running_loop().call_later(LEAVE_AFTER_S, os._exit, 0)

    async def _leave(self) -> None:
        """Nothing to release: an epoch of 30 s ago is nobody's courtesy any more."""


async def _alive(runner: Any) -> None:
    await runner.alive.remote()
