"""Reads the record batches of a fetch answer (format 2) into Arrow buffers.

The format: https://kafka.apache.org/documentation/#messageformat. Numbers of a batch's header are
big-endian; numbers of a record are zigzag varints. Nothing is read outside of the buffer, whatever
lengths are written in it, and nothing is written beyond the room that the caller made: then
:func:`decode` returns what is short, and goes on when it is called again.

All that is between two calls is in one array of integers, by the names of
:class:`raylake.kernels.record_state.Field`.
"""

from __future__ import annotations

import numpy as np

from raylake.kernels.compiling import apart, inner, kernel
from raylake.kernels.memory import (
    CPU_CRC,
    add,
    big_endian,
    clear_bit,
    copy,
    crc32c,
    get,
    load8,
    put,
    store32,
    store64,
)
from raylake.kernels.record_state import (
    HEADER_BYTES,
    LOG_APPEND_TIME,
    LOG_OVERHEAD,
    OWN_TIME,
    SPECIAL_ATTRIBUTES,
    Code,
    Field,
)

_SHORTEST = 14
_MAX_INT32 = 2**31 - 1

(
    BUFFER, SIZE, POSITION, END, LEFT, BASE, LAST, LEAST, FIRST_MS, APPEND_MS, LEADER_EPOCH,
    RECORDS, BYTES, TRUSTED, SECTION, NEXT, SEEN, READ, TEXT, NEEDED, ROWS, ROWS_ROOM, OFFSETS,
    TIMES, TIME_BITS, TIME_NULLS, KEY_ENDS, KEY_BITS, KEY_NULLS, KEYS, KEY_BYTES, KEY_ROOM,
    VALUE_ENDS, VALUE_BITS, VALUE_NULLS, VALUES, VALUE_BYTES, VALUE_ROOM, HEADER_ENDS, HEADERS,
    HEADER_ROOM, NAME_ENDS, NAMES, NAME_BYTES, NAME_ROOM, CONTENT_ENDS, CONTENT_BITS,
    CONTENT_NULLS, CONTENTS, CONTENT_BYTES, CONTENT_ROOM,
) = map(int, Field)  # fmt: skip
(
    OPENED, FINISHED, FULL, SPECIAL, CHECK_CRC, MORE, SHORT_ROWS, SHORT_KEYS, SHORT_VALUES,
    SHORT_HEADERS, SHORT_NAMES, SHORT_CONTENTS, BAD_LENGTH, BAD_CRC, BAD_RECORD, BAD_OFFSET,
    BAD_END,
) = map(int, Code)  # fmt: skip


@inner
def _varint(buffer: int, at: int, end: int) -> tuple[int, int]:
    """A number and the position after it, which is -1 for good once something is wrong."""
    # Unsigned: -1 is beyond the end.
    if np.uint64(at) >= np.uint64(end):
        return 0, -1
    found = np.uint64(load8(buffer + at))
    at += 1
    if found >= 0x80:
        found &= np.uint64(0x7F)
        shift = 7
        while True:
            if at >= end or shift > 63:
                return 0, -1
            part = np.uint64(load8(buffer + at))
            at += 1
            found |= (part & np.uint64(0x7F)) << np.uint64(shift)
            if part < 0x80:
                if shift == 63 and part > 1:
                    return 0, -1
                break
            shift += 7
    zigzag = np.int64(found >> np.uint64(1)) ^ -np.int64(found & np.uint64(1))
    return zigzag, at  # type: ignore[return-value]


@inner
def _beyond(at: int, length: int, end: int) -> int:
    """The position after some bytes, or after none for a null; -1 when they pass the end."""
    if at < 0 or length > end - at:
        return -1
    return at + max(length, 0)


@apart
def _measure_headers(buffer: int, at: int, end: int, count: int) -> tuple[int, int, int]:
    """Bytes of the keys and of the values, and the position after them or -1."""
    names = contents = 0
    for _ in range(count):
        length, at = _varint(buffer, at, end)
        if length < 0:
            return names, contents, -1
        at = _beyond(at, length, end)
        names += length
        length, at = _varint(buffer, at, end)
        at = _beyond(at, length, end)
        if at < 0:
            return names, contents, -1
        contents += max(length, 0)
    return names, contents, at


@apart
def _write_headers(s: int, at: int, end: int, count: int) -> None:
    """Headers that were measured, into room that was checked."""
    buffer = get(s, BUFFER)
    for _ in range(count):
        row = get(s, HEADERS)
        length, at = _varint(buffer, at, end)
        copy(get(s, NAMES) + get(s, NAME_BYTES), buffer + at, length)
        for n in range(at, at + length):
            if load8(buffer + n) >= 0x80:
                put(s, TEXT, 1)
        add(s, NAME_BYTES, length)
        length, at = _varint(buffer, at + length, end)
        if length < 0:
            clear_bit(get(s, CONTENT_BITS), row)
            add(s, CONTENT_NULLS, 1)
            length = 0
        copy(get(s, CONTENTS) + get(s, CONTENT_BYTES), buffer + at, length)
        add(s, CONTENT_BYTES, length)
        at += length
        store32(get(s, NAME_ENDS) + 4 * row + 4, get(s, NAME_BYTES))
        store32(get(s, CONTENT_ENDS) + 4 * row + 4, get(s, CONTENT_BYTES))
        put(s, HEADERS, row + 1)


@inner
def _room(s: int, used: int, more: int, code: int) -> int:
    """0 when some more fits; the room's size lies behind what is used."""
    needed = get(s, used) + more
    if needed <= get(s, used + 1):
        return 0
    put(s, NEEDED, needed)
    return FULL if needed > _MAX_INT32 else code


@inner
def _short(s: int, key: int, value: int) -> int:
    """What there is no room for; 0 when a row fits."""
    code = _room(s, ROWS, 1, SHORT_ROWS)
    if not code:
        code = _room(s, KEY_BYTES, key, SHORT_KEYS)
    if not code:
        code = _room(s, VALUE_BYTES, value, SHORT_VALUES)
    return code


@apart
def _short_headers(s: int, count: int, names: int, contents: int) -> int:
    code = _room(s, HEADERS, count, SHORT_HEADERS)
    if not code:
        code = _room(s, NAME_BYTES, names, SHORT_NAMES)
    if not code:
        code = _room(s, CONTENT_BYTES, contents, SHORT_CONTENTS)
    return code


@inner
def _write(s: int, key_at: int, key: int, value_at: int, value: int) -> None:
    """Key and value of a row, into room that was checked."""
    buffer = get(s, BUFFER)
    row = get(s, ROWS)
    if key < 0:
        clear_bit(get(s, KEY_BITS), row)
        add(s, KEY_NULLS, 1)
    elif key > 0:
        copy(get(s, KEYS) + get(s, KEY_BYTES), buffer + key_at, key)
        add(s, KEY_BYTES, key)
    store32(get(s, KEY_ENDS) + 4 * row + 4, get(s, KEY_BYTES))
    if value < 0:
        clear_bit(get(s, VALUE_BITS), row)
        add(s, VALUE_NULLS, 1)
    elif value > 0:
        copy(get(s, VALUES) + get(s, VALUE_BYTES), buffer + value_at, value)
        add(s, VALUE_BYTES, value)
    store32(get(s, VALUE_ENDS) + 4 * row + 4, get(s, VALUE_BYTES))
    store32(get(s, HEADER_ENDS) + 4 * row + 4, get(s, HEADERS))


@inner
def _write_place(s: int, offset: int, delta_ms: int) -> None:
    """Offset and time of a row; it is complete."""
    row = get(s, ROWS)
    store64(get(s, OFFSETS) + 8 * row, offset)
    timestamp = get(s, APPEND_MS)
    if timestamp == OWN_TIME:
        first = get(s, FIRST_MS)
        # Two of them may pass the least number.
        timestamp = -1 if first < 0 and delta_ms < 0 else first + delta_ms
    if timestamp < 0:
        clear_bit(get(s, TIME_BITS), row)
        add(s, TIME_NULLS, 1)
    store64(get(s, TIMES) + 8 * row, timestamp)
    put(s, ROWS, row + 1)


@inner
def _deliver(s: int, start: int, end: int) -> int:
    """Write the record between two positions as a row; 0, or why not."""
    buffer = get(s, BUFFER)
    _, at = _varint(buffer, start, end)
    delta_ms, at = _varint(buffer, at, end)
    delta, at = _varint(buffer, at, end)
    key, key_at = _varint(buffer, at, end)
    value, value_at = _varint(buffer, _beyond(key_at, key, end), end)
    count, headers_at = _varint(buffer, _beyond(value_at, value, end), end)
    if headers_at < 0 or count < 0:
        return BAD_RECORD
    names, contents, at = _measure_headers(buffer, headers_at, end, count)
    if at != end:
        return BAD_RECORD
    offset = get(s, BASE) + delta
    if offset < get(s, LEAST) or offset > get(s, LAST):
        return BAD_OFFSET
    if offset >= get(s, NEXT):
        code = _short(s, max(key, 0), max(value, 0))
        if count and not code:
            code = _short_headers(s, count, names, contents)
        if code:
            return code
        if count:
            _write_headers(s, headers_at, end, count)
        _write(s, key_at, key, value_at, value)
        _write_place(s, offset, delta_ms)
        add(s, RECORDS, -1)
        # As the plain path counts: -1 for none, and 4 more so that no record costs nothing.
        head = names + contents if count else -1
        add(s, BYTES, -(max(key, -1) + max(value, -1) + head + 4))
        put(s, NEXT, offset + 1)
    put(s, LEAST, offset + 1)
    return 0


@inner
def _next_record(s: int) -> int:
    """Read the next record of the batch; 0, or why it was not read."""
    end = get(s, END)
    length, start = _varint(get(s, BUFFER), get(s, POSITION), end)
    if start < 0 or length < 0 or length > end - start:
        return MORE if get(s, SECTION) > 1 else BAD_RECORD
    code = _deliver(s, start, start + length)
    if not code:
        add(s, READ, length)
        put(s, POSITION, start + length)
        add(s, LEFT, -1)
    return code


@inner
def _judge(s: int, start: int, length: int) -> int:
    """Whether the batch at an address can be read here; 0, or why not."""
    if load8(start + 16) != 2:
        return SPECIAL
    if length < HEADER_BYTES - LOG_OVERHEAD:
        return BAD_LENGTH
    if get(s, BASE) < get(s, SEEN):
        return BAD_OFFSET
    if get(s, TRUSTED) == get(s, POSITION):
        return 0
    if big_endian(start + 21, 2) & SPECIAL_ATTRIBUTES:
        return SPECIAL
    if not CPU_CRC:
        return CHECK_CRC
    crc = big_endian(start + 17, 4) & 0xFFFFFFFF
    return 0 if crc32c(start + 21, start + LOG_OVERHEAD + length) == crc else BAD_CRC


@inner
def _open(s: int) -> int:
    """Read the header of the next batch."""
    at = get(s, POSITION)
    start = get(s, BUFFER) + at
    left = get(s, SIZE) - at
    if left < LOG_OVERHEAD:
        return FINISHED
    length = big_endian(start + 8, 4)
    if length > left - LOG_OVERHEAD:
        # The broker cuts the last batch of an answer where the size that was asked for ends.
        return FINISHED
    put(s, BASE, big_endian(start, 8))
    # A record of the oldest format is not shorter.
    code = BAD_LENGTH if length < _SHORTEST else _judge(s, start, length)
    if code:
        return code
    put(s, LEADER_EPOCH, big_endian(start + 12, 4))
    put(s, LAST, get(s, BASE) + big_endian(start + 23, 4))
    put(s, LEAST, get(s, BASE))
    put(s, FIRST_MS, big_endian(start + 27, 8))
    append = big_endian(start + 21, 2) & LOG_APPEND_TIME
    put(s, APPEND_MS, big_endian(start + 35, 8) if append else OWN_TIME)
    put(s, LEFT, big_endian(start + 57, 4))
    put(s, POSITION, at + HEADER_BYTES)
    put(s, END, at + LOG_OVERHEAD + length)
    return OPENED


@inner
def _close(s: int) -> None:
    """The next offset is the one after the batch's last, whether that is there or not."""
    put(s, SEEN, get(s, LAST) + 1)
    put(s, NEXT, max(get(s, NEXT), get(s, LAST) + 1))
    put(s, END, 0)


@kernel("int64(int64)")
def decode(state: int) -> int:
    """Read records until the buffer ends, the limit is reached or help is needed.

    Args:
        state: The address of the state. It, and all that it points at, is the caller's to hold.

    Returns:
        A :class:`raylake.kernels.record_state.Code`.
    """
    while True:
        while get(state, LEFT) > 0:
            if get(state, RECORDS) <= 0 or get(state, BYTES) <= 0:
                return FULL
            code = _next_record(state)
            if code:
                return code
        if get(state, END) or get(state, SECTION):
            if get(state, POSITION) != get(state, END):
                return BAD_END
            _close(state)
        if get(state, SECTION):
            return FINISHED
        if get(state, RECORDS) <= 0 or get(state, BYTES) <= 0:
            return FULL
        code = _open(state)
        if code != OPENED:
            return code
