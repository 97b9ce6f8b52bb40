"""Conditions on a source's columns that hold for all rows of some groups.

They are there to leave files out by their statistics, and may hold for other rows, too. A key that
is a column gives its values or ranges of them; one that is the day, hour or month of a time gives
ranges of that time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
from sqlglot import exp

from raylake.tables.expressions import quoted

MOST_VALUES: Final = 16
"""Values or ranges that one condition names; engines prune by no more than about twenty."""
_UNITS: Final = ("HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
_YEARS: Final = (1700, 2200)
"""Years whose nanoseconds fit 64 bits: DataFusion casts times to those."""
_DAY: Final = dt.timedelta(days=1)
_TICK: Final = dt.timedelta(microseconds=1)
Range = tuple[Any, Any]


def rows_of_groups(
    keys: Sequence[tuple[exp.Expr, pa.ChunkedArray]], source: pa.Schema
) -> str | None:
    """A condition that every row of some groups fulfils; None where nothing is known.

    Args:
        keys: What rows are grouped by, over the source's columns, and the groups' values of it.
        source: The source's columns.
    """
    found = [_of_key(tree.unnest(), values, source) for tree, values in keys]
    return " AND ".join(f"({one})" for one in found if one) or None


def is_one_of(column: str, values: pa.ChunkedArray) -> str | None:
    """A condition for a column to have one of some values; None where they cannot be named."""
    return _values(column, values, most=None)


def some_of(column: str, values: pa.ChunkedArray) -> str | None:
    """A condition that a column fulfils wherever it has one of some values."""
    return _values(column, values, most=MOST_VALUES)


def _of_key(tree: exp.Expr, values: pa.ChunkedArray, source: pa.Schema) -> str | None:
    while isinstance(tree, exp.Nullif):
        if values.null_count:
            # Texts that are null among partition values are not null in the source.
            return None
        tree = tree.this.unnest()
    if isinstance(tree, exp.Column):
        return _values(tree.name, values, most=MOST_VALUES) if tree.name in source.names else None
    column, unit = _truncated(tree)
    if column is None or column.name not in source.names:
        return None
    kind = source.field(column.name).type
    if not (pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is not None)):
        return None
    ranges: list[Range] = []
    for value in values.drop_null().unique().to_pylist():
        begin = _as(kind, value)
        end = _after(begin, unit)
        if end is None or not _YEARS[0] <= begin.year < end.year + 1 <= _YEARS[1]:
            return None
        ranges.append((begin, end - (_DAY if pa.types.is_date(kind) else _TICK)))
    return _condition(column.name, _merged(ranges), nulls=bool(values.null_count))


def _values(column: str, values: pa.ChunkedArray, most: int | None) -> str | None:
    kind, nulls = values.type, bool(values.null_count)
    found = values.drop_null().unique()
    if not _nameable(kind):
        return None
    points = sorted(found.to_pylist())
    dated = [one for one in points if isinstance(one, dt.date)]
    if any(not _YEARS[0] <= one.year < _YEARS[1] for one in dated):
        return None
    if most is None or len(points) <= most:
        if pa.types.is_string(kind) and points:
            named = ", ".join(_literal(one) for one in points)
            return _or_null(f"{quoted(column)} IN ({named})", column, nulls=nulls)
        return _condition(column, [(one, one) for one in points], nulls=nulls)
    if pa.types.is_string(kind):
        return _condition(column, [(points[0], points[-1])], nulls=nulls)
    return _condition(column, _merged([(one, one) for one in points]), nulls=nulls)


def _nameable(kind: pa.DataType) -> bool:
    types = pa.types
    zoned = types.is_timestamp(kind) and kind.tz is not None
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_date(kind) or zoned)


def _truncated(tree: exp.Expr) -> tuple[exp.Column | None, str]:
    """The column that a key is the day, hour, … of, and which of these."""
    inner: exp.Expr | None = None
    unit = ""
    if (isinstance(tree, exp.Cast) and tree.to.this == exp.DataType.Type.DATE) or (
        isinstance(tree, exp.Date | exp.TsOrDsToDate) and not tree.args.get("zone")
    ):
        inner, unit = tree.this, "DAY"
    elif isinstance(tree, exp.DateTrunc | exp.TimestampTrunc) and not tree.args.get("zone"):
        inner, unit = tree.this, str(tree.args["unit"].name).upper()
    inner = None if inner is None else inner.unnest()
    return (inner, unit) if isinstance(inner, exp.Column) and unit in _UNITS else (None, "")


def _as(kind: pa.DataType, value: Any) -> Any:
    """A group's value as the column has it: a day as its first instant, or the other way round."""
    if pa.types.is_date(kind):
        return value.date() if isinstance(value, dt.datetime) else value
    if isinstance(value, dt.datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
    return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)


def _after(begin: Any, unit: str) -> Any:
    """The begin of the next day, hour, …; None where it is beyond what can be written."""
    steps = {"HOUR": dt.timedelta(hours=1), "DAY": _DAY, "WEEK": 7 * _DAY}
    try:
        if unit in steps:
            step = steps[unit] if isinstance(begin, dt.datetime) else max(steps[unit], _DAY)
            return begin + step
        months = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}[unit]
        month = begin.month - 1 + months
        return begin.replace(year=begin.year + month // 12, month=month % 12 + 1)
    except (ValueError, OverflowError):
        return None


def _merged(ranges: list[Range]) -> list[Range]:
    """At most so many ranges that hold all of these; the widest gaps between them are kept."""
    ordered = sorted(ranges)
    gaps = sorted(
        range(1, len(ordered)), key=lambda at: ordered[at][0] - ordered[at - 1][1], reverse=True
    )
    cuts = sorted(
        at for at in gaps[: MOST_VALUES - 1] if _is_gap(ordered[at - 1][1], ordered[at][0])
    )
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(ordered)], strict=True):
        if start < stop:
            found.append((ordered[start][0], ordered[stop - 1][1]))
    return found


def _is_gap(before: Any, after: Any) -> bool:
    apart = after - before
    if isinstance(apart, dt.timedelta):
        return apart > (_TICK if isinstance(before, dt.datetime) else _DAY)
    return bool(apart > 1)


def _condition(column: str, ranges: Sequence[Range], *, nulls: bool) -> str:
    name = quoted(column)
    parts = [
        f"{name} = {_literal(low)}"
        if low == high
        else f"({name} >= {_literal(low)} AND {name} <= {_literal(high)})"
        for low, high in ranges
    ]
    return _or_null(" OR ".join(parts), column, nulls=nulls)


def _or_null(condition: str, column: str, *, nulls: bool) -> str:
    parts = [condition] if condition else []
    parts += [f"{quoted(column)} IS NULL"] if nulls else []
    return " OR ".join(parts)


def _literal(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return f"CAST('{value.astimezone(dt.UTC).isoformat()}' AS TIMESTAMP)"
    if isinstance(value, dt.date):
        return f"CAST('{value.isoformat()}' AS DATE)"
    if isinstance(value, int):
        return str(value)
    return str(exp.Literal.string(value).sql())
