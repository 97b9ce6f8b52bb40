"""The Spark session on a Ray cluster, by RayDP; of one process, once in its life."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final

from raylake.clock import Clock, Deadline
from raylake.errors import RayLakeError
from raylake.spark.errors import SparkNotInstalled, SparkNotReady, SparkUnavailable
from raylake.spark.jars import delta_jars
from raylake.spark.java import check_node_java, driver_environment, spark_java
from raylake.spark.resources import Executor, not_free, refuse_other_machines, refuse_too_few
from raylake.spark.settings import SparkSetup, session_settings, store_settings
from raylake.storage.access import use_stores

RESERVATION: Final = "raylake/spark"
"""The placement group's name."""
APP_MASTER: Final = "RAY_APP_MASTER"
"""The name that RayDP gives its master: there is one in a namespace."""
LOOK_AGAIN_S: Final = 0.05
STOPPED_WITHIN_S: Final = 15.0
_PACKAGES: Final = ("pyspark", "raydp", "delta")


class RayDPSession:
    """A session that is up (:class:`raylake.spark.host.LiveSession`).

    Args:
        root: RayDP's ``SparkSession``.
        reservation: The executors' placement group; None when their number follows the work.
        clock: Time.
    """

    def __init__(self, root: Any, reservation: Any, clock: Clock) -> None:
        self._root = root
        self._context = root.sparkContext
        self._reservation = reservation
        self._clock = clock

    def session(self, table: str) -> Any:
        """A new ``SparkSession``, which knows how to reach one table, and no other's keys.

        Raises:
            FeatureUnsupported, ConfigError: As
                :func:`~raylake.spark.settings.store_settings`.
        """
        said = store_settings(table)
        session = self._root.newSession()
        for name, value in said.items():
            session.conf.set(name, value)
        return session

    def executors(self) -> int:
        """How many executors there are."""
        # The driver has a block manager like an executor's.
        status = self._context._jsc.sc().getExecutorMemoryStatus()  # noqa: SLF001
        return int(status.size()) - 1

    def alive(self) -> bool:
        """Whether the driver's JVM is there."""
        return self._context._gateway.proc.poll() is None  # noqa: SLF001

    def enter_group(self, group: str, what: str) -> None:
        """See :class:`~raylake.spark.operations.JobGroups`."""
        self._context.setJobGroup(group, what, interruptOnCancel=True)

    def cancel_group(self, group: str) -> None:
        """See :class:`~raylake.spark.operations.JobGroups`."""
        self._context.cancelJobGroup(group)

    def kill(self) -> None:
        """End the driver's process, whatever it does; its executors end with it."""
        self._context._gateway.proc.kill()  # noqa: SLF001

    def stop(self) -> None:
        """Give executors, masters and the reservation back."""
        import raydp
        from ray.util import remove_placement_group

        try:
            raydp.stop_spark()
        finally:
            if self._reservation is not None:
                remove_placement_group(self._reservation)
        _wait(lambda: not _named(), Deadline.after(STOPPED_WITHIN_S, self._clock))


def start_session(setup: SparkSetup, clock: Clock) -> RayDPSession:
    """Bring the session up on the Ray cluster that this process is connected to.

    Args:
        setup: What is configured.
        clock: Time.

    Raises:
        SparkUnavailable: It cannot run here; nothing was started.
        SparkNotReady: It did not come up within the configured time.
    """
    deadline = Deadline.after(setup.spark.start_timeout_s, clock)
    refuse_missing()
    java = spark_java()
    check_node_java()
    jars = delta_jars(java)
    executor, count = Executor.of(setup.spark), setup.spark.executors.min
    refuse_too_few(executor, count, _nodes(), _growth())
    refuse_other_machines(executor, _machines(), _own_address())
    os.environ.update(driver_environment(java))
    use_stores(setup.stores)
    settings = session_settings(setup.spark, jars, java)
    # What an earlier host left, which was killed; Ray takes its actors away by and by.
    if not _wait(lambda: not _named(), deadline):
        raise SparkNotReady(
            f"another Spark session of RayDP is in the namespace: its actor {APP_MASTER} is there",
            hint="end it, or run it in a namespace of its own",
        )
    reservation = _reserved(setup, deadline)
    try:
        with _Starting():
            root = _init(setup, settings, reservation)
            session = RayDPSession(root, reservation, clock)
            _await_executors(session, count, deadline)
    except SparkNotReady:
        _forget(reservation)
        raise
    return session


def _await_executors(session: RayDPSession, count: int, deadline: Deadline) -> None:
    if not _wait(lambda: session.executors() >= count, deadline):
        raise SparkNotReady(
            f"{session.executors()} of {count} executors came up in time",
            hint="their logs are raydp-java-worker-*.log in the logs of the Ray session; see "
            "also spark: start_timeout",
        )


def refuse_missing() -> None:
    """Refuse to go on without Spark's Python packages.

    Raises:
        SparkNotInstalled: Naming them.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise SparkNotInstalled(
            f"Spark is not installed on this node: no module {', '.join(missing)}",
            hint="pip install 'raylake[spark]' on every node that Spark may run on",
        )


def _init(setup: SparkSetup, settings: dict[str, str], reservation: Any) -> Any:
    import raydp

    executor = Executor.of(setup.spark)
    return raydp.init_spark(
        # The name is that of an actor of RayDP's, too: two lives do not share it.
        app_name=f"raylake-{secrets.token_hex(4)}",
        num_executors=setup.spark.executors.min,
        executor_cores=setup.spark.cores,
        executor_memory=f"{int(executor.memory_bytes) // 2**20}m",
        # What it is for, Spark's rows in Ray's object store, is not used.
        fault_tolerant_mode=False,
        placement_group=reservation,
        configs=settings,
    )


def _reserved(setup: SparkSetup, deadline: Deadline) -> Any:
    """The executors' placement group: all of them or none; None when their number varies.

    Raises:
        TooFewResources: Something else has the resources until the time is over.
    """
    import ray
    from ray.util import placement_group, remove_placement_group
    from ray.util.placement_group import placement_group_table

    executor, executors = Executor.of(setup.spark), setup.spark.executors
    for identity, known in placement_group_table().items():
        if known["name"] == RESERVATION and known["state"] != "REMOVED":
            remove_placement_group(_group_of(identity))
    if executors.max > executors.min:
        return None
    waited_s = deadline.left_s()
    group = placement_group([executor.bundle] * executors.min, strategy="PACK", name=RESERVATION)
    if not group.wait(waited_s):
        free = ray.available_resources()
        remove_placement_group(group)
        raise not_free(executor, executors.min, free, waited_s)
    return group


def _group_of(identity: str) -> Any:
    from ray import PlacementGroupID
    from ray.util.placement_group import PlacementGroup

    return PlacementGroup(PlacementGroupID.from_hex(identity))


def _forget(reservation: Any) -> None:
    from ray.util import remove_placement_group

    if reservation is not None:
        remove_placement_group(reservation)


def _nodes() -> list[dict[str, float]]:
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _machines() -> list[tuple[str, dict[str, float]]]:
    import ray

    return [(n["NodeManagerAddress"], dict(n["Resources"])) for n in ray.nodes() if n["Alive"]]


def _own_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _growth() -> dict[str, float] | None:
    """What an autoscaler may bring the cluster to; None without one."""
    from ray._private.state import state

    found: dict[str, float] | None = state.get_max_resources_from_cluster_config()
    return found


def _named() -> bool:
    import ray

    return APP_MASTER in ray.util.list_named_actors()


def _wait(condition: Callable[[], bool], deadline: Deadline) -> bool:
    while not condition():
        if deadline.expired():
            return False
        deadline.clock.sleep(LOOK_AGAIN_S)
    return True


class _Starting:
    """Turns what RayDP, py4j and Spark raise while they start into one error of ours."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Raise ``SparkNotReady`` in the place of what was raised."""
        if not isinstance(error, Exception) or isinstance(error, (SparkNotReady, SparkUnavailable)):
            return
        said = error.message if isinstance(error, RayLakeError) else str(error).strip()
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        raise SparkNotReady(
            f"the Spark session did not come up: {type(error).__name__}: "
            f"{' | '.join(lines[:1] + lines[-1:])}",
            hint="the logs of the Ray session say more: worker-*.err, raydp-java-worker-*.log",
        ) from None
