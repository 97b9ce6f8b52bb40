"""One JSON value into one scalar column, with nothing cast with loss.

A converter returns ``(value, kept)``: the column's value, and the node whose exact text must also
be kept in ``_rescued_data`` (``FITS`` when the column holds everything). What cannot be a row
raises ``BadMessage``. The table of rules is in :mod:`raylake.codecs.json_codec`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from raylake.codecs.exact_json import BadMessage, Node, Number, clipped, kind_of, to_text

Path = tuple[str, ...]
ELEMENT: Final = "[]"
VALUE: Final = "{}"


class _Fits:
    """The column holds the whole value."""


FITS: Final = _Fits()
Converted = tuple[Any, Any]


class NotVouched(Exception):
    """The fast path cannot tell; the exact path decides."""


@dataclass(slots=True)
class Row:
    """What the conversion of one message found beside its values.

    Attributes:
        rough: Numbers come from a double, not from text (the fast path); what needs the exact
            text raises ``NotVouched``.
        unknown: Unknown fields: the path of the object, the name, the value.
    """

    rough: bool = False
    unknown: list[tuple[Path, str, Node]] = field(default_factory=list)


Converter = Callable[[Node, Path, Row], Converted]

_DIGITS = decimal.Context(prec=80)
MAX_NUMBER_CHARACTERS = 4000
LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
_EXACT_INTEGER = 2**53
_MS_RANGE = (10**11, 10**14)
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,30}))?)?"
    r"(Z|[+-]\d\d(?::?\d\d)?)?\Z",
    re.ASCII,
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?\Z", re.ASCII)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def mismatch(path: Path, expected: str, node: Node, detail: str = "") -> BadMessage:
    """The dead letter of a value that contradicts its column."""
    short = node[:100] if isinstance(node, str) else node
    if type(node) is Number:
        short = Number(short)
    shown = clipped(to_text(short)) if not isinstance(node, dict | list) else ""
    found = kind_of(node) + (f" {shown}" if shown else "")
    return BadMessage(
        "validate",
        "TypeMismatch",
        f"field '{dotted(path)}': expected {expected}, found {found}"
        + (f" ({detail})" * bool(detail)),
    )


def dotted(path: Path) -> str:
    """A path for people: ``items[].price``."""
    return clipped(".".join(path).replace(".[]", "[]").replace(".{}", "{}"), 200)


def _string(node: Node, path: Path, row: Row) -> Converted:
    kind = type(node)
    if kind is str:
        return node, FITS
    if kind is Number:
        if row.rough:
            raise NotVouched
        return str.__str__(node), FITS
    if kind is bool:
        return ("true" if node else "false"), FITS
    raise mismatch(path, "string", node)


def _boolean(node: Node, path: Path, row: Row) -> Converted:  # noqa: ARG001
    if type(node) is bool:
        return node, FITS
    raise mismatch(path, "boolean", node)


def _integer(name: str, bits: int) -> Converter:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def convert(node: Node, path: Path, row: Row) -> Converted:
        if type(node) is not Number:
            raise mismatch(path, name, node)
        if row.rough and not node.lstrip("-").isdigit():
            raise NotVouched
        value = integral(node)
        if value is None and bits == 64:
            return None, node
        if value is None:
            raise mismatch(path, name, node, "it has a fraction, which would be lost")
        if low <= value <= high:
            return value, FITS
        if LONG_MIN <= value <= LONG_MAX:
            return None, node
        raise mismatch(path, name, node, "an integer beyond 64 bits")

    return convert


def integral(number: Number) -> int | None:
    """The integer that a number's text is exactly; beyond 64 bits any integer; None when none."""
    if len(number) <= 20 and number.lstrip("-").isdigit():
        return int(number)
    exact = _decimal_of(number)
    if exact is None or not exact.is_finite():
        return LONG_MAX + 1
    if exact.is_zero():
        return 0
    if exact.adjusted() > 20:
        return LONG_MAX + 1
    if exact.adjusted() < 0:
        return None
    whole = int(exact)
    return whole if whole == exact else None


def _double(node: Node, path: Path, row: Row) -> Converted:  # noqa: ARG001
    if type(node) is not Number:
        raise mismatch(path, "double", node)
    value = float(node)
    if not math.isfinite(value):
        raise mismatch(path, "double", node, "beyond the range of a double")
    return value, (FITS if _faithful(node, value, repr(value), 16) else node)


def _float(node: Node, path: Path, row: Row) -> Converted:
    if type(node) is not Number:
        raise mismatch(path, "float", node)
    wide, _ = _double(node, path, row)
    with np.errstate(over="ignore", under="ignore"):
        value = float(np.float32(wide))
    if not math.isfinite(value):
        return None, node
    shortest = np.format_float_scientific(np.float32(value), unique=True)
    return value, (FITS if _faithful(node, value, shortest, 8) else node)


def _faithful(number: Number, value: float, shortest: str, digits: int) -> bool:
    """Whether a binary number keeps the digits of a text.

    It does when the text is the number's shortest decimal form, its form of 17 (float: 9) digits,
    or its exact value; for a text of an integer, only when it is exactly that integer.
    """
    text = str.__str__(number)
    if text == shortest:
        return True
    exact = _decimal_of(number)
    if exact is None:
        return False
    if decimal.Decimal(value) == exact:
        return True
    if exact.as_tuple().exponent == 0 and abs(exact) >= _EXACT_INTEGER:
        return False
    return exact in (decimal.Decimal(shortest), decimal.Decimal(f"{value:.{digits}e}"))


def _decimal_of(number: str) -> decimal.Decimal | None:
    """The exact value of a number's text; None when it is too long to be worth it."""
    if len(number) > MAX_NUMBER_CHARACTERS:
        return None
    try:
        return decimal.Decimal(number)
    except decimal.InvalidOperation:  # an exponent beyond Decimal's own range
        return None


def _decimal(dtype: pa.DataType) -> Converter:
    precision, scale = dtype.precision, dtype.scale
    name = f"decimal({precision},{scale})"
    step = decimal.Decimal(1).scaleb(-scale)

    def convert(node: Node, path: Path, row: Row) -> Converted:  # noqa: ARG001
        if type(node) is str and not _PLAIN_NUMBER.match(node):
            raise mismatch(path, name, node, "not the text of a number")
        if type(node) not in (str, Number):
            raise mismatch(path, name, node)
        exact = _decimal_of(node)
        if exact is None:
            raise mismatch(path, name, node, "more than 38 digits")
        if exact.is_zero():
            return decimal.Decimal(0), FITS
        whole, fraction = _digits(exact)
        if fraction <= scale and whole <= precision - scale:
            return exact.quantize(step, context=_DIGITS), FITS
        if whole + fraction <= 38:
            return None, node
        raise mismatch(path, name, node, "more than 38 digits")

    return convert


def _digits(exact: decimal.Decimal) -> tuple[int, int]:
    """The digits that a decimal needs before and after the point, trailing zeros left out."""
    _, digits, exponent = exact.as_tuple()
    place = int(exponent)
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return max(len(digits) + place, 0), max(-(place + zeros), 0)


def _date(node: Node, path: Path, row: Row) -> Converted:  # noqa: ARG001
    if type(node) is not str:
        raise mismatch(path, "date", node)
    if not _DAY.match(node):
        raise mismatch(path, "date", node, "not YYYY-MM-DD")
    try:
        return dt.date.fromisoformat(node), FITS
    except ValueError as error:
        raise mismatch(path, "date", node, str(error)) from None


def _timestamp(name: str, *, zoned: bool) -> Converter:
    def convert(node: Node, path: Path, row: Row) -> Converted:
        if type(node) is Number and zoned:
            if row.rough and not node.lstrip("-").isdigit():
                raise NotVouched
            return _from_epoch_ms(node, path), FITS
        if type(node) is not str:
            raise mismatch(path, name, node)
        found = _INSTANT.match(node)
        if found is None or (found.group(8) and not zoned):
            raise mismatch(path, name, node, "not ISO 8601 (YYYY-MM-DDTHH:MM:SS.ffffffZ)")
        try:
            micros = _micros(found)
        except ValueError as error:
            raise mismatch(path, name, node, str(error)) from None
        lost = (found.group(7) or "")[6:].strip("0")
        return micros, (node if lost else FITS)

    return convert


def _from_epoch_ms(number: Number, path: Path) -> int:
    value = integral(number)
    if value is None or not _MS_RANGE[0] <= abs(value) < _MS_RANGE[1]:
        raise mismatch(
            path,
            "timestamp",
            number,
            "as a number it must be whole milliseconds since 1970, from 10^11 to 10^14, so that "
            "seconds and microseconds are never mistaken for them",
        )
    return value * 1000


def _micros(found: re.Match[str]) -> int:
    """Microseconds since the epoch of a matched ISO 8601 text, cut to whole microseconds."""
    year, month, day, hour, minute = (int(found.group(i)) for i in range(1, 6))
    second = int(found.group(6) or 0)
    fraction = int((found.group(7) or "0")[:6].ljust(6, "0"))
    local = dt.datetime(year, month, day, hour, minute, second, fraction, tzinfo=dt.UTC)
    delta = local - _EPOCH
    micros = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    micros -= _offset_s(found.group(8)) * 1_000_000
    if not MICROS_RANGE[0] <= micros <= MICROS_RANGE[1]:
        raise ValueError("in UTC it is outside the years 1 to 9999")
    return micros


def _offset_s(zone: str | None) -> int:
    if zone in (None, "Z"):
        return 0
    assert zone is not None  # noqa: S101 - for the type checker
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(f"{zone} is no offset")
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


MICROS_RANGE = (-62_135_596_800_000_000, 253_402_300_799_999_999)


def _binary(node: Node, path: Path, row: Row) -> Converted:  # noqa: ARG001
    if type(node) is not str:
        raise mismatch(path, "binary (base64 text)", node)
    try:
        value = base64.b64decode(node, validate=True)
    except (binascii.Error, ValueError):
        raise mismatch(path, "binary (base64 text)", node, "not base64") from None
    return value, (FITS if base64.b64encode(value).decode() == node else node)


_SIMPLE: dict[pa.DataType, Converter] = {
    pa.string(): _string,
    pa.bool_(): _boolean,
    pa.int8(): _integer("byte", 8),
    pa.int16(): _integer("short", 16),
    pa.int32(): _integer("int", 32),
    pa.int64(): _integer("long", 64),
    pa.float32(): _float,
    pa.float64(): _double,
    pa.date32(): _date,
    pa.timestamp("us", tz="UTC"): _timestamp("timestamp", zoned=True),
    pa.timestamp("us"): _timestamp("timestamp_ntz", zoned=False),
    pa.binary(): _binary,
}


def scalar(dtype: pa.DataType) -> Converter:
    """The converter of a scalar type."""
    return _decimal(dtype) if pa.types.is_decimal(dtype) else _SIMPLE[dtype]
