"""Answers of a fetch as bytes, and both ways to read one."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import crc32c
from kafka import TopicPartition
from kafka.consumer.fetcher import IsolationLevel
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from raylake.kafka.bounded import PLAIN, Budget, RecordForm
from raylake.kafka.columnar import columnar_form

COLUMNAR = columnar_form()
PARTITION = TopicPartition("topic", 3)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
UNBOUNDED = 10**12
_COVERED = 21

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Record:
    """A record; ``step`` is how far its offset lies behind the one before."""

    key: bytes | None = None
    value: bytes | None = b"v"
    headers: Headers = field(default_factory=list)
    timestamp: int = 1_700_000_000_000
    step: int = 1


@dataclass(frozen=True)
class Batch:
    """A record batch of format 2."""

    records: Sequence[Record]
    base: int = 0
    codec: int = 0
    producer_id: int = -1
    transactional: bool = False
    control: bool = False
    append_ms: int | None = None
    leader_epoch: int = 5

    @property
    def end(self) -> int:
        return self.base + sum(record.step for record in self.records)

    def encode(self) -> bytes:
        builder = DefaultRecordBatchBuilder(
            2, self.codec, self.transactional, self.producer_id, 0, 0, 1 << 30
        )
        at = -1
        for record in self.records:
            at += record.step
            builder.append(at, record.timestamp, record.key, record.value, record.headers)
        raw = bytearray(builder.build())
        struct.pack_into(">q", raw, 0, self.base)
        struct.pack_into(">i", raw, 12, self.leader_epoch)
        (attributes,) = struct.unpack_from(">h", raw, 21)
        if self.control:
            attributes |= 0x20
        if self.append_ms is not None:
            attributes |= 0x08
            struct.pack_into(">q", raw, 35, self.append_ms)
        struct.pack_into(">h", raw, 21, attributes)
        return sealed(raw)


def sealed(raw: bytes | bytearray) -> bytes:
    """A batch with the checksum of what is in it."""
    found = bytearray(raw)
    struct.pack_into(">i", found, 8, len(found) - 12)
    struct.pack_into(">I", found, 17, crc32c.crc32c(bytes(found[_COVERED:])))
    return bytes(found)


def marker(base: int, producer_id: int, *, commit: bool) -> Batch:
    """The control batch that ends a transaction."""
    key = struct.pack(">hh", 0, int(commit))
    record = Record(key=key, value=b"\0" * 6)
    return Batch([record], base, producer_id=producer_id, transactional=True, control=True)


@dataclass
class Outcome:
    """What came of reading an answer to its end, or to an error."""

    rows: list[dict[str, Any]]
    calls: list[int]
    position: int
    leader_epoch: int
    error: Exception | None


def read(
    form: RecordForm,
    raw: bytes,
    start: int = 0,
    *,
    records: int = UNBOUNDED,
    nbytes: int = UNBOUNDED,
    aborted: Sequence[Any] = (),
) -> Outcome:
    """Read an answer that was fetched at ``start``, as a consumer does."""
    budget = Budget()
    part = form.part(
        budget,
        -1,
        start,
        PARTITION,
        MemoryRecords(raw),
        check_crcs=True,
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=aborted,
    )
    rows: list[dict[str, Any]] = []
    calls: list[int] = []
    error = None
    try:
        while part:
            budget.left_bytes, budget.taken = nbytes, 0
            taken = part.take(records)
            batch = form.batch(taken, start)
            batch.validate(full=True)
            if batch.num_rows:
                calls.append(batch.num_rows)
                rows += batch.to_pylist()
    except Exception as caught:  # noqa: BLE001
        error = caught
    return Outcome(rows, calls, max(start, part.next_fetch_offset), part.leader_epoch, error)


def read_both(raw: bytes, start: int = 0, **bounds: Any) -> tuple[Outcome, Outcome]:
    """The plain reading and the columnar one."""
    return read(PLAIN, raw, start, **bounds), read(COLUMNAR, raw, start, **bounds)


def assert_same(raw: bytes, start: int = 0, **bounds: Any) -> Outcome:
    """Read with both; they must agree, and there must be no error."""
    plain, columnar = read_both(raw, start, **bounds)
    assert plain.error is None
    assert columnar == plain
    return columnar
