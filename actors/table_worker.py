"""A process that runs table operations with delta-rs, apart from the owner and from who asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final

import ray

from raylake import faults
from raylake.storage.access import also_use_stores, stores_from_json, use_stores
from raylake.tables.child import LimitedRunner
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.proposals import Proposal, carry_out
from raylake.tables.results import OperationResult
from raylake.tables.running import Order

ALIVE_S: Final = 2.0


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=64)
class TableWorker:
    """Runs orders; ends with who made it. Heavy orders run in a child process with a limit."""

    def __init__(self, environment: Mapping[str, str], stores: Mapping[str, Any]) -> None:
        os.environ.update(environment)
        use_stores(stores_from_json(stores))
        self._engine = DeltaRsEngine()
        self._children: list[int] = []

    async def alive(self) -> int:
        """Answers after a while, for as long as this process lives; its process id."""
        await asyncio.sleep(ALIVE_S)
        return os.getpid()

    async def pids(self) -> tuple[int, tuple[int, ...]]:
        """This process, and the child processes that it has started."""
        return os.getpid(), tuple(self._children)

    async def run(self, order: Order, limit_bytes: int) -> OperationResult | Proposal:
        """Run an order; in a child process where it has a limit.

        Raises:
            RunnerLost: The child ended without an answer.
            RayLakeError: As :meth:`raylake.tables.port.TableEngine.execute`.
        """
        return await asyncio.to_thread(self._run, order, limit_bytes)

    def _run(self, order: Order, limit_bytes: int) -> OperationResult | Proposal:
        if limit_bytes:
            return LimitedRunner(limit_bytes, self._children.append).answer(order)
        # Its client may have been told of further stores since this process began.
        also_use_stores(stores_from_json(order.stores))
        faults.reach("tables.before_operation", table=order.table)
        result = carry_out(self._engine, order)
        faults.reach("tables.after_operation", table=order.table)
        return result
