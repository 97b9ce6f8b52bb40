"""A condition that leaves out most rows of another table, from the values that are looked for."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from raylake.quality.bounds import is_text

MAX_VALUES: Final = 50
MAX_CHARACTERS: Final = 100
MAX_TEXTS: Final = 200_000


def at_most(column: pa.ChunkedArray, name: str) -> str | None:
    """A condition on ``name`` that holds wherever one of the column's values stands.

    Integers, dates, timestamps and short texts: a list of few values, or their bounds; of very
    many texts neither, since to find their bounds takes long.

    Returns:
        The condition; None where there is nothing to leave out by.
    """
    if not _prunable(column.type) or column.null_count == len(column):
        return None
    if is_text(column.type) and len(column) > MAX_TEXTS:
        return None
    there = exp.column(name, quoted=True)
    few = pc.unique(column.slice(0, 20 * MAX_VALUES))
    listed = len(column) <= 20 * MAX_VALUES and len(few) <= MAX_VALUES
    bounds = pc.min_max(column)
    asked = few if listed else [bounds["min"], bounds["max"]]
    try:
        values = [_literal(one.as_py()) for one in asked if one.is_valid]
    except (OverflowError, ValueError):  # a time beyond the years of Python
        return None
    if any(one is None for one in values):
        return None
    if listed:
        return _sql(exp.In(this=there, expressions=values))
    return _sql(exp.Between(this=there, low=values[0], high=values[1]))


def few_of(column: pa.ChunkedArray, name: str) -> str | None:
    """As :func:`at_most`, for few rows only: keys of many are of all over a table."""
    return at_most(column, name) if len(column) <= 20 * MAX_VALUES else None


def since(limit: dt.datetime | dt.date, name: str) -> str:
    """A condition that holds from a time on."""
    return _sql(exp.GTE(this=exp.column(name, quoted=True), expression=_literal(limit)))


def _prunable(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_date(kind)
        or is_text(kind)
        or (pa.types.is_timestamp(kind) and kind.tz is not None)
    )


def _literal(value: Any) -> exp.Expr | None:
    """The value in an expression; None for a text that is too long or holds odd characters."""
    if isinstance(value, str):
        plain = len(value) <= MAX_CHARACTERS and value.isprintable() and "\\" not in value
        return exp.Literal.string(value) if plain else None
    if isinstance(value, dt.datetime):
        at = value.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        return exp.cast(exp.Literal.string(f"{at}Z"), "timestamp")
    if isinstance(value, dt.date):
        return exp.cast(exp.Literal.string(value.isoformat()), "date")
    return exp.convert(value)


def _sql(tree: exp.Expr) -> str:
    return str(tree.sql())
