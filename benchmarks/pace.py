"""Produces prebuilt order events at a steady rate, stamped when they are produced.

``python benchmarks/pace.py --bootstrap H:P --topic T --rate 60000 --seconds 60``; ends with a line
of JSON: how many records were produced, and the most that it fell behind.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

from confluent_kafka import Producer
from load import broken, flat

PREBUILT = 20_000
STEP_S = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=int, required=True, help="records/s")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--bad", type=float, default=0.0, help="share of bad records: 0.001")
    chosen = parser.parse_args()
    messages = [
        (partition, key, value)
        for partition in range(chosen.partitions)
        for key, value in flat(partition, 0, PREBUILT // chosen.partitions)
    ]
    for turn, place in enumerate(range(0, PREBUILT, int(1 / chosen.bad)) if chosen.bad else ()):
        partition, key, value = messages[place]
        messages[place] = partition, key, broken(value, turn)
    turns = itertools.cycle(messages)
    # Small batches: what waits here to be sent is counted as latency.
    settings = {"bootstrap.servers": chosen.bootstrap, "acks": "all", "linger.ms": 5}
    producer = Producer(settings)
    began, sent, behind = time.monotonic(), 0, 0
    while (passed := time.monotonic() - began) < chosen.seconds:
        due = int(passed * chosen.rate) - sent
        behind = max(behind, due)
        for partition, key, value in itertools.islice(turns, due):
            producer.produce(chosen.topic, value, key, partition)
        sent += due
        producer.poll(0)
        time.sleep(STEP_S)
    if left := producer.flush(60):
        raise SystemExit(f"{left} records were not acknowledged")
    print(json.dumps({"records": sent, "behind_s": behind / chosen.rate}))


if __name__ == "__main__":
    main()
