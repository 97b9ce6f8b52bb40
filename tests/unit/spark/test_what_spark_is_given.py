"""What the executors take of a cluster, the session's settings, its jars, its section."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from raylake.config.spark import Spark
from raylake.config.stores import StoreAccess
from raylake.kafka.java import Java
from raylake.spark.errors import JarsMissing, SparkUnavailable, TooFewResources
from raylake.spark.jars import delta_jars, pinned_jars, pinned_store_jars, store_jars
from raylake.spark.java import driver_environment
from raylake.spark.raydp import (
    add_java_options,
    ray_options,
    raydp_settings,
    reserved_settings,
    share_library,
)
from raylake.spark.resources import (
    Executor,
    host_resources,
    not_free,
    other_machines,
    refuse_too_few,
)
from raylake.spark.session import Reach
from raylake.spark.settings import SCHEME, log_store_setting, session_settings, store_settings
from raylake.storage.access import (
    stores_from_json,
    stores_of_request,
    use_stores,
    used_stores,
)
from raylake.tables.errors import FeatureUnsupported

GIB = 2**30
NODE = {"CPU": 4.0, "memory": 8.0 * GIB, "object_store_memory": 1.0}
EXECUTOR = Executor(2.0, 2.0 * GIB)


@pytest.mark.parametrize(
    ("count", "nodes", "growth"),
    [
        (2, [NODE], None),
        (4, [NODE, NODE], None),
        (8, [NODE], {"CPU": 16.0, "memory": 32.0 * GIB}),
    ],
)
def test_executors_that_fit_are_let_be(
    count: int, nodes: list[dict[str, float]], growth: dict[str, float] | None
) -> None:
    refuse_too_few(EXECUTOR, count, nodes, growth)


@pytest.mark.parametrize(
    ("executor", "count", "nodes", "growth", "says"),
    [
        (EXECUTOR, 3, [NODE], None, "3 executors, each with 2 CPUs and 2048 MiB.*1 node: 4 CPUs"),
        (Executor(5.0, GIB), 1, [NODE, NODE], None, "1 executor, each.*2 nodes: 4 CPUs"),
        (Executor(1.0, 9.0 * GIB), 1, [NODE], None, "9216 MiB.*8192 MiB"),
        (EXECUTOR, 9, [NODE], {"CPU": 16.0, "memory": 32.0 * GIB}, "stops at 16 CPUs"),
        (EXECUTOR, 1, [], None, "0 nodes: no node"),
    ],
)
def test_failure_37_executors_that_do_not_fit_are_refused_with_both_sides(
    executor: Executor,
    count: int,
    nodes: list[dict[str, float]],
    growth: dict[str, float] | None,
    says: str,
) -> None:
    with pytest.raises(TooFewResources, match=says) as told:
        refuse_too_few(executor, count, nodes, growth)
    assert told.value.context["asked"] == executor.bundle
    assert "not come free" in not_free(executor, count, NODE, 5.0).message


def test_the_host_asks_for_a_node_meant_for_spark_where_there_is_one() -> None:
    assert host_resources(NODE) == {}
    assert host_resources({**NODE, "spark": 0.0}) == {}
    asked = host_resources({**NODE, "spark": 1.0})
    assert list(asked) == ["spark"]
    assert 0 < asked["spark"] < 0.1, "a host that leaves does not keep the next one waiting"


@pytest.mark.spec("C8")
def test_over_several_machines_tables_on_disks_are_refused_by_name_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"CPU": 1.0, "memory": 8.0 * GIB}
    here = ("10.0.0.1", NODE)
    assert other_machines(EXECUTOR, [here, here], "10.0.0.1") == []
    assert other_machines(EXECUTOR, [here, ("10.0.0.2", small)], "10.0.0.1") == []
    others = other_machines(EXECUTOR, [here, ("10.0.0.2", NODE)], "10.0.0.1")
    assert others == ["10.0.0.2"]
    monkeypatch.setattr("raylake.spark.session.store_jars_there", lambda: False)
    monkeypatch.setattr("raylake.spark.session.store_jars", lambda _: (tmp_path / "s3.jar",))
    java = Java(Path("/nowhere/java"), 17)
    for local in ("/lake/t", "lake/t"):
        with pytest.raises(SparkUnavailable, match=r"10\.0\.0\.2.*driver is on 10\.0\.0\.1"):
            Reach.of(java, "10.0.0.1", others, local)
    spread = Reach.of(java, "10.0.0.1", others, "s3://lake/t")
    assert spread.s3 == (tmp_path / "s3.jar",)
    assert spread.fits("s3://lake/other")
    with pytest.raises(SparkUnavailable, match="/lake/t"):
        spread.fits("/lake/t")


def test_jars_for_a_store_are_fetched_when_a_table_lies_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java, asked = Java(Path("/nowhere/java"), 17), []

    def fetched(_: Java) -> tuple[Path, ...]:
        asked.append("fetched")
        return (tmp_path / "s3.jar",)

    monkeypatch.setattr("raylake.spark.session.store_jars_there", lambda: False)
    monkeypatch.setattr("raylake.spark.session.store_jars", fetched)
    local = Reach.of(java, "10.0.0.1", (), "/lake/t")
    assert (local.s3, asked) == ((), [])
    assert local.fits("/lake/other")
    assert not local.fits("s3://lake/t"), "another session does, now that they are there"
    assert asked == ["fetched"]
    assert Reach.of(java, "10.0.0.1", (), "s3://lake/t").s3
    for store in ("gs", "az", "abfss"):
        with pytest.raises(FeatureUnsupported, match=f"{store}://") as told:
            Reach.of(java, "10.0.0.1", (), f"{store}://lake/t")
        assert "delta-rs" in told.value.hint


def test_an_executor_is_counted_as_spark_counts_it() -> None:
    assert Executor.of(Spark(cores=3, memory_bytes=GIB + 5)) == Executor(3.0, float(GIB))


def test_a_session_knows_delta_and_no_secret() -> None:
    said = session_settings(
        Spark(), [Path("/jars/a.jar"), Path("/jars/b.jar")], Java(Path("j"), 17)
    )
    assert said["spark.jars"] == "/jars/a.jar,/jars/b.jar"
    assert said["spark.driver.memory"] == "1024m"
    assert not any(key.startswith("spark.dynamic") for key in said)
    assert {key for key in said if key.startswith("spark.hadoop.")} == {
        "spark.hadoop.fs.file.impl",
        "spark.hadoop.fs.AbstractFileSystem.file.impl",
    }
    assert "spark.executor.extraJavaOptions" not in said


def test_executors_follow_the_work_where_their_number_is_a_range() -> None:
    spark = Spark(executors={"min": 1, "max": 3}, cores=2, settings={"spark.speculation": "true"})
    said = session_settings(spark, [], Java(Path("j"), 17, ("-Dx=y",)))
    assert said["spark.dynamicAllocation.enabled"] == "true"
    assert said["spark.dynamicAllocation.maxExecutors"] == "3"
    assert said["spark.sql.shuffle.partitions"] == "24"
    assert said["spark.executor.extraJavaOptions"] == "-Dx=y"
    assert said["spark.speculation"] == "true"


def test_a_table_brings_the_keys_of_its_own_store_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONE", "secret-one")
    monkeypatch.setenv("TWO", "secret-two")
    keys = {"allow_http": True, "endpoint": "http://127.0.0.1:9"}
    one = StoreAccess.model_validate(
        {**keys, "access_key_id": "one", "secret_access_key": "env:ONE"}
    )
    two = StoreAccess.model_validate(
        {**keys, "access_key_id": "two", "secret_access_key": "env:TWO"}
    )
    use_stores({"s3://lake/one": one, "s3://lake/two": two})
    try:
        said = [store_settings(f"s3://lake/{name}/t") for name in ("one", "two")]
        again = store_settings("s3://lake/one/other")
    finally:
        use_stores({})
    assert [one["fs.s3a.secret.key"] for one in said] == ["secret-one", "secret-two"]
    assert said[0]["fs.s3a.endpoint"] == "http://127.0.0.1:9"
    assert said[0]["fs.s3a.path.style.access"] == "true"
    assert said[0]["fs.s3.impl.disable.cache"] == "true", "or Hadoop keeps one's keys for the other"
    schemes = [one[SCHEME] for one in said]
    assert schemes[0] != schemes[1], "or Hadoop keeps one's file system for the other"
    assert again[SCHEME] == schemes[0], "or each operation opens one of its own"
    assert f"fs.{schemes[0]}.impl" in said[0]
    told = log_store_setting(said[0])
    assert told is not None
    assert told[0] == f"spark.delta.logStore.{schemes[0]}.impl"
    assert log_store_setting({}) is None


def test_a_table_on_a_disk_needs_nothing_and_other_stores_are_refused_by_name() -> None:
    assert store_settings("/lake/t") == {}
    with pytest.raises(FeatureUnsupported, match="gs://"):
        store_settings("gs://lake/t")


def test_a_driver_runs_the_java_that_was_found_and_our_python(tmp_path: Path) -> None:
    found = Java(tmp_path / "java", 17, ("-Da=b",))
    said = driver_environment(found, {"PATH": "/bin", "SPARK_SUBMIT_OPTS": "-Dc=d"})
    assert said["JAVA_HOME"] == str(tmp_path.parent)
    assert said["PATH"] == f"{tmp_path}:/bin"
    assert said["SPARK_SUBMIT_OPTS"] == "-Dc=d -Da=b"


def test_jars_are_pinned_and_others_are_refused(tmp_path: Path) -> None:
    jars = pinned_jars()
    assert [jar.filename for jar in jars] == [
        "delta-spark_2.12-3.3.3.jar",
        "delta-storage-3.3.3.jar",
    ]
    java = Java(Path("/nowhere/java"), 17)
    environ = {"RAYLAKE_SPARK_JARS": str(tmp_path)}
    with pytest.raises(JarsMissing, match="did not deliver") as told:
        delta_jars(java, environ)
    assert "RAYLAKE_SPARK_JARS" in told.value.hint
    for jar in jars:
        (tmp_path / jar.filename).write_bytes(b"another file")
    with pytest.raises(JarsMissing, match="not the pinned file"):
        delta_jars(java, environ)
    with pytest.raises(JarsMissing, match=r"S3.*hadoop-aws") as told:
        store_jars(java, environ)
    assert all(jar.filename in told.value.hint for jar in pinned_store_jars())
    with pytest.raises(JarsMissing, match="https"):
        delta_jars(
            java, {"RAYLAKE_CACHE": str(tmp_path / "c"), "RAYLAKE_MAVEN_BASE": "file:///nowhere"}
        )


def test_a_number_of_executors_is_a_range_of_one() -> None:
    assert (Spark(executors=3).executors.min, Spark(executors=3).executors.max) == (3, 3)
    assert Spark(executors={"min": 2}).executors.max == 2
    assert Spark().executors.max == 1


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"executors": {"min": 3, "max": 2}}, "max is less than min"),
        ({"executors": 0}, "executors"),
        ({"memory_bytes": 2**20}, "512MiB"),
        ({"settings": {"spark.hadoop.fs.s3a.secret.key": "x"}}, "not Spark's to know"),
        ({"settings": {"speculation": "true"}}, "not a setting of Spark"),
        ({"settings": {"spark.executor.memory": "8g"}}, "set by RayLake"),
        ({"settings": {"spark.databricks.delta.write.txnVersion": "1"}}, "set by RayLake"),
    ],
)
def test_a_section_that_cannot_be_is_refused(section: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Spark.model_validate(section)


def test_the_keys_of_a_store_are_those_of_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_SECRET", "first-secret")
    monkeypatch.setenv("SECOND_SECRET", "second-secret")

    def stores(name: str) -> dict[str, StoreAccess]:
        said = {
            "access_key_id": name,
            "secret_access_key": f"env:{name.upper()}_SECRET",
            "endpoint": f"https://{name}.example",
        }
        return {"s3://lake": StoreAccess.model_validate(said)}

    def given() -> tuple[str, str, str]:
        said = store_settings("s3://lake/silver/orders")
        names = ("endpoint", "access.key", "secret.key")
        return tuple(said[f"fs.s3a.{name}"] for name in names)  # type: ignore[return-value]

    first = ("https://first.example", "first", "first-secret")
    second = ("https://second.example", "second", "second-secret")
    use_stores(stores("first"))
    try:
        assert given() == first
        with stores_of_request(stores("second")):
            assert given() == second
            assert stores_from_json(used_stores()) == stores("second")
            with ThreadPoolExecutor(1) as others:
                assert others.submit(given).result() == first, "another request's thread"
            with stores_of_request({}):
                assert "fs.s3a.secret.key" not in store_settings("s3://lake/silver/orders")
        assert given() == first
    finally:
        use_stores({})


def test_raydp_is_told_of_executors_jars_and_reservation() -> None:
    jars = [Path("/r/raydp-agent-1.jar"), Path("/s/spark.jar"), Path("/d/delta.jar")]
    said = raydp_settings(Executor(2.0, float(GIB)), 3, "10.0.0.1", jars)
    assert said["spark.driver.extraClassPath"] == "/r/raydp-agent-1.jar:/s/spark.jar:/d/delta.jar"
    assert said["spark.javaagent"] == "/r/raydp-agent-1.jar"
    assert (said["spark.executor.instances"], said["spark.executor.cores"]) == ("3", "2")
    assert said["spark.executor.memory"] == "1024m"
    assert said["spark.driver.host"] == said["spark.driver.bindAddress"] == "10.0.0.1"
    assert reserved_settings("ab", 3)["spark.ray.bundle_indexes"] == "0,1,2"
    assert "spark.jars" not in session_settings(Spark(), (), Java(Path("j"), 17))


def test_options_of_a_jvm_are_added_to_those_that_it_has() -> None:
    settings = {"spark.executor.extraJavaOptions": "-Da=b"}
    add_java_options(settings, "executor", ("-Xshare:auto", "-XX:x=y"))
    add_java_options(settings, "driver", ())
    assert settings == {"spark.executor.extraJavaOptions": "-Da=b -Xshare:auto -XX:x=y"}


def test_the_drivers_jvm_is_connected_to_the_ray_of_its_node() -> None:
    node = {
        "NodeManagerAddress": "10.0.0.1",
        "NodeManagerPort": 7,
        "RayletSocketName": "/tmp/r/session_1/sockets/raylet",
        "ObjectStoreSocketName": "/tmp/r/session_1/sockets/plasma_store",
    }
    said = ray_options(node, "10.0.0.1:6379", "mine")
    assert said["ray.session-dir"] == "/tmp/r/session_1"
    assert said["ray.logging.dir"] == "/tmp/r/session_1/logs"
    assert said["ray.address"] == "10.0.0.1:6379"
    assert said["ray.job.namespace"] == "mine"
    assert all(isinstance(value, str) for value in said.values())


def test_the_library_that_the_driver_unpacked_is_the_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "libcore_worker_library_java.so"
    session = tmp_path / "session"
    session.mkdir()
    pattern = re.compile(rf" ({tmp_path}/ray/\d+/{re.escape(name)})$", re.MULTILINE)
    monkeypatch.setattr("raylake.spark.raydp._UNPACKED", pattern)
    for n, text in enumerate(("first", "second")):
        own = tmp_path / "ray" / f"17953479{n}" / name
        own.parent.mkdir(parents=True)
        own.write_text(text)
        (own.parent / "file_lock").touch()
        line = f"7f00-7f01 r-xp 00000000 fe:00 1{n}    {own}\n"
        share_library(line + line + "7f02-7f03 r-xp 00000000 fe:00 9    /lib/libc.so\n", session)
        assert not own.parent.exists()
        assert [one.name for one in session.iterdir()] == [name]
        assert (session / name).read_text() == "first", "what others may have loaded stays"
    share_library(f"7f00-7f01 r-xp 00000000 fe:00 1    {tmp_path}/ray/1/{name}\n", session)
