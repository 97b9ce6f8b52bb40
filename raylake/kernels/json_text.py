"""Scanning JSON text: white space, strings, numbers, dates. Nothing is read beyond ``end``.

A position that is returned is ``BAD`` where the text is not what was asked for, or needs the exact
path. Strict as RFC 8259: no control characters in strings, no leading zeros, valid UTF-8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylake.kernels.compiling import apart, inner
from raylake.kernels.memory import load64
from raylake.kernels.words import byte, special, trailing_zeros

BAD = -1
QUOTE, BACKSLASH, COMMA, COLON, MINUS, PLUS, POINT = 0x22, 0x5C, 0x2C, 0x3A, 0x2D, 0x2B, 0x2E
OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY = 0x7B, 0x7D, 0x5B, 0x5D
ZERO = 0x30
MAX_DIGITS = 19
_MAX_EXPONENT = 99_999


@inner
def skip_space(data: int, p: int, end: int) -> int:
    """The first position from ``p`` on that is no white space; ``end`` when there is none."""
    while p < end and byte(data, p) <= 0x20:
        c = byte(data, p)
        if c != 0x20 and c != 0x0A and c != 0x0D and c != 0x09:
            return p
        p += 1
    return p


@inner
def string_end(data: int, p: int, end: int) -> int:
    """Where a string that begins at ``p`` (after its quotation mark) ends.

    Returns:
        Twice the position of the closing quotation mark, plus one when there are escapes; or BAD.
    """
    escaped = 0
    while True:
        p = _plain_end(data, p, end)
        if p >= end:
            return BAD
        c = byte(data, p)
        if c == QUOTE:
            return 2 * p + escaped
        if c == BACKSLASH:
            escaped = 1
            p = _after_escape(data, p, end)
        else:
            p = _after_character(data, p, end)
        if p < 0:
            return BAD


@inner
def _plain_end(data: int, p: int, end: int) -> int:
    while p + 8 <= end:
        found = special(load64(data + p))
        if found != np.uint64(0):
            return p + (trailing_zeros(found) >> 3)
        p += 8
    while p < end:
        c = byte(data, p)
        if c == QUOTE or c == BACKSLASH or c < 0x20 or c >= 0x80:
            return p
        p += 1
    return p


@apart
def _after_escape(data: int, p: int, end: int) -> int:
    if p + 1 >= end:
        return BAD
    c = byte(data, p + 1)
    if c != 0x75:
        simple = c == 0x22 or c == 0x5C or c == 0x2F or c == 0x62
        simple = simple or c == 0x66 or c == 0x6E or c == 0x72 or c == 0x74
        return p + 2 if simple else BAD
    unit = hex4(data, p + 2, end)
    if unit < 0 or 0xDC00 <= unit < 0xE000:
        return BAD
    if unit < 0xD800 or unit >= 0xE000:
        return p + 6
    if p + 7 >= end or byte(data, p + 6) != BACKSLASH or byte(data, p + 7) != 0x75:
        return BAD
    low = hex4(data, p + 8, end)
    return p + 12 if 0xDC00 <= low < 0xE000 else BAD


@apart
def hex4(data: int, p: int, end: int) -> int:
    """The number that four hexadecimal digits are; BAD when they are not."""
    if p + 4 > end:
        return BAD
    unit = 0
    for i in range(4):
        c = byte(data, p + i)
        lower = c | 0x20
        if 0x30 <= c <= 0x39:
            unit = unit * 16 + c - 0x30
        elif 0x61 <= lower <= 0x66:
            unit = unit * 16 + lower - 0x57
        else:
            return BAD
    return unit


@apart
def _after_character(data: int, p: int, end: int) -> int:
    """Behind a character of several bytes (Unicode 15, table 3-7)."""
    c = byte(data, p)
    low, high = 0x80, 0xBF
    if 0xC2 <= c <= 0xDF:
        more = 1
    elif 0xE0 <= c <= 0xEF:
        more = 2
        low = 0xA0 if c == 0xE0 else low
        high = 0x9F if c == 0xED else high
    elif 0xF0 <= c <= 0xF4:
        more = 3
        low = 0x90 if c == 0xF0 else low
        high = 0x8F if c == 0xF4 else high
    else:
        return BAD
    if p + more >= end or not low <= byte(data, p + 1) <= high:
        return BAD
    for i in range(2, more + 1):
        if byte(data, p + i) & 0xC0 != 0x80:
            return BAD
    return p + more + 1


@apart
def number(data: int, p: int, end: int) -> tuple[int, Any, int, int, int]:
    """A number that begins at ``p``.

    Returns:
        Its end or BAD; its digits as one unsigned integer (only right up to ``MAX_DIGITS`` of
        them); how many these are, leading zeros left out; how many stand behind the point; the
        exponent, or the least of int64 when there is none.
    """
    p += byte(data, p) == MINUS
    p, digits, whole = _digits(data, p, end, np.uint64(0))
    if whole == 0 or (whole > 1 and byte(data, p - whole) == ZERO):
        return BAD, digits, 0, 0, 0
    count = whole - (whole == 1 and byte(data, p - 1) == ZERO)
    fraction = 0
    if p < end and byte(data, p) == POINT:
        first = p + 1
        p, digits, fraction = _digits(data, first, end, digits)
        if fraction == 0:
            return BAD, digits, 0, 0, 0
        if count == 0:
            count -= _zeros(data, first, p)
    exponent = NO_EXPONENT
    if p < end and byte(data, p) | 0x20 == 0x65:
        p, exponent = _exponent(data, p + 1, end)
    return p, digits, count + fraction, fraction, exponent


NO_EXPONENT = -(2**63)


@inner
def _digits(data: int, p: int, end: int, value: Any) -> tuple[int, Any, int]:
    start = p
    while p < end and ZERO <= byte(data, p) <= 0x39:
        value = value * np.uint64(10) + np.uint64(byte(data, p) - ZERO)
        p += 1
    return p, value, p - start


@inner
def _zeros(data: int, p: int, end: int) -> int:
    """How many zeros a text begins with."""
    start = p
    while p < end and byte(data, p) == ZERO:
        p += 1
    return p - start


@inner
def _exponent(data: int, p: int, end: int) -> tuple[int, int]:
    negative = p < end and byte(data, p) == MINUS
    if p < end and (byte(data, p) == MINUS or byte(data, p) == PLUS):
        p += 1
    start = p
    value = 0
    while p < end and ZERO <= byte(data, p) <= 0x39:
        value = min(value * 10 + byte(data, p) - ZERO, _MAX_EXPONENT)
        p += 1
    if p == start:
        return BAD, 0
    return p, (-value if negative else value)


@inner
def literal(data: int, p: int, end: int, word: int, size: int) -> int:
    """Behind a literal of up to five letters, given as a big-endian integer; or BAD."""
    if p + size > end:
        return BAD
    found = 0
    for i in range(size):
        found = found * 256 + byte(data, p + i)
    return p + size if found == word else BAD


NULL, TRUE, FALSE = 0x6E756C6C, 0x74727565, 0x66616C7365


@inner
def _two(data: int, p: int) -> int:
    tens, ones = byte(data, p) - ZERO, byte(data, p + 1) - ZERO
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -1000
    return tens * 10 + ones


NOT_A_DAY = -(2**62)


@inner
def day(data: int, p: int, end: int) -> int:
    """Days since 1970 of ``YYYY-MM-DD`` at ``p``, years 1 to 9999; or NOT_A_DAY."""
    if p + 10 > end or byte(data, p + 4) != MINUS or byte(data, p + 7) != MINUS:
        return NOT_A_DAY
    century, years = _two(data, p), _two(data, p + 2)
    month, date = _two(data, p + 5), _two(data, p + 8)
    year = century * 100 + years
    if century < 0 or years < 0 or year < 1 or month < 1 or month > 12 or date < 1:
        return NOT_A_DAY
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last = 30 + ((month + (month >> 3)) & 1)
    if month == 2:
        last = 29 if leap else 28
    if date > last:
        return NOT_A_DAY
    # Days of the proleptic Gregorian calendar, years that begin in March.
    shifted = year - (month <= 2)
    months = month + (9 if month <= 2 else -3)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * months + 2) // 5 + date - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@inner
def instant(data: int, p: int, end: int, zoned: bool) -> tuple[int, int]:
    """Microseconds since 1970 of an ISO 8601 text that fills ``[p, end)``.

    Returns:
        Whether it is one that needs no rounding (0 or BAD), and the microseconds.
    """
    days = day(data, p, end)
    if days == NOT_A_DAY or p + 16 > end or byte(data, p + 13) != COLON:
        return BAD, 0
    if byte(data, p + 10) != 0x54 and byte(data, p + 10) != 0x20:
        return BAD, 0
    hour, minute = _two(data, p + 11), _two(data, p + 14)
    p += 16
    second, micros = 0, 0
    if p < end and byte(data, p) == COLON:
        second = _two(data, p + 1) if p + 3 <= end else -1
        p += 3
        if p < end and byte(data, p) == POINT:
            p, micros = _fraction(data, p + 1, end)
    clock = hour >= 0 and hour <= 23 and minute >= 0 and minute <= 59
    if not clock or second < 0 or second > 59 or p < 0:
        return BAD, 0
    offset = _zone(data, p, end, zoned)
    if offset == NOT_A_DAY:
        return BAD, 0
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset
    return 0, seconds * 1_000_000 + micros


@inner
def _fraction(data: int, p: int, end: int) -> tuple[int, int]:
    p, value, count = _digits(data, p, min(end, p + 7), np.uint64(0))
    if count == 0 or count > 6:
        return BAD, 0
    micros = np.int64(value)
    for _ in range(6 - count):
        micros *= 10
    return p, micros


@inner
def _zone(data: int, p: int, end: int, zoned: bool) -> int:
    """The offset in seconds at ``p``, which must be the rest; or NOT_A_DAY."""
    if p == end:
        return 0
    if not zoned:
        return NOT_A_DAY
    if byte(data, p) == 0x5A:
        return 0 if p + 1 == end else NOT_A_DAY
    if (byte(data, p) != PLUS and byte(data, p) != MINUS) or p + 3 > end:
        return NOT_A_DAY
    hours, minutes = _two(data, p + 1), 0
    rest = p + 3
    if rest < end:
        rest += byte(data, rest) == COLON
        minutes = _two(data, rest) if rest + 2 == end else -1
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return NOT_A_DAY
    seconds = hours * 3600 + minutes * 60
    return -seconds if byte(data, p) == MINUS else seconds
