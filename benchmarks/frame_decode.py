"""From the socket to records: ours, kafka-python's ``poll()``, confluent-kafka's ``consume()``.

The records are only counted. Each in a process of its own, by turns, over the same four partitions.
``frames`` is the part that makes records of what arrived, where it can be told from the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from statistics import median
from typing import Any

from bed import PARTITIONS, Bed, BenchFailed, bed, closing, options, table
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import Fetcher as KafkaFetcher

from raylake.config import load
from raylake.ingest.build_consumer import build_fetcher
from raylake.ingest.plan import table_plans
from raylake.kafka.client import Cluster
from raylake.kafka.columnar import ColumnarRecords
from raylake.kafka.port import Position

AIM_POLL, AIM_CONSUME = 20.0, 5.0
LIMIT_S = 900.0
Counter = tuple[Callable[[], int], Callable[[], object]]
"""Takes and counts some records; and the end of it."""


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        _one(*sys.argv[2:])
        return 0
    chosen = options(__doc__, _arguments)
    with bed("frames", chosen) as made:
        topic = made.topic()
        made.load(topic, chosen.count, compression=chosen.compression)
        made.pipeline(topic)
        told: dict[str, list[dict[str, float]]] = defaultdict(list)
        for number in range(chosen.rounds + 1):
            for who in COUNTERS:
                answer = _ask(made, who, topic, chosen.count)
                # The first round warms up.
                if number:
                    told[who].append(answer)
        return _report(told, chosen.count)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compression", default="none")


def _ask(made: Bed, who: str, topic: str, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", who, made.bootstrap, topic, str(count)]
    peer = made.start([*command, str(made.folder / "bench.yaml")], "frames.log")
    if peer.wait(LIMIT_S) != 0:
        raise BenchFailed(made.tail("frames.log"))
    return made.told("frames.log")


def _one(who: str, bootstrap: str, topic: str, count: str, config: str) -> None:
    frames = [0.0]
    for owner in (ColumnarRecords, KafkaFetcher.PartitionRecords):
        owner.take = _timing(owner.take, frames)
    some, close = COUNTERS[who](bootstrap, topic, config)
    began, used = time.perf_counter(), time.process_time()
    counted = 0
    while counted < int(count):
        counted += some()
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
    close()
    if counted != int(count):
        raise BenchFailed(f"{who}: {counted:,} records of {count}")
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "frames_s": frames[0]}))


def _timing(take: Any, frames: list[float]) -> Any:
    @wraps(take)
    def timed(*given: Any, **named: Any) -> Any:
        began = time.thread_time()
        try:
            return take(*given, **named)
        finally:
            frames[0] += time.thread_time() - began

    return timed


def _ours(bootstrap: str, _topic: str, config: str) -> Counter:
    loaded = load(config).config
    with Cluster(bootstrap, None, 10.0) as cluster:
        plan = table_plans(loaded, cluster)[0]
    fetcher = build_fetcher(loaded, [plan], "frames")
    fetcher.assign({source: Position(0) for source in plan.sources})
    return lambda: sum(batch.records.num_rows for batch in fetcher.fetch(1.0)), fetcher.close


def _poll(bootstrap: str, topic: str, _config: str) -> Counter:
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=20_000,
        fetch_max_bytes=16 * 1024 * 1024,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    return lambda: sum(map(len, consumer.poll(1000).values())), consumer.close


def _consume(bootstrap: str, topic: str, _config: str) -> Counter:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "frames",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "check.crcs": True,
        }
    )
    consumer.assign([Place(topic, number, 0) for number in range(PARTITIONS)])
    return lambda: sum(m.error() is None for m in consumer.consume(20_000, 1.0)), consumer.close


COUNTERS: dict[str, Callable[[str, str, str], Counter]] = {
    "ours": _ours,
    "kafka-python poll": _poll,
    "confluent consume": _consume,
}


def _report(told: dict[str, list[dict[str, float]]], count: int) -> int:
    whole, frames, rows = {}, {}, []
    for who, answers in told.items():
        whole[who] = count / median(answer["cpu_s"] for answer in answers)
        wall = count / median(answer["seconds"] for answer in answers)
        spent = median(answer["frames_s"] for answer in answers)
        frames[who] = count / spent if spent else 0.0
        rows.append([who, int(wall), int(whole[who]), int(frames[who]) or "-"])
    table(rows, ["counting", "records/s", "records/CPU-s", "frames: records/CPU-s"])
    ours, poll, consume = told
    closing(
        "frame_decode",
        records=count,
        whole_vs_poll=whole[ours] / whole[poll],
        whole_vs_consume=whole[ours] / whole[consume],
        frames_vs_poll_frames=frames[ours] / frames[poll],
        frames_vs_poll=frames[ours] / whole[poll],
        frames_vs_consume=frames[ours] / whole[consume],
    )
    met = frames[ours] / frames[poll] >= AIM_POLL and frames[ours] / whole[consume] >= AIM_CONSUME
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
