"""Records going in by kafka-python, rows coming out by polars; no code of the product."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from kafka import KafkaProducer
from kafka import errors as kafka_errors

from tests.harness.broker import LiveBroker
from tests.harness.waiting import until


@dataclass(frozen=True)
class Record:
    """What is produced; ``value`` is bytes, None for a tombstone, or what JSON makes of it."""

    value: Any
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = field(default=())
    partition: int = 0
    timestamp_ms: int | None = None

    @property
    def payload(self) -> bytes | None:
        if self.value is None or isinstance(self.value, bytes):
            return self.value
        return json.dumps(self.value).encode()


def produce(broker: LiveBroker, topic: str, records: Iterable[Record | Any]) -> list[Record]:
    """Produce records in order; what is no Record is a value."""
    sent = [one if isinstance(one, Record) else Record(one) for one in records]
    producer = broker.producer(acks="all", linger_ms=5)
    futures = [_send(producer, topic, one) for one in sent]
    producer.flush()
    for future in futures:
        future.get(30)
    producer.close()
    return sent


def _send(producer: KafkaProducer, topic: str, one: Record) -> Any:
    return producer.send(
        topic,
        value=one.payload,
        key=one.key,
        headers=list(one.headers),
        partition=one.partition,
        timestamp_ms=one.timestamp_ms,
    )


@contextmanager
def transaction(broker: LiveBroker, *, commit: bool) -> Iterator[KafkaProducer]:
    """A transaction that ends with the block."""
    producer = broker.producer(transactional_id=f"tx-{uuid.uuid4().hex}", acks="all")
    try:
        producer.init_transactions()
        producer.begin_transaction()
        yield producer
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    finally:
        producer.close()


def recreate(broker: LiveBroker, topic: str, partitions: int = 1) -> None:
    """Delete a topic and create it again under its name."""
    broker.admin.delete_topics([topic])

    def created() -> bool:
        try:
            broker.create_named_topic(topic, partitions)
        except kafka_errors.TopicAlreadyExistsError:
            return False
        return True

    until(created, f"{topic} created again")


def rows_of(table: Path) -> pl.DataFrame:
    """A bronze table in the order of its coordinates."""
    frame = pl.scan_delta(str(table)).collect()
    return frame.sort("_topic", "_partition", "_offset")


def letters_of(table: Path) -> pl.DataFrame:
    """A dead-letter table in the order of its coordinates."""
    return pl.scan_delta(str(table)).collect().sort("table", "topic", "partition", "offset")


def offsets(frame: pl.DataFrame) -> list[int]:
    """The offsets of rows or letters."""
    name = "_offset" if "_offset" in frame.columns else "offset"
    found: list[int] = frame.get_column(name).to_list()
    return found
