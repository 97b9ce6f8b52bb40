"""The columnar fetcher: whole record batches from the answer into Arrow buffers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.fetcher import Fetcher as KafkaFetcher
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch

from raylake import kernels
from raylake.kafka.bounded import BoundedRecords, Budget, RecordForm
from raylake.kafka.columnar_rows import RowBuffers, address
from raylake.kafka.connection import Connection
from raylake.kafka.decompression import PART_BYTES, Buffer, Decompressed
from raylake.kafka.poll import PollFetcher
from raylake.kafka.port import FetchSettings
from raylake.kafka.records import empty, to_arrow
from raylake.kernels.record_state import (
    CODEC,
    CONTROL,
    HEADER_BYTES,
    LOG_APPEND_TIME,
    LOG_OVERHEAD,
    OWN_TIME,
    TRANSACTIONAL,
    Code,
    Field,
)

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_ATTRIBUTES_AT: Final = 21
_MAGIC_AT: Final = 16
_NEWEST_LEGACY: Final = 1
_UNBOUNDED: Final = 1 << 62
_GROWN_BYTES: Final = 64 * 1024
_TIMES_COMPRESSED: Final = 4
_LONGEST_RECORD_BYTES: Final = 256 * 1024 * 1024

_BAD: Final = {
    Code.BAD_LENGTH: "is shorter than a record batch can be",
    Code.BAD_CRC: "failed crc check",
    Code.BAD_RECORD: "holds a record whose fields do not fit its length",
    Code.BAD_OFFSET: "holds an offset that is not in its place",
    Code.BAD_END: "does not end where its last record ends",
}


class _Header(NamedTuple):
    base: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_delta: int
    first_ms: int
    max_ms: int
    producer_id: int
    producer_epoch: int
    sequence: int
    records: int


class _OneBatch:
    """A batch as kafka-python's readers ask for it."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def next_batch(self) -> Any:
        batch, self._batch = self._batch, None
        return batch


class ColumnarRecords(KafkaFetcher.PartitionRecords):  # type: ignore[misc]
    """One partition's part of an answer, handed out as record batches of Arrow.

    Per record batch it does what the overridden class does (kafka-python 3.0,
    ``PartitionRecords._unpack_records``): checksum, leader epoch, aborted transactions, control
    batches, the next offset. A batch of the formats 0 and 1 is read by kafka-python itself.
    """

    def __init__(
        self,
        decode: Callable[[int], int],
        budget: Budget,
        epoch: int,
        start: int,
        tp: TopicPartition,
        records: Any,
        **more: Any,
    ) -> None:
        super().__init__(start, tp, records, **more)
        self.leader_epoch = epoch
        self._decode = decode
        self._budget = budget
        self._answer = memoryview(records._buffer).cast("B")  # noqa: SLF001
        self._buffer = pa.py_buffer(self._answer)
        # The records of a batch that are read on their own, and where it ends in the answer.
        self._section: Any = None
        self._stream: Any = None
        self._section_end = 0
        self._legacy: BoundedRecords | None = None
        self._times_compressed = 1
        state = np.zeros(len(Field), np.int64)
        state[Field.BUFFER] = self._buffer.address
        state[Field.SIZE] = len(self._answer)
        state[Field.TRUSTED] = -1
        state[Field.NEXT] = start
        state[Field.LEADER_EPOCH] = epoch
        self._state = state
        self._state_address = address(state)

    def take(self, n: int | None = None) -> list[pa.RecordBatch]:
        """A batch of at most ``n`` records, at least one, no more once the budget is spent."""
        self._maybe_raise_next_inline_exception()
        if self._legacy is not None:
            return self._take_legacy(n)
        state = self._state
        state[Field.RECORDS] = _UNBOUNDED if n is None else n
        state[Field.BYTES] = self._budget.left_bytes
        rows = RowBuffers(state, self._expected_bytes(), int(state[Field.RECORDS]))
        try:
            self._read(rows)
        except kafka_errors.KafkaError as error:
            if not len(rows):
                raise
            self._next_inline_exception = error
        self._account(len(rows))
        if len(rows):
            return [rows.finish()]
        return [] if self._legacy is None else self._take_legacy(n)

    def drain(self) -> None:
        """Nothing more is wanted of it."""
        super().drain()
        self._section = self._stream = self._legacy = None
        self._answer = memoryview(b"")
        self._buffer = None

    def _unpack_records(self, *_: Any) -> Any:
        return iter(())

    def _expected_bytes(self) -> int:
        state = self._state
        left = int(state[Field.SIZE] - state[Field.POSITION])
        if self._section is not None:
            left += len(self._answer) - self._section_end
        return min(left * self._times_compressed, int(state[Field.BYTES]) + _GROWN_BYTES)

    def _account(self, rows: int) -> None:
        state = self._state
        self.next_fetch_offset = int(state[Field.NEXT])
        self.leader_epoch = int(state[Field.LEADER_EPOCH])
        self.bytes_read += int(state[Field.READ])
        self.records_read += rows
        state[Field.READ] = 0
        self._budget.left_bytes = int(state[Field.BYTES])
        self._budget.taken += rows

    def _read(self, rows: RowBuffers) -> None:
        while True:
            code = self._decode(self._state_address)
            if code == Code.FULL:
                return
            if code == Code.FINISHED:
                if self._section is None:
                    self._account(0)
                    self.drain()
                    return
                if not self._stream.finished and self._more(1):
                    raise self._corrupt(_BAD[Code.BAD_END])
                self._leave_section()
            elif code == Code.MORE:
                self._go_on()
            elif code in (Code.SPECIAL, Code.CHECK_CRC):
                self._judge()
                if self._legacy is not None:
                    return
            elif code < Code.BAD_LENGTH:
                rows.grow(code)
            else:
                raise self._corrupt(_BAD[Code(code)])

    def _corrupt(self, why: str) -> kafka_errors.CorruptRecordError:
        base = int(self._state[Field.BASE])
        return kafka_errors.CorruptRecordError(
            f"Record batch for partition {self.topic_partition} at offset {base} {why}"
        )

    def _judge(self) -> None:
        """Decide about the batch at the position: kafka-python's rules."""
        at = int(self._state[Field.POSITION])
        (length,) = struct.unpack_from(">i", self._answer, at + 8)
        end = at + LOG_OVERHEAD + length
        magic = self._answer[at + _MAGIC_AT]
        if magic <= _NEWEST_LEGACY:
            self._open_legacy(LegacyRecordBatch(self._answer[at:end], magic))
            self._state[Field.POSITION] = end
            return
        if magic > 2:
            raise self._corrupt(f"has the unknown format {magic}")
        header = _Header._make(_HEADER.unpack_from(self._answer, at))
        if crc32c.crc32c(self._answer[at + _ATTRIBUTES_AT : end]) != header.crc:
            raise self._corrupt(_BAD[Code.BAD_CRC])
        self._state[Field.LEADER_EPOCH] = header.leader_epoch
        if not self._is_data(header, at, end):
            after = header.base + header.last_delta + 1
            self._state[Field.SEEN] = after
            self._state[Field.NEXT] = max(int(self._state[Field.NEXT]), after)
            self._state[Field.POSITION] = end
        elif header.attributes & CODEC:
            self._enter_section(header, at + HEADER_BYTES, end)
        else:
            self._state[Field.TRUSTED] = at

    def _is_data(self, header: _Header, at: int, end: int) -> bool:
        control = bool(header.attributes & CONTROL)
        if header.producer_id > -1:
            self._consume_aborted_transactions_up_to(header.base + header.last_delta)
            if control:
                batch = DefaultRecordBatch(self._answer[at:end])
                if self._contains_abort_marker(batch):
                    self.aborted_producer_ids.discard(header.producer_id)
            elif header.attributes & TRANSACTIONAL:
                return header.producer_id not in self.aborted_producer_ids
        return not control

    def _enter_section(self, header: _Header, at: int, end: int) -> None:
        try:
            self._stream = Decompressed(header.attributes & CODEC, self._answer[at:end])
        except kafka_errors.CorruptRecordError as error:
            raise self._corrupt(str(error.args[0])) from error
        self._section_end = end
        self._times_compressed = _TIMES_COMPRESSED
        state = self._state
        state[Field.LEFT] = header.records
        state[Field.BASE] = state[Field.LEAST] = header.base
        state[Field.LAST] = header.base + header.last_delta
        state[Field.FIRST_MS] = header.first_ms
        log_append = header.attributes & LOG_APPEND_TIME
        state[Field.APPEND_MS] = header.max_ms if log_append else OWN_TIME
        self._place_section(self._more(PART_BYTES))

    def _more(self, size: int) -> Buffer:
        try:
            found: Buffer = self._stream.read(size)
        except kafka_errors.CorruptRecordError as error:
            raise self._corrupt(str(error.args[0])) from error
        return found

    def _place_section(self, data: Buffer) -> None:
        self._section = pa.py_buffer(data)
        state = self._state
        state[Field.BUFFER] = self._section.address
        state[Field.SIZE] = state[Field.END] = self._section.size
        state[Field.POSITION] = 0
        state[Field.SECTION] = 1 if self._stream.finished else 2

    def _go_on(self) -> None:
        """Put the next part of a long batch behind the record that its last part cut."""
        cut = memoryview(self._section)[int(self._state[Field.POSITION]) :]
        if len(cut) > _LONGEST_RECORD_BYTES:
            raise self._corrupt(f"holds a record of more than {_LONGEST_RECORD_BYTES} bytes")
        self._section = None
        # Twice as much each time: a long record is not copied again for each part.
        self._place_section(b"".join((cut, self._more(max(PART_BYTES, len(cut))))))

    def _leave_section(self) -> None:
        self._section = self._stream = None
        state = self._state
        state[Field.BUFFER] = self._buffer.address
        state[Field.SIZE] = len(self._answer)
        state[Field.POSITION] = self._section_end
        state[Field.END] = state[Field.SECTION] = 0

    def _open_legacy(self, batch: LegacyRecordBatch) -> None:
        self._legacy = BoundedRecords(
            self._budget,
            int(self._state[Field.LEADER_EPOCH]),
            int(self._state[Field.NEXT]),
            self.topic_partition,
            _OneBatch(batch),
            check_crcs=self.check_crcs,
            isolation_level=self.isolation_level,
        )

    def _take_legacy(self, n: int | None) -> list[pa.RecordBatch]:
        legacy = self._legacy
        if legacy is None:
            return []
        records = legacy.take(n)
        self._state[Field.NEXT] = self.next_fetch_offset = legacy.next_fetch_offset
        if not legacy:
            self._legacy = None
        return [to_arrow(records)] if records else []


def _batch(taken: list[pa.RecordBatch], start: int) -> pa.RecordBatch:
    if not taken:
        return empty()
    found = taken[0] if len(taken) == 1 else pa.concat_batches(taken)
    if found.column(0)[0].as_py() < start:
        found = found.filter(pc.greater_equal(found.column(0), start))
    return found


def columnar_form() -> RecordForm:
    """Whole record batches through the kernel, which is compiled here when it is not cached."""
    decode = kernels.load("record_batches").decode

    def part(*given: Any, **more: Any) -> ColumnarRecords:
        return ColumnarRecords(decode, *given, **more)

    return RecordForm(part, _batch)


class ColumnarFetcher(PollFetcher):
    """:class:`PollFetcher` without a Python object for each record: the product's fetcher.

    It delivers the same, at the same positions, and raises the same errors. Record batches are
    decoded by a kernel into Arrow buffers, all of a partition's in one call into one batch.

    Args:
        connection: The cluster.
        settings: Bounds.
    """

    def __init__(self, connection: Connection, settings: FetchSettings | None = None) -> None:
        super().__init__(connection, settings, columnar_form())
