"""Values of the pipeline file as exact values of a column's type."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, InvalidOperation
from typing import Any, Final, Literal

import pyarrow as pa

from raylake.codecs.types import type_text
from raylake.errors import ConfigError
from raylake.quality.errors import RuleRefused

_EXACT: Final = Context(prec=2000)
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001
_EPOCH_UTC: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US: Final = dt.timedelta(microseconds=1)
Side = Literal["min", "max"]


def bound(value: Any, kind: pa.DataType, side: Side, where: str) -> pa.Scalar | bool:
    """A bound as a value of a column's type, moved inwards where the type is coarser.

    Args:
        value: Text, a number or a boolean, as it was written.
        kind: The column's type.
        side: Which bound it is.
        where: The rule and column, for messages.

    Returns:
        The bound; true where every value of the type keeps it, false where none does.

    Raises:
        RuleRefused: Values of the column cannot be compared with it.
    """
    if pa.types.is_integer(kind):
        number = _number(value, kind, where)
        rounding = ROUND_CEILING if side == "min" else ROUND_FLOOR
        return _integer(int(number.to_integral_value(rounding, _EXACT)), kind, side)
    if pa.types.is_decimal(kind):
        return _decimal(_number(value, kind, where), kind, side)
    if pa.types.is_floating(kind):
        return pa.scalar(float(_number(value, kind, where)), kind)
    if pa.types.is_boolean(kind):
        raise _unlike(value, kind, where, "a range needs numbers, text or times")
    return plain(value, kind, where)


def plain(value: Any, kind: pa.DataType, where: str) -> pa.Scalar:
    """A value of a column's type that is exactly the one that was written.

    Raises:
        RuleRefused: The column cannot hold it.
    """
    if is_text(kind):
        if not isinstance(value, str):
            raise _unlike(value, kind, where, f"write it in quotes: '{value}'")
        return pa.scalar(value, kind)
    if pa.types.is_boolean(kind):
        if isinstance(value, bool) or value in ("true", "false"):
            return pa.scalar(value in (True, "true"), kind)
        raise _unlike(value, kind, where, "write true or false")
    if pa.types.is_date(kind):
        return _date(value, kind, where)
    if pa.types.is_timestamp(kind):
        return pa.scalar(_instant_us(value, kind, where), pa.timestamp("us", kind.tz)).cast(kind)
    return _plain_number(_number(value, kind, where), kind, where)


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's texts."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def kind_text(kind: pa.DataType) -> str:
    """A type as the pipeline file names it."""
    try:
        return type_text(kind)
    except ConfigError:
        return str(kind)


def _plain_number(number: Decimal, kind: pa.DataType, where: str) -> pa.Scalar:
    if pa.types.is_floating(kind):
        return pa.scalar(float(number), kind)
    found = None
    if pa.types.is_integer(kind) and number == number.to_integral_value(context=_EXACT):
        found = _integer(int(number), kind, "min")
    elif pa.types.is_decimal(kind):
        found = _decimal(number, kind, "min")
    if isinstance(found, pa.Scalar) and Decimal(found.as_py()) == number:
        return found
    raise _unlike(number, kind, where, "the column has no such value")


def _number(value: Any, kind: pa.DataType, where: str) -> Decimal:
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not numeric:
        raise _unlike(value, kind, where, "rules of this kind need text, numbers, times or flags")
    try:
        # repr: what was written as 0.1 is a tenth, not the nearest double.
        number = Decimal(repr(value) if isinstance(value, float) else str(value).strip())
    except InvalidOperation:
        number = Decimal("nan")
    if isinstance(value, bool) or not number.is_finite() or abs(number.adjusted()) > 1000:
        raise _unlike(value, kind, where, "write a number")
    return number


def _integer(number: int, kind: pa.DataType, side: Side) -> pa.Scalar | bool:
    signed = pa.types.is_signed_integer(kind)
    low = -(1 << (kind.bit_width - 1)) if signed else 0
    high = (1 << (kind.bit_width - (1 if signed else 0))) - 1
    if low <= number <= high:
        return pa.scalar(number, kind)
    return (number < low) == (side == "min")


def _decimal(number: Decimal, kind: pa.DataType, side: Side) -> pa.Scalar | bool:
    rounding = ROUND_CEILING if side == "min" else ROUND_FLOOR
    units = int(_EXACT.scaleb(number, kind.scale).to_integral_value(rounding, _EXACT))
    if abs(units) < 10**kind.precision:
        return pa.scalar(_EXACT.scaleb(Decimal(units), -kind.scale), kind)
    return (units < 0) == (side == "min")


def _date(value: Any, kind: pa.DataType, where: str) -> pa.Scalar:
    try:
        return pa.scalar(dt.date.fromisoformat(str(value).strip()), kind)
    except ValueError:
        raise _unlike(value, kind, where, "write a date: 2026-01-31") from None


def _instant_us(value: Any, kind: pa.DataType, where: str) -> int:
    hint = "write 2026-01-31T12:00:00Z" if kind.tz else "write 2026-01-31T12:00:00"
    try:
        moment = dt.datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise _unlike(value, kind, where, hint) from None
    if (moment.tzinfo is None) == (kind.tz is not None):
        with_zone = "a time without a zone" if kind.tz else "a time with a zone"
        raise RuleRefused(f"{where}: {value!r} is {with_zone}", hint=hint)
    return (moment - (_EPOCH if moment.tzinfo is None else _EPOCH_UTC)) // _US


def _unlike(value: Any, kind: pa.DataType, where: str, hint: str) -> RuleRefused:
    shown = value if isinstance(value, Decimal) else repr(value)
    return RuleRefused(
        f"{where}: the column is {kind_text(kind)}, and {shown} is no value of it", hint=hint
    )
