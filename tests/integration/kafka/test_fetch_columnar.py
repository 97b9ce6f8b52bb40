"""Real topics, read in columns and by kafka-python's own poll(): the same records."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from raylake.kafka.fetch import FetchSettings
from tests.harness.broker import LiveBroker
from tests.integration.kafka.reading import reading

CODECS = (None, "gzip", "snappy", "lz4", "zstd")
Row = tuple[Any, ...]


def polled(bootstrap: str, topic: str, end: int) -> list[Row]:
    """What kafka-python itself delivers of partition 0."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", group_id=None
    )
    rows: list[Row] = []
    try:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        while consumer.position(partition) < end:
            for record in consumer.poll(timeout_ms=500).get(partition, []):
                time = None if record.timestamp < 0 else record.timestamp
                rows.append((record.offset, time, record.key, record.value, record.headers))
    finally:
        consumer.close()
    return rows


def assert_read_alike(broker: LiveBroker, topic: str, **bounds: int) -> list[Row]:
    """Read in columns, compare with poll(); the rows."""
    with reading(broker.bootstrap, topic, settings=FetchSettings(**bounds)) as scope:
        scope.until_caught_up()
        end = max(position.offset for position in scope.fetcher.positions().values())
        names = ("offset", "timestamp_ms", "key", "value", "headers")
        rows = list(zip(*(scope.column(name) for name in names), strict=True))
    plain = [(*row[:4], [(h["key"], h["value"]) for h in row[4]]) for row in rows]
    assert plain == polled(broker.bootstrap, topic, end)
    return plain


def send_odd(producer: KafkaProducer, topic: str, first: int, count: int) -> None:
    """Nulls, empty and long values, headers, old timestamps."""
    for n in range(first, first + count):
        producer.send(
            topic,
            key=None if n % 4 == 2 else b"key %d" % n,
            value=(None, b"", b"value %d" % n, b"long " * 900)[n % 4],
            headers=[("n", b"%d" % n), ("empty", b""), ("ключ", b"\xff")][: n % 4],
            timestamp_ms=n if n % 5 else 0,
        )
    producer.flush()


@pytest.mark.spec("A12")
@pytest.mark.parametrize("bounds", [{}, {"max_records": 33}, {"max_bytes": 5000}])
def test_all_compressions_in_one_partition(broker: LiveBroker, bounds: dict[str, int]) -> None:
    topic = broker.create_topic()
    for n, codec in enumerate(CODECS):
        producer = broker.producer(compression_type=codec, linger_ms=20)
        send_odd(producer, topic, 60 * n, 60)
        producer.close()
    assert len(assert_read_alike(broker, topic, **bounds)) == 300


@pytest.mark.spec("A12")
@pytest.mark.parametrize("codec", CODECS)
def test_transactions_of_every_compression(broker: LiveBroker, codec: str | None) -> None:
    topic = broker.create_topic()
    producer = broker.producer(
        transactional_id=f"tx-{uuid.uuid4().hex[:8]}", compression_type=codec, linger_ms=1
    )
    producer.init_transactions()
    for n in range(6):
        producer.begin_transaction()
        send_odd(producer, topic, 20 * n, 20)
        (producer.abort_transaction if n % 2 else producer.commit_transaction)()
    producer.close()
    assert len(assert_read_alike(broker, topic)) == 60


def one_by_one(producer: KafkaProducer, topic: str) -> None:
    for n in range(60):
        send_odd(producer, topic, n, 1)


def together(producer: KafkaProducer, topic: str) -> None:
    send_odd(producer, topic, 0, 60)


@pytest.mark.spec("A12")
@pytest.mark.parametrize("write", [one_by_one, together])
def test_log_append_time_and_one_record_a_batch(
    broker: LiveBroker, write: Callable[[KafkaProducer, str], None]
) -> None:
    topic = broker.create_topic(config={"message.timestamp.type": "LogAppendTime"})
    producer = broker.producer(linger_ms=20)
    write(producer, topic)
    producer.close()
    rows = assert_read_alike(broker, topic)
    assert len(rows) == 60
    assert min(row[1] for row in rows) > 1_700_000_000_000


@pytest.mark.spec("A8")
def test_what_little_may_be_held_is_shared_by_all_partitions(broker: LiveBroker) -> None:
    """Each gets its turn before what may be held was read four times over."""
    partitions, held_bytes, record = 4, 512 * 1024, b"x" * 1000
    topic = broker.create_topic(partitions=partitions)
    producer = broker.producer(linger_ms=20)
    for partition in range(partitions):
        for _ in range(3000):
            producer.send(topic, value=record, partition=partition)
    producer.close()
    settings = FetchSettings(max_bytes=64 * 1024, held_bytes=held_bytes)
    with reading(broker.bootstrap, topic, settings=settings) as scope:
        scope.until(lambda: len(scope.batches) == partitions)
        read = sum(batch.nbytes for found in scope.batches.values() for batch in found)
    assert read < 4 * held_bytes, read
