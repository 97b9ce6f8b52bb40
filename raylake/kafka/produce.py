"""Sample data: order events as ``examples/orders.yaml`` reads them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
from kafka import KafkaAdminClient, KafkaProducer
from kafka import errors as kafka_errors
from kafka.admin import NewTopic

from raylake.errors import Retryable
from raylake.kafka.connection import Connection, explain

_COUNTRIES = ("DE", "NO", "US", "FR", "JP", "BR")
_SEGMENTS = ("consumer", "business", "public")
_PROGRESS_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """What to produce.

    Attributes:
        count: Events.
        partitions: Partitions of the topic, when it has to be created.
        seed: Same seed, same events (their times aside).
        rate_per_s: Events a second; as fast as possible when None.
    """

    count: int
    partitions: int = 4
    seed: int = 0
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Produced:
    """What was produced.

    Attributes:
        topic: The topic.
        events: Events that the broker acknowledged.
        created: Whether the topic was created.
        seconds: How long it took.
    """

    topic: str
    events: int
    created: bool
    seconds: float


def order_events(count: int, seed: int, now: datetime) -> Iterator[tuple[bytes, bytes]]:
    """Keys and JSON values of ``count`` orders, the last ones updates of earlier ones in part.

    Args:
        count: Events.
        seed: Same seed and time, same events.
        now: The time of the last event; they are a tenth of a second apart.
    """
    rng = random.Random(seed)  # noqa: S311
    first = now - timedelta(seconds=count / 10)
    for n in range(count):
        # One in eight changes an order of the last thousand.
        order = rng.randrange(max(0, n - 1000), n) if n and rng.random() < 1 / 8 else n
        updated = first + timedelta(seconds=n / 10)
        ordered = first + timedelta(seconds=order / 10)
        customer = rng.randrange(max(10, count // 20))
        event = {
            "order_id": f"o-{seed}-{order:08d}",
            "customer_id": f"c-{customer:06d}",
            "country": _COUNTRIES[customer % len(_COUNTRIES)],
            "segment": _SEGMENTS[customer % len(_SEGMENTS)],
            "amount": f"{rng.lognormvariate(4, 1):.2f}",
            "ordered_at": ordered.isoformat(timespec="milliseconds"),
            "updated_at": updated.isoformat(timespec="milliseconds"),
        }
        yield str(event["order_id"]).encode(), orjson.dumps(event)


def produce(
    connection: Connection,
    topic: str,
    sample: Sample,
    progress: Callable[[int], None] | None = None,
) -> Produced:
    """Write sample orders to a topic, which is created when it is not there.

    Args:
        connection: The cluster.
        topic: The topic.
        sample: What to produce.
        progress: Told the number of events sent so far, now and then.

    Raises:
        DependencyUnreachable: No broker answers.
        Terminal: Not authorised.
        Retryable: The broker did not acknowledge every event; some may be there.
    """
    started_s = time.monotonic()
    try:
        created = _ensure_topic(connection, topic, sample.partitions)
        producer = KafkaProducer(
            **connection.settings(), linger_ms=20, batch_size=256 * 1024, compression_type="lz4"
        )
        try:
            _send(producer, topic, sample, progress)
        finally:
            producer.close(timeout=connection.connect_timeout_s)
    except kafka_errors.KafkaError as error:
        raise explain(error, connection, f"producing to {topic!r}") from error
    return Produced(topic, sample.count, created, time.monotonic() - started_s)


def _ensure_topic(connection: Connection, topic: str, partitions: int) -> bool:
    admin = KafkaAdminClient(**connection.settings())
    try:
        admin.create_topics([NewTopic(topic, partitions, -1)])
        admin.wait_for_topics([topic])
    except kafka_errors.TopicAlreadyExistsError:
        return False
    finally:
        admin.close()
    return True


def _send(
    producer: KafkaProducer,
    topic: str,
    sample: Sample,
    progress: Callable[[int], None] | None,
) -> None:
    failures: list[BaseException] = []
    started_s = time.monotonic()
    events = order_events(sample.count, sample.seed, datetime.now(UTC))
    for number, (key, value) in enumerate(events, start=1):
        producer.send(topic, key=key, value=value).add_errback(failures.append)
        if progress is not None and number % _PROGRESS_EVERY == 0:
            progress(number)
        if sample.rate_per_s is not None:
            ahead_s = number / sample.rate_per_s - (time.monotonic() - started_s)
            if ahead_s > 0:
                time.sleep(ahead_s)
    producer.flush()
    if failures:
        raise Retryable(
            f"{len(failures)} of {sample.count} events were not acknowledged by {topic!r}:"
            f" {failures[0]}"
        )
