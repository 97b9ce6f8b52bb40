"""Both fetchers and both decoders make the same of a topic in which there is everything."""

from __future__ import annotations

from contextlib import closing
from itertools import product
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from raylake.codecs import DecoderSpec, parse_schema
from raylake.kafka.fetch import FetchSettings
from tests.harness.broker import LiveBroker
from tests.harness.waiting import until
from tests.integration.kafka import reading as readings
from tests.integration.kafka.reading import reading
from tests.integration.kafka.test_fetch_transactions import transactional
from tests.property.json_making import Making
from tests.unit.codecs.comparing import assert_equal, assert_same, decoders, identical
from tests.unit.codecs.records import POISON

FIELDS = parse_schema(
    {
        "c0": "string",
        "c1": "long",
        "price": "decimal(18,2)",
        "c3": "double",
        "at": "timestamp",
        "ok": "boolean",
        "inner": "struct<c0:string,c1:int,tags:array<string>>",
        "items": "array<struct<c0:string,c1:double>>",
    }
)
CODECS = (None, "gzip", "snappy", "lz4", "zstd")
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "100",
}
COMPACTION_S = 60.0


class Content:
    """Records to produce: values good, odd and broken, keys and headers of all kinds."""

    def __init__(self) -> None:
        self.random = Random("topics")
        self._making = Making(self.random, odd=0.03)
        self._poison = [value for value, _ in POISON.values() if len(value) < 10_000]

    def record(self) -> dict[str, Any]:
        """The arguments of a producer's ``send``."""
        r = self.random
        value = r.choice(self._poison) if r.random() < 0.1 else self._making.value(FIELDS)
        headers = [
            (r.choice(["trace", "", "ключ"]), r.choice([b"", b"\x00\xff", b"x" * 200]))
            for _ in range(r.choice([0, 0, 0, 1, 3]))
        ]
        return {
            "value": value,
            "key": r.choice([b"", b"key-%d" % r.randrange(30), *([None] if value else [])]),
            "headers": headers,
            "timestamp_ms": r.choice([None, 0, 1_700_000_000_123]),
        }


def _everything(broker: LiveBroker) -> str:
    topic = broker.create_topic("everything", partitions=2)
    content = Content()
    for codec in CODECS:
        producer = broker.producer(compression_type=codec, linger_ms=20)
        for number in range(200):
            producer.send(topic, partition=number % 2, **content.record())
        producer.flush()
        for number in range(6):
            # A record batch of one record.
            producer.send(topic, partition=number % 2, **content.record())
            producer.flush()
        producer.close()
        with transactional(broker) as producer:
            for commits in (True, False, True, False, False):
                producer.begin_transaction()
                for number in range(20):
                    producer.send(topic, partition=number % 2, **content.record())
                producer.flush()
                (producer.commit_transaction if commits else producer.abort_transaction)()
    return topic


def _compacted(broker: LiveBroker) -> str:
    """A topic that is compacted while the other one is filled."""
    topic = broker.create_topic("holes", config=COMPACTED)
    content = Content()
    with closing(broker.producer(compression_type="zstd", linger_ms=5)) as producer:
        for number in range(600):
            key = b"key-%d" % content.random.randrange(200)
            producer.send(topic, **{**content.record(), "key": key})
            if number % 100 == 99:
                producer.flush()
    return topic


def _until_compacted(broker: LiveBroker, topic: str) -> None:
    def compacted() -> bool:
        with reading(broker.bootstrap, topic) as scope:
            scope.until_caught_up()
            return len(scope.column("offset")) < 500

    until(compacted, f"{topic} is compacted", COMPACTION_S)


@pytest.fixture(scope="module")
def topics(broker: LiveBroker) -> dict[str, str]:
    compacted = _compacted(broker)
    everything = _everything(broker)
    _until_compacted(broker, compacted)
    return {"everything": everything, "compacted": compacted}


def _read(broker: LiveBroker, topic: str, kind: str, settings: FetchSettings) -> Any:
    before, readings.chosen = readings.chosen, kind
    try:
        with reading(broker.bootstrap, topic, settings=settings) as scope:
            scope.until_caught_up()
            return scope
    finally:
        readings.chosen = before


@pytest.mark.spec("A9", "A12")
@pytest.mark.parametrize("name", ["everything", "compacted"])
def test_both_fetchers_and_both_decoders_agree(
    broker: LiveBroker, topics: dict[str, str], name: str
) -> None:
    settings = [FetchSettings(), FetchSettings(max_records=37)]
    read = {
        (kind, number): _read(broker, topics[name], kind, one)
        for kind, (number, one) in product(readings.KINDS, enumerate(settings))
    }
    first = read["plain", 0]
    kept = dead = tombstones = absent = 0
    for source in first.sources:
        whole = _whole(first.batches[source])
        absent += first.absent(source)
        for scope in read.values():
            assert identical(_whole(scope.batches[source]), whole)
            assert scope.absent(source) == first.absent(source)
        for policy in ("rescue", "reject", "evolve"):
            spec = DecoderSpec(schema=FIELDS, unknown_fields=policy)
            decoded = assert_same(spec, whole)
        kept, dead = kept + len(decoded.kept), dead + len(decoded.dead)
        tombstones += decoded.payload.column("_tombstone").to_pylist().count(True)
        _same_in_pieces([read["columnar", 1]], source)
    # Compaction may take the null values too.
    found = [kept, dead, absent] if name == "compacted" else [kept, dead, absent, tombstones]
    assert min(found) > 4, found


def _same_in_pieces(scopes: Any, source: Any) -> None:
    """Batches as they came, with offsets of their own in their buffers."""
    ways = decoders(DecoderSpec(schema=FIELDS, unknown_fields="rescue"))
    for scope in scopes:
        for batch in scope.batches[source]:
            found = ways["columnar"].decode(batch.records)
            assert_equal(found, ways["plain"].decode(batch.records), batch.records, "plain")


def _whole(batches: list[Any]) -> pa.RecordBatch:
    return pa.concat_batches([batch.records for batch in batches])
