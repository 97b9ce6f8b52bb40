"""Calls to the cluster's Spark host: found by its name, made when there is none."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError

from actors.calls import find, result
from actors.spark_host import (
    CONTROL,
    NAME,
    OPERATIONS,
    EngineOf,
    HostReport,
    SparkHost,
    spark_engine,
)
from raylake.client.cluster import NAMESPACE
from raylake.ingest.ports import OwnerLost
from raylake.spark.errors import SparkLost, SparkNotReady
from raylake.spark.host import CANCEL_S, LEAVING, HostStatus
from raylake.spark.life import State
from raylake.spark.resources import PLACE, host_resources
from raylake.spark.session import growth
from raylake.spark.settings import SparkSetup
from raylake.storage.access import stores_json, used_stores
from raylake.tables.alongside import Alongside
from raylake.tables.requests import Write
from raylake.tables.results import OperationResult
from raylake.tables.running import Order

MAKE_AGAIN: Final = 5
LOOK_AGAIN_S: Final = 0.1
GONE_WITHIN_S: Final = 30.0
_STATUS_S: Final = 10.0


class RaySparkHost:
    """The Spark host of the cluster as a table's owner sees it.

    Args:
        setup: For a host that has to be made; one that is there keeps its own. Its stores go with
            each operation.
        engine: Makes the engine that runs operations in its session.
    """

    def __init__(self, setup: SparkSetup, engine: EngineOf = spark_engine) -> None:
        self._setup = setup
        self._engine = engine

    def execute(
        self,
        table: str,
        operation: Write,
        *,
        why: str = "",
        fence: Any = None,
        alongside: Alongside | None = None,
    ) -> OperationResult:
        """Run an operation that writes, with Spark.

        Args:
            table: The table's address.
            operation: What to do.
            why: Why Spark was chosen.
            fence: The number that the table's owner gave it.
            alongside: What the commit carries beside its rows.

        Raises:
            SparkUnavailable: Spark cannot run here; nothing was begun.
            SparkNotReady: It did not come up; nothing was begun.
            SparkLost: It was lost in the middle: the log tells whether the operation landed, and
                asking again with the same number applies it once.
            TableError: As :meth:`raylake.tables.port.TableEngine.execute`.
        """
        stores = {**stores_json(self._setup.stores), **used_stores()}
        asked = Order(table, operation, why, fence, stores, alongside=alongside)
        found: OperationResult = self._call("execute", asked)
        return found

    def warm(self) -> None:
        """Bring the session up; raises as :meth:`execute`."""
        self._call("warm")

    def cancel(self, table: str, timeout_s: float = CANCEL_S) -> int:
        """Cancel what runs on a table; returns how many operations still run, 0 without a host.

        Raises:
            SparkLost: The host did not answer.
        """
        try:
            call = find(NAME).cancel.options(concurrency_group=CONTROL)
            left: int = result(call.remote(table, timeout_s), timeout_s + _STATUS_S)
        except OwnerLost as error:
            if _there() is None:
                return 0
            raise SparkLost(f"{table}: the Spark host did not cancel: {error.message}") from error
        return left

    def status(self) -> HostStatus:
        """How the host stands; ``absent`` without one."""
        try:
            call = find(NAME).report.options(concurrency_group=CONTROL)
            report: HostReport = result(call.remote(), _STATUS_S)
        except OwnerLost as error:
            return HostStatus(State.ABSENT, reason=error.message)
        return report.status

    def close(self) -> None:
        """End the host that is there, with all that it runs, and wait until it is gone."""
        actor = _there()
        if actor is not None:
            with suppress(OwnerLost):
                result(actor.close.options(concurrency_group=CONTROL).remote(), _STATUS_S)
            self._gone(actor)

    def _call(self, method: str, *arguments: Order) -> Any:
        error: Exception | None = None
        for _ in range(MAKE_AGAIN):
            actor = self._actor()
            try:
                call = getattr(actor, method).options(concurrency_group=OPERATIONS)
                return result(call.remote(*arguments), None)
            except SparkNotReady as leaving:
                if not leaving.context.get(LEAVING):
                    raise
                error = leaving
                self._gone(actor)
            except OwnerLost as lost:
                raise _lost(lost, arguments) from lost
        raise SparkNotReady("the Spark host leaves again and again") from error

    def _actor(self) -> Any:
        options = {"name": NAME, "namespace": NAMESPACE, "get_if_exists": True}
        actor_class: Any = SparkHost
        for _ in range(MAKE_AGAIN):
            known = _there()
            if known is not None:
                return known
            resources = host_resources({**ray.cluster_resources(), **(growth() or {})})
            made = actor_class.options(lifetime="detached", resources=resources, **options)
            actor = made.remote(self._setup, self._engine)
            if not resources or _came(actor, self._setup.spark.start_timeout_s):
                return actor
        raise SparkNotReady(
            "nodes that Spark's host was sent to were lost before it came up, again and again",
            hint="nothing was begun; ask again when `ray status` shows such nodes to stay",
        )

    def _gone(self, actor: Any) -> None:
        """Wait until a host that leaves has left."""
        deadline_s = time.monotonic() + GONE_WITHIN_S
        while _there() == actor and time.monotonic() < deadline_s:
            time.sleep(LOOK_AGAIN_S)


def _came(actor: Any, timeout_s: float) -> bool:
    """Wait until a host has come to its node, which an autoscaler may have to start first.

    False where the node was lost before that: Ray takes a while to find that one is gone.
    """
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=timeout_s)
    except (ActorDiedError, ActorUnavailableError):
        return False
    except GetTimeoutError as error:
        # The next one that is asked for goes by what the cluster is then.
        ray.kill(actor)
        raise SparkNotReady(
            f"no node that offers {PLACE!r} came up for Spark within {timeout_s:.0f} s",
            hint="nothing was begun; ask again when `ray status` shows such a node, or give more "
            "time with spark: start_timeout",
        ) from error
    return True


def _there() -> Any:
    try:
        return ray.get_actor(NAME, namespace=NAMESPACE)
    except (ValueError, ActorDiedError, ActorUnavailableError):
        return None


def _lost(error: OwnerLost, arguments: tuple[Order, ...]) -> SparkLost:
    what = "".join(f"{one.table}: " for one in arguments)
    return SparkLost(
        f"{what}the Spark host was lost: {error.message}",
        hint="ask again with the same number: what landed is not applied twice",
    )
