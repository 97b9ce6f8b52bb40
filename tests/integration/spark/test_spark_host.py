"""The Spark host on a real Ray cluster: one session of one executor, and what may befall it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from actors.spark_calls import RaySparkHost
from raylake import faults
from raylake.config.spark import Spark
from raylake.spark.errors import (
    JarsMissing,
    JavaMissing,
    OperationCancelled,
    SparkLost,
    SparkNotReady,
    TooFewResources,
)
from raylake.spark.host import HostStatus
from raylake.spark.life import State
from raylake.spark.settings import SparkSetup
from raylake.tables.errors import SlotClosed, TableError, WriteFailed
from raylake.tables.port import Fence
from raylake.tables.requests import Upsert
from raylake.tables.results import OperationResult
from tests.harness.cluster import LiveCluster, end, start
from tests.harness.waiting import until
from tests.integration.spark.driver import Driver
from tests.integration.spark.gated_merge import GATE, Either

OWNER = "raylake/owner"
EPOCH = 1 << 32
CPUS = 4
SMALL: Mapping[str, Any] = {
    "cores": 1,
    "memory_bytes": 600 * 2**20,
    "driver_memory_bytes": 600 * 2**20,
    "idle_timeout_s": 600.0,
    "start_timeout_s": 420.0,
}


def setup(**changes: Any) -> SparkSetup:
    """One executor of one core."""
    environment = changes.pop("environment", {})
    return SparkSetup(Spark(**{**SMALL, **changes}), {}, environment)


def host(made: SparkSetup) -> RaySparkHost:
    return RaySparkHost(made, Either)


# What the driver process is told to call.


def merge(
    made: SparkSetup, table: str, rows: list[dict[str, Any]], number: int, why: str = ""
) -> OperationResult:
    request = Upsert(pa.Table.from_pylist(rows), ("id",))
    return host(made).execute(table, request, why=why, fence=Fence(OWNER, number))


def status() -> HostStatus:
    return host(setup()).status()


def cancel(table: str) -> int:
    return host(setup()).cancel(table, 60.0)


def free_cpus() -> float:
    import ray

    return float(ray.available_resources().get("CPU", 0.0))


def process() -> int:
    """The host's process."""
    import ray

    from actors.spark_host import NAME

    actor = ray.get_actor(NAME, namespace="raylake")
    return int(ray.get(actor.report.remote()).process.pid)


def close() -> None:
    """End the host, and wait until it is gone."""
    host(setup()).close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LiveCluster]:
    """One of its own: there is one Spark host in a cluster, and these tests end it."""
    made = start(Path(tempfile.mkdtemp(prefix="rl-")), f"--num-cpus={CPUS}")
    yield made
    end(made)


@pytest.fixture(scope="module")
def driver(cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    made = Driver({**os.environ, **cluster.environment}, tmp_path_factory.mktemp("driver"))
    yield made
    made.call(close)
    made.close()


@pytest.fixture(scope="module")
def armed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where crash points of hosts are armed."""
    return tmp_path_factory.mktemp("faults")


class Bench:
    """A table, the shared session, and operations that can be held up in it."""

    def __init__(self, driver: Driver, folder: Path, armed: Path) -> None:
        self.driver = driver
        self.armed = armed
        self.setup = setup(environment={faults.ENV: str(armed)})
        self.table = str(folder / "orders")
        self.gate = folder / "gate"
        self.gate.mkdir()
        write_deltalake(self.table, pa.table({"id": [1, 2, 3], "v": ["old"] * 3}))
        self.take(EPOCH)

    def take(self, number: int) -> None:
        """What a new owner commits first."""
        mine = CommitProperties(app_transactions=[Transaction(OWNER, number)])
        handle = DeltaTable(self.table)
        handle.create_write_transaction([], "append", handle.schema(), commit_properties=mine)

    def merge(self, number: int, *ids: int, value: str = "new") -> OperationResult:
        return self.driver.call(merge, self.setup, self.table, _rows(ids, value), number)

    def held(self, number: int, *ids: int) -> Future[OperationResult]:
        """A MERGE that waits in a task on an executor; returns when it does."""
        (self.gate / "hold").touch()
        why = f"{GATE}{self.gate}"
        going = self.driver.begin(merge, self.setup, self.table, _rows(ids, "new"), number, why)

        def reached() -> bool:
            if going.done():
                going.result()
            return any(self.gate.glob("reached-*"))

        until(reached, "a task on an executor", 450)
        return going

    def release(self) -> None:
        (self.gate / "hold").unlink()

    def executor(self) -> psutil.Process:
        """The executor's JVM that the held task runs on."""
        (reached,) = self.gate.glob("reached-*")
        # pyspark's daemon is between the JVM and the task's process.
        return psutil.Process(json.loads(reached.read_text())["parent"]).parent()

    def spark_driver(self) -> psutil.Process:
        """The driver's JVM."""
        children = psutil.Process(self.driver.call(process)).children(recursive=True)
        living = [one for one in children if one.status() != psutil.STATUS_ZOMBIE]
        (jvm,) = [one for one in living if "pyspark-shell" in one.cmdline()]
        return jvm

    def rows(self) -> dict[int, str]:
        found = DeltaTable(self.table).to_pyarrow_table().to_pylist()
        assert len({row["id"] for row in found}) == len(found)
        return {row["id"]: row["v"] for row in found}

    def version(self) -> int:
        return int(DeltaTable(self.table).version())


def _rows(ids: tuple[int, ...], value: str) -> list[dict[str, Any]]:
    return [{"id": one, "v": value} for one in ids]


@pytest.fixture
def bench(driver: Driver, tmp_path: Path, armed: Path) -> Bench:
    return Bench(driver, tmp_path, armed)


def test_a_session_comes_up_on_demand_merges_on_executors_and_stays_warm(bench: Bench) -> None:
    assert bench.driver.call(status).state is State.ABSENT
    going = bench.held(EPOCH + 1, 2, 9)
    assert bench.driver.call(status).running == (bench.table,)
    assert bench.driver.call(free_cpus) == CPUS - 1
    (reached,) = bench.gate.glob("reached-*")
    assert json.loads(reached.read_text())["python"] == sys.executable
    executor = bench.executor()
    assert "raydp" in " ".join(executor.cmdline()), "the task ran in an executor of RayDP's"
    bench.release()
    result = going.result(120)
    assert (result.version_before, result.version_after) == (1, 2)
    assert bench.rows() == {1: "old", 2: "new", 3: "old", 9: "new"}
    assert "Spark" in DeltaTable(bench.table).history(1)[0]["engineInfo"]

    host_process = bench.driver.call(process)
    result = bench.merge(EPOCH + 2, 3, 4)
    assert (result.engine, result.rows.updated, result.rows.inserted) == ("spark", 1, 1)
    assert bench.driver.call(process) == host_process
    assert executor.is_running(), "the second operation found the session warm"
    now = bench.driver.call(status)
    assert (now.state, now.operations, now.executors) == (State.IDLE, 2, 1)


@pytest.mark.spec("C6")
def test_failure_24_the_same_number_is_applied_once(bench: Bench) -> None:
    assert bench.merge(EPOCH + 1, 2).changed
    with pytest.raises(SlotClosed):
        bench.merge(EPOCH + 1, 3)
    assert bench.rows() == {1: "old", 2: "new", 3: "old"}


def test_a_merge_in_flight_while_the_epoch_moves_changes_nothing(bench: Bench) -> None:
    going = bench.held(EPOCH + 1, 2)
    bench.take(2 * EPOCH)
    bench.release()
    with pytest.raises(WriteFailed, match="Concurrent"):
        going.result(120)
    assert bench.rows() == {1: "old", 2: "old", 3: "old"}
    with pytest.raises(SlotClosed, match="newer owner"):
        bench.merge(EPOCH + 2, 3)
    assert bench.merge(2 * EPOCH + 1, 3).changed
    assert bench.rows() == {1: "old", 2: "old", 3: "new"}


def test_a_new_owner_cancels_what_an_old_one_runs(bench: Bench) -> None:
    going = bench.held(EPOCH + 1, 2)
    assert bench.driver.call(cancel, bench.table + "-other") == 0
    assert not going.done()
    assert bench.driver.call(cancel, bench.table) == 0
    with pytest.raises(OperationCancelled) as told:
        going.result(120)
    assert told.value.table_changed is False
    assert bench.version() == 1
    assert bench.merge(EPOCH + 1, 2).changed, "the session goes on"


def test_failure_37_an_executor_killed_in_a_merge_is_made_up_for(bench: Bench) -> None:
    going = bench.held(EPOCH + 1, 2)
    bench.executor().kill()
    bench.release()
    result = going.result(120)
    assert (result.version_after, bench.version()) == (2, 2)
    assert bench.rows() == {1: "old", 2: "new", 3: "old"}
    assert bench.driver.call(status).executors == 1


def test_failure_24_a_host_killed_after_the_commit_is_applied_once(bench: Bench) -> None:
    bench.merge(EPOCH + 1, 1)
    faults.arm(bench.armed, "spark.committed")
    with pytest.raises(SparkLost) as told:
        bench.merge(EPOCH + 2, 2)
    assert told.value.table_changed is None
    assert bench.version() == 3, "it had landed"
    with pytest.raises(SlotClosed):
        bench.merge(EPOCH + 2, 2, value="twice")
    assert bench.version() == 3
    assert bench.rows() == {1: "new", 2: "new", 3: "old"}
    assert bench.merge(EPOCH + 3, 3).version_after == 4


def test_a_driver_killed_in_a_merge_is_told_and_another_one_comes_up_and_is_given_back(
    bench: Bench,
) -> None:
    going = bench.held(EPOCH + 1, 2)
    bench.spark_driver().kill()
    bench.release()
    with pytest.raises(SparkLost):
        going.result(120)
    assert bench.rows() == {1: "old", 2: "old", 3: "old"}

    bench.setup = setup(idle_timeout_s=1.0)
    assert bench.merge(EPOCH + 1, 2).version_after == 2
    until(lambda: bench.driver.call(status).state is State.ABSENT, "the session to be idle", 60)
    until(lambda: bench.driver.call(free_cpus) == CPUS, "the CPUs to come back", 30)


def test_a_session_given_back_is_started_anew_and_its_executors_follow_the_work(
    bench: Bench,
) -> None:
    bench.driver.call(close)
    bench.setup = setup(executors={"min": 1, "max": 2})
    going = bench.held(EPOCH + 1, 2)
    until(lambda: bench.driver.call(status).executors == 2, "a second executor", 120)
    bench.release()
    assert going.result(120).version_after == 2
    assert bench.rows() == {1: "old", 2: "new", 3: "old"}


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        (
            setup(environment={"PATH": "/nowhere", "JAVA_HOME": "/nowhere"}),
            JavaMissing,
            r"Java 17",
        ),
        (setup(environment={"RAYLAKE_SPARK_JARS": "/nowhere"}), JarsMissing, "delta-spark"),
        (
            setup(executors={"min": 500, "max": 500}),
            TooFewResources,
            r"asks for 500 executors, each with 1 CPU and 600 MiB.* has 1 node: 4 CPUs, \d+ MiB",
        ),
    ],
    ids=["no Java", "no jars", "too few resources"],
)
def test_failure_37_what_cannot_run_is_refused_at_once(
    bench: Bench, made: SparkSetup, error: type[TableError], says: str
) -> None:
    bench.driver.call(close)
    bench.setup = made
    began = time.monotonic()
    with pytest.raises(error, match=says) as told:
        bench.merge(EPOCH + 1, 1)
    assert time.monotonic() - began < 30
    assert told.value.table_changed is False
    assert told.value.hint
    assert not isinstance(told.value, SparkNotReady)
    assert bench.version() == 1
