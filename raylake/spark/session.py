"""The Spark session on a Ray cluster, by RayDP; of one process, once in its life."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from raylake.clock import Clock, Deadline
from raylake.errors import RayLakeError
from raylake.kafka.java import Java
from raylake.spark.classes import ClassArchive
from raylake.spark.errors import SparkNotInstalled, SparkNotReady, SparkUnavailable
from raylake.spark.jars import delta_jars, store_jars, store_jars_there
from raylake.spark.java import check_node_java, driver_environment, spark_java
from raylake.spark.raydp import (
    DRIVER_LOG,
    Master,
    add_java_options,
    class_path,
    ray_options,
    raydp_settings,
    reserved_settings,
    share_library,
)
from raylake.spark.resources import (
    Executor,
    not_free,
    other_machines,
    refuse_local,
    refuse_too_few,
)
from raylake.spark.settings import (
    SparkSetup,
    log_store_setting,
    refuse_unreached,
    session_settings,
    store_settings,
)
from raylake.storage.access import use_stores

RESERVATION: Final = "raylake/spark"
"""The placement group's name."""
NAME: Final = "raylake"
LOOK_AGAIN_S: Final = 0.05
_PACKAGES: Final = ("pyspark", "raydp", "delta")


@dataclass(frozen=True, slots=True)
class Reach:
    """Which tables a session can work on.

    Attributes:
        java: What fetches jars.
        own: The address of the driver's node.
        others: Addresses of other machines on which executors may be.
        s3: The jars by which it reaches S3; none: it does not.
    """

    java: Java
    own: str
    others: tuple[str, ...]
    s3: tuple[Path, ...]

    @classmethod
    def of(cls, java: Java, own: str, others: Sequence[str], table: str | None) -> Reach:
        """That of a session to be started for a table; None: for none in particular.

        Raises:
            FeatureUnsupported, SparkUnavailable: No session can work on it.
        """
        wanted = False
        if table is not None:
            refuse_unreached(table)
            refuse_local(table, others, own)
            wanted = "://" in table
        s3 = store_jars(java) if wanted or store_jars_there() else ()
        return cls(java, own, tuple(others), s3)

    def fits(self, table: str) -> bool:
        """Whether it is one of them; raises as :meth:`of`."""
        refuse_unreached(table)
        refuse_local(table, self.others, self.own)
        if self.s3 or "://" not in table:
            return True
        # Where they cannot be had another session would not do either.
        store_jars(self.java)
        return False


def own_session(root: Any, table: str) -> Any:
    """A new session of a ``SparkSession``, which knows how to reach one table, and no other's keys.

    Raises:
        FeatureUnsupported, ConfigError: As :func:`~raylake.spark.settings.store_settings`.
    """
    said = store_settings(table)
    session = root.newSession()
    if (log_store := log_store_setting(said)) is not None:
        # Delta asks the process for it, and no session.
        root.sparkContext._conf.set(*log_store)  # noqa: SLF001
    for name, value in said.items():
        session.conf.set(name, value)
    return session


class RayDPSession:
    """A session that is up (:class:`raylake.spark.host.LiveSession`).

    Args:
        root: Its ``SparkSession``.
        process: The driver's JVM.
        master: RayDP's, in that JVM.
        reservation: The executors' placement group; None when their number follows the work.
        reach: Which tables it can work on.
    """

    def __init__(
        self,
        root: Any,
        process: subprocess.Popen[bytes],
        master: Master,
        reservation: Any,
        reach: Reach,
    ) -> None:
        self._root = root
        self._context = root.sparkContext
        self._process = process
        self._master = master
        self._reservation = reservation
        self._reach = reach

    def fits(self, table: str) -> bool:
        """See :class:`~raylake.spark.host.LiveSession`."""
        return self._reach.fits(table)

    def session(self, table: str) -> Any:
        """A new ``SparkSession``, which knows how to reach one table, and no other's keys.

        Raises:
            FeatureUnsupported, ConfigError: As
                :func:`~raylake.spark.settings.store_settings`.
        """
        return own_session(self._root, table)

    def executors(self) -> int:
        """How many executors there are."""
        # The driver has a block manager like an executor's.
        status = self._context._jsc.sc().getExecutorMemoryStatus()  # noqa: SLF001
        return int(status.size()) - 1

    def alive(self) -> bool:
        """Whether the driver's JVM is there."""
        return self._process.poll() is None and not _ends(self._process.pid)

    def enter_group(self, group: str, what: str) -> None:
        """See :class:`~raylake.spark.operations.JobGroups`."""
        self._context.setJobGroup(group, what, interruptOnCancel=True)

    def cancel_group(self, group: str) -> None:
        """See :class:`~raylake.spark.operations.JobGroups`."""
        self._context.cancelJobGroup(group)

    def kill(self) -> None:
        """End the driver's process, whatever it does; its executors end with it."""
        self._process.kill()

    def stop(self) -> None:
        """Give executors and the reservation back."""
        try:
            self._root.stop()
            self._master.stop()
        finally:
            _forget(self._reservation)

    def warm_up(self) -> None:
        """Plan and run a first small job, which waits for an executor; for a thread of its own."""
        from py4j.protocol import Py4JError

        with suppress(Py4JError):
            self._root.range(1).count()


def start_session(setup: SparkSetup, clock: Clock, table: str | None = None) -> RayDPSession:
    """Bring the session up on the Ray cluster that this process is connected to.

    Args:
        setup: What is configured.
        clock: Time.
        table: What it is started for.

    Raises:
        SparkUnavailable, FeatureUnsupported: It cannot run here, or not for this table; nothing
            was started.
        SparkNotReady: It did not come up within the configured time.
    """
    deadline = Deadline.after(setup.spark.start_timeout_s, clock)
    refuse_missing()
    java = spark_java()
    node_java = check_node_java(known=java)
    jars = class_path(delta_jars(java))
    executor, count = Executor.of(setup.spark), setup.spark.executors.min
    nodes, own = _nodes()
    refuse_too_few(executor, count, [dict(one["Resources"]) for one in nodes], growth())
    machines = [(one["NodeManagerAddress"], dict(one["Resources"])) for one in nodes]
    here = own["NodeManagerAddress"]
    reach = Reach.of(java, here, other_machines(executor, machines, here), table)
    os.environ.update(driver_environment(java))
    use_stores(setup.stores)
    archive = ClassArchive.of(java, jars)
    options = archive.options()
    # At the end of the class path: an archive of what comes before it is good for these, too.
    jars = (*jars, *reach.s3)
    # Other machines need not have those of the cache.
    handed = (*delta_jars(java), *reach.s3) if reach.others else ()
    settings = session_settings(setup.spark, handed, java)
    settings |= raydp_settings(executor, count, here, jars)
    add_java_options(settings, "driver", (DRIVER_LOG, *options))
    if node_java.resolve() == java.executable.resolve() and not reach.others:
        add_java_options(settings, "executor", options)
    reservation = _reserved(setup, deadline)
    if reservation is not None:
        settings |= reserved_settings(reservation.id.hex(), count)
    try:
        with _Starting():
            session = _started(settings, _ray_of(own), jars, (reservation, reach))
            _await_executors(session, count, deadline)
    except SparkNotReady:
        _forget(reservation)
        raise
    if not archive.file.exists():
        making = partial(archive.make_when_settled, clock)
        threading.Thread(target=making, name="archive", daemon=True).start()
    return session


def _started(
    settings: Mapping[str, str],
    ray: Mapping[str, str],
    jars: Sequence[Path],
    of_session: tuple[Any, Reach],
) -> RayDPSession:
    """The driver, its master and its session; no executor needs to be there yet."""
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    said = SparkConf(loadDefaults=False).setAll(list(settings.items()))
    gateway = launch_gateway(said)
    process: subprocess.Popen[bytes] = gateway.proc
    with ExitStack() as undo:
        undo.callback(process.kill)
        master = Master(gateway.jvm, ray, jars)
        with suppress(OSError):
            mapped = Path(f"/proc/{process.pid}/maps").read_text()
            share_library(mapped, Path(ray["ray.session-dir"]))
        said.setMaster(master.url()).setAppName(NAME)
        SparkContext(conf=said, gateway=gateway).setLogLevel("WARN")
        session = RayDPSession(SparkSession.builder.getOrCreate(), process, master, *of_session)
        threading.Thread(target=session.warm_up, name="warm", daemon=True).start()
        undo.pop_all()
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


def _nodes() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The nodes that live, and this process's."""
    import ray

    mine = ray.get_runtime_context().get_node_id()
    nodes = [dict(node) for node in ray.nodes() if node["Alive"]]
    return nodes, next(node for node in nodes if node["NodeID"] == mine)


def _ray_of(node: Mapping[str, Any]) -> dict[str, str]:
    import ray

    # The executors' names are RayDP's own: two sessions do not share a namespace.
    namespace = f"{NAME}-{secrets.token_hex(4)}"
    return ray_options(node, ray.get_runtime_context().gcs_address, namespace)


def growth() -> dict[str, float] | None:
    """What an autoscaler may bring the cluster to; None without one."""
    from ray._private.state import state

    found: dict[str, float] | None = state.get_max_resources_from_cluster_config()
    return found


def _ends(pid: int) -> bool:
    """Whether a process that cannot be waited for yet has none of its memory any more.

    One that is killed gives it back before its sockets close, so before who waits for its answer
    asks what became of it.
    """
    try:
        return Path(f"/proc/{pid}/statm").read_text().startswith("0 ")
    except OSError:
        return False


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
