"""A quick producer that writes down what the broker acknowledged, for the auditor."""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from raylake.demo.record import RecordWriter

POISONS = (
    b'{"id": ',
    b"\xff\xfe\x00",
    b"",
    b'{"id": "x", "id": 1}',
    b'{"id": 1} {"id": 2}',
    b'{"id": 1, "note": "\\ud800"}',
    b'{"id": 99999999999999999999999999}',
    b'{"id": NaN}',
    b'{"id": "no number"}',
)


@dataclass(frozen=True)
class Mix:
    """What is produced; shares of all records.

    Attributes:
        poison: Records that must become dead letters.
        tombstones: Null values.
        aborted: Records of aborted transactions.
        late: Events of two days ago: a row or a dead letter, as the pipeline says.
        new_field: A field that the schema does not have, from here on.
        pad: Bytes that each value is longer.
        at: Event time of all records; None: now.
    """

    poison: float = 0.0
    tombstones: float = 0.0
    aborted: float = 0.0
    late: float = 0.0
    new_field: str = ""
    pad: int = 40
    at: dt.datetime | None = None


PLAIN = Mix()
DIRTY = Mix(poison=0.02, tombstones=0.01, aborted=0.01)


def produce(
    bootstrap: str,
    topic: str,
    count: int,
    record: Path,
    *,
    partitions: list[int],
    mix: Mix,
    seed: int,
) -> int:
    """Produce ``count`` records over the partitions, and write the record file."""
    choose = random.Random(seed)
    settings: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 5,
    }
    plain = KafkaProducer(**settings)
    transactional = None
    sent = []
    try:
        for number in range(count):
            value, kind, fate = _record(choose, mix, number)
            key = str(number).encode()
            partition = partitions[number % len(partitions)]
            if choose.random() < mix.aborted:
                if transactional is None:
                    name = f"aborting-{uuid.uuid4().hex}"
                    transactional = KafkaProducer(**settings, transactional_id=name)
                    transactional.init_transactions()
                transactional.begin_transaction()
                future = transactional.send(topic, value, key, partition=partition)
                transactional.flush()
                transactional.abort_transaction()
                sent.append((future, value, kind, "aborted"))
            else:
                sent.append((plain.send(topic, value, key, partition=partition), value, kind, fate))
        plain.flush()
        _write_down(sent, record, topic, timeout_s=60)
    finally:
        plain.close()
        if transactional is not None:
            transactional.close()
    return len(sent)


@dataclass
class Steady:
    """What :func:`steadily` has sent until now."""

    sent: int = 0


@contextmanager
def steadily(
    bootstrap: str, topic: str, record: Path, *, partitions: list[int], mix: Mix, seed: int
) -> Iterator[Steady]:
    """Produce some hundred records a second until the block ends, also while no broker answers.

    The record file is written at the end, when the broker has acknowledged each of them.
    """
    choose = random.Random(seed)
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        delivery_timeout_ms=600_000,
        reconnect_backoff_max_ms=500,
    )
    told, over, sent = Steady(), threading.Event(), []

    def work() -> None:
        while not over.wait(0.005):
            value, kind, fate = _record(choose, mix, told.sent)
            partition = partitions[told.sent % len(partitions)]
            key = str(told.sent).encode()
            sent.append((producer.send(topic, value, key, partition=partition), value, kind, fate))
            told.sent += 1

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield told
        finally:
            over.set()
        working.result()
    try:
        producer.flush()
        _write_down(sent, record, topic, timeout_s=120)
    finally:
        producer.close()


def _record(choose: random.Random, mix: Mix, number: int) -> tuple[bytes | None, str, str]:
    dice = choose.random()
    if dice < mix.poison:
        return choose.choice(POISONS), "poison", "dead"
    if dice < mix.poison + mix.tombstones:
        return None, "tombstone", "row"
    at, fate = mix.at or dt.datetime.now(dt.UTC), "row"
    if choose.random() < mix.late:
        at, fate = at - dt.timedelta(days=2), "either"
    event = {"id": number, "at": at.isoformat(), "note": "x" * mix.pad}
    if mix.new_field:
        event[mix.new_field] = f"new {number}"
    return json.dumps(event).encode(), "event", fate


def _write_down(sent: list[Any], record: Path, topic: str, *, timeout_s: float) -> None:
    """Record where the broker put each message: its future, value, kind and fate."""
    with RecordWriter(record, topic) as writer:
        for future, value, kind, fate in sent:
            place = future.get(timeout=timeout_s)
            writer.add(place.partition, place.offset, value, kind, fate)
