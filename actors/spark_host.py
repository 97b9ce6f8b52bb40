"""The actor that holds the cluster's one Spark session: ``raylake.spark.host`` behind Ray calls."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import ray

from actors.process import ActorProcess
from raylake import faults
from raylake.clock import SystemClock
from raylake.spark.host import HostStatus, LiveSession, SparkHosting
from raylake.spark.life import Limits
from raylake.spark.session import start_session
from raylake.spark.settings import SparkSetup
from raylake.storage.access import stores_from_json, stores_of_request
from raylake.tables.results import OperationResult
from raylake.tables.running import Order

log = logging.getLogger("raylake.spark")

NAME = "raylake/spark"
OPERATIONS, CONTROL = "operations", "control"
GROUPS = {OPERATIONS: 16, CONTROL: 4}
"""Threads, by what they are for: nothing that runs keeps a question or an order waiting."""
WATCH_S = 0.5
ALONE_S = 60.0
DRAIN_S = 10.0
START_GRACE_S = 20.0
ANSWERS_S = 1.0
"""Answers of calls that ended are on their way for so long."""

EngineOf = Callable[[LiveSession], Any]


def spark_engine(live: LiveSession) -> Any:
    """The engine that runs operations in a session; loaded where pyspark is, and only there."""
    return import_module("raylake.spark.engine").SparkEngine(live.session)


@dataclass(frozen=True, slots=True)
class HostReport:
    """A host's status, and which process it is."""

    process: ActorProcess
    status: HostStatus


@ray.remote(
    num_cpus=0,
    max_restarts=0,
    max_task_retries=0,
    concurrency_groups=GROUPS,
)
class SparkHost:
    """Holds the session for one life of it, then leaves; the next one that asks makes another."""

    def __init__(self, setup: SparkSetup, engine: EngineOf) -> None:
        os.environ.update(setup.environment)
        self._engine = engine
        limits = Limits(
            setup.spark.idle_timeout_s,
            setup.spark.start_timeout_s + START_GRACE_S,
            ALONE_S,
            setup.silent_s,
        )
        clock = SystemClock()
        self._host = SparkHosting(limits, partial(start_session, setup, clock), self._leave, clock)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def execute(self, order: Order) -> OperationResult:
        """Run an operation; see :meth:`raylake.spark.host.SparkHosting.execute`.

        Args:
            order: What to do. Its stores are how who asks reaches them; this host serves others
                too, who may reach the same store with other keys.
        """

        def work(session: LiveSession) -> OperationResult:
            result: OperationResult = self._engine(session).execute(
                order.table,
                order.operation,
                why=order.why,
                fence=order.fence,
                alongside=order.alongside,
            )
            return result

        with stores_of_request(stores_from_json(order.stores)):
            result = self._host.execute(order.table, order.name, work)
        faults.reach("spark.committed", table=order.table)
        return result

    def warm(self) -> None:
        """Bring the session up, for an operation to come."""
        self._host.warm()

    def cancel(self, table: str, timeout_s: float) -> int:
        """Cancel what runs on a table; returns how many operations still run."""
        return self._host.cancel(table, timeout_s)

    def report(self) -> HostReport:
        """How it stands."""
        return HostReport(ActorProcess.of_this(), self._host.status())

    def close(self) -> None:
        """Give the session back now; what runs is lost."""
        self._host.close()

    def _watch(self) -> None:
        while self._host.watch():
            time.sleep(WATCH_S)

    def _leave(self) -> None:
        self._host.drained(DRAIN_S)
        log.info("the Spark host leaves: %s", self._host.status().reason)
        time.sleep(ANSWERS_S)
        os._exit(0)
