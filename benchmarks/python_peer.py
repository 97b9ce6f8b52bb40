"""Plain Python: one process, ``poll``, ``json.loads``, ``write_deltalake``, exactly once.

Offsets are committed with the rows, as the table's own transactions. Reads to the ends that it
finds, and prints one line of JSON: records, seconds and CPU seconds from the first poll to the last
commit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from kafka import KafkaConsumer, TopicPartition

PAYLOAD = {
    "order_id": pa.string(),
    "customer_id": pa.string(),
    "country": pa.string(),
    "segment": pa.string(),
    "quantity": pa.int64(),
    "amount": pa.string(),
    "ordered_at": pa.timestamp("us", "UTC"),
    "updated_at": pa.timestamp("us", "UTC"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=200_000, help="records in a commit")
    chosen = parser.parse_args()
    consumer = KafkaConsumer(
        bootstrap_servers=chosen.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=10_000,
        fetch_max_bytes=64 * 1024 * 1024,
        max_partition_fetch_bytes=16 * 1024 * 1024,
    )
    partitions = [
        TopicPartition(chosen.topic, p)
        for p in sorted(consumer.partitions_for_topic(chosen.topic) or ())
    ]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    for partition in partitions:
        consumer.seek(partition, _committed(chosen.table, partition))
    began, used = time.perf_counter(), time.process_time()
    total, waiting = 0, []
    while any(consumer.position(p) < ends[p] for p in partitions):
        for records in consumer.poll(timeout_ms=1000).values():
            waiting += records
        if len(waiting) >= chosen.batch:
            total += _commit(chosen.table, waiting, consumer, partitions)
            waiting = []
    if waiting:
        total += _commit(chosen.table, waiting, consumer, partitions)
    spent = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used}
    print(json.dumps({"records": total, **spent}))


def _committed(table: Path, partition: TopicPartition) -> int:
    """The next offset, from the table's own log."""
    if not (table / "_delta_log").exists():
        return 0
    return DeltaTable(table).transaction_version(_app(partition)) or 0


def _app(partition: TopicPartition) -> str:
    return f"peer/{partition.topic}/{partition.partition}"


def _commit(
    table: Path, records: list[Any], consumer: KafkaConsumer, partitions: list[TopicPartition]
) -> int:
    rows = [json.loads(record.value) for record in records]
    columns = {
        name: _column([row.get(name) for row in rows], kind) for name, kind in PAYLOAD.items()
    }
    columns["key"] = pa.array([record.key for record in records], pa.binary())
    columns["topic"] = pa.array([record.topic for record in records], pa.string())
    columns["partition"] = pa.array([record.partition for record in records], pa.int32())
    columns["offset"] = pa.array([record.offset for record in records], pa.int64())
    stamps = pa.array([record.timestamp for record in records], pa.timestamp("ms", "UTC"))
    columns["timestamp"] = stamps.cast(pa.timestamp("us", "UTC"))
    offsets = [Transaction(_app(p), consumer.position(p)) for p in partitions]
    write_deltalake(
        table,
        pa.table(columns),
        mode="append",
        commit_properties=CommitProperties(app_transactions=offsets),
    )
    return len(rows)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
