"""Rows as JSON that loses nothing, and back.

Text, booleans, integers of up to 32 bits and finite floats are what they are in JSON. Longer
integers and decimals are text, since readers make doubles of them; binary is base64; dates and
times are ISO 8601, times with a zone in UTC with ``Z``; not-a-number and infinities are ``NaN``,
``Infinity`` and ``-Infinity``; a map is a list of pairs. Dates and times beyond the years 1 to 9999
are ``days:N`` and ``us:N`` since 1970.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from raylake.quality.bounds import is_text

Turn = Callable[[Any], Any]
_DAY_0: Final = dt.date(1970, 1, 1)
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001
_US: Final = dt.timedelta(microseconds=1)
_DAYS, _MICROSECONDS = "days:", "us:"


def encode(rows: pa.Table) -> list[str]:
    """Each row as the text of a JSON object."""
    columns = [_carried(rows.column(name)) for name in rows.column_names]
    names = rows.column_names
    values = zip(*columns, strict=True) if columns else ([] for _ in range(rows.num_rows))
    return [orjson.dumps(dict(zip(names, one, strict=True))).decode() for one in values]


def decode(texts_: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The rows of :func:`encode` in a schema's columns; a column that they lack is null.

    Raises:
        ValueError: A text is no row, or has a value that its column cannot hold.
    """
    parsed = [orjson.loads(text) for text in texts_]
    columns = []
    for field in schema:
        turn = _reader(field.type)
        values = [_or_none(turn, row.get(field.name)) for row in parsed]
        columns.append(pa.array(values, _carrier(field.type)).cast(field.type))
    return pa.table(columns, schema=schema)


def texts(column: pa.ChunkedArray) -> pa.Array:
    """Each value as text, without quotes around it; null stays null.

    As in :func:`encode`, but for times, which show all of their microseconds.
    """
    kind = column.type
    if is_text(kind) or pa.types.is_integer(kind):
        return column.cast(pa.string()).combine_chunks()
    if pa.types.is_timestamp(kind):
        written = column.cast(pa.timestamp("us", "UTC" if kind.tz else None)).cast(pa.string())
        return pc.replace_substring(written, " ", "T").combine_chunks()
    return pa.array([_text(value) for value in _carried(column)], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _carried(column: pa.ChunkedArray) -> list[Any]:
    """A column's values as JSON has them."""
    turn = _writer(column.type)
    return [_or_none(turn, value) for value in column.cast(_carrier(column.type)).to_pylist()]


def _or_none(turn: Turn, value: Any) -> Any:
    return None if value is None else turn(value)


def _carrier(kind: pa.DataType) -> pa.DataType:
    """A type with numbers in place of dates and times, which Python's cannot hold all of."""
    t = pa.types
    if t.is_timestamp(kind):
        return pa.int64()
    if t.is_date32(kind):
        return pa.int32()
    if t.is_struct(kind):
        return pa.struct([field.with_type(_carrier(field.type)) for field in kind])
    if t.is_map(kind):
        return pa.map_(_carrier(kind.key_type), _carrier(kind.item_type))
    if t.is_list(kind) or t.is_large_list(kind):
        return pa.list_(_carrier(kind.value_type))
    return kind


def _writer(kind: pa.DataType) -> Turn:
    t = pa.types
    if t.is_integer(kind):
        return str if kind.bit_width == 64 else _same
    if t.is_decimal(kind):
        return lambda value: format(value, "f")
    if t.is_floating(kind):
        return _float_out
    if t.is_date32(kind):
        return _date_out
    if t.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        return lambda value: _time_out(value, zone)
    if _is_binary(kind):
        return lambda value: base64.b64encode(value).decode()
    return _nested(kind, _writer, pairs=list)


def _reader(kind: pa.DataType) -> Turn:
    t = pa.types
    if t.is_integer(kind):
        return int
    if t.is_decimal(kind):
        return Decimal
    if t.is_floating(kind):
        return float
    if t.is_date32(kind):
        return _date_in
    if t.is_timestamp(kind):
        return _time_in
    if _is_binary(kind):
        return base64.b64decode
    return _nested(kind, _reader, pairs=tuple)


def _nested(kind: pa.DataType, of: Callable[[pa.DataType], Turn], pairs: Turn) -> Turn:
    t = pa.types
    if t.is_struct(kind):
        turns = {field.name: of(field.type) for field in kind}
        return lambda value: {name: _or_none(turn, value.get(name)) for name, turn in turns.items()}
    if t.is_map(kind):
        key, item = of(kind.key_type), of(kind.item_type)
        return lambda value: [pairs((key(k), _or_none(item, v))) for k, v in value]
    if t.is_list(kind) or t.is_large_list(kind):
        element = of(kind.value_type)
        return lambda value: [_or_none(element, one) for one in value]
    return _same


def _is_binary(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind))


def _same(value: Any) -> Any:
    return value


def _float_out(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _date_out(days: int) -> str:
    try:
        return (_DAY_0 + dt.timedelta(days=days)).isoformat()
    except OverflowError:
        return f"{_DAYS}{days}"


def _date_in(text: str) -> int:
    if text.startswith(_DAYS):
        return int(text.removeprefix(_DAYS))
    return (dt.date.fromisoformat(text) - _DAY_0).days


def _time_out(time_us: int, zone: str) -> str:
    try:
        return (_EPOCH + dt.timedelta(microseconds=time_us)).isoformat() + zone
    except OverflowError:
        return f"{_MICROSECONDS}{time_us}"


def _time_in(text: str) -> int:
    if text.startswith(_MICROSECONDS):
        return int(text.removeprefix(_MICROSECONDS))
    return (dt.datetime.fromisoformat(text.removesuffix("Z")) - _EPOCH) // _US
