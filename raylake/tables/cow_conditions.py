"""Conditions of a merge that RayLake judges itself, with DuckDB on rows in memory.

Only what every engine surely judges alike is taken: comparisons of one kind of values, ``and or
not``, ``is null``, ``is distinct from``, ``in``, ``between``, ``coalesce``, ``case``. What
calculates, casts or works on text is left to delta-rs.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sqlglot
from sqlglot import exp

from raylake.tables.likeness import decimal_holds
from raylake.tables.merging import Merge
from raylake.tables.times import has_zone, is_time

Mask = npt.NDArray[np.bool_]
_JOINS: Final = (exp.And, exp.Or, exp.Not, exp.Paren, exp.Case, exp.If, exp.Coalesce)
_COMPARES: Final = (
    exp.EQ,
    exp.NEQ,
    exp.LT,
    exp.LTE,
    exp.GT,
    exp.GTE,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.In,
    exp.Between,
)
_VALUES: Final = (exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Neg)
_ROW: Final = "raylake_row"
_DATE_CHARACTERS: Final = len("2026-01-31")


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a merge as SQL; None where there is none.

    Attributes:
        update: Matching rows are updated.
        delete: Matching rows leave.
        insert: Other rows of the source are inserted.
        unmatched: Other rows of the table leave, where any does.
    """

    update: str | None
    delete: str | None
    insert: str | None
    unmatched: str | None

    @classmethod
    def of(cls, merge: Merge) -> Conditions:
        """Those of a merge."""
        clauses, unmatched = merge.clauses, merge.unmatched
        return cls(
            None if clauses.update is None else clauses.update.sql(),
            None if clauses.delete is None else clauses.delete.sql(),
            clauses.insert_sql(),
            None if unmatched is None or unmatched.where is None else unmatched.where.sql(),
        )

    def columns(self, side: str) -> frozenset[str]:
        """The columns of one side that conditions on rows of the table read."""
        found = (columns_of(sql, side) for sql in (self.update, self.delete, self.unmatched))
        return frozenset().union(*found)


def inexact(sql: str, sides: Mapping[str, pa.Schema]) -> str:
    """Why a condition is left to delta-rs; empty when it is judged here.

    Args:
        sql: A checked condition.
        sides: The columns by qualifier; "" for those without one.
    """
    nodes = list(sqlglot.parse_one(sql).walk(prune=_is_typed_literal))
    for node in nodes:
        plain = isinstance(node, (*_JOINS, *_VALUES, *_COMPARES, exp.Is)) or _is_typed_literal(node)
        if not plain:
            return f"{node.sql()} is calculated by delta-rs"
        if isinstance(node, exp.Is) and not isinstance(node.expression, exp.Null | exp.Boolean):
            return f"{node.sql()} is judged by delta-rs"
    for node in nodes:
        if isinstance(node, _COMPARES):
            kinds = {_kind(one, sides) for one in node.iter_expressions()} - {"null"}
            if len(kinds) > 1 or "" in kinds:
                return f"{node.sql()} compares values of different kinds"
    return ""


def columns_of(sql: str | None, side: str) -> frozenset[str]:
    """The columns of one side that a checked condition reads."""
    if sql is None:
        return frozenset()
    found = sqlglot.parse_one(sql).find_all(exp.Column)
    return frozenset(column.name for column in found if column.table == side)


class Judge:
    """Judges conditions on rows; what is unknown counts as false. Not for several threads.

    Opened only when there is a condition to judge.
    """

    def __init__(self) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes what was opened."""
        if self._connection is not None:
            self._connection.close()

    def holds(self, sql: str, rows: int, sides: Mapping[str, pa.Table]) -> Mask:
        """For each row whether the condition holds.

        Args:
            sql: A checked condition.
            rows: How many rows there are.
            sides: The columns that it reads by qualifier; "" for those without one.
        """
        if self._connection is None:
            self._connection = duckdb.connect(config={"enable_external_access": "false"})
        columns: dict[str, pa.ChunkedArray | pa.Array] = {_ROW: pa.array(np.arange(rows))}
        for side, table in sides.items():
            if side and table.num_columns:
                columns[side] = pa.chunked_array(table.to_struct_array())
            elif not side:
                columns |= dict(zip(table.schema.names, table.columns, strict=True))
        self._connection.register("judged", pa.table(columns))
        query = f"SELECT COALESCE({sql}, FALSE) AS holds FROM judged"  # noqa: S608
        found = pa.table(self._connection.sql(query).to_arrow_table()).column("holds")
        self._connection.unregister("judged")
        return np.asarray(found.to_numpy(), dtype=np.bool_)


def _is_typed_literal(node: exp.Expr) -> bool:
    return isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal)


def _kind(node: exp.Expr, sides: Mapping[str, pa.Schema]) -> str:
    """What kind of value it is; empty where that is not plain."""
    node = node.unnest()
    if isinstance(node, exp.Null):
        return "null"
    if isinstance(node, exp.Boolean):
        return "flag"
    if isinstance(node, exp.Neg):
        return _kind(node.this, sides)
    if isinstance(node, exp.Column):
        return _kind_of_type(sides[node.table].field(node.name).type)
    if _is_typed_literal(node):
        return _kind_of_cast(node)
    if isinstance(node, exp.Literal):
        return _kind_of_literal(node, sides)
    return ""


def _kind_of_cast(node: exp.Expr) -> str:
    kinds = {exp.DataType.Type.TIMESTAMPTZ: "instant", exp.DataType.Type.DATE: "date"}
    text, to = node.this.name, node.args["to"]
    if to.this == exp.DataType.Type.DECIMAL:
        return "number" if _fits(text, [int(one.name) for one in to.expressions]) else ""
    found = kinds.get(to.this, "")
    if found == "date":
        return found if is_time(text) and len(text) == _DATE_CHARACTERS else ""
    return found if has_zone(text) else ""


def _fits(text: str, precision_and_scale: Sequence[int]) -> bool:
    """Whether a decimal of that precision and scale holds a number without rounding it."""
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return False
    if len(precision_and_scale) != 2 or not number.is_finite():
        return False
    return decimal_holds(text, *precision_and_scale)


def _kind_of_literal(node: exp.Literal, sides: Mapping[str, pa.Schema]) -> str:
    """A literal takes the kind of the column that it is compared with, where it is written so."""
    parent = node.find_ancestor(*_COMPARES)
    columns = [] if parent is None else [c for c in parent.iter_expressions() if _plain(c)]
    kind = _kind(columns[0], sides) if columns else ""
    if not node.is_string:
        return "real" if kind == "real" else "number"
    if not columns:
        return "text"
    whole = is_time(node.name) and len(node.name) == _DATE_CHARACTERS
    fits = {"instant": has_zone(node.name), "date": whole, "text": True}
    return kind if fits.get(kind, False) else ""


def _plain(node: exp.Expr) -> bool:
    return isinstance(node.unnest(), exp.Column)


def _kind_of_type(kind: pa.DataType) -> str:
    kinds = (
        ("number", pa.types.is_integer(kind) or pa.types.is_decimal(kind)),
        ("real", pa.types.is_floating(kind)),
        ("text", pa.types.is_string(kind)),
        ("flag", pa.types.is_boolean(kind)),
        ("date", pa.types.is_date(kind)),
        ("bytes", pa.types.is_binary(kind)),
        ("instant", pa.types.is_timestamp(kind) and kind.tz is not None),
        ("local time", pa.types.is_timestamp(kind) and kind.tz is None),
    )
    return next((name for name, found in kinds if found), "")
