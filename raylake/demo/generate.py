"""Produces the demo's order events on a real topic and writes down what the broker acknowledged.

``python -m raylake.demo.generate --bootstrap H:P --topic T --count N --seed S --record FILE``

Several processes share the work with ``--shard 0/2`` and ``--shard 1/2``: each produces the
partitions whose number modulo 2 is its own, and writes its own record file. Progress and the
closing summary are JSON lines on standard output.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from raylake.demo import events
from raylake.demo.events import Planned, StreamPlan
from raylake.demo.record import RecordWriter
from raylake.errors import ConfigError, DependencyUnreachable, RayLakeError, Refused

_ACK_TIMEOUT_S = 120.0
_HELD_CHUNKS = 3
"""Chunks whose acknowledgements may be outstanding; bounds the memory of a run."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one producing process has to do.

    Attributes:
        bootstrap: The broker's ``host:port``.
        topic: An existing topic with at least ``plan.partitions`` partitions.
        plan: The stream.
        record: Where this process writes its record file.
        shard: Number of this process among ``shards``.
        shards: Number of processes that share the stream.
        connect_timeout_s: How long to wait for the broker's first answer.
    """

    bootstrap: str
    topic: str
    plan: StreamPlan
    record: Path
    shard: int = 0
    shards: int = 1
    connect_timeout_s: float = 10.0

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions of this shard."""
        return tuple(range(self.shard, self.plan.partitions, self.shards))


@dataclass
class Produced:
    """What a process has produced, by the broker's acknowledgements.

    Attributes:
        records: Acknowledged records, aborted ones included.
        by_kind: Records of each kind.
        by_fate: Records of each expected fate.
        seconds: Duration of the whole run.
        value_bytes: Sum of the values' sizes.
    """

    records: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    by_fate: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    value_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the rate in records/s."""
        rate = round(self.records / self.seconds) if self.seconds else 0
        return {
            "produced": self.records,
            "by_fate": dict(self.by_fate),
            "by_kind": dict(sorted(self.by_kind.items())),
            "value_bytes": self.value_bytes,
            "seconds": round(self.seconds, 2),
            "records_per_s": rate,
        }


Progress = Callable[[int], None]
Sent = list[tuple[int, Planned, Any]]


def create_topic(
    bootstrap: str, topic: str, partitions: int, connect_timeout_s: float = 10.0
) -> None:
    """Create ``topic`` with one replica.

    Raises:
        Refused: It exists: the producer's record would not hold what is in it already.
        DependencyUnreachable: The broker did not answer.
    """
    try:
        timeout_ms = int(connect_timeout_s * 1000)
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=timeout_ms)
        try:
            admin.create_topics([NewTopic(topic, partitions, 1)])
        finally:
            admin.close()
    except TopicAlreadyExistsError as error:
        raise Refused(
            f"topic {topic!r} exists at {bootstrap}", hint="choose another name", topic=topic
        ) from error
    except KafkaError as error:
        raise _unreachable(bootstrap, error) from error


def produce(job: Job, on_progress: Progress | None = None) -> Produced:
    """Produce the shard's records and write its record file.

    Both producers are idempotent: a retry neither doubles nor reorders. Offsets are those of the
    broker's acknowledgements. The record file appears under its name only after the last one.

    Args:
        job: What to produce.
        on_progress: Called with the number of acknowledged records, about once per chunk.

    Raises:
        DependencyUnreachable: The broker refused a record or did not answer; the record file
            stays incomplete and the topic holds a part of the stream.
    """
    began = time.monotonic()
    produced = Produced()
    notes = {"raylake.seed": str(job.plan.seed), "raylake.start_ms": str(job.plan.start_ms)}
    notes["raylake.count"] = str(job.plan.count)
    try:
        with _Sender(job) as sender, RecordWriter(job.record, job.topic, notes) as record:
            held: deque[Sent] = deque()
            for rows in _interleaved(job):
                held.append(sender.send_chunk(rows))
                if len(held) >= _HELD_CHUNKS:
                    _note(held.popleft(), record, produced)
                    if on_progress:
                        on_progress(produced.records)
            while held:
                _note(held.popleft(), record, produced)
    except KafkaError as error:
        raise _unreachable(job.bootstrap, error) from error
    produced.seconds = time.monotonic() - began
    return produced


def _interleaved(job: Job) -> Iterator[list[tuple[int, Planned]]]:
    """The shard's records, one chunk of every partition at a time, partition by turns."""
    sources = [events.chunks(job.plan, partition) for partition in job.partitions]
    for together in itertools.zip_longest(*sources, fillvalue=[]):
        rows = itertools.zip_longest(*together)
        yield [
            (partition, planned)
            for row in rows
            for partition, planned in zip(job.partitions, row, strict=True)
            if planned is not None
        ]


def _note(sent: Sent, record: RecordWriter, produced: Produced) -> None:
    for partition, planned, future in sent:
        metadata = future.get(timeout=_ACK_TIMEOUT_S)
        if metadata.partition != partition:
            raise KafkaError(f"sent to partition {partition}, acknowledged by {metadata}")
        record.add(partition, metadata.offset, planned.value, planned.kind, planned.fate)
        produced.by_kind[planned.kind] += 1
        produced.by_fate[planned.fate] += 1
        produced.value_bytes += len(planned.value or b"")
    produced.records += len(sent)


class _Sender:
    """An ordinary producer and a transactional one, which write between each other's records."""

    def __init__(self, job: Job) -> None:
        settings: dict[str, Any] = {
            "bootstrap_servers": job.bootstrap,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 20,
            "batch_size": 256 * 1024,
            "max_request_size": 8 * 1024 * 1024,
            "metrics_enabled": False,
            "bootstrap_timeout_ms": int(job.connect_timeout_s * 1000),
        }
        self._topic = job.topic
        self._plain = KafkaProducer(**settings)
        name = f"raylake-demo-{uuid.uuid4().hex}"
        self._transactional = KafkaProducer(**settings, transactional_id=name)
        self._transactional.init_transactions()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._plain.close(timeout=10)
        self._transactional.close(timeout=10)

    def send_chunk(self, rows: Sequence[tuple[int, Planned]]) -> Sent:
        """Send a chunk; its transactions are ended, other records may still be under way."""
        sent: Sent = []
        ends = {planned.transaction: i for i, (_, planned) in enumerate(rows)}
        open_transaction = ""
        topic, plain = self._topic, self._plain.send
        for i, (partition, planned) in enumerate(rows):
            key, value, headers, timestamp_ms, _, _, transaction = planned
            send = plain
            if transaction:
                if transaction != open_transaction:
                    if open_transaction:
                        self._end(open_transaction)
                    self._transactional.begin_transaction()
                    open_transaction = transaction
                send = self._transactional.send
            future = send(topic, value, key, headers, partition, timestamp_ms)
            sent.append((partition, planned, future))
            if open_transaction and ends[open_transaction] <= i:
                self._end(open_transaction)
                open_transaction = ""
        return sent

    def _end(self, transaction: str) -> None:
        # An abort drops what was not sent yet: those records would have no offset.
        self._transactional.flush(timeout=_ACK_TIMEOUT_S)
        if transaction == "abort":
            self._transactional.abort_transaction()
        else:
            self._transactional.commit_transaction()


def _unreachable(bootstrap: str, error: KafkaError) -> DependencyUnreachable:
    return DependencyUnreachable(
        f"cannot produce at {bootstrap}: {error!r}",
        hint="is the broker up? `raylake dev status` tells",
        bootstrap=bootstrap,
    )


def _line(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="raylake.demo.generate", description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="host:port of a broker")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, default=1_000_000, help="records, over all shards")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--start-ms", type=int, help="first record timestamp; default: an hour ago")
    parser.add_argument(
        "--record", type=Path, required=True, help="the producer's record (Parquet)"
    )
    parser.add_argument("--shard", default="0/1", help="this process and how many there are: 0/2")
    parser.add_argument("--connect-timeout-s", type=float, default=10.0)
    parser.add_argument("--create-topic", action="store_true", help="the topic must not exist yet")
    return parser.parse_args(argv)


def _job(options: argparse.Namespace) -> Job:
    shard, _, shards = options.shard.partition("/")
    if not (shard.isdigit() and shards.isdigit() and int(shard) < int(shards)):
        raise ConfigError(f"--shard {options.shard}: not like 0/2", hint="number/how many")
    start_ms = options.start_ms
    if start_ms is None:
        if int(shards) > 1:
            raise ConfigError(
                "--shard without --start-ms", hint="shards of one stream need the same --start-ms"
            )
        start_ms = int(time.time() * 1000) - 3_600_000
    plan = StreamPlan(options.seed, options.count, start_ms, options.partitions)
    place = (options.bootstrap, options.topic, plan, options.record, int(shard), int(shards))
    return Job(*place, connect_timeout_s=options.connect_timeout_s)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code of the error raised, else 0."""
    try:
        options = _arguments(argv)
        job = _job(options)
        if options.create_topic:
            create_topic(job.bootstrap, job.topic, job.plan.partitions, job.connect_timeout_s)
        produced = produce(job, lambda records: _line({"progress": records}))
    except RayLakeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    _line(produced.to_json())
    return 0


if __name__ == "__main__":
    # A hundred thousand futures in flight make each full collection slow: half of the run time
    # (measured). What a run leaves behind is freed by reference counts.
    gc.disable()
    sys.exit(main())
