"""Columns into other types with nothing lost: what does not convert is told apart, with its text.

The rules are those of the codecs (:mod:`raylake.codecs.scalars`), so that a text converts here
exactly where it would have in bronze as a JSON value: numbers are written as JSON writes them, a
decimal has no digit too many, a time without a zone is UTC. Whole columns are cast; only values
that a pattern does not vouch for are looked at one by one.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.codecs.exact_json import BadMessage, Number
from raylake.codecs.scalars import FITS, Row, scalar
from raylake.delta.verify_offsets import Mask

_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?\Z", re.ASCII)
_FLAGS: Final = {"true": True, "false": False}
_LEAF: Final = 64
"""A part of a column that is not halved any more: its values are converted one by one."""
_TIME: Final = r"\d\d\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?"
_ROW: Final = Row()
_PATH: Final = ("value",)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A column in another type.

    Attributes:
        values: In the new type; null where there was no value, or where it did not convert.
        failed: For each row whether its value did not convert.
        lossy: Those of them that are values of the new type but for what it would cut off.
    """

    values: pa.Array
    failed: Mask
    lossy: Mask


def convertible(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether values of one type can at all be converted into another."""
    if source.equals(target):
        return True
    return not pa.types.is_nested(source) and not pa.types.is_nested(target)


def convert(column: pa.Array | pa.ChunkedArray, target: pa.DataType) -> Conversion:
    """A column in another type.

    Args:
        column: Of a type from which :func:`convertible` says one can get there.
        target: A type of :func:`raylake.codecs.types.parse_type`.
    """
    array = _one(column)
    if array.type.equals(target):
        return Conversion(array, _none(array), _none(array))
    texts = array
    if _goes_by_text(array.type, target):
        # A float's shortest text has the digits that were meant; Arrow turns integers into
        # decimals only where every integer would fit.
        texts = array.cast(pa.string())
        if pa.types.is_string(target):
            return Conversion(texts, _none(array), _none(array))
    return _converted(texts, target)


def texts_of(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Values as people read them."""
    return pa.array([_text(one) for one in values.to_pylist()], pa.string())


def _none(array: pa.Array) -> Mask:
    return np.zeros(len(array), dtype=bool)


def _goes_by_text(source: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_floating(source):
        return not pa.types.is_floating(target)
    return bool(pa.types.is_integer(source) and pa.types.is_decimal(target))


def _converted(array: pa.Array, target: pa.DataType) -> Conversion:
    vouched = _vouched(array, target)
    found = _Parts(array, target)
    if vouched is False:
        values = pa.nulls(len(array), target)
    elif vouched is None:
        values = found.cast(array, 0)
    else:
        values = found.cast(pc.if_else(vouched, array, pa.scalar(None, array.type)), 0)
    rest = _left_over(array, vouched)
    if len(rest):
        mask = _none(array)
        mask[rest] = True
        one_by_one = pa.array([found.one(at) for at in rest.tolist()], target)
        values = pc.replace_with_mask(values, pa.array(mask), one_by_one)
    return Conversion(values, found.failed, found.lossy)


def _left_over(array: pa.Array, vouched: pa.Array | bool | None) -> np.ndarray[Any, Any]:
    if vouched is None:
        return np.empty(0, np.int64)
    there = array.is_valid().to_numpy(zero_copy_only=False)
    if vouched is not False:
        there = there & ~np.asarray(pc.fill_null(vouched, False).to_numpy(zero_copy_only=False))
    return np.flatnonzero(there)


class _Parts:
    """Casts parts of a column, halving those that hold a value that does not convert."""

    def __init__(self, array: pa.Array, target: pa.DataType) -> None:
        self._array = array
        self._target = target
        self._cast = _caster(array.type, target)
        self._scalar = scalar(target)
        self.failed = _none(array)
        self.lossy = _none(array)

    def cast(self, part: pa.Array, start: int) -> pa.Array:
        """A part in the target's type."""
        try:
            return self._cast(part)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            if len(part) <= _LEAF:
                places = range(start, start + len(part))
                there = part.is_valid().to_pylist()
                found = [self.one(at) if ok else None for at, ok in zip(places, there, strict=True)]
                return pa.array(found, self._target)
        half = len(part) // 2
        halves = [self.cast(part.slice(0, half), start), self.cast(part.slice(half), start + half)]
        return pa.concat_arrays(halves)

    def one(self, at: int) -> Any:
        """The value of one row; None where it does not convert."""
        node = _node(self._array[at].as_py(), self._target)
        try:
            found, kept = self._scalar(node, _PATH, _ROW)
        except BadMessage:
            self.failed[at] = True
            return None
        if kept is not FITS:
            self.failed[at] = self.lossy[at] = True
            return None
        return found


def _node(value: Any, target: pa.DataType) -> Any:
    """A value as the codecs know it: a text that writes a number is one to a column of numbers."""
    if isinstance(value, str):
        if pa.types.is_boolean(target):
            return _FLAGS.get(value, value)
        return Number(value) if _is_number(target) and _NUMBER.match(value) else value
    if isinstance(value, dt.date):
        return _time_node(value, target)
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return Number(repr(value)) if math.isfinite(value) else repr(value)
    return Number(f"{value:f}" if isinstance(value, decimal.Decimal) else value)


def _time_node(value: dt.date, target: pa.DataType) -> str:
    if not isinstance(value, dt.datetime):
        return value.isoformat() + ("T00:00:00" if pa.types.is_timestamp(target) else "")
    if pa.types.is_date(target) and value.time() == dt.time():
        return value.date().isoformat()
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _decoded(value: bytes) -> Any:
    """Bytes as text; what is none is a list, which no plain column takes."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return [value]


def _text(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if isinstance(value, dt.date) else str(value)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _vouched(array: pa.Array, target: pa.DataType) -> pa.Array | bool | None:
    """Which values a cast of the column converts as the codecs would, if it converts them at all.

    None: all of them. False: none.
    """
    source, types = array.type, pa.types
    if types.is_string(source):
        pattern = _pattern(target)
        return pc.match_substring_regex(array, pattern) if pattern else False
    if types.is_integer(source):
        return _of_integers(array, target)
    kinds = (
        (types.is_decimal, (types.is_decimal, types.is_string, types.is_integer)),
        (types.is_date, (types.is_timestamp, types.is_string)),
        (types.is_boolean, (types.is_string,)),
        (types.is_float32, (types.is_float64,)),
    )
    sure = any(mine(source) and any(fit(target) for fit in fits) for mine, fits in kinds)
    return None if sure else False


def _of_integers(array: pa.Array, target: pa.DataType) -> pa.Array | bool | None:
    if pa.types.is_integer(target) or pa.types.is_string(target):
        return None
    if pa.types.is_floating(target):
        most = 2 ** (53 if target == pa.float64() else 24)
        return pc.and_(pc.less_equal(array, most), pc.greater_equal(array, -most))
    if pa.types.is_timestamp(target) and target.tz and array.type == pa.int64():
        # Milliseconds; what could be seconds or microseconds is refused (raylake.codecs.scalars).
        low, high = pc.greater_equal(array, 10**11), pc.less(array, 10**14)
        return pc.and_(low, high)
    return False


def _pattern(target: pa.DataType) -> str:
    """Texts that a cast reads as the codecs do; empty where there are none."""
    if pa.types.is_decimal(target):
        whole, scale = target.precision - target.scale, target.scale
        first = f"(?:0|[1-9][0-9]{{0,{whole - 1}}})" if whole else "0"
        rest = rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
        return f"^-?{first}{rest}$"
    if pa.types.is_integer(target):
        digits = {8: 1, 16: 3, 32: 8, 64: 17}[target.bit_width]
        more = "|[1-8][0-9]{18}" if target.bit_width == 64 else ""
        return f"^-?(?:0|[1-9][0-9]{{0,{digits}}}{more})$"
    if target == pa.float64():
        return r"^-?(?:0|[1-9][0-9]{0,14}|(?:0|[1-9][0-9]{0,7})\.[0-9]{1,7})$"
    if target == pa.float32():
        return r"^-?(?:0|[1-9][0-9]{0,5}|(?:0|[1-9][0-9]{0,2})\.[0-9]{1,3})$"
    if pa.types.is_boolean(target):
        return "^(?:true|false)$"
    if pa.types.is_date(target):
        return r"^\d\d\d\d-\d\d-\d\d$"
    if pa.types.is_timestamp(target):
        return f"^{_TIME}Z$" if target.tz else f"^{_TIME}$"
    return ""


def _caster(source: pa.DataType, target: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    if pa.types.is_timestamp(target) and target.tz and pa.types.is_date(source):
        return lambda part: pc.assume_timezone(part.cast(pa.timestamp("us")), "UTC")
    if pa.types.is_timestamp(target) and pa.types.is_integer(source):
        return lambda part: pc.multiply(part, 1000).cast(target)
    return lambda part: part.cast(target, safe=True)


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found
