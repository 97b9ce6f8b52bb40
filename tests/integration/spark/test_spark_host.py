"""The Spark host on a real Ray cluster: one session of one executor, and what may befall it."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

import raylake
from actors.spark_calls import RaySparkHost
from actors.table_service import Cluster, RayTables, environment
from raylake import faults
from raylake.config.spark import Spark
from raylake.config.stores import StoreAccess
from raylake.delta import log_files
from raylake.errors import ConfigError
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
from raylake.spark.resources import PLACE
from raylake.spark.session import RESERVATION
from raylake.spark.settings import SparkSetup
from raylake.storage.access import stores_from_json, stores_of_request
from raylake.storage.dev import StoreInfo
from raylake.tables.alongside import Alongside
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import ProgressMoved, SlotClosed, TableError, WriteFailed
from raylake.tables.landing import operation_metadata
from raylake.tables.port import Fence
from raylake.tables.requests import Advance, Append, Create, Delete, Read, Scd2, Upsert, Write
from raylake.tables.results import OperationResult
from raylake.tables.routing import SHARE_OF_FREE, USUAL, Allowance, EngineChoice, Route
from raylake.tables.scd2 import table_for
from raylake.tables.touched import load
from raylake.tables.upkeep_requests import Compact, SetProperties, ZOrder
from raylake.telemetry.metrics import MemoryMetrics
from tests.harness.cluster import LiveCluster, another_node, end, kill_tree, start
from tests.harness.spark import no_archive_made
from tests.harness.store import access_to, store, store_lake
from tests.harness.waiting import until
from tests.integration.spark.driver import Driver
from tests.integration.spark.gated_merge import GATE, STORES, Either

__all__ = ["store", "store_lake"]

OWNER = "raylake/owner"
PROGRESS = "raylake/from/7e1c"
Told = OperationResult | Mapping[str, Any]
EPOCH = 1 << 32
CPUS = 4
WIDE = 150_000
ENDED = ("out_of_memory", "fits")
TAKEN_OVER = ("done", "out_of_memory")
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
    silent_s = changes.pop("silent_s", 120.0)
    return SparkSetup(Spark(**{**SMALL, **changes}), {}, environment, silent_s)


def host(made: SparkSetup) -> RaySparkHost:
    return RaySparkHost(made, Either)


# What the driver process is told to call.


def merge(
    made: SparkSetup, table: str, rows: list[dict[str, Any]], number: int, why: str = ""
) -> OperationResult:
    request = Upsert(pa.Table.from_pylist(rows), ("id",))
    return host(made).execute(table, request, why=why, fence=Fence(OWNER, number))


def by_service(made: SparkSetup, table: str, operation: Write) -> OperationResult:
    """As ``engine: spark`` asks for it."""
    from actors.table_service import Cluster, RayTables

    tables = RayTables(Cluster(spark=host(made)))
    try:
        return tables.execute(table, operation, engine="spark")
    finally:
        tables.close()


def a_step(made: SparkSetup, table: str, operation: Write, *versions: int | None) -> Told:
    """One that a derived table writes: which versions of a source it is processed after and up to,
    in the commit of its rows."""
    after, last = versions
    tables = RayTables(Cluster(spark=host(made)))
    carried = Alongside({PROGRESS: last or 0}, {PROGRESS: after}, {"step": last})
    try:
        result = tables.execute(table, operation, engine="spark", alongside=carried)
    except ProgressMoved as error:
        return error.context
    finally:
        tables.close()
    return result


def status() -> HostStatus:
    return host(setup()).status()


def cancel(table: str) -> int:
    return host(setup()).cancel(table, 60.0)


def free_cpus() -> float:
    import ray

    return float(ray.available_resources().get("CPU", 0.0))


def reserved() -> list[str]:
    """The states of the executors' placement groups."""
    from ray.util import placement_group_table

    groups = placement_group_table().values()
    return [one["state"] for one in groups if one["name"] == RESERVATION]


def process() -> int:
    """The host's process."""
    import ray

    from actors.spark_host import NAME

    actor = ray.get_actor(NAME, namespace="raylake")
    return int(ray.get(actor.report.remote()).process.pid)


def made() -> int:
    """The process of a host that was asked for; it has no session."""
    host(setup())._actor()
    return process()


def offered() -> float:
    """How much of what nodes for Spark offer is free."""
    import ray

    return float(ray.available_resources().get(PLACE, 0.0))


def reached_with(made: SparkSetup, key: str) -> dict[str, str]:
    """What the host gives the session of somebody who reaches a store with this key."""
    access = {"access_key_id": key, "secret_access_key": "env:HOME"}
    stores = {"s3://lake": StoreAccess.model_validate(access)}
    request = Upsert(pa.table({"id": [1]}), ("id",))
    with stores_of_request(stores):
        told = host(made).execute("/none", request, why=f"{STORES}s3://lake/silver/orders")
    found: dict[str, str] = json.loads(told.why)
    return found


def in_a_store(made: SparkSetup, table: str, stores: dict[str, Any], *ids: int) -> OperationResult:
    """A MERGE of somebody who reaches stores like this."""
    request = Upsert(pa.Table.from_pylist(_rows(ids, "new")), ("id",))
    with stores_of_request(stores_from_json(stores)):
        return host(made).execute(table, request)


def by_the_lake(where: str) -> tuple[OperationResult, list[str]]:
    """Rows written by the Python API, with Spark on this cluster."""
    lake = raylake.connect(where, os.environ["RAY_ADDRESS"], engine="spark")
    table = lake.table("silver.orders")
    table.create(pa.schema([("id", pa.int64()), ("v", pa.string())]))
    first = table.append([{"id": 1, "v": "old"}, {"id": 2, "v": "old"}])
    merged = table.merge([{"id": 2, "v": "new"}, {"id": 3, "v": "new"}], "id")
    assert sorted(row["id"] for row in table.read().to_arrow().to_pylist()) == [1, 2, 3]
    engines = {one.version: one.engine for one in table.history()}
    return merged, [engines[first.version_after], engines[merged.version_after]]


def routed(
    made: SparkSetup, table: str, request: Write, allowance: Allowance, engine: EngineChoice
) -> tuple[Route, OperationResult, dict[str, float]]:
    """What is said before, done then and counted, under slots of the table's owner."""
    cluster = Cluster(spark=host(made), environment=environment(), allowance=allowance)
    counted = MemoryMetrics()
    service = RayTables(cluster, counted)
    try:
        route = service.explain(table, request, engine=engine)
        result = service.execute(table, request, engine=engine)
        return route, result, counted.snapshot()
    finally:
        service.close()


def close() -> None:
    """End the host, and wait until it is gone."""
    host(setup()).close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LiveCluster]:
    """One of its own: there is one Spark host in a cluster, and these tests end it."""
    made = start(Path(tempfile.mkdtemp(prefix="rl-")), f"--num-cpus={CPUS}")
    with no_archive_made():
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
        self.setup = self.changed()
        self.table = str(folder / "orders")
        self.gate = folder / "gate"
        self.gate.mkdir()
        write_deltalake(self.table, pa.table({"id": [1, 2, 3], "v": ["old"] * 3}))
        self.take(EPOCH)

    def changed(self, **changes: Any) -> SparkSetup:
        """Settings of a host; crash points are armed in each, as a later test may find it warm."""
        return setup(environment={faults.ENV: str(self.armed)}, **changes)

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
        """The executor's JVM that the held tasks run on."""
        reached, *_ = self.gate.glob("reached-*")
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


def archived(jvm: psutil.Process) -> tuple[bool, bool]:
    """Whether a JVM writes down what it loads, and whether it has an archive of that mapped."""
    said = " ".join(jvm.cmdline())
    named = re.search(r"-XX:SharedArchiveFile=(\S+)", said)
    mapped = {one.path for one in jvm.memory_maps()}
    return "-XX:DumpLoadedClassList=" in said, named is not None and named.group(1) in mapped


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
    assert bench.driver.call(reserved) == ["CREATED"]
    (reached,) = bench.gate.glob("reached-*")
    assert json.loads(reached.read_text())["python"] == sys.executable
    executor = bench.executor()
    assert "raydp" in " ".join(executor.cmdline()), "the task ran in an executor of RayDP's"
    for jvm in (bench.spark_driver(), executor):
        records, uses = archived(jvm)
        assert records or uses, "it writes its classes down, or starts with those written down"
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


@pytest.mark.spec("C2", "D2", "F1")
def test_with_engine_spark_merges_versions_and_compactions_run_on_executors(
    bench: Bench, tmp_path: Path
) -> None:
    orders, history = str(tmp_path / "asked"), str(tmp_path / "history")
    rows = pa.table({"id": [1, 2, 3], "v": ["old"] * 3})
    for _ in range(2):
        write_deltalake(orders, rows, mode="append")
    write_deltalake(orders, pa.table({"id": [4], "v": ["old"]}), mode="append")
    when = pa.array([0, 1, 2], pa.timestamp("us", "UTC"))
    changes = Scd2(rows.append_column("at", when), ("id",), ("at",), track=("v",))
    DeltaRsEngine().execute(history, table_for(changes))
    asked = (
        (orders, Upsert(pa.table({"id": [4, 9], "v": ["new"] * 2}), ("id",)), "MERGE"),
        (orders, Compact(), "OPTIMIZE"),
        (orders, ZOrder(("id",)), "OPTIMIZE"),
        (history, changes, "MERGE"),
    )
    for table, operation, name in asked:
        before = set(DeltaTable(table).file_uris())
        result = bench.driver.call(by_service, bench.setup, table, operation)
        assert (result.engine, result.changed) == ("spark", True)
        last = DeltaTable(table).history(1)[0]
        assert (last["version"], last["operation"]) == (result.version_after, name)
        assert "Apache-Spark/3.5" in last["engineInfo"]
        came = set(DeltaTable(table).file_uris()) - before
        assert came
        for file in came:
            # The driver of this session runs no task: there are executors alone.
            assert b"org.apache.spark.version" in pq.read_metadata(file).metadata
    assert len(DeltaTable(orders).to_pyarrow_table()) == 8
    assert len(DeltaTable(history).to_pyarrow_table()) == 3
    told = bench.driver.call(by_service, bench.setup, orders, SetProperties({"team": "orders"}))
    assert (told.engine, told.changed) == ("delta-rs", True)
    assert "nothing to compute" in told.why


@pytest.mark.long
@pytest.mark.spec("C6")
def test_failure_24_the_same_number_is_applied_once(bench: Bench) -> None:
    assert bench.merge(EPOCH + 1, 2).changed
    with pytest.raises(SlotClosed):
        bench.merge(EPOCH + 1, 3)
    assert bench.rows() == {1: "old", 2: "new", 3: "old"}


@pytest.mark.spec("C8")
def test_each_request_reaches_stores_with_its_own_keys(bench: Bench) -> None:
    bench.merge(EPOCH + 1, 2)
    for key in ("first", "second"):
        said = bench.driver.call(reached_with, bench.setup, key)
        assert said["fs.s3a.access.key"] == key


@pytest.mark.long
@pytest.mark.spec("C2", "C8")
def test_a_table_in_a_store_and_one_on_a_disk_are_merged_by_one_host(
    bench: Bench, store: StoreInfo, store_lake: str, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text(store.secret_access_key)
    entry = access_to(store, secret_access_key=f"file:{key}")
    table, first = f"{store_lake}/orders", pa.Table.from_pylist(_rows((1, 2, 3), "old"))
    DeltaRsEngine().execute(table, Create(first.schema))
    DeltaRsEngine().execute(table, Append(first))
    said = {store_lake: {**entry, "allow_http": True}}
    result = bench.driver.call(in_a_store, bench.setup, table, said, 2, 9)
    assert (result.engine, result.rows.updated, result.rows.inserted) == ("spark", 1, 1)
    assert bench.merge(EPOCH + 1, 2).changed
    found = DeltaRsEngine().read(table, Read()).read_all().to_pylist()
    assert {row["id"]: row["v"] for row in found} == {1: "old", 2: "new", 3: "old", 9: "new"}
    last = DeltaRsEngine().history(table, 1)[0]
    assert "Apache-Spark/3.5" in last.engine
    assert last.engine.endswith(" RayLake")
    said_to_all = " ".join(bench.spark_driver().cmdline())
    assert store.secret_access_key not in said_to_all
    none = {store_lake: {**said[store_lake], "access_key_id": "nobody"}}
    with pytest.raises(ConfigError, match="does not know this access_key_id") as refused:
        bench.driver.call(in_a_store, bench.setup, table, none, 2)
    assert store.secret_access_key not in str(refused.value)


@pytest.mark.spec("C1", "C2")
def test_a_lake_that_is_connected_to_the_cluster_writes_with_its_spark(
    bench: Bench, tmp_path: Path
) -> None:
    bench.merge(EPOCH + 1, 2)
    merged, engines = bench.driver.call(by_the_lake, str(tmp_path / "lake"))
    assert (merged.engine, merged.why) == ("spark", "the engine was named")
    assert (merged.rows.updated, merged.rows.inserted) == (1, 1)
    assert all("Spark" in one for one in engines)


@pytest.mark.long
def test_failure_37_a_driver_that_neither_answers_nor_ends_is_ended_and_another_comes_up(
    bench: Bench,
) -> None:
    bench.driver.call(close)
    bench.setup = bench.changed(silent_s=8.0)
    going = bench.held(EPOCH + 1, 2)
    hangs = bench.spark_driver()
    hangs.suspend()
    with pytest.raises(SparkLost):
        going.result(120)
    # One that nobody has waited for yet has ended, too.
    assert not hangs.is_running() or hangs.status() == psutil.STATUS_ZOMBIE
    bench.release()
    assert bench.rows() == {1: "old", 2: "old", 3: "old"}
    bench.setup = bench.changed()
    assert bench.merge(EPOCH + 1, 2).version_after == 2


@pytest.fixture
def wide(tmp_path: Path) -> str:
    """A table of a small file, whose rows take two hundred times its size in memory."""
    table = str(tmp_path / "wide")
    write_deltalake(table, wide_rows(range(WIDE)))
    return table


def wide_rows(ids: range, letter: str = "x") -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64()), "text": [letter * 1_000] * len(ids)})


def letters(table: str) -> dict[str, int]:
    """How many rows begin with each letter; each id is there once."""
    found = DeltaTable(table).to_pyarrow_table(columns=["id", "text"])
    assert pc.count_distinct(found["id"]).as_py() == found.num_rows
    counted = pc.value_counts(pc.utf8_slice_codeunits(found["text"], 0, 1))
    return {str(one["values"]): one["counts"].as_py() for one in counted}


def operations(table: str) -> list[str]:
    """What made each version, the newest first, without the owner's own commits."""
    lines = DeltaTable(table).history()
    return [one["engineInfo"] for one in lines if one["operation"] == "MERGE"]


@pytest.mark.long
@pytest.mark.spec("C2", "C6")
def test_a_merge_that_a_child_has_not_the_memory_for_goes_to_spark_and_says_why(
    bench: Bench, wide: str
) -> None:
    request = Upsert(wide_rows(range(WIDE - 1_000, WIDE + 1_000), "y"), ("id",))
    needed = load(wide, request).needed_bytes
    # What the log's statistics promise is what the child may have.
    tight = Allowance(0, 0, at_most_bytes=int(needed / SHARE_OF_FREE) + 2**20)
    route, result, counted = bench.driver.call(routed, bench.setup, wide, request, tight, "auto")
    assert (route.engine, route.reason, route.otherwise_spark) == ("delta-rs", "fits", True)
    assert needed <= route.limit_bytes < 2 * needed
    assert result.engine == "spark"
    assert re.search(r"took \d+ MiB of \d+ MiB.*; Spark took it over", result.why)
    assert (result.rows.updated, result.rows.inserted) == (1_000, 1_000)
    assert letters(wide) == {"x": WIDE - 1_000, "y": 2_000}
    (engine,) = operations(wide)
    assert "Spark" in engine
    labels = '{{engine="{}",operation="upsert",outcome="{}",reason="{}"}}'
    told = [labels.format(*one) for one in (("delta-rs", *ENDED), ("spark", *TAKEN_OVER))]
    assert counted == dict.fromkeys([f"raylake_table_operations_total{one}" for one in told], 1.0)


@pytest.mark.spec("C2", "C6")
def test_below_its_threshold_auto_is_delta_rs_and_above_it_spark(bench: Bench) -> None:
    request = Upsert(pa.Table.from_pylist(_rows((2,), "new")), ("id",))
    table = bench.table + "-routed"
    write_deltalake(table, pa.table({"id": [1, 2, 3], "v": ["old"] * 3}))
    for spare, engine, reason in ((2**20, "delta-rs", "fits"), (-(2**20), "spark", "too_large")):
        most = int((load(table, request).needed_bytes + spare) / SHARE_OF_FREE)
        asked = (bench.setup, table, request, Allowance(at_most_bytes=most), "auto")
        route, result, counted = bench.driver.call(routed, *asked)
        assert (route.engine, route.reason, result.engine) == (engine, reason, engine)
        # Without what it says of free memory, which another process may change between the two.
        assert result.why.startswith(route.why.partition("; of ")[0])
        assert f'reason="{reason}"' in "".join(counted)
        written = DeltaTable(table).history(1)[0]["engineInfo"]
        assert ("Spark" in written) == (engine == "spark")


@pytest.mark.long
@pytest.mark.spec("C2", "C6")
def test_failure_22_appends_merges_and_deletes_of_both_engines_at_once_all_land(
    bench: Bench, tmp_path: Path
) -> None:
    table = str(tmp_path / "both")
    write_deltalake(table, pa.table({"id": range(10), "n": [0] * 10}))

    def merge(n: int) -> Upsert:
        source = pa.table({"id": [*range(5), 10 * n], "n": [n] * 6})
        return Upsert(source, ("id",), update_when="source.n > target.n")

    asked: list[tuple[EngineChoice, Write]] = [
        ("spark", merge(1)),
        ("delta-rs", merge(2)),
        ("delta-rs", Append(pa.table({"id": [77], "n": [7]}))),
        ("spark", Delete("id = 9")),
        ("delta-rs", Delete("id = 8")),
        ("spark", merge(3)),
    ]
    going = [
        bench.driver.begin(routed, bench.setup, table, request, USUAL, engine)
        for engine, request in asked
    ]
    results = [one.result(450)[1] for one in going]
    assert [one.engine for one in results] == [engine for engine, _ in asked]
    assert len({one.version_after for one in results}) == len(asked)
    assert all(one.version_after == one.version_before + 1 for one in results)
    found = DeltaTable(table).to_pyarrow_table().to_pylist()
    expected = {**dict.fromkeys(range(5), 3), **dict.fromkeys((5, 6, 7), 0)}
    expected |= {10: 1, 20: 2, 30: 3, 77: 7}
    assert {row["id"]: row["n"] for row in found} == expected
    assert len(found) == len(expected)


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


@pytest.mark.long
@pytest.mark.spec("C6")
def test_failure_37_a_node_lost_in_a_merge_leaves_the_table_as_it_was_and_the_next_one_lands(
    bench: Bench, cluster: LiveCluster
) -> None:
    bench.driver.call(close)
    wide = bench.changed(cores=CPUS + 1, start_timeout_s=60.0)
    shared = bench.setup
    bench.setup = wide
    with another_node(cluster, CPUS + 1) as node:
        going = bench.held(EPOCH + 1, 2)
        assert node in bench.executor().parents(), "it runs there"
        kill_tree(node)
        bench.release()
        with pytest.raises((TableError, SparkLost)) as told:
            going.result(300)
    assert not told.value.table_changed
    assert bench.rows() == {1: "old", 2: "old", 3: "old"}

    def merged() -> OperationResult | None:
        # The host may have been on that node: Ray takes a while to find that it is gone.
        try:
            return bench.merge(EPOCH + 1, 2)
        except SparkLost:
            return None

    bench.setup = shared
    until(merged, "another host", 300)
    assert bench.version() == 2
    assert bench.rows() == {1: "old", 2: "new", 3: "old"}


@pytest.mark.long
@pytest.mark.spec("C2", "C6", "D1")
def test_failure_24_progress_and_rows_are_one_commit_of_spark_and_once_though_the_host_is_killed(
    bench: Bench, tmp_path: Path
) -> None:
    table, feed = str(tmp_path / "derived"), {"delta.enableChangeDataFeed": "true"}
    first = pa.Table.from_pylist(_rows((1, 2, 3), "old"))
    write_deltalake(table, first, configuration=feed)

    def do(operation: Write, *versions: int | None) -> Told:
        return bench.driver.call(a_step, bench.setup, table, operation, *versions)

    def merge(*ids: int, value: str) -> Upsert:
        return Upsert(pa.Table.from_pylist(_rows(ids, value)), ("id",))

    done = do(merge(2, 9, value="new"), None, 3)
    assert isinstance(done, OperationResult)
    assert (done.engine, done.rows.updated, done.rows.inserted) == ("spark", 1, 1)
    # Another process is told, with the rows as they are.
    moved = {"app": PROGRESS, "expected": None, "found": 3}
    assert do(merge(2, value="twice"), None, 4) == moved

    faults.arm(bench.armed, "spark.committed", match={"table": table})
    killed = do(merge(3, 9, value="later"), 3, 5)
    assert isinstance(killed, OperationResult)
    assert (killed.engine, killed.rows.updated) == ("spark", 2)
    assert killed.why.endswith("its process was lost after the commit")
    assert do(merge(3, value="twice"), 3, 5) == {**moved, "expected": 3, "found": 5}

    nothing = do(Advance(), 5, 6)
    assert isinstance(nothing, OperationResult)
    assert (nothing.engine, nothing.version_after) == ("delta-rs", killed.version_after + 1)
    handle = DeltaTable(table)
    assert handle.transaction_version(PROGRESS) == 6
    for step, one in ((3, done), (5, killed)):
        actions = log_files.read_commit(Path(table), one.version_after) or []
        info = log_files.commit_info(actions)
        assert operation_metadata(info)["step"] == step
        assert "Apache-Spark/3.5" in info["engineInfo"]
    changed = pa.table(handle.load_cdf(killed.version_after, killed.version_after).read_all())
    found = changed.select(["_change_type", "id", "v"]).to_pylist()
    assert sorted(tuple(one.values()) for one in found) == [
        *(("update_postimage", one, "later") for one in (3, 9)),
        *(("update_preimage", one, was) for one, was in ((3, "old"), (9, "new"))),
    ]
    rows = handle.to_pyarrow_table().to_pylist()
    assert sorted((one["id"], one["v"]) for one in rows) == [
        *((1, "old"), (2, "new"), (3, "later"), (9, "later")),
    ]


@pytest.mark.long
@pytest.mark.spec("K2")
def test_the_host_comes_to_the_node_that_offers_spark(bench: Bench, cluster: LiveCluster) -> None:
    bench.driver.call(close)
    with another_node(cluster, 1, PLACE) as node:
        assert node in psutil.Process(bench.driver.call(made)).parents()
        until(lambda: 0 < bench.driver.call(offered) < 1, "it came for that", 60)
        bench.driver.call(close)


@pytest.mark.long
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


@pytest.mark.long
def test_a_driver_killed_in_a_merge_is_told_and_another_one_comes_up_and_is_given_back(
    bench: Bench,
) -> None:
    going = bench.held(EPOCH + 1, 2)
    bench.spark_driver().kill()
    bench.release()
    with pytest.raises(SparkLost):
        going.result(120)
    assert bench.rows() == {1: "old", 2: "old", 3: "old"}

    bench.setup = bench.changed(idle_timeout_s=1.0)
    assert bench.merge(EPOCH + 1, 2).version_after == 2
    until(lambda: bench.driver.call(status).state is State.ABSENT, "the session to be idle", 60)
    until(lambda: bench.driver.call(free_cpus) == CPUS, "the CPUs to come back", 30)
    assert "CREATED" not in bench.driver.call(reserved)


@pytest.mark.long
def test_a_session_given_back_is_started_anew_and_its_executors_follow_the_work(
    bench: Bench,
) -> None:
    bench.driver.call(close)
    bench.setup = bench.changed(executors={"min": 1, "max": 2})
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
