"""Table operations on a Ray cluster: routed, under a slot of the table's owner, in a worker."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

import psutil
import pyarrow as pa
import ray
from deltalake import DeltaTable
from ray.exceptions import GetTimeoutError, RayError

from actors.calls import owner_name, result
from actors.fed_tables import RayTurns, WorkerProposer
from actors.metrics import RayMetrics
from actors.table_slots import SILENT_S, SlotSetup, TableSlots
from actors.table_worker import TableWorker
from raylake.client.cluster import NAMESPACE
from raylake.delta.identity import COURTEOUS, Claim
from raylake.delta.ledger import owner_epoch
from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.settling import settled_in_log
from raylake.errors import DependencyUnreachable, RayLakeError
from raylake.ingest.ports import OwnerLost
from raylake.storage.access import used_stores
from raylake.storage.place import place
from raylake.tables.alongside import Alongside
from raylake.tables.carrying import check_alongside
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.delta_rs_open import opened
from raylake.tables.errors import NoEngine, OutOfMemory, TableReplaced
from raylake.tables.fencing import is_fed
from raylake.tables.proposals import refuse_unproposable
from raylake.tables.requests import Changes, Create, Read, Write
from raylake.tables.results import OperationResult, TableVersion
from raylake.tables.routing import (
    SPARK,
    USUAL,
    Allowance,
    EngineChoice,
    Resources,
    Route,
    decide,
)
from raylake.tables.rows import plain_text
from raylake.tables.running import MemoryExceeded, Order, Runner, RunnerLost, under_slot
from raylake.tables.touched import load
from raylake.tables.under_turn import under_turn
from raylake.tables.upkeep_requests import Clone, Convert
from raylake.telemetry.metrics import Metrics

T = TypeVar("T")

MEMORY: Final = "memory"
OPERATIONS: Final = "raylake_table_operations_total"
START_S: Final = 120.0
TAKES: Final = 5
TAKE_AGAIN_S: Final = 0.3
NO_SPARK: Final = "this connection has no Spark host"
_NEW: Final = (Create, Clone, Convert)
"""They make a table, which has no owner before."""


class SparkSide(Protocol):
    """The cluster's Spark host; ``actors.spark_calls.RaySparkHost`` is one."""

    def execute(
        self,
        table: str,
        operation: Write,
        *,
        why: str = "",
        fence: Any = None,
        alongside: Alongside | None = None,
    ) -> OperationResult:
        """As :meth:`raylake.tables.port.TableEngine.execute`."""
        ...


@dataclass(frozen=True, slots=True)
class Cluster:
    """How this process works with tables on its Ray cluster.

    Attributes:
        spark: The Spark host; None: there is none.
        no_spark: Why there is none.
        environment: Variables of the processes that it starts.
        claim: By what right tables are taken from an owner that may be alive elsewhere.
        allowance: How memory is given out.
        silent_s: Seconds without an answer after which an owner takes a runner for lost.
        run_id: Its name as an owner.
    """

    spark: SparkSide | None = None
    no_spark: str = NO_SPARK
    environment: Mapping[str, str] = field(default_factory=dict)
    claim: Claim = COURTEOUS
    allowance: Allowance = USUAL
    silent_s: float = SILENT_S
    run_id: str = field(default_factory=lambda: f"tables-{uuid.uuid4().hex[:12]}")


class RayTables:
    """:class:`raylake.tables.service.TableService` on the cluster that this process joined.

    Every table gets an owner when it is first written to: its epoch is a commit in the log, and
    from then on it is written under the owner's slots alone.

    Args:
        cluster: How.
        metrics: Counts operations; None: Ray's own metrics do.
    """

    def __init__(self, cluster: Cluster | None = None, metrics: Metrics | None = None) -> None:
        self._cluster = cluster or Cluster()
        self._reader = DeltaRsEngine()
        self._light: Any = None
        self._metrics: Metrics = metrics or RayMetrics()
        self._ids: dict[str, str] = {}

    def execute(
        self,
        table: str,
        operation: Write,
        *,
        engine: EngineChoice = "auto",
        alongside: Alongside | None = None,
    ) -> OperationResult:
        """See :meth:`raylake.tables.service.TableService.execute`."""
        check_alongside(table, operation, alongside)
        operation = _sendable(operation)
        handle = None if isinstance(operation, _NEW) else opened(place(table))
        route = self._route(table, operation, engine, handle)
        order = Order(table, operation, route.why, stores=used_stores(), alongside=alongside)
        try:
            return self._counted(order, route, handle)
        except OutOfMemory as error:
            if not route.otherwise_spark:
                raise
            why = f"delta-rs did not do with its memory ({error.message}); Spark took it over"
            again = Route(SPARK, why, "out_of_memory", route.load)
            return self._counted(replace(order, why=why), again, handle)

    def _counted(self, order: Order, route: Route, handle: DeltaTable | None) -> OperationResult:
        outcome = "done"
        try:
            return self._routed(order, route, handle)
        except RayLakeError as error:
            outcome = error.code
            raise
        finally:
            labels = {"operation": order.name, "engine": route.engine, "reason": route.reason}
            self._metrics.add(OPERATIONS, 1, {**labels, "outcome": outcome})

    def explain(self, table: str, operation: Write, *, engine: EngineChoice = "auto") -> Route:
        """See :meth:`raylake.tables.service.TableService.explain`."""
        return self._route(table, operation, engine)

    def _route(
        self, table: str, operation: Write, engine: EngineChoice, handle: DeltaTable | None = None
    ) -> Route:
        here = int(psutil.virtual_memory().available)
        free = min(here, int(ray.available_resources().get(MEMORY, here)))
        no_spark = "" if self._cluster.spark is not None else self._cluster.no_spark
        resources = Resources(free, no_spark, self._cluster.allowance)
        return decide(load(table, operation, handle), resources, engine)

    def read(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.service.TableService.read`."""
        return self._reader.read(table, request)

    def changes(self, table: str, request: Changes) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.service.TableService.changes`."""
        return self._reader.changes(table, request)

    def history(self, table: str, limit: int | None = None) -> list[TableVersion]:
        """See :meth:`raylake.tables.service.TableService.history`."""
        return self._reader.history(table, limit)

    def close(self) -> None:
        """End the worker; owners stay for others, and leave when nobody asks."""
        if self._light is not None:
            ray.kill(self._light)
            self._light = None

    def _routed(self, order: Order, route: Route, handle: DeltaTable | None) -> OperationResult:
        heavy = self._heavy(order, route) if route.limit_bytes else None
        worker = heavy if heavy is not None else self._worker()
        try:
            runner: Runner = _WorkerRunner(worker, route.limit_bytes)
            if route.engine == SPARK and self._cluster.spark is not None:
                runner = _SparkRunner(self._cluster.spark)
            if handle is None:
                return runner.run(order)
            return self._owned(order, runner, (worker, route.limit_bytes), handle)
        finally:
            if heavy is not None:
                ray.kill(heavy)

    def _owned(
        self, order: Order, runner: Runner, by: tuple[Any, int], handle: DeltaTable
    ) -> OperationResult:
        root = place(order.table)
        worker, limit_bytes = by
        fed = is_fed(root, handle.metadata().configuration)
        table_id = str(handle.metadata().id)
        self._refuse_another(order.table, table_id)
        if fed:
            refuse_unproposable(root, order.operation, order.alongside)
            if isinstance(runner, _SparkRunner):
                raise NoEngine(
                    f"{order.table}: {order.name}: a table that a pipeline feeds is rewritten by "
                    f"delta-rs alone ({order.why})",
                    hint="nothing was changed; choose engine: delta-rs, and do a part at a time "
                    "where memory is short",
                )
            turns = RayTurns(self._setup(order.table), table_id, worker)
            return under_turn(turns, WorkerProposer(worker, limit_bytes), order)
        slots = _RaySlots(self._setup(order.table), table_id, worker)
        return under_slot(slots, runner, order)

    def _refuse_another(self, table: str, table_id: str) -> None:
        """Refuse, once, a table that was dropped and created again since it was used here."""
        known = self._ids.pop(table, table_id)
        if known != table_id:
            raise TableReplaced(
                f"{table}: the table was dropped and created again since it was last written from "
                f"here (table id {table_id}, it was {known})",
                hint="nothing was changed; run the operation again if this is the table that is "
                "meant",
                table_id=table_id,
                known=known,
            )
        self._ids[table] = table_id

    def _setup(self, table: str) -> SlotSetup:
        one = self._cluster
        return SlotSetup(table, one.run_id, one.environment, used_stores(), one.claim, one.silent_s)

    def _worker(self) -> Any:
        """The worker for light orders, made again where it was lost."""
        if self._light is not None:
            try:
                ray.get(self._light.pids.remote(), timeout=START_S)
            except RayError:
                self._light = None
        if self._light is None:
            actor_class: Any = TableWorker
            self._light = actor_class.remote(self._cluster.environment, used_stores())
        return self._light

    def _heavy(self, order: Order, route: Route) -> Any:
        """A worker of its own under a reservation of memory."""
        actor_class: Any = TableWorker
        made = actor_class.options(memory=route.limit_bytes).remote(
            self._cluster.environment, used_stores()
        )
        try:
            ray.get(made.pids.remote(), timeout=START_S)
        except (GetTimeoutError, RayError) as error:
            ray.kill(made)
            has = int(ray.available_resources().get(MEMORY, 0))
            raise NoEngine(
                f"{order.table}: {order.name}: {route.limit_bytes} bytes of memory were not "
                f"reserved within {START_S:.0f} s; the cluster has {has} free",
                hint="nothing was done; try again when less is running, or add memory",
            ) from error
        return made


@dataclass(frozen=True, slots=True)
class _WorkerRunner:
    worker: Any
    limit_bytes: int

    def run(self, order: Order) -> OperationResult:
        try:
            found: OperationResult = result(self.worker.run.remote(order, self.limit_bytes), None)
        except OwnerLost as error:
            if "memory" in error.message.lower() or "OutOfMemory" in error.message:
                raise MemoryExceeded(f"{order.table}: {order.name}: {error.message}") from error
            raise RunnerLost(f"its process was lost: {error.message}") from error
        return found


@dataclass(frozen=True, slots=True)
class _SparkRunner:
    host: SparkSide

    def run(self, order: Order) -> OperationResult:
        return self.host.execute(
            order.table,
            order.operation,
            why=order.why,
            fence=order.fence,
            alongside=order.alongside,
        )


class _RaySlots:
    """The owner actor of one table; made where there is none."""

    def __init__(self, setup: SlotSetup, table_id: str, runner: Any) -> None:
        self._setup = setup
        self._name = owner_name(table_id)
        self._runner = runner

    def take(self, request: str) -> Grant:
        def once() -> Grant:
            owner = self._owner()
            result(owner.start.remote(), START_S)
            grant: Grant = result(owner.take.remote(request, self._runner), None)
            return grant

        # Where it left nothing was begun: the next one begins with what is in the log.
        return _of_some_owner(once)

    def ended(self, request: str, *, for_sure: bool) -> Verdict:
        verdict: Verdict = result(self._there().ended.remote(request, for_sure), None)
        return verdict

    def settled_by_epoch(self, grant: Grant) -> Verdict:
        epoch = _of_some_owner(lambda: result(self._owner().start.remote(), START_S))
        if epoch <= owner_epoch(grant.number):
            # It did not answer, and lives: no epoch of a new owner keeps the runner out.
            return self.ended(grant.request, for_sure=False)
        return settled_in_log(place(self._setup.path), grant)

    def _owner(self) -> Any:
        actor_class: Any = TableSlots
        options = {"name": self._name, "namespace": NAMESPACE, "get_if_exists": True}
        try:
            return actor_class.options(lifetime="detached", **options).remote(self._setup)
        except RayError as error:
            raise DependencyUnreachable(f"{self._setup.path}: no owner: {error}") from error

    def _there(self) -> Any:
        try:
            return ray.get_actor(self._name, namespace=NAMESPACE)
        except ValueError as error:
            raise OwnerLost(f"no actor is named {self._name}") from error


def _of_some_owner(ask: Callable[[], T]) -> T:
    """What an owner answers; one that leaves is followed by the next.

    Raises:
        OwnerLost: Each of them left.
    """
    for _ in range(TAKES - 1):
        with suppress(OwnerLost):
            return ask()
        time.sleep(TAKE_AGAIN_S)
    return ask()


def _sendable(operation: Write) -> Write:
    """The operation with rows that Ray can pickle: it knows no string views."""
    rows: Any = getattr(operation, "rows", None)
    if not isinstance(rows, pa.Table):
        return operation
    schema = pa.schema([f.with_type(plain_text(f.type)) for f in rows.schema])
    found: Any = operation
    return operation if schema.equals(rows.schema) else replace(found, rows=rows.cast(schema))


def environment(
    names: tuple[str, ...] = ("RAYLAKE_FAULTS", "RAYLAKE_IDLE_EXIT_S"),
) -> dict[str, str]:
    """Those of our variables that this process has, for the processes that it starts."""
    return {name: os.environ[name] for name in names if name in os.environ}
