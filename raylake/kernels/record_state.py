"""What :func:`raylake.kernels.record_batches.decode` and its caller tell each other."""

from __future__ import annotations

from enum import IntEnum, auto


class _Count(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:  # noqa: ARG004
        return count


class Field(_Count):
    """Places in the state."""

    # Where reading is: the buffer's address, positions in it. END 0: a header comes next.
    BUFFER = auto()
    SIZE = auto()
    POSITION = auto()
    END = auto()
    # The batch: records to come; offsets, LEAST that of the next record; times, APPEND_MS is
    # OWN_TIME when the records have their own.
    LEFT = auto()
    BASE = auto()
    LAST = auto()
    LEAST = auto()
    FIRST_MS = auto()
    APPEND_MS = auto()
    LEADER_EPOCH = auto()
    # What is wanted: how many RECORDS and BYTES more. TRUSTED: position of a batch that the caller
    # judged. SECTION: the buffer is a batch's records, 2: and not all of them.
    RECORDS = auto()
    BYTES = auto()
    TRUSTED = auto()
    SECTION = auto()
    # What was done: the NEXT offset, below which records are dropped; SEEN, the one after the last
    # batch; bytes of records; TEXT 1: a header's key is not ASCII.
    NEXT = auto()
    SEEN = auto()
    READ = auto()
    TEXT = auto()
    NEEDED = auto()
    # Rows: how many, for how many there is room, the columns' addresses.
    ROWS = auto()
    ROWS_ROOM = auto()
    OFFSETS = auto()
    TIMES = auto()
    TIME_BITS = auto()
    TIME_NULLS = auto()
    KEY_ENDS = auto()
    KEY_BITS = auto()
    KEY_NULLS = auto()
    KEYS = auto()
    KEY_BYTES = auto()
    KEY_ROOM = auto()
    VALUE_ENDS = auto()
    VALUE_BITS = auto()
    VALUE_NULLS = auto()
    VALUES = auto()
    VALUE_BYTES = auto()
    VALUE_ROOM = auto()
    HEADER_ENDS = auto()
    # Headers, the same.
    HEADERS = auto()
    HEADER_ROOM = auto()
    NAME_ENDS = auto()
    NAMES = auto()
    NAME_BYTES = auto()
    NAME_ROOM = auto()
    CONTENT_ENDS = auto()
    CONTENT_BITS = auto()
    CONTENT_NULLS = auto()
    CONTENTS = auto()
    CONTENT_BYTES = auto()
    CONTENT_ROOM = auto()


class Code(_Count):
    """Why :func:`decode` returned."""

    OPENED = auto()
    # The buffer is read; the limit is reached; a batch for the caller to judge (compressed,
    # transactional, control, another format); one whose checksum the caller takes; a record that
    # goes on beyond a part of a section.
    FINISHED = auto()
    FULL = auto()
    SPECIAL = auto()
    CHECK_CRC = auto()
    MORE = auto()
    # NEEDED says how much room it takes.
    SHORT_ROWS = auto()
    SHORT_KEYS = auto()
    SHORT_VALUES = auto()
    SHORT_HEADERS = auto()
    SHORT_NAMES = auto()
    SHORT_CONTENTS = auto()
    # BASE is the offset of the batch.
    BAD_LENGTH = auto()
    BAD_CRC = auto()
    BAD_RECORD = auto()
    BAD_OFFSET = auto()
    BAD_END = auto()


LOG_OVERHEAD = 12
"""Bytes of a batch that its length does not count: the base offset and the length."""

HEADER_BYTES = 61
SPECIAL_ATTRIBUTES = 0x37
"""Compression, transactional, control."""

CODEC, TRANSACTIONAL, CONTROL, LOG_APPEND_TIME = 0x07, 0x10, 0x20, 0x08

OWN_TIME = -(2**63)
"""Stands for no log-append time."""
