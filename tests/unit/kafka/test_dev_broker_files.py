from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from raylake.errors import ConfigError
from raylake.kafka.artifacts import cache_folder, kafka_jars, pinned_jars
from raylake.kafka.dev import BrokerInfo, DevBroker
from raylake.kafka.java import Java
from raylake.kafka.produce import order_events

NO_JAVA = Java(Path("/nonexistent/java"), 17)


def recorded(cache: Path, **fields: object) -> BrokerInfo:
    created_s = psutil.Process(os.getpid()).create_time()
    info = BrokerInfo("127.0.0.1:1", os.getpid(), created_s, 1, 2, "4.1.0", "data", "log")
    info = dataclasses.replace(info, **fields)
    home = cache / "dev" / "one"
    home.mkdir(parents=True)
    (home / "broker.json").write_text(json.dumps(dataclasses.asdict(info)))
    return info


def test_a_recorded_process_is_recognised_by_its_number_and_its_birth(tmp_path: Path) -> None:
    info = recorded(tmp_path)
    assert DevBroker(tmp_path, "one").status() == info


def test_a_foreign_process_with_the_same_number_is_neither_shown_nor_stopped(
    tmp_path: Path,
) -> None:
    recorded(tmp_path, created_s=12345.0)
    broker = DevBroker(tmp_path, "one")
    assert broker.status() is None
    assert broker.down() is False
    assert broker.kill() is False


def test_a_torn_record_is_no_broker(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / "dev" / "one" / "broker.json").write_text('{"bootstrap": "127')
    assert DevBroker(tmp_path, "one").status() is None


@pytest.mark.parametrize("name", ["", "../up", "a b", "a/b"])
def test_an_instance_cannot_leave_the_cache_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        DevBroker(tmp_path, name)


def test_the_cache_folder_can_be_moved(tmp_path: Path) -> None:
    assert cache_folder({"RAYLAKE_CACHE": str(tmp_path)}) == tmp_path
    assert cache_folder({}).parts[-2:] == (".cache", "raylake")


def test_every_jar_is_pinned_by_a_checksum() -> None:
    jars = pinned_jars()
    assert len({jar.filename for jar in jars}) == len(jars) == 46
    assert all(len(jar.sha256) == len(hashlib.sha256().hexdigest()) for jar in jars)
    assert "org/apache/kafka/kafka_2.13/4.1.0/kafka_2.13-4.1.0.jar" in {j.url_path for j in jars}


def test_jars_that_are_there_are_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "kafka-4.1.0").mkdir()
    assert kafka_jars(tmp_path, NO_JAVA, {}) == tmp_path / "kafka-4.1.0"


def test_an_unpacked_kafka_is_taken_and_a_wrong_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no Kafka"):
        kafka_jars(tmp_path, NO_JAVA, {"RAYLAKE_KAFKA_HOME": str(tmp_path)})
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka_2.13-4.0.0.jar").touch()
    assert kafka_jars(tmp_path, NO_JAVA, {"RAYLAKE_KAFKA_HOME": str(tmp_path)}).name == "libs"


def test_a_failed_download_leaves_the_cache_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="https"):
        kafka_jars(tmp_path, NO_JAVA, {"RAYLAKE_MAVEN_BASE": "file:///nowhere"})
    assert [path.name for path in tmp_path.iterdir()] == ["kafka-4.1.0.lock"]


def test_sample_orders_repeat_with_their_seed_and_contain_updates() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    events = list(order_events(2000, seed=3, now=now))
    assert events == list(order_events(2000, seed=3, now=now))
    assert events != list(order_events(2000, seed=4, now=now))
    values = [json.loads(value) for _, value in events]
    assert len({value["order_id"] for value in values}) < 2000
    assert all(value["ordered_at"] <= value["updated_at"] for value in values)
    assert [key.decode() for key, _ in events] == [value["order_id"] for value in values]
