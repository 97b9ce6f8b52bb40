"""Only committed records come out; everything else is absent, and counted (FAILURES 8)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaProducer

from tests.harness.broker import LiveBroker
from tests.integration.kafka.reading import reading

pytestmark = pytest.mark.usefixtures("kind")


@contextmanager
def transactional(broker: LiveBroker) -> Iterator[KafkaProducer]:
    producer = broker.producer(transactional_id=f"tx-{uuid.uuid4().hex[:8]}", linger_ms=1)
    producer.init_transactions()
    try:
        yield producer
    finally:
        producer.close()


def write(producer: KafkaProducer, topic: str, values: list[str], *, commit: bool) -> None:
    producer.begin_transaction()
    for value in values:
        producer.send(topic, value=value.encode())
    producer.flush()
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()


@pytest.mark.spec("A9")
def test_failure_08_commit_abort_commit_of_one_producer(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    with transactional(broker) as producer:
        for n in range(5):
            write(producer, topic, [f"yes-{n}-a", f"yes-{n}-b"], commit=True)
            write(producer, topic, [f"no-{n}"], commit=False)
        write(producer, topic, ["last"], commit=True)
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        wanted = [f"yes-{n}-{half}".encode() for n in range(5) for half in "ab"] + [b"last"]
        assert scope.column("value") == wanted
        (source,) = scope.sources
        # Five aborted records and eleven markers.
        assert scope.absent(source) == 16
        lag = scope.fetcher.lag([source])[source]
        assert lag.position == lag.end_offset == lag.last_stable_offset


@pytest.mark.spec("A9")
def test_failure_08_interleaved_producers(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    plain = broker.producer()
    with transactional(broker) as good, transactional(broker) as bad:
        good.begin_transaction()
        bad.begin_transaction()
        for n in range(20):
            for producer, name in ((good, "good"), (bad, "bad"), (plain, "plain")):
                producer.send(topic, value=f"{name}-{n}".encode())
                producer.flush()
        bad.abort_transaction()
        good.commit_transaction()
        write(bad, topic, ["bad made good"], commit=True)
    plain.close()
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        wanted = [f"{name}-{n}".encode() for n in range(20) for name in ("good", "plain")]
        assert scope.column("value") == [*wanted, b"bad made good"]
        assert scope.absent(scope.sources[0]) == 20 + 3


@pytest.mark.spec("A9")
def test_failure_08_an_open_transaction_holds_back_and_is_seen(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    with transactional(broker) as slow:
        write(slow, topic, ["before"], commit=True)
        slow.begin_transaction()
        slow.send(topic, value=b"open")
        slow.flush()
        plain = broker.producer()
        plain.send(topic, value=b"behind")
        plain.close()
        with reading(broker.bootstrap, topic) as scope:
            (source,) = scope.sources
            scope.until_caught_up()
            assert scope.column("value") == [b"before"]
            lag = scope.fetcher.lag([source])[source]
            assert lag.blocked_by_transaction
            assert (lag.last_stable_offset, lag.end_offset) == (2, 4)
            slow.commit_transaction()
            scope.until_caught_up()
            assert scope.column("value") == [b"before", b"open", b"behind"]
            assert not scope.fetcher.lag([source])[source].blocked_by_transaction


@pytest.mark.spec("A9")
def test_failure_08_ten_thousand_aborted_records_in_a_row(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    with transactional(broker) as producer:
        write(producer, topic, ["first"], commit=True)
        for _ in range(10):
            write(producer, topic, ["x"] * 1000, commit=False)
        with reading(broker.bootstrap, topic) as scope:
            (source,) = scope.sources
            scope.until_caught_up()
            assert scope.column("value") == [b"first"]
            # One marker for the first transaction, one for each of the aborted ones.
            assert scope.absent(source) == 10_000 + 11
            assert scope.fetcher.positions()[source].offset == 10_012
            write(producer, topic, ["last"], commit=True)
            scope.until_caught_up()
            assert scope.column("value") == [b"first", b"last"]


def test_failure_08_a_topic_of_aborted_records_only_advances_in_empty_batches(
    broker: LiveBroker,
) -> None:
    topic = broker.create_topic()
    with transactional(broker) as producer:
        for _ in range(3):
            write(producer, topic, ["no"], commit=False)
    with reading(broker.bootstrap, topic) as scope:
        (source,) = scope.sources
        scope.until_caught_up()
        assert scope.column("value") == []
        batches = scope.batches[source]
        assert (batches[0].start, batches[-1].end) == (0, 6)
        assert all(batch.start < batch.end for batch in batches)


def test_failure_08_a_transaction_without_records_changes_nothing(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    with transactional(broker) as producer:
        write(producer, topic, ["a"], commit=True)
        write(producer, topic, [], commit=True)
        write(producer, topic, [], commit=False)
        write(producer, topic, ["b"], commit=True)
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        assert scope.column("value") == [b"a", b"b"]


def test_failure_08_a_read_that_starts_inside_an_aborted_transaction(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    with transactional(broker) as producer:
        write(producer, topic, [f"no-{n}" for n in range(10)], commit=False)
        write(producer, topic, ["yes"], commit=True)
    with reading(broker.bootstrap, topic, at=4) as scope:
        scope.until_caught_up()
        assert scope.column("value") == [b"yes"]
        assert scope.batches[scope.sources[0]][0].start == 4
