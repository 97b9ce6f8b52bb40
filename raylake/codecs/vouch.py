"""The fast path: which messages orjson read beyond doubt, and their columns.

orjson is strict about syntax, UTF-8, surrogates and NaN. It keeps the last of duplicate names,
and reads numbers as doubles. So a message is vouched for only when its quotation marks account
for every name and string of the parsed object (a dropped duplicate would leave some over), when
no number has more digits than a double surely keeps, and when every value has its column's kind.
Whatever is not vouched for takes the exact path; nothing is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylake.codecs.exact_json import BadMessage, Number
from raylake.codecs.scalars import (
    FITS,
    LONG_MAX,
    LONG_MIN,
    MICROS_RANGE,
    Converter,
    NotVouched,
    Row,
)

Mask = npt.NDArray[np.bool_]
Column = tuple[pa.Array, Sequence[int]]
Builder = Callable[[list[Any]], Column]

_NONE = type(None)
# A number outside a string comes after one of these; 16 digits or more may not fit a double, and
# three digits of negative exponent may underflow. In strings this only costs the exact path.
_DIGITS = re.compile(
    rb"[:,\[\s](-?(?:(?=[\d.]{16})\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|[\d.]+[eE]-0*\d{3,}))"
)
# orjson reads the integer -0 as 0; as a double it has a sign.
_NEGATIVE_ZERO = re.compile(rb"-0[,\]}\s]")
_FLATTEN = bytes(0x30 if chr(c) in "0123456789." else c for c in range(256))
_LONG_RUN = b"0" * 16
_INTEGER_BITS = {pa.int8(): 8, pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}
_EXACT_BELOW = float(2**53)
_TINY = 2.3e-308


def has_binary_numbers(dtype: pa.DataType) -> bool:
    """Whether a type needs ``digits_fit`` checked: it has a double, float or decimal in it."""
    if pa.types.is_nested(dtype):
        return any(has_binary_numbers(dtype.field(i).type) for i in range(dtype.num_fields))
    return bool(pa.types.is_floating(dtype) or pa.types.is_decimal(dtype))


def nesting(dtype: pa.DataType) -> int:
    """At most how deep the objects and arrays of a column of this type are (a map counts twice)."""
    inner = [nesting(dtype.field(i).type) for i in range(dtype.num_fields)]
    return int(pa.types.is_nested(dtype)) + max(inner, default=0)


def digits_fit(value: bytes) -> bool:
    """Whether a double keeps each number of a message: its shortest text, or an integer not -0."""
    if _NEGATIVE_ZERO.search(value):
        return False
    if _LONG_RUN not in value.translate(_FLATTEN) and b"e-" not in value and b"E-" not in value:
        return True
    for match in _DIGITS.finditer(value):
        text = match.group(1)
        if text.lstrip(b"-").isdigit():
            continue
        if repr(float(text)).encode() != text:
            return False
    return True


def quotes(messages: list[bytes]) -> npt.NDArray[np.int64]:
    """The quotation marks of each message."""
    return np.fromiter((m.count(b'"') for m in messages), np.int64, len(messages))


def strings(column: list[Any]) -> npt.NDArray[np.int64] | int:
    """The strings, names included, in each value of a column."""
    kinds = set(map(type, column))
    if kinds == {str}:
        return 1
    if not kinds & {str, dict, list}:
        return 0
    return np.fromiter(map(_count_strings, column), np.int64, len(column))


def _count_strings(node: Any) -> int:
    if type(node) is str:
        return 1
    if type(node) is dict:
        return len(node) + sum(map(_count_strings, node.values()))
    return sum(map(_count_strings, node)) if type(node) is list else 0


def builder(dtype: pa.DataType, converter: Converter) -> Builder:
    """The builder of a column of orjson's values: the array, and the rows it does not vouch for."""
    if pa.types.is_string(dtype):
        return lambda column: _plain(column, dtype, {str, _NONE})
    if pa.types.is_boolean(dtype):
        return lambda column: _plain(column, dtype, {bool, _NONE})
    if dtype in _INTEGER_BITS:
        return _integers(dtype, _INTEGER_BITS[dtype])
    if pa.types.is_float64(dtype):
        return _doubles
    if pa.types.is_timestamp(dtype) and dtype.tz:
        return _timestamps(dtype, converter)
    return _any(dtype, converter)


def _plain(column: list[Any], dtype: pa.DataType, kinds: set[type]) -> Column:
    doubtful: list[int] = []
    if not set(map(type, column)) <= kinds:
        doubtful = [i for i, value in enumerate(column) if type(value) not in kinds]
        column = _without(column, doubtful)
    return pa.array(column, dtype), doubtful


def _without(column: list[Any], doubtful: Sequence[int]) -> list[Any]:
    column = list(column)
    for i in doubtful:
        column[i] = None
    return column


def _integers(dtype: pa.DataType, bits: int) -> Builder:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def build(column: list[Any]) -> Column:
        if set(map(type, column)) <= {int, _NONE}:
            try:
                return pa.array(column, dtype), ()
            except (pa.ArrowInvalid, OverflowError):
                pass
        doubtful = [
            i
            for i, value in enumerate(column)
            if value is not None and not (type(value) is int and low <= value <= high)
        ]
        return pa.array(_without(column, doubtful), dtype), doubtful

    return build


def _doubles(column: list[Any]) -> Column:
    kinds = set(map(type, column))
    doubtful: list[int] = []
    if not kinds <= {float, int, _NONE}:
        doubtful = [i for i, v in enumerate(column) if type(v) not in (float, int, _NONE)]
        column = _without(column, doubtful)
    if int in kinds:
        large = [i for i, v in enumerate(column) if type(v) is int and abs(v) > _EXACT_BELOW]
        column = [float(v) if type(v) is int else v for v in _without(column, large)]
        doubtful += large
    array = pa.array(column, pa.float64())
    size = np.abs(array.to_numpy(zero_copy_only=False))
    odd = (size >= _EXACT_BELOW) | ((size > 0) & (size < _TINY))
    return array, [*doubtful, *np.flatnonzero(odd).tolist()]


def _timestamps(dtype: pa.DataType, converter: Converter) -> Builder:
    one_by_one = _any(dtype, converter)

    def build(column: list[Any]) -> Column:
        if not set(map(type, column)) <= {str, _NONE}:
            return one_by_one(column)
        try:
            array = pc.cast(pa.array(column, pa.string()), dtype)
        except pa.ArrowInvalid:
            return one_by_one(column)
        micros = pc.min_max(array.cast(pa.int64())).as_py()
        if micros["min"] is not None and not (
            MICROS_RANGE[0] <= micros["min"] and micros["max"] <= MICROS_RANGE[1]
        ):
            return one_by_one(column)
        return array, ()

    return build


def _any(dtype: pa.DataType, converter: Converter) -> Builder:
    """Through the exact converter, value by value, as far as doubles can stand for texts."""

    def build(column: list[Any]) -> Column:
        out: list[Any] = []
        doubtful: list[int] = []
        row = Row(rough=True)
        for i, value in enumerate(column):
            converted: Any = None
            kept: Any = FITS
            if value is not None:
                try:
                    converted, kept = converter(_exactly(value), (), row)
                except (BadMessage, NotVouched):
                    kept = None
            if kept is not FITS or row.unknown:
                converted, row = None, Row(rough=True)
                doubtful.append(i)
            out.append(converted)
        return pa.array(out, dtype), doubtful

    return build


def _exactly(value: Any) -> Any:
    """A node of the exact path from orjson's value."""
    kind = type(value)
    if kind is int:
        if not LONG_MIN <= value <= LONG_MAX:
            raise NotVouched
        return Number(str(value))
    if kind is float:
        if abs(value) >= _EXACT_BELOW or 0 < abs(value) < _TINY:
            raise NotVouched
        return Number(repr(value))
    if kind is dict:
        return {name: _exactly(inner) for name, inner in value.items()}
    if kind is list:
        return [_exactly(inner) for inner in value]
    return value
