"""A broker that goes away costs time, never a record (FAILURES 13), and is named."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest

from raylake.errors import DependencyUnreachable, OffsetsLost
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster
from raylake.kafka.dev import DevBroker
from raylake.kafka.fetch import Connection, FetchSettings, PollFetcher, Position
from tests.harness.broker import LiveBroker
from tests.integration.kafka.reading import reading

UNUSED = "127.0.0.1:9"
SMALL = FetchSettings(max_records=100, fetch_max_bytes=20_000, max_partition_fetch_bytes=10_000)


def fetch_on(fetcher: PollFetcher) -> None:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        assert fetcher.fetch(0.2) == []


def send(broker: LiveBroker, topic: str, first: int, count: int) -> None:
    producer = broker.producer()
    for n in range(first, first + count):
        producer.send(topic, value=b"%08d" % n, partition=n % 2)
    producer.close()


@pytest.mark.long
def test_failure_13_a_killed_and_restarted_broker_loses_nothing(own_broker: LiveBroker) -> None:
    topic = own_broker.create_topic(partitions=2)
    send(own_broker, topic, 0, 4000)
    with reading(own_broker.bootstrap, topic, settings=SMALL) as scope:
        scope.until(lambda: len(scope.column("offset")) >= 500)
        own_broker.dev.kill()
        assert own_broker.dev.up().bootstrap == own_broker.bootstrap
        send(own_broker, topic, 4000, 1000)
        scope.until_caught_up()
        assert sorted(int(value) for value in scope.column("value")) == list(range(5000))


@pytest.mark.long
def test_failure_13_a_broker_that_stays_away_is_reported_and_found_again(
    own_broker: LiveBroker,
) -> None:
    topic = own_broker.create_topic(partitions=2)
    send(own_broker, topic, 0, 2000)
    with reading(own_broker.bootstrap, topic, settings=SMALL, connect_timeout_s=2) as scope:
        scope.until(lambda: len(scope.column("offset")) >= 300)
        own_broker.dev.down()
        for _ in range(2):
            started_s = time.monotonic()
            with pytest.raises(DependencyUnreachable) as caught:
                scope.until(lambda: False, timeout_s=20)
            assert time.monotonic() - started_s < 8
            assert own_broker.bootstrap in str(caught.value)
        own_broker.dev.up()
        scope.until_caught_up()
        assert sorted(int(value) for value in scope.column("value")) == list(range(2000))


def test_failure_11_a_log_cut_off_and_grown_again_is_noticed_by_its_epoch(
    own_broker: LiveBroker,
) -> None:
    topic = own_broker.create_topic(partitions=2)
    send(own_broker, topic, 0, 40)
    with reading(own_broker.bootstrap, topic, connect_timeout_s=20) as scope:
        scope.until_caught_up()
        (first, _) = scope.sources
        position = scope.fetcher.positions()[first]
        assert position.offset == 20
        assert position.leader_epoch >= 0
        folder = Path(own_broker.dev.up().data) / f"{topic}-0"
        own_broker.dev.down()
        for path in folder.iterdir():
            if path.name != "partition.metadata":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        own_broker.dev.up()
        send(own_broker, topic, 0, 200)
        with pytest.raises(OffsetsLost) as caught:
            scope.until(lambda: False, timeout_s=40)
        assert caught.value.context["asked"] == 20
        assert caught.value.context["log_end"] == 100
        assert scope.fetcher.positions()[first] == position


def test_an_unreachable_broker_is_named_within_the_time_limit() -> None:
    source = SourcePartition("orders", "00000000-0000-0000-0000-000000000001", 0)
    fetcher = PollFetcher(Connection(UNUSED, None, 1.0))
    fetcher.assign({source: Position(0)})
    started_s = time.monotonic()
    with pytest.raises(DependencyUnreachable) as caught:
        Cluster(UNUSED, connect_timeout_s=1.0).topics(["orders"])
    assert time.monotonic() - started_s < 4
    assert f"no Kafka broker could be reached at {UNUSED}" in str(caught.value)
    with pytest.raises(DependencyUnreachable) as caught:
        fetch_on(fetcher)
    assert UNUSED in str(caught.value)
    fetcher.close()


@pytest.mark.long
def test_an_unreachable_advertised_address_is_told_from_an_unreachable_broker(
    own_broker: LiveBroker,
) -> None:
    topic = own_broker.create_topic()
    info = own_broker.dev.up()
    own_broker.dev.down()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        wrong = f"127.0.0.1:{probe.getsockname()[1]}"
    plain = f"PLAINTEXT://127.0.0.1:{info.port}"
    settings = {
        "listeners": f"{plain},WRONG://{wrong},CONTROLLER://127.0.0.1:{info.controller_port}",
        "advertised.listeners": f"{plain},WRONG://{UNUSED}",
        "listener.security.protocol.map": ",".join(
            f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", "WRONG")
        ),
    }
    DevBroker(instance=Path(info.data).parent.name, settings=settings).up()
    with Cluster(info.bootstrap) as good:
        sources = good.topics([topic])[topic].sources()
    with (
        Cluster(wrong, connect_timeout_s=2.0) as cluster,
        pytest.raises(DependencyUnreachable) as caught,
    ):
        cluster.topics([topic])
    assert f"advertises an address that cannot be reached from here: {UNUSED}" in str(caught.value)
    assert "advertised.listeners" in caught.value.hint
    fetcher = PollFetcher(Connection(wrong, None, 2.0))
    fetcher.assign(dict.fromkeys(sources, Position(0)))
    with pytest.raises(DependencyUnreachable) as caught:
        fetch_on(fetcher)
    assert "advertises an address" in str(caught.value)
    fetcher.close()
