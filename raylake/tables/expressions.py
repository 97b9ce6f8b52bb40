"""Conditions and values of requests: parsed, checked against an allow-list, and written anew.

No text of a user's reaches an engine. What is allowed means the same to every engine:

* columns (``x``, ``source.x``, fields of structs as ``x.y``; odd names in double quotes), numbers,
  strings in single quotes, ``true``, ``false``, ``null``;
* ``and or not``, comparisons, ``is [not] null``, ``is [not] distinct from``, ``in (…)`` with
  values, ``between``, ``like``, ``ilike``, ``case``;
* ``+ - *``, ``%`` by a number, ``/`` by a number with a decimal point (engines divide integers
  differently), ``||``;
* ``cast(x as type)``, ``date '…'``, ``timestamp '…'`` with a zone, ``coalesce lower upper trim
  length abs nullif substring``.

Names are matched without case where that leaves no doubt.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
from sqlglot import exp

from raylake.near import did_you_mean
from raylake.tables.errors import UnknownColumn
from raylake.tables.expression_grammar import (
    COMPARISONS,
    CONDITIONS,
    allowed,
    bad,
    require_zone,
)
from raylake.tables.likeness import (
    SPARK,
    decimal_holds,
    differs_on,
    exact_decimals,
    with_doubles,
    with_full_names,
)
from raylake.tables.times import has_zone, is_time

_OPERATORS: Final[Mapping[type[exp.Expr], str]] = {
    exp.EQ: "=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_MIRRORED: Final = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True, slots=True)
class Scope:
    """The columns that an expression may name.

    Attributes:
        sides: Columns by qualifier (``source``, ``target``); one side alone is "" and its columns
            are written without a qualifier.
        what: What the expression is, for messages: ``update_when of …``.
    """

    sides: Mapping[str, pa.Schema]
    what: str


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression.

    Attributes:
        columns: The columns that it reads: qualifier and exact name.
    """

    columns: frozenset[tuple[str, str]]
    _tree: exp.Expr = field(repr=False)

    def sql(self, dialect: str | None = None) -> str:
        """The text for an engine, every name quoted.

        Args:
            dialect: sqlglot's name of it; None: what DataFusion reads.
        """
        tree = self._tree
        if dialect == SPARK:
            tree = with_doubles(tree)
        elif dialect is None:
            tree = with_full_names(tree)
        return str(tree.sql(dialect=dialect, identify=True, comments=False))

    def bounds(self) -> list[tuple[str, str, str]]:
        """What must hold of single columns for the whole to hold: column, operator, text.

        Only comparisons with one literal that the whole is an AND of; the operator is one of
        ``= < <= > >=``, the text is the literal's.
        """
        found = []
        for one in self._tree.flatten() if isinstance(self._tree, exp.And) else [self._tree]:
            tree = one.unnest()
            if isinstance(tree, exp.Between):
                column = tree.this
                ends = [(">=", tree.args["low"]), ("<=", tree.args["high"])]
            elif type(tree) in _OPERATORS:
                column, ends = tree.this, [(_OPERATORS[type(tree)], tree.expression)]
                if isinstance(ends[0][1], exp.Column):
                    column, ends = ends[0][1], [(_MIRRORED[ends[0][0]], column)]
            else:
                continue
            if isinstance(column, exp.Column):
                found += [(column.name, op, t) for op, end in ends if (t := _plain_text(end))]
        return found

    def holds_only(self, kinds: frozenset[type[exp.Expr]]) -> bool:
        """Whether every part of it is of one of sqlglot's kinds."""
        return all(type(node) in kinds for node in self._tree.walk())

    def fits(self, kind: pa.DataType) -> bool:
        """Whether it is one plain value that a column of this type holds exactly."""
        tree = self._tree.unnest()
        if isinstance(tree, exp.Neg):
            tree = tree.this.unnest()
        elif isinstance(tree, exp.Cast) and tree.to.this == exp.DataType.Type.TIMESTAMPTZ:
            # DataFusion takes the zone into account, and then calls it a time without one.
            return bool(pa.types.is_timestamp(kind) and kind.tz is not None)
        if not isinstance(tree, exp.Literal):
            return isinstance(tree, exp.Null)
        return _text_fits(tree.name, kind) if tree.is_string else _number_fits(tree.name, kind)


def condition(text: str, scope: Scope) -> Expression:
    """A checked condition.

    Raises:
        BadExpression: It does not parse, holds what is not allowed, or is no condition.
        UnknownColumn: It names a column that is not there.
        TimeWithoutZone: It compares with a time that has no zone.
    """
    found = value(text, scope)
    tree = found._tree.unnest()  # noqa: SLF001
    if not isinstance(tree, (*CONDITIONS, exp.Case, exp.Coalesce)) and not _is_flag(tree, scope):
        raise bad(text, scope.what, "is a value, not a condition")
    return found


def value(text: str, scope: Scope) -> Expression:
    """A checked value, or condition.

    Raises:
        BadExpression, UnknownColumn, TimeWithoutZone: As :func:`condition`.
    """
    tree = allowed(text, scope.what)
    read: set[tuple[str, str]] = set()
    for column in list(tree.find_all(exp.Column)):
        resolved, side, name = _resolved(column, scope, text)
        _check_times(column, _type_of(scope, side, name), text, scope)
        if isinstance(resolved, exp.Column) and (
            reason := differs_on(column, _type_of(scope, side, name))
        ):
            raise bad(text, scope.what, f"{reason}: engines differ there")
        read.add((side, name))
        if column is tree:
            tree = resolved
        else:
            column.replace(resolved)
    if reason := exact_decimals(tree, lambda one: _type_of(scope, one.table, one.name)):
        raise bad(text, scope.what, f"{reason}: engines differ there")
    return Expression(frozenset(read), tree)


def _plain_text(tree: exp.Expr) -> str:
    """The text of one plain value, also of a cast one; empty for anything else."""
    tree = tree.unnest()
    if isinstance(tree, exp.Cast):
        tree = tree.this.unnest()
    sign = "-" if isinstance(tree, exp.Neg) else ""
    tree = tree.this.unnest() if sign else tree
    return f"{sign}{tree.name}" if isinstance(tree, exp.Literal) else ""


def _number_fits(text: str, kind: pa.DataType) -> bool:
    number = decimal.Decimal(text).normalize()
    places = max(0, -int(number.as_tuple().exponent))
    if pa.types.is_integer(kind):
        return bool(places == 0 and number < 1 << (kind.bit_width - 1))
    if pa.types.is_decimal(kind):
        return decimal_holds(text, kind.precision, kind.scale)
    return bool(pa.types.is_floating(kind))


def _text_fits(text: str, kind: pa.DataType) -> bool:
    if pa.types.is_timestamp(kind):
        return has_zone(text) if kind.tz else is_time(text) and not has_zone(text)
    if pa.types.is_date(kind):
        return is_time(text) and len(text) == len("2026-01-31")
    return bool(pa.types.is_string(kind))


def quoted(name: str, side: str = "", dialect: str | None = None) -> str:
    """A column's name as engines read it; ``dialect`` as in :meth:`Expression.sql`."""
    return str(exp.column(name, table=side or None, quoted=True).sql(dialect, identify=True))


def _resolved(column: exp.Column, scope: Scope, text: str) -> tuple[exp.Expr, str, str]:
    """The column with its exact name and side, its side, and its name."""
    if isinstance(column.this, exp.Star):
        raise bad(text, scope.what, "holds *, which is not allowed")
    parts = [part.name for part in column.parts]
    if len(parts) > 1 and parts[0].lower() in scope.sides:
        sides = [parts.pop(0).lower()]
    else:
        sides = list(scope.sides)
    found = [(side, name) for side in sides if (name := _exact(parts[0], scope.sides[side]))]
    if len(found) > 1:
        raise bad(text, scope.what, f"names {parts[0]!r}, which both sides have: say which one")
    if not found:
        known = [name for side in sides for name in scope.sides[side].names]
        raise UnknownColumn(
            f"{scope.what}: there is no column {parts[0]!r}",
            hint=did_you_mean(parts[0], known),
            column=parts[0],
        )
    side, name = found[0]
    tree: exp.Expr = exp.column(name, table=side or None, quoted=True)
    kind = scope.sides[side].field(name).type
    for part in parts[1:]:
        inner = _exact(part, pa.schema(list(kind))) if pa.types.is_struct(kind) else ""
        if not inner:
            raise UnknownColumn(
                f"{scope.what}: column {name!r} has no field {part!r}", column=f"{name}.{part}"
            )
        kind = kind.field(inner).type
        tree = exp.Bracket(this=tree, expressions=[exp.Literal.string(inner)])
    return tree, side, name


def _exact(name: str, schema: pa.Schema) -> str:
    """The name as the schema has it; empty when it has none, or several that differ in case."""
    if name in schema.names:
        return name
    folded = [known for known in schema.names if known.lower() == name.lower()]
    return folded[0] if len(folded) == 1 else ""


def _type_of(scope: Scope, side: str, name: str) -> pa.DataType:
    return scope.sides[side].field(name).type


def _is_flag(tree: exp.Expr, scope: Scope) -> bool:
    """Whether it is a boolean column."""
    if not isinstance(tree, exp.Column):
        return False
    return bool(pa.types.is_boolean(_type_of(scope, tree.table, tree.name)))


def _check_times(column: exp.Column, kind: pa.DataType, text: str, scope: Scope) -> None:
    """A string that a point in time is compared with must have a zone."""
    parent = column.parent
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        return
    if isinstance(parent, (*COMPARISONS, exp.In, exp.Between)):
        for node in parent.iter_expressions():
            require_zone(node, text, scope.what)
