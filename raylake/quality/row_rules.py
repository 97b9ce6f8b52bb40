"""Rules that look at rows alone, as masks over whole columns: true where a row breaks the rule.

No value (null) breaks ``not_null`` alone; for ``sql`` what is unknown is no failure. NaN is a
value, and lies outside of every range and every set.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylake.config.quality import InRange, InSet, NotNull, Regex, SqlRule, whole
from raylake.quality.bounds import Side, bound, is_text, kind_text, plain
from raylake.quality.duck import ask
from raylake.quality.errors import RuleRefused
from raylake.tables.expressions import Expression, Scope, condition

Mask = npt.NDArray[np.bool_]
_THREADS: Final = 2
_ROWS_A_THREAD: Final = 100_000


def nobody(rows: int) -> Mask:
    """No row breaks it."""
    return np.zeros(rows, np.bool_)


def broken(holds: pa.Array | pa.ChunkedArray) -> Mask:
    """The rows that a mask does not hold for; null holds."""
    if holds.null_count:
        holds = pc.fill_null(holds, True)
    return ~np.asarray(holds.to_numpy(zero_copy_only=False), np.bool_)


def no_values(rule: NotNull, rows: pa.Table) -> list[tuple[str, Mask]]:
    """By column, the rows in which it is the first of the rule's without a value."""
    seen, found = nobody(rows.num_rows), []
    for name in rule.columns:
        column = rows.column(name)
        if column.null_count:
            missing = np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False), np.bool_)
            found.append((name, missing & ~seen))
            seen |= missing
    return found


def limits(rule: InRange, kind: pa.DataType, where: str) -> list[tuple[Side, pa.Scalar | bool]]:
    """The bounds of a range as values of the column's type.

    Raises:
        RuleRefused: The column cannot be compared with them.
    """
    sides: tuple[tuple[Side, object], ...] = (("min", rule.min), ("max", rule.max))
    return [(side, bound(v, kind, side, where)) for side, v in sides if v is not None]


def out_of_range(rule: InRange, rows: pa.Table, where: str) -> Mask:
    """The rows whose value lies beyond a bound."""
    column = rows.column(rule.column)
    within: list[pa.ChunkedArray] = []
    for side, limit in limits(rule, column.type, where):
        if isinstance(limit, bool):
            if not limit:
                return broken(pc.is_null(column))
        elif side == "min":
            within.append(pc.greater_equal(column, limit))
        else:
            within.append(pc.less_equal(column, limit))
    return broken(functools.reduce(pc.and_, within)) if within else nobody(rows.num_rows)


def unmatched(rule: Regex, rows: pa.Table) -> Mask:
    """The rows whose whole value does not match."""
    pattern = whole(rule.pattern)

    def judge(part: pa.ChunkedArray) -> Mask:
        return broken(pc.match_substring_regex(part, pattern))

    column = rows.column(rule.column)
    if len(column) < 2 * _ROWS_A_THREAD:
        return judge(column)
    size = -(-len(column) // _THREADS)
    parts = [column.slice(start, size) for start in range(0, len(column), size)]
    with ThreadPoolExecutor(_THREADS) as threads:
        return np.concatenate(list(threads.map(judge, parts)))


def members(rule: InSet, kind: pa.DataType, where: str) -> pa.Array:
    """The values of a set in the column's type.

    Raises:
        RuleRefused: The column cannot hold one of them.
    """
    return pa.array([plain(value, kind, where).as_py() for value in rule.values], kind)


def strangers(rule: InSet, rows: pa.Table, where: str) -> Mask:
    """The rows whose value is not in the set."""
    column = rows.column(rule.column)
    known = pc.is_in(column, value_set=members(rule, column.type, where))
    return broken(pc.or_(known, pc.is_null(column)) if column.null_count else known)


def checked_condition(rule: SqlRule, schema: pa.Schema, where: str) -> Expression:
    """The rule's condition, checked against the columns that there are.

    Raises:
        BadExpression, UnknownColumn, TimeWithoutZone: It is no condition on these columns.
    """
    return condition(rule.condition, Scope({"": schema}, where))


def not_holding(rule: SqlRule, rows: pa.Table, where: str) -> Mask:
    """The rows that the condition is false for, or cannot be worked out for (a cast that fails).

    What is unknown is no failure, as for a CHECK constraint.
    """
    checked = checked_condition(rule, rows.schema, where)
    names = sorted({name for _, name in checked.columns})
    holds = checked.sql("duckdb")
    if not names:
        rows, names = pa.table({"one": np.zeros(rows.num_rows, np.int8)}), ["one"]
    read = rows.select(names)
    try:
        found = ask(f"SELECT COALESCE({holds}, TRUE) AS holds FROM judged", judged=read)  # noqa: S608
    except duckdb.Error:
        # Some row cannot be judged: that one fails, the others are judged.
        query = f"SELECT TRY(COALESCE({holds}, TRUE)) IS TRUE AS holds FROM judged"  # noqa: S608
        try:
            found = ask(query, judged=read)
        except duckdb.Error as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise RuleRefused(f"{where}: {rule.condition!r} cannot be judged: {reason}") from error
    return broken(found.column("holds"))


def require_text(kind: pa.DataType, where: str) -> None:
    """A pattern is for text.

    Raises:
        RuleRefused: The column is something else.
    """
    if not is_text(kind):
        raise RuleRefused(
            f"{where}: the column is {kind_text(kind)}, and a pattern is for text",
            hint="write a range, in_set or sql rule instead",
        )


def require_time(kind: pa.DataType, where: str) -> None:
    """Freshness is of times.

    Raises:
        RuleRefused: The column is something else.
    """
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise RuleRefused(
            f"{where}: the column is {kind_text(kind)}, and freshness is of timestamps and dates",
            hint="name a timestamp column, such as _timestamp",
        )


def require_comparable(kinds: Sequence[pa.DataType], where: str) -> None:
    """Rows agree in columns whose values can be compared.

    Raises:
        RuleRefused: A column is a map.
    """
    for kind in kinds:
        if pa.types.is_map(kind):
            raise RuleRefused(f"{where}: a column is {kind_text(kind)}: maps are not compared")
