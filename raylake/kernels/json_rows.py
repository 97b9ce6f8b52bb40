"""JSON messages into slots (:mod:`raylake.kernels.json_tables`), and texts into Arrow's buffers.

One kernel for all schemas: the schema is a table that it walks along with the message. A message
that it is not sure of leaves nothing behind; the exact path decides on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from raylake.kernels.compiling import apart, inner, kernel
from raylake.kernels.json_scalars import scalar, sextet
from raylake.kernels.json_tables import (
    BASE,
    COUNT,
    END,
    EXPECTED,
    FIELDS,
    FRAME,
    FRESH,
    KIND,
    LIST,
    MAP,
    NAME_AT,
    NAME_SIZE,
    NODE,
    OTHER,
    ROOM,
    STAMP,
    TABLES,
    Tables,
    append,
    append_null,
    append_text,
    fact,
)
from raylake.kernels.json_text import (
    BACKSLASH,
    BAD,
    CLOSE_ARRAY,
    CLOSE_OBJECT,
    COLON,
    COMMA,
    OPEN_ARRAY,
    OPEN_OBJECT,
    QUOTE,
    hex4,
    skip_space,
    string_end,
)
from raylake.kernels.memory import add, copy, get, load64, put, store8
from raylake.kernels.words import byte, copy_words

FULL = -2
"""A list has no room for its elements: enlarge it and go on with the same row."""

CLOSED = -3
"""Instead of a node: an object or array is complete."""

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_OFFSETS = types.Array(types.int32, 1, "C", readonly=True)
_NUMBERS = types.Array(types.int64, 1, "C", readonly=True)
_MANY_KEYS = 32


@inner
def _separator(data: int, p: int, end: int, closing: int) -> tuple[int, bool]:
    """What follows a member: its end, or the next one's beginning."""
    p = skip_space(data, p, end)
    if p < end and byte(data, p) == closing:
        return p, True
    if p >= end or byte(data, p) != COMMA:
        return BAD, False
    return skip_space(data, p + 1, end), False


@inner
def _fill(t: Tables, node: int, stamp: int) -> None:
    """Nulls for the fields that were not there."""
    child = node + 1
    while child < fact(t, node, END):
        if get(t.seen, child) != stamp:
            append_null(t, child)
        child = fact(t, child, END)


@inner
def _named(t: Tables, child: int, p: int, end: int) -> bool:
    """Whether a name and a quotation mark stand at ``p``; names hold neither mark nor escape."""
    size = fact(t, child, NAME_SIZE)
    at = fact(t, child, NAME_AT)
    if p + size >= end or byte(t.data, p + size) != QUOTE:
        return False
    done = 0
    while done + 8 <= size:
        if load64(t.data + p + done) != load64(t.names + at + done):
            return False
        done += 8
    while done < size:
        if byte(t.data, p + done) != byte(t.names, at + done):
            return False
        done += 1
    return True


@inner
def _field(t: Tables, node: int, expected: int, p: int, end: int) -> tuple[int, int]:
    """The field that a member's name at ``p`` names, and where its value begins."""
    stop = fact(t, node, END)
    if p >= end or byte(t.data, p) != QUOTE or expected >= stop:
        return BAD, BAD
    p += 1
    child, first = expected, True
    while not _named(t, child, p, end):
        child = fact(t, child, END)
        if child >= stop:
            child = node + 1
        if child == expected and not first:
            return BAD, BAD
        if child == expected:
            return BAD, BAD
        first = False
    p = skip_space(t.data, p + fact(t, child, NAME_SIZE) + 1, end)
    if p >= end or byte(t.data, p) != COLON:
        return BAD, BAD
    return child, skip_space(t.data, p + 1, end)


@inner
def _same(data: int, one: int, other: int, size: int) -> bool:
    for i in range(size):
        if byte(data, one + i) != byte(data, other + i):
            return False
    return True


@inner
def _key(t: Tables, node: int, p: int, end: int, count: int) -> int:
    """An entry's key, which none of the ``count`` before it may be; where its value begins."""
    if p >= end or byte(t.data, p) != QUOTE or count >= _MANY_KEYS:
        return BAD
    found = string_end(t.data, p + 1, end)
    if found < 0 or found & 1:
        return BAD
    size = (found >> 1) - p - 1
    slot = fact(t, node, BASE) + get(t.used, node)
    for other in range(slot - count, slot):
        value = get(t.values, other)
        if (value & 0xFFFFFFFF) >> 1 == size and _same(t.data, value >> 32, p + 1, size):
            return BAD
    append_text(t, node, p + 1, size, 0)
    p = skip_space(t.data, p + size + 2, end)
    if p >= end or byte(t.data, p) != COLON:
        return BAD
    return skip_space(t.data, p + 1, end)


@inner
def _next(t: Tables, frame: int, p: int, end: int, closing: int) -> tuple[int, bool]:
    """Where the frame's next member or element begins, or its end."""
    if get(t.frames, frame + COUNT) == FRESH:
        p = skip_space(t.data, p, end)
        closed = p < end and byte(t.data, p) == closing
        put(t.frames, frame + COUNT, 0)
    else:
        p, closed = _separator(t.data, p, end, closing)
    return p, closed


@inner
def _members(t: Tables, frame: int, p: int, end: int) -> tuple[int, int]:
    """The members of an object, up to one that is no scalar; each at most once, none unknown.

    Returns:
        Where that one's value begins, and its node; or the end, and CLOSED.
    """
    node, stamp = get(t.frames, frame + NODE), get(t.frames, frame + STAMP)
    expected = get(t.frames, frame + EXPECTED)
    p, closed = _next(t, frame, p, end, CLOSE_OBJECT)
    while p >= 0 and not closed:
        child, p = _field(t, node, expected, p, end)
        if child < 0 or p >= end or get(t.seen, child) == stamp:
            return BAD, BAD
        put(t.seen, child, stamp)
        add(t.frames, frame + COUNT, 1)
        expected = fact(t, child, END)
        if expected >= fact(t, node, END):
            expected = node + 1
        if fact(t, child, KIND) <= OTHER:
            put(t.frames, frame + EXPECTED, expected)
            return p, child
        p = scalar(t, child, p, end)
        if p >= 0:
            p, closed = _separator(t.data, p, end, CLOSE_OBJECT)
    if p < 0:
        return BAD, BAD
    append(t, node, 0)
    if get(t.frames, frame + COUNT) < fact(t, node, FIELDS):
        _fill(t, node, stamp)
    return p + 1, CLOSED


@inner
def _element(t: Tables, frame: int, p: int, end: int) -> tuple[int, int]:
    """The next element of a list, or its end; as :func:`_members`."""
    node = get(t.frames, frame + NODE)
    p, closed = _next(t, frame, p, end, CLOSE_ARRAY)
    if closed:
        append(t, node, get(t.frames, frame + COUNT))
        return p + 1, CLOSED
    if get(t.used, node + 1) >= fact(t, node + 1, ROOM):
        return FULL, BAD
    add(t.frames, frame + COUNT, 1)
    return p, node + 1


@inner
def _entry(t: Tables, frame: int, p: int, end: int) -> tuple[int, int]:
    """The next entry of a map: node + 1 is their struct, + 2 the key, + 3 the value."""
    node = get(t.frames, frame + NODE)
    p, closed = _next(t, frame, p, end, CLOSE_OBJECT)
    if closed:
        append(t, node, get(t.frames, frame + COUNT))
        return p + 1, CLOSED
    if get(t.used, node + 1) >= fact(t, node + 1, ROOM):
        return FULL, BAD
    p = _key(t, node + 2, p, end, get(t.frames, frame + COUNT))
    append(t, node + 1, 0)
    add(t.frames, frame + COUNT, 1)
    return p, node + 3


@inner
def _open(t: Tables, frame: int, node: int, p: int) -> int:
    """Begin an object or array at ``p``; where its content begins, or BAD."""
    kind = fact(t, node, KIND)
    if kind == OTHER or byte(t.data, p) != (OPEN_ARRAY if kind == LIST else OPEN_OBJECT):
        return BAD
    objects = fact(t, 0, END)
    add(t.seen, objects, 1)
    put(t.frames, frame + NODE, node)
    put(t.frames, frame + STAMP, get(t.seen, objects))
    put(t.frames, frame + EXPECTED, node + 1)
    put(t.frames, frame + COUNT, FRESH)
    return p + 1


@inner
def _step(t: Tables, frame: int, p: int, end: int) -> tuple[int, int]:
    """Go on in a frame, to its end or to a value that is no scalar member."""
    kind = fact(t, get(t.frames, frame + NODE), KIND)
    if kind == LIST:
        return _element(t, frame, p, end)
    if kind == MAP:
        return _entry(t, frame, p, end)
    return _members(t, frame, p, end)


@inner
def _message(t: Tables, p: int, end: int, depth: int) -> int:
    """A whole message; its end or BAD, or FULL."""
    p = skip_space(t.data, p, end)
    if p >= end or depth < 1:
        return BAD
    frame, last = 0, (depth - 1) * FRAME
    p = _open(t, 0, 0, p)
    while p >= 0 and frame >= 0:
        p, child = _step(t, frame, p, end)
        if child == CLOSED:
            frame -= FRAME
        elif p >= end:
            p = BAD
        elif p >= 0 and (fact(t, child, KIND) > OTHER or byte(t.data, p) == 0x6E):
            p = _element_value(t, child, p, end)
        elif p >= 0 and frame < last:
            frame += FRAME
            p = _open(t, frame, child, p)
        elif p >= 0:
            p = BAD
    return p if p < 0 or skip_space(t.data, p, end) == end else BAD


@inner
def _settle(t: Tables, good: bool, nodes: int) -> None:
    """Keep what a message appended, or take it back."""
    for node in range(nodes):
        if good:
            put(t.kept, node, get(t.used, node))
        else:
            put(t.used, node, get(t.kept, node))


@apart
def _element_value(t: Tables, node: int, p: int, end: int) -> int:
    """A scalar that is no member of an object, or a null."""
    return scalar(t, node, p, end)


@kernel(types.int64(TABLES, _OFFSETS, _BYTES, _NUMBERS, types.int64[::1], types.uint8[::1]))
def parse(t: Tables, offsets: Any, present: Any, bounds: Any, rows: Any, tombstones: Any) -> int:
    """Parse messages from row ``bounds[0]`` up to ``bounds[1]``.

    Args:
        t: The tables; the first of ``used`` is the number of good rows so far.
        offsets: The messages' places in the data: one more than there are messages.
        present: Whether a message is not null; empty when all are there.
        bounds: First row, the row after the last one, greatest message in bytes, greatest depth,
            nodes.
        rows: Takes the row of each good message.
        tombstones: Takes whether it is null.

    Returns:
        The row after the last one, or the row whose lists need more room.
    """
    for row in range(bounds[0], bounds[1]):
        start, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        good = get(t.used, 0)
        tombstone = present.size > 0 and present[row] == 0
        if tombstone:
            append_null(t, 0)
            p = 0
        elif end - start > bounds[2]:
            p = BAD
        else:
            p = _message(t, start, end, bounds[3])
        if p >= 0:
            rows[good] = row
            tombstones[good] = tombstone
        _settle(t, p >= 0, bounds[4])
        if p == FULL:
            return row
    return bounds[1]


@inner
def _control(letter: int) -> int:
    """The character of a short escape."""
    found = letter
    if letter == 0x62:
        found = 0x08
    elif letter == 0x66:
        found = 0x0C
    elif letter == 0x6E:
        found = 0x0A
    elif letter == 0x72:
        found = 0x0D
    elif letter == 0x74:
        found = 0x09
    return found


@inner
def _utf8(point: int, out: int, to: int) -> int:
    if point < 0x80:
        store8(out + to, point)
        return to + 1
    if point < 0x800:
        store8(out + to, 0xC0 | point >> 6)
    elif point < 0x10000:
        store8(out + to, 0xE0 | point >> 12)
        store8(out + to + 1, 0x80 | (point >> 6 & 0x3F))
        to += 1
    else:
        store8(out + to, 0xF0 | point >> 18)
        store8(out + to + 1, 0x80 | (point >> 12 & 0x3F))
        store8(out + to + 2, 0x80 | (point >> 6 & 0x3F))
        to += 2
    store8(out + to + 1, 0x80 | (point & 0x3F))
    return to + 2


@inner
def _unescaped(data: int, p: int, size: int, out: int, to: int) -> int:
    end = p + size
    while p < end:
        c = byte(data, p)
        if c != BACKSLASH:
            store8(out + to, c)
            p, to = p + 1, to + 1
        elif byte(data, p + 1) != 0x75:
            store8(out + to, _control(byte(data, p + 1)))
            p, to = p + 2, to + 1
        else:
            point = hex4(data, p + 2, end)
            p += 6
            if 0xD800 <= point < 0xDC00:
                point = 0x10000 + ((point - 0xD800) << 10) + hex4(data, p + 2, end) - 0xDC00
                p += 6
            to = _utf8(point, out, to)
    return to


@inner
def _copied(data: int, at: int, size: int, stop: int, out: int, to: int) -> int:
    """Text without escapes; ``stop`` is the end of the data."""
    if at + size + 8 <= stop:
        copy_words(data, at, size, out, to)
    else:
        copy(out + to, data + at, size)
    return to + size


@kernel(types.int64(_BYTES, _NUMBERS, types.int32[::1], types.uint8[::1]))
def gather_texts(data: Any, slots: Any, offsets: Any, out: Any) -> int:
    """Texts, their escapes resolved, one behind the other.

    Args:
        data: The messages' bytes.
        slots: Where each text is (STRING of :mod:`raylake.kernels.json_tables`).
        offsets: Takes Arrow's offsets: one more than there are texts.
        out: Takes the bytes; has room for all texts as they are, and eight bytes more.

    Returns:
        The bytes written.
    """
    source, target, to = data.ctypes.data, out.ctypes.data, 0
    offsets[0] = 0
    for i in range(slots.size):
        at, size = slots[i] >> 32, (slots[i] & 0xFFFFFFFF) >> 1
        if slots[i] & 1:
            to = _unescaped(source, at, size, target, to)
        else:
            to = _copied(source, at, size, data.size, target, to)
        offsets[i + 1] = to
    return to


@inner
def _three(data: int, p: int, out: int, to: int) -> int:
    """The bytes of four base64 letters, padding included."""
    third, fourth = sextet(byte(data, p + 2)), sextet(byte(data, p + 3))
    bits = sextet(byte(data, p)) << 18 | sextet(byte(data, p + 1)) << 12
    bits |= max(third, 0) << 6 | max(fourth, 0)
    store8(out + to, bits >> 16)
    store8(out + to + 1, (bits >> 8) & 0xFF)
    store8(out + to + 2, bits & 0xFF)
    return to + 3 - (third < 0) - (fourth < 0)


@kernel(types.int64(_BYTES, _NUMBERS, types.int32[::1], types.uint8[::1]))
def gather_base64(data: Any, slots: Any, offsets: Any, out: Any) -> int:
    """The bytes of canonical base64 texts; arguments and result as :func:`gather_texts`."""
    source, target, to = data.ctypes.data, out.ctypes.data, 0
    offsets[0] = 0
    for i in range(slots.size):
        at, size = slots[i] >> 32, (slots[i] & 0xFFFFFFFF) >> 1
        for p in range(at, at + size, 4):
            to = _three(source, p, target, to)
        offsets[i + 1] = to
    return to
