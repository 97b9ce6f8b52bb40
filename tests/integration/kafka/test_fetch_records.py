"""Records come out as they went in, each offset accounted for."""

from __future__ import annotations

import pytest

from raylake.kafka.fetch import FETCH_SCHEMA, FetchSettings
from tests.harness.broker import LiveBroker
from tests.integration.kafka.reading import reading

pytestmark = pytest.mark.usefixtures("kind")


@pytest.mark.spec("A9")
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(broker: LiveBroker, codec: str | None) -> None:
    topic = broker.create_topic()
    producer = broker.producer(compression_type=codec, linger_ms=20)
    for n in range(500):
        producer.send(topic, value=b"value %06d" % n)
    producer.close()
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        assert scope.column("value") == [b"value %06d" % n for n in range(500)]
        assert scope.column("offset") == list(range(500))


def test_nulls_headers_and_timestamps_survive(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    producer = broker.producer()
    repeated = [("trace", b"1"), ("trace", b"2"), ("empty", b""), ("ключ", b"\xff")]
    producer.send(topic, key=b"k", value=None, timestamp_ms=1_700_000_000_123)
    producer.send(topic, key=None, value=b"", headers=repeated, timestamp_ms=0)
    producer.send(topic, key=b"", value=b"\x00\xff")
    producer.close()
    with reading(broker.bootstrap, topic) as scope:
        scope.until_caught_up()
        assert scope.rows().schema == FETCH_SCHEMA
        assert scope.column("key") == [b"k", None, b""]
        assert scope.column("value") == [None, b"", b"\x00\xff"]
        assert scope.column("timestamp_ms")[:2] == [1_700_000_000_123, 0]
        headers = scope.column("headers")
        assert [[(h["key"], h["value"]) for h in one] for one in headers] == [[], repeated, []]


def test_no_call_delivers_more_records_than_asked(broker: LiveBroker) -> None:
    topic = broker.create_topic(partitions=3)
    producer = broker.producer()
    for n in range(900):
        producer.send(topic, value=b"%d" % n, partition=n % 3)
    producer.close()
    with reading(broker.bootstrap, topic, settings=FetchSettings(max_records=70)) as scope:
        sizes = []
        while len(scope.column("value")) < 900:
            sizes.append(sum(batch.records.num_rows for batch in scope.step()))
        assert max(sizes) <= 70
        assert sorted(int(value) for value in scope.column("value")) == list(range(900))
        for source in scope.sources:
            assert scope.column("offset", source) == list(range(300))


def test_pause_holds_a_partition_and_resume_goes_on(broker: LiveBroker) -> None:
    topic = broker.create_topic(partitions=2)
    producer = broker.producer()
    for n in range(400):
        producer.send(topic, value=b"%d" % n, partition=n % 2)
    producer.close()
    with reading(broker.bootstrap, topic, settings=FetchSettings(max_records=50)) as scope:
        first, second = scope.sources
        scope.until(lambda: bool(scope.batches[first]))
        scope.fetcher.pause([first])
        held = scope.fetcher.positions()[first]
        scope.until(lambda: scope.fetcher.positions()[second].offset == 200)
        assert scope.fetcher.positions()[first] == held
        scope.fetcher.resume([first])
        scope.until_caught_up()
        assert scope.column("offset", first) == list(range(200))


def test_partitions_paused_again_and_again_half_way_always_go_on(broker: LiveBroker) -> None:
    topic = broker.create_topic(partitions=3)
    producer = broker.producer()
    for n in range(3000):
        producer.send(topic, value=b"%d" % n, partition=n % 3)
    producer.close()
    with reading(broker.bootstrap, topic, settings=FetchSettings(max_records=30)) as scope:
        for round_number in range(12):
            held = scope.sources[: round_number % 3 + 1]
            scope.fetcher.pause(held)
            for _ in range(4):
                assert not {batch.source for batch in scope.step(0.01)} & set(held)
            scope.fetcher.resume(held)
            scope.step()
        scope.until_caught_up()
        for source in scope.sources:
            assert scope.column("offset", source) == list(range(1000))


def test_seek_drops_what_was_fetched_ahead(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    producer = broker.producer(compression_type="gzip", linger_ms=50, batch_size=1 << 20)
    for n in range(300):
        producer.send(topic, value=b"%d" % n)
    producer.close()
    with reading(broker.bootstrap, topic, settings=FetchSettings(max_records=40)) as scope:
        (source,) = scope.sources
        scope.until(lambda: bool(scope.batches[source]))
        position = scope.fetcher.positions()[source]
        scope.batches.clear()
        scope.fetcher.seek(source, type(position)(7, position.leader_epoch))
        scope.until_caught_up()
        assert scope.column("offset") == list(range(7, 300))
