"""JSON messages into slots (:mod:`raylake.kernels.json_tables`).

One kernel for all schemas: the schema is a table that it walks along with the message. A message
that it is not sure of leaves nothing behind; the exact path decides on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from raylake.kernels.compiling import apart, inner, kernel
from raylake.kernels.json_scalars import scalar
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
    BAD,
    CLOSE_ARRAY,
    CLOSE_OBJECT,
    COLON,
    COMMA,
    OPEN_ARRAY,
    OPEN_OBJECT,
    QUOTE,
    skip_space,
    string_end,
)
from raylake.kernels.memory import add, get, load64, put
from raylake.kernels.words import byte

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
    child = expected
    while not _named(t, child, p, end):
        child = fact(t, child, END)
        if child >= stop:
            child = node + 1
        if child == expected:
            return BAD, BAD
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
        if fact(t, child, KIND) <= MAP:
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
    if byte(t.data, p) != (OPEN_ARRAY if kind == LIST else OPEN_OBJECT):
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
        elif p >= 0 and (fact(t, child, KIND) > MAP or byte(t.data, p) == 0x6E):
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
