"""Texts of JSON into Arrow's buffers: escapes and base64 resolved, one text behind the other."""

from __future__ import annotations

from typing import Any

from numba import types

from raylake.kernels.compiling import inner, kernel
from raylake.kernels.json_scalars import sextet
from raylake.kernels.json_text import BACKSLASH, hex4
from raylake.kernels.memory import copy, store8
from raylake.kernels.words import byte, copy_words

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_NUMBERS = types.Array(types.int64, 1, "C", readonly=True)


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
