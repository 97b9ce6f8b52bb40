"""Produces orders and their changes at a steady rate, and keeps when each was produced.

``python benchmarks/order_changes.py --bootstrap H:P --topic T --rate 20000 --seconds 60 --moments
FILE``. A shard is a partition. An event in ten changes one of its shard's latest 20,000 orders, all
others are new; each change raises the order's ``version`` by one. So over a table with the newest
row of each order, ``sum(version)`` of a shard is the number of its events. ``FILE`` (``.npz``) gets
for each shard the seconds since the epoch at which its events were produced, in their order.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

STEP_S = 0.02
RECENT = 20_000
CHANGED = 0.1
SHARDS_AT_MOST = 16


def events(shard: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of a shard's events, without an end."""
    draw = random.Random(shard)
    recent: deque[_Order] = deque(maxlen=RECENT)
    for number in count():
        if len(recent) > 1_000 and draw.random() < CHANGED:
            order = recent[draw.randrange(len(recent))]
            order.version += 1
        else:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            order = _Order(number * SHARDS_AT_MOST + shard, now)
            recent.append(order)
        yield (
            str(order.id).encode(),
            f'{{"order_id":{order.id},"shard":{shard},"customer_id":"c{order.id % 99991:06d}",'
            f'"version":{order.version},"amount":"{order.id % 9973}.{order.version % 100:02d}",'
            f'"ordered_at":"{order.ordered_at}"}}'.encode(),
        )


@dataclass(slots=True)
class _Order:
    id: int
    ordered_at: str
    version: int = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=int, required=True, help="events/s")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--moments", type=Path, required=True)
    chosen = parser.parse_args()
    producer = Producer({"bootstrap.servers": chosen.bootstrap, "acks": "all", "linger.ms": 5})
    sources = [events(shard) for shard in range(chosen.shards)]
    moments = [array("d") for _ in sources]
    began, sent, behind = time.monotonic(), 0, 0
    while (passed := time.monotonic() - began) < chosen.seconds:
        due = int(passed * chosen.rate) - sent
        behind = max(behind, due)
        for place in range(sent, sent + due):
            shard = place % chosen.shards
            key, value = next(sources[shard])
            moments[shard].append(time.time())
            producer.produce(chosen.topic, value, key, shard)
        sent += due
        producer.poll(0)
        time.sleep(STEP_S)
    if left := producer.flush(60):
        raise SystemExit(f"{left} events were not acknowledged")
    np.savez(chosen.moments, *moments)
    print(json.dumps({"records": sent, "behind_s": behind / chosen.rate}))


if __name__ == "__main__":
    main()
