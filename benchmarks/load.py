"""Fills a topic: order events of 198 bytes in eight fields, as fast as librdkafka takes them.

``python benchmarks/load.py --bootstrap H:P --topic T --count N --shard 0/2`` produces the
partitions whose number modulo 2 is 0. Every record is good, but for the share that ``--bad`` names:
those are spread evenly, broken JSON and ill-typed by turns. Batches are of 256 KiB, uncompressed,
unless told.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
from confluent_kafka import Producer

CHUNK = 10_000
COUNTRIES = ("DE", "NO", "US", "FR", "NL", "SE", "JP", "BR", "IN", "ZA")
SEGMENTS = ("consumer", "business", "education", "public")
Message = tuple[bytes, bytes]


def flat(partition: int, start: int, count: int) -> Iterator[Message]:
    """The flat events of one partition, from a place on."""
    rng = np.random.default_rng([partition, start])
    ordered = np.datetime64("2026-01-01T00:00:00", "ms") + np.arange(start, start + count)
    columns = zip(
        range(start, start + count),
        np.minimum(rng.zipf(1.3, count), 200_000).tolist(),
        rng.integers(0, len(COUNTRIES), count).tolist(),
        rng.integers(0, len(SEGMENTS), count).tolist(),
        rng.integers(1, 40, count).tolist(),
        rng.lognormal(8.5, 1.2, count).astype(np.int64).tolist(),
        np.datetime_as_string(ordered - rng.integers(50, 60_000, count)).tolist(),
        np.datetime_as_string(ordered).tolist(),
        strict=True,
    )
    for order, customer, country, segment, quantity, cents, at, updated in columns:
        key = f"o{partition}-{order:09d}"
        yield (
            key.encode(),
            f'{{"order_id":"{key}","customer_id":"c{customer:06d}",'
            f'"country":"{COUNTRIES[country]}","segment":"{SEGMENTS[segment]}",'
            f'"quantity":{quantity},"amount":"{cents / 100:.2f}",'
            f'"ordered_at":"{at}Z","updated_at":"{updated}Z"}}'.encode(),
        )


def nested(partition: int, start: int, count: int) -> Iterator[Message]:
    """The same with the customer as a struct and an array of two lines."""
    for key, value in flat(partition, start, count):
        event = json.loads(value)
        line = {"sku": event["order_id"], "quantity": event["quantity"]}
        customer = {name: event.pop(name) for name in ("customer_id", "country", "segment")}
        event = {**event, "customer": customer, "lines": [line, {**line, "quantity": 1}]}
        yield key, json.dumps(event, separators=(",", ":")).encode()


def large(partition: int, start: int, count: int) -> Iterator[Message]:
    """The flat events with a segment of a million letters."""
    for key, value in flat(partition, start, count):
        yield key, value.replace(b'"segment":"', b'"segment":"' + b"x" * 1_000_000, 1)


KINDS: dict[str, Callable[[int, int, int], Iterator[Message]]] = {
    "flat": flat,
    "nested": nested,
    "large": large,
}


def broken(value: bytes, turn: int) -> bytes:
    """The value without its end, or with a word where a number belongs, by turns."""
    if turn % 2:
        return value[: len(value) // 2]
    return value.replace(b'"quantity":', b'"quantity":"many', 1).replace(
        b',"amount"', b'","amount"'
    )


def main() -> None:
    chosen = _arguments()
    producer = Producer(
        {
            "bootstrap.servers": chosen.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 50,
            "batch.size": chosen.batch_bytes,
            "batch.num.messages": chosen.batch_records,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 512 * 1024,
            "message.max.bytes": 16 * 1024 * 1024,
            "compression.type": chosen.compression,
        }
    )
    began = time.monotonic()
    number, shards = map(int, chosen.shard.split("/"))
    bad_every = round(1 / chosen.bad) if chosen.bad else 0
    mine = range(number, chosen.partitions, shards)
    bad = 0
    # By turns, so that all partitions grow together.
    for start in itertools.count(0, CHUNK):
        sent = 0
        for partition in mine:
            whole = chosen.count // chosen.partitions
            whole += partition < chosen.count % chosen.partitions
            messages = KINDS[chosen.kind](partition, start, max(0, min(CHUNK, whole - start)))
            for place, (key, value) in enumerate(messages, start):
                if bad_every and place % bad_every == bad_every - 1:
                    bad += 1
                    value = broken(value, bad)  # noqa: PLW2901
                headers = [_traceparent(partition, place)] if chosen.traceparent else []
                _send(producer, chosen.topic, partition, (key, value), headers)
                sent += 1
        if not sent:
            break
    if left := producer.flush(120):
        raise SystemExit(f"{left} records were not acknowledged")
    print(json.dumps({"bad": bad, "seconds": round(time.monotonic() - began, 1)}))


def _traceparent(partition: int, place: int) -> tuple[str, bytes]:
    """The header of a record whose producer is traced."""
    return "traceparent", f"00-{partition + 1:08x}{place + 1:024x}-{place + 1:016x}-01".encode()


def _send(
    producer: Producer,
    topic: str,
    partition: int,
    message: Message,
    headers: list[tuple[str, bytes]],
) -> None:
    key, value = message
    while True:
        try:
            producer.produce(topic, value, key, partition, on_delivery=_delivered, headers=headers)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def _delivered(error: object, _message: object) -> None:
    if error is not None:
        raise SystemExit(f"not acknowledged: {error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--kind", choices=KINDS, default="flat")
    parser.add_argument("--bad", type=float, default=0.0, help="share of bad records: 0.01")
    parser.add_argument("--traceparent", type=int, default=0, help="1: a header of each record")
    parser.add_argument("--batch-bytes", type=int, default=256 * 1024)
    parser.add_argument("--batch-records", type=int, default=10_000)
    parser.add_argument("--compression", default="none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
