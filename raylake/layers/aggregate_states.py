"""What is kept of an aggregate, so that it can be carried on by what came and left.

Counts, and sums of whole numbers and decimals, are exact under any order of additions and
subtractions. An average is made of both, ``bool_and`` and ``bool_or`` of two counts. A minimum or
maximum can be carried on while no row at it leaves. Everything else is a value of all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa
from sqlglot import exp

from raylake.layers.query import DIALECT, ROWS, is_aggregate

Kind = Literal["count", "sum", "min", "max", "value"]
TypeOf = Callable[[exp.Expr], pa.DataType]
"""The Arrow type of an expression over the source's columns."""
_Maker = Callable[[exp.Expr, exp.Expr | None, str], exp.Expr]
_BIGINT: Final = exp.DataType.build("BIGINT", dialect=DIALECT)
_HUGEINT: Final = exp.DataType.build("HUGEINT", dialect=DIALECT)
_WIDE: Final = exp.DataType.build("DECIMAL(38, 0)", dialect=DIALECT)
_DOUBLE: Final = exp.DataType.build("DOUBLE", dialect=DIALECT)


@dataclass(frozen=True, slots=True)
class State:
    """One number that a group keeps.

    Attributes:
        name: Its column, hidden from nobody, of no use to most: ``_sum_revenue``.
        kind: How it goes on; ``value``: it does not, and is not kept.
        argument: What is counted or added up; None: rows.
        only: Only rows that this holds for; None: all.
        whole: Of ``value``: the aggregate itself.
        cast: The type that a sum has.
    """

    name: str
    kind: Kind
    argument: exp.Expr | None = None
    only: exp.Expr | None = None
    whole: exp.Expr | None = None
    cast: exp.DataType | None = None

    @property
    def kept(self) -> bool:
        """Whether it can be carried on."""
        return self.kind != "value"

    def over(self, also: exp.Expr | None = None) -> exp.Expr:
        """The aggregate over rows of the source.

        Args:
            also: Only rows that this holds for, too.
        """
        if self.whole is not None:
            return self.whole.copy()
        argument = exp.Star() if self.argument is None else self.argument.copy()
        found: exp.Expr = {"count": exp.Count, "sum": exp.Sum, "min": exp.Min, "max": exp.Max}[
            self.kind
        ](this=argument)
        conditions = [one.copy() for one in (self.only, also) if one is not None]
        if conditions:
            only = exp.Where(this=exp.and_(*conditions, dialect=DIALECT))
            found = exp.Filter(this=found, expression=only)
        if self.cast is None:
            return found
        # A sum of nothing is kept as zero, whichever way it came to that.
        there = exp.Coalesce(this=found, expressions=[exp.Literal.number(0)])
        return exp.cast(there, self.cast.copy())

    def signed(self, has_come: str) -> exp.Expr:
        """What rows that came add to a count or a sum, less what those that left had added.

        Args:
            has_come: A column that is true in rows that came, and false in those that left.
        """
        conditions = [] if self.only is None else [self.only.copy()]
        if self.kind == "count":
            value: exp.Expr = exp.Literal.number(1)
            if self.argument is not None:
                conditions.append(_is_there(self.argument))
        elif self.argument is not None:
            # The least number has no opposite in its own type.
            whole = self.cast is not None and self.cast.is_type(exp.DataType.Type.BIGINT)
            value = self.argument.copy()
            value = exp.cast(value, _HUGEINT.copy()) if whole else value
        came = exp.If(this=exp.column(has_come, quoted=True), true=value)
        less = exp.Neg(this=exp.Paren(this=value.copy()))
        found: exp.Expr = exp.Sum(this=exp.Case(ifs=[came], default=less))
        if conditions:
            only = exp.Where(this=exp.and_(*conditions, dialect=DIALECT))
            found = exp.Filter(this=found, expression=only)
        there = exp.Coalesce(this=found, expressions=[exp.Literal.number(0)])
        wide = self.cast is None or self.cast.is_type(exp.DataType.Type.BIGINT)
        return exp.cast(there, (_WIDE if wide else self.cast or _WIDE).copy())


class States:
    """The states of a table's groups, each one once.

    Args:
        type_of: Types of the source's expressions.
    """

    def __init__(self, type_of: TypeOf) -> None:
        self._type_of = type_of
        self._known: dict[tuple[str, ...], State] = {}
        self.reasons: list[str] = []
        rows = State(ROWS, "count")
        self._known[_identity(rows)] = rows

    @property
    def found(self) -> tuple[State, ...]:
        """All of them, ``_rows`` first."""
        return tuple(self._known.values())

    def of(self, node: exp.Expr, alias: str) -> exp.Expr:
        """An aggregate as an expression over states.

        Args:
            node: The aggregate, with its FILTER.
            alias: The output that it is for.
        """
        only, called = None, node
        if isinstance(node, exp.Filter):
            only, called = node.expression.this, node.this
        made = self._maker(called) if _plain(called) else None
        return self._value(node, alias) if made is None else made(called, only, alias)

    def _maker(self, called: exp.Expr) -> _Maker | None:
        makers: dict[type[exp.Expr], _Maker] = {
            exp.Count: self._count,
            exp.CountIf: self._count_if,
            exp.Sum: self._sum,
            exp.Avg: self._average,
            exp.Min: self._extreme,
            exp.Max: self._extreme,
            exp.LogicalAnd: self._flags,
            exp.LogicalOr: self._flags,
        }
        return makers.get(type(called))

    def _add(self, state: State) -> exp.Column:
        key = _identity(state)
        if key not in self._known:
            taken = {one.name.lower() for one in self._known.values()}
            name, number = state.name, 2
            while name.lower() in taken:
                name, number = f"{state.name}_{number}", number + 1
            self._known[key] = State(
                name, state.kind, state.argument, state.only, state.whole, state.cast
            )
        return exp.column(self._known[key].name, quoted=True)

    def _value(self, node: exp.Expr, alias: str) -> exp.Expr:
        self.reasons.append(f"{node.sql(DIALECT)} is a value of all rows of its group")
        return self._add(State(f"_value_{alias}", "value", whole=node))

    def _count(self, called: exp.Expr, only: exp.Expr | None, alias: str) -> exp.Expr:
        argument = None if isinstance(called.this, exp.Star | None) else called.this
        return self._add(State(f"_count_{alias}", "count", argument, only))

    def _count_if(self, called: exp.Expr, only: exp.Expr | None, alias: str) -> exp.Expr:
        return self._add(State(f"_count_{alias}", "count", None, _both(only, called.this)))

    def _sum(self, called: exp.Expr, only: exp.Expr | None, alias: str) -> exp.Expr:
        kind = self._type_of(called.this)
        cast = _summed(kind)
        if cast is None:
            self.reasons.append(
                f"{called.sql(DIALECT)} adds up {kind}: rounding hangs on the order of rows"
            )
            return self._add(State(f"_value_{alias}", "value", whole=_filtered(called, only)))
        total = self._add(State(f"_sum_{alias}", "sum", called.this, only, None, cast))
        count = self._add(State(f"_count_{alias}", "count", called.this, only))
        return _when(count, total)

    def _average(self, called: exp.Expr, only: exp.Expr | None, alias: str) -> exp.Expr:
        kind = self._type_of(called.this)
        cast = _summed(kind)
        if cast is None:
            self.reasons.append(
                f"{called.sql(DIALECT)} averages {kind}: rounding hangs on the order of rows"
            )
            return self._add(State(f"_value_{alias}", "value", whole=_filtered(called, only)))
        total = self._add(State(f"_sum_{alias}", "sum", called.this, only, None, cast))
        count = self._add(State(f"_count_{alias}", "count", called.this, only))
        return _when(count, exp.Div(this=exp.cast(total, _DOUBLE.copy()), expression=count.copy()))

    def _extreme(self, called: exp.Expr, only: exp.Expr | None, alias: str) -> exp.Expr:
        kind: Kind = "min" if isinstance(called, exp.Min) else "max"
        return self._add(State(f"_{kind}_{alias}", kind, called.this, only))

    def _flags(self, called: exp.Expr, only: exp.Expr | None, alias: str) -> exp.Expr:
        count = self._add(State(f"_count_{alias}", "count", called.this, only))
        true = self._add(State(f"_true_{alias}", "count", None, _both(only, called.this)))
        if isinstance(called, exp.LogicalAnd):
            return _when(count, exp.EQ(this=true, expression=count.copy()))
        return _when(count, exp.GT(this=true, expression=exp.Literal.number(0)))


def aggregate_of(node: exp.Expr) -> bool:
    """Whether a node is an aggregate, with what belongs to it: FILTER, WITHIN GROUP."""
    while isinstance(node, exp.Filter | exp.WithinGroup):
        node = node.this
    return is_aggregate(node)


def _plain(called: exp.Expr) -> bool:
    """Whether it is an aggregate of one argument, without DISTINCT or an order."""
    more = [
        name for name, value in called.args.items() if value and name not in ("this", "big_int")
    ]
    return not more and not isinstance(called.this, exp.Distinct | exp.Order)


def _is_there(tree: exp.Expr) -> exp.Expr:
    null = exp.Is(this=exp.Paren(this=tree.copy()), expression=exp.Null())
    return exp.Not(this=null)


def _summed(kind: pa.DataType) -> exp.DataType | None:
    """The type of an exact sum; None where there is none."""
    if pa.types.is_integer(kind):
        return _BIGINT
    if pa.types.is_decimal(kind):
        return exp.DataType.build(f"DECIMAL(38, {kind.scale})", dialect=DIALECT)
    return None


def _filtered(called: exp.Expr, only: exp.Expr | None) -> exp.Expr:
    if only is None:
        return called
    return exp.Filter(this=called, expression=exp.Where(this=only))


def _both(only: exp.Expr | None, condition: exp.Expr) -> exp.Expr:
    return condition if only is None else exp.and_(only.copy(), condition.copy(), dialect=DIALECT)


def _when(count: exp.Expr, value: exp.Expr) -> exp.Expr:
    """The value where anything was counted, else null."""
    there = exp.GT(this=count.copy(), expression=exp.Literal.number(0))
    return exp.Paren(this=exp.Case(ifs=[exp.If(this=there, true=value)]))


def _identity(state: State) -> tuple[str, ...]:
    parts = (state.argument, state.only, state.whole, state.cast)
    return (state.kind, *("" if one is None else one.sql(DIALECT) for one in parts))
