"""Produces order events at a steady rate until told to stop, and writes its own record.

``python benchmarks/steady.py --bootstrap H:P --topic T --rate 2000 --record FILE --stop FILE``
stops when the file ``--stop`` exists or after ``--limit-s``.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from raylake.demo.events import Planned, StreamPlan, chunks
from raylake.demo.record import RecordWriter

STEP_S = 0.05
WHOLE = 4_000_000
Sent = tuple[int, Planned, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=int, default=2000, help="records/s")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--limit-s", type=float, default=900.0)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    options = parser.parse_args()
    producer = KafkaProducer(bootstrap_servers=options.bootstrap, linger_ms=5)
    began = time.monotonic()
    sent = 0
    waiting: list[Sent] = []
    stream = _stream(options.partitions)
    with RecordWriter(options.record, options.topic) as record:
        while not options.stop.exists() and time.monotonic() < began + options.limit_s:
            due = int((time.monotonic() - began) * options.rate) - sent
            for partition, planned in itertools.islice(stream, due):
                future = producer.send(
                    options.topic,
                    key=planned.key,
                    value=planned.value,
                    partition=partition,
                    timestamp_ms=int(time.time() * 1000),
                )
                waiting.append((partition, planned, future))
            sent += due
            waiting = _write_down(record, waiting)
            time.sleep(STEP_S)
        producer.flush()
        for one in _write_down(record, waiting):
            raise SystemExit(f"not acknowledged: {one[1]}")
    producer.close()
    print(f"records={sent} seconds={time.monotonic() - began:.1f}")


def _write_down(record: RecordWriter, sent: list[Sent]) -> list[Sent]:
    """Write down what was acknowledged; returns what is not yet."""
    waiting = []
    for one in sent:
        partition, planned, future = one
        if future.is_done:
            offset = future.get(timeout=60).offset
            record.add(partition, offset, planned.value, planned.kind, planned.fate)
        else:
            waiting.append(one)
    return waiting


def _stream(partitions: int) -> Iterator[tuple[int, Planned]]:
    """The demo's events, partition by partition in turn, those without a transaction."""
    plan = StreamPlan(1, WHOLE, int(time.time() * 1000), partitions)
    each = [itertools.chain.from_iterable(chunks(plan, p)) for p in range(partitions)]
    for turn in itertools.count():
        partition = turn % partitions
        planned = next(each[partition])
        if not planned.transaction:
            yield partition, planned


if __name__ == "__main__":
    main()
