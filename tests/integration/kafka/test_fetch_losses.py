"""What Kafka no longer has is never skipped in silence (FAILURES 9, 10, 11, 12)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from kafka import TopicPartition
from kafka import errors as kafka_errors

from raylake.errors import OffsetsLost, TopicRecreated, UnknownTopic
from raylake.kafka.client import Cluster
from raylake.kafka.fetch import Position
from tests.harness.broker import LiveBroker
from tests.integration.kafka.reading import Reading, reading

pytestmark = pytest.mark.usefixtures("kind")


def fill(broker: LiveBroker, topic: str, count: int, *, key: bytes | None = None) -> None:
    producer = broker.producer()
    for n in range(count):
        producer.send(topic, key=key, value=b"%d" % n, partition=0)
    producer.close()


def fetch_error(scope: Reading, kind: type[Exception]) -> Exception:
    with pytest.raises(kind) as caught:
        scope.until(lambda: False, timeout_s=30)
    return caught.value


def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def recreate(broker: LiveBroker, topic: str) -> None:
    broker.admin.delete_topics([topic])

    def gone() -> bool:
        try:
            broker.create_named_topic(topic)
        except kafka_errors.TopicAlreadyExistsError:
            return False
        return True

    eventually(gone)


def test_failure_10_deleted_records_are_named(broker: LiveBroker) -> None:
    topic = broker.create_topic(partitions=2)
    fill(broker, topic, 100)
    broker.admin.delete_records({TopicPartition(topic, 0): 60})
    with reading(broker.bootstrap, topic, at=0) as scope:
        first, _ = scope.sources
        scope.fetcher.seek(first, Position(25))
        error = fetch_error(scope, OffsetsLost)
        assert isinstance(error, OffsetsLost)
        assert error.context["partition"] == 0
        assert (error.context["asked"], error.context["count"]) == (25, 35)
        assert (error.context["log_start"], error.context["log_end"]) == (60, 100)
        assert f"{topic}[0]: 35 offsets [25, 60) are gone" in str(error)
        # The partition stands still until it is told where to go on; the other one is read.
        producer = broker.producer()
        producer.send(topic, value=b"other", partition=1).get(10)
        producer.close()
        scope.until(lambda: scope.column("value") == [b"other"])
        assert scope.fetcher.positions()[first] == Position(25)
        scope.fetcher.seek(first, Position(60))
        scope.until_caught_up()
        assert scope.column("offset", first) == list(range(60, 100))


def test_failure_10_records_deleted_under_a_running_read(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    fill(broker, topic, 10)
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        scope.fetcher.pause(scope.sources)
        fill(broker, topic, 10)
        broker.admin.delete_records({TopicPartition(topic, 0): 15})
        scope.fetcher.resume(scope.sources)
        error = fetch_error(scope, OffsetsLost)
        assert isinstance(error, OffsetsLost)
        assert (error.context["asked"], error.context["count"]) == (10, 5)


def test_failure_11_an_offset_beyond_the_end_is_refused(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    fill(broker, topic, 10)
    with reading(broker.bootstrap, topic, at=50) as scope:
        error = fetch_error(scope, OffsetsLost)
        assert isinstance(error, OffsetsLost)
        assert (error.context["asked"], error.context["log_end"]) == (50, 10)
        assert error.context["count"] == 40


def test_failure_11_a_topic_created_again_is_noticed(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    fill(broker, topic, 10)
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        scope.fetcher.check_topics()
        recreate(broker, topic)
        with pytest.raises(TopicRecreated) as caught:
            scope.fetcher.check_topics()
        assert caught.value.context["was"] == scope.sources[0].topic_id
        fetch_error(scope, TopicRecreated)


def test_failure_11_a_new_longer_topic_under_the_old_name_is_noticed_by_fetch(
    broker: LiveBroker,
) -> None:
    topic = broker.create_topic()
    fill(broker, topic, 10)
    with Cluster(broker.bootstrap) as cluster:
        (old,) = cluster.topics([topic])[topic].sources()
    recreate(broker, topic)
    fill(broker, topic, 20)
    with reading(broker.bootstrap, topic) as scope:
        scope.fetcher.assign({old: Position(10)})
        fetch_error(scope, TopicRecreated)
        assert scope.fetcher.positions() == {old: Position(10)}
        assert not scope.batches


def test_failure_11_a_deleted_topic_is_unknown(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    fill(broker, topic, 10)
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        broker.admin.delete_topics([topic])
        error = fetch_error(scope, UnknownTopic)
        assert topic in str(error)


def test_failure_09_compacted_gaps_and_trailing_gaps_are_absent(broker: LiveBroker) -> None:
    topic = broker.create_topic(
        config={
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.01",
            "delete.retention.ms": "100",
            "min.compaction.lag.ms": "0",
        }
    )
    producer = broker.producer()
    for n in range(200):
        producer.send(topic, key=b"key-%d" % (n % 4), value=b"%d" % n).get(10)

    def kept() -> int:
        # A write each time, so that a segment rolls and the cleaner may have the one before it.
        producer.send(topic, key=b"roll", value=b"roll").get(10)
        with reading(broker.bootstrap, topic) as scope:
            scope.until_caught_up()
            return len(scope.column("offset"))

    eventually(lambda: kept() < 150)
    producer.close()
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        (source,) = scope.sources
        end = scope.fetcher.positions()[source].offset
        assert scope.absent(source) == end - len(scope.column("offset"))
        assert scope.absent(source) > 50
        newest = dict(zip(scope.column("key"), scope.column("value"), strict=True))
        assert {newest[b"key-%d" % n] for n in range(4)} == {b"196", b"197", b"198", b"199"}
        # From inside a gap: nothing older than the offset asked for comes out.
    with reading(broker.bootstrap, topic, at=3) as scope:
        scope.until_caught_up()
        assert scope.batches[scope.sources[0]][0].start == 3
        assert min(scope.column("offset")) >= 3


def test_failure_12_new_partitions_are_read_from_their_first_record(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    fill(broker, topic, 5)
    with reading(broker.bootstrap, topic) as scope, Cluster(broker.bootstrap) as cluster:
        scope.until_caught_up()
        broker.admin.create_partitions({topic: 3})
        eventually(lambda: len(cluster.topics([topic])[topic].partitions) == 3)
        producer = broker.producer()
        producer.send(topic, value=b"new", partition=2).get(10)
        producer.close()
        known = scope.fetcher.positions()
        scope.sources = cluster.topics([topic])[topic].sources()
        scope.fetcher.assign({s: known.get(s, Position(0)) for s in scope.sources})
        scope.until_caught_up()
        assert scope.column("value", scope.sources[2]) == [b"new"]
        assert scope.column("offset", scope.sources[0]) == list(range(5))
