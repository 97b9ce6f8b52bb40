"""One JSON value into a slot of its column, by the rules of :mod:`raylake.codecs.json_codec`.

Each function takes the tables, the node, and the value's place; it returns the position behind the
value, or BAD when the exact path has to decide. What it puts is what the exact path would.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylake.kernels.compiling import apart, inner
from raylake.kernels.json_doubles import kept_double
from raylake.kernels.json_tables import (
    BINARY,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    FLOAT,
    HIGH,
    INTEGER,
    KIND,
    LOW,
    STRING,
    TIMESTAMP,
    TIMESTAMP_NTZ,
    Tables,
    append,
    append_null,
    append_text,
    fact,
)
from raylake.kernels.json_text import (
    BAD,
    FALSE,
    MAX_DIGITS,
    MINUS,
    NO_EXPONENT,
    NOT_A_DAY,
    NULL,
    QUOTE,
    TRUE,
    ZERO,
    day,
    instant,
    literal,
    number,
    string_end,
)
from raylake.kernels.words import byte

_FIRST_MICROS, _LAST_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999
_FIRST_MS, _END_MS = 10**11, 10**14
_POWERS = 10.0 ** np.arange(23)
_WHOLE_POWERS = 10 ** np.arange(19, dtype=np.int64)
_LONG_MAX = np.uint64(2**63 - 1)
_SIGN = np.int64(-(2**63))


@inner
def scalar(t: Tables, node: int, p: int, end: int) -> int:
    """A value of any scalar kind, or null."""
    if byte(t.data, p) == 0x6E:
        p = literal(t.data, p, end, NULL, 4)
        if p > 0:
            append_null(t, node)
        return p
    kind = fact(t, node, KIND)
    if byte(t.data, p) != QUOTE:
        return _unquoted(t, node, kind, p, end)
    found = string_end(t.data, p + 1, end)
    if found < 0:
        return BAD
    closing, escaped = found >> 1, found & 1
    if kind == STRING:
        append_text(t, node, p + 1, closing - p - 1, escaped)
        return closing + 1
    if escaped:
        return BAD
    return _quoted(t, node, kind, p + 1, closing)


@apart
def _quoted(t: Tables, node: int, kind: int, p: int, closing: int) -> int:
    """A string without escapes in a column that holds something else."""
    if kind == TIMESTAMP or kind == TIMESTAMP_NTZ:
        bad, value = instant(t.data, p, closing, kind == TIMESTAMP)
        if bad or value < _FIRST_MICROS or value > _LAST_MICROS:
            return BAD
    elif kind == DATE:
        value = day(t.data, p, closing)
        if value == NOT_A_DAY or closing - p != 10:
            return BAD
    elif kind == DECIMAL:
        return closing + 1 if p < closing and _decimal(t, node, p, closing) == closing else BAD
    elif kind == BINARY:
        return closing + 1 if _base64(t, node, p, closing) else BAD
    else:
        return BAD
    append(t, node, value)
    return closing + 1


@apart
def _unquoted(t: Tables, node: int, kind: int, p: int, end: int) -> int:
    c = byte(t.data, p)
    if c == MINUS or ZERO <= c <= 0x39:
        return _numeric(t, node, kind, p, end)
    is_true = c == 0x74
    after = literal(t.data, p, end, TRUE, 4) if is_true else literal(t.data, p, end, FALSE, 5)
    if after < 0:
        return BAD
    if kind == BOOLEAN:
        append(t, node, 1 if is_true else 0)
    elif kind == STRING:
        append_text(t, node, p, after - p, 0)
    else:
        return BAD
    return after


@inner
def _numeric(t: Tables, node: int, kind: int, p: int, end: int) -> int:
    if kind == DECIMAL:
        return _decimal(t, node, p, end)
    after, digits, count, fraction, exponent = number(t.data, p, end)
    if after < 0:
        return BAD
    if kind == STRING:
        append_text(t, node, p, after - p, 0)
        return after
    negative = byte(t.data, p) == MINUS
    if kind == DOUBLE or kind == FLOAT:
        return after if _floating(t, node, digits, count, fraction, exponent, negative) else BAD
    if fraction or exponent != NO_EXPONENT or count > MAX_DIGITS or digits > _LONG_MAX:
        return BAD
    value = -np.int64(digits) if negative else np.int64(digits)
    if kind == INTEGER and fact(t, node, LOW) <= value <= fact(t, node, HIGH):
        append(t, node, value)
    elif kind == TIMESTAMP and _FIRST_MS <= abs(value) < _END_MS:
        append(t, node, value * 1000)
    else:
        return BAD
    return after


@apart
def _floating(
    t: Tables, node: int, digits: Any, count: int, fraction: int, exponent: int, negative: bool
) -> bool:
    """Put a number whose nearest double (float) surely keeps its digits.

    Up to 15 digits (6) survive the way into the type and back; within 10^22 one division or
    multiplication of exact doubles rounds once (W. D. Clinger, How to read floating point numbers
    accurately, 1990). Of a double with more, :func:`kept_double` decides.
    """
    power = (0 if exponent == NO_EXPONENT else exponent) - fraction
    double = fact(t, node, KIND) == DOUBLE
    if -22 <= power <= 22 and count <= (15 if double else 6):
        value = np.float64(digits)
        value = value / _POWERS[-power] if power < 0 else value * _POWERS[power]
        bits = np.float64(value).view(np.int64)
    elif double:
        bits = np.int64(kept_double(digits, count, power))
    else:
        return False
    if bits < 0:
        return False
    append(t, node, bits | _SIGN if negative else bits)
    return True


@apart
def _decimal(t: Tables, node: int, p: int, end: int) -> int:
    after, digits, count, fraction, exponent = number(t.data, p, end)
    if after < 0 or exponent != NO_EXPONENT or count > 18:
        return BAD
    precision, scale = fact(t, node, LOW), fact(t, node, HIGH)
    value = np.int64(digits)
    while fraction > scale:
        if value % 10:
            return BAD
        value //= 10
        fraction -= 1
    shift = scale - fraction
    room = min(precision, 18)
    if shift > room or value >= _WHOLE_POWERS[room - shift]:
        return after if _zero(t, node, value) else BAD
    value *= _WHOLE_POWERS[shift]
    append(t, node, -value if byte(t.data, p) == MINUS else value)
    return after


@inner
def _zero(t: Tables, node: int, value: int) -> bool:
    if value == 0:
        append(t, node, 0)
    return value == 0


@apart
def _base64(t: Tables, node: int, p: int, closing: int) -> bool:
    """Put a text that is base64 in its one canonical form."""
    size = closing - p
    if size % 4:
        return False
    padding = 0
    if size and byte(t.data, closing - 1) == 0x3D:
        padding = 2 if byte(t.data, closing - 2) == 0x3D else 1
    last = 0
    for i in range(p, closing - padding):
        last = sextet(byte(t.data, i))
        if last < 0:
            return False
    if (padding == 1 and last & 3) or (padding == 2 and last & 15):
        return False
    append_text(t, node, p, size, 0)
    return True


@inner
def sextet(c: Any) -> int:
    """The six bits of a base64 letter; BAD when it is none."""
    value = BAD
    if 0x41 <= c <= 0x5A:
        value = c - 0x41
    elif 0x61 <= c <= 0x7A:
        value = c - 0x61 + 26
    elif ZERO <= c <= 0x39:
        value = c - ZERO + 52
    elif c == 0x2B:
        value = 62
    elif c == 0x2F:
        value = 63
    return value
