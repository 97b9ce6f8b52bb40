"""How an aggregate table is kept up to date, decided from its query and the source's types.

* ``maintain``: what came is added to the groups, what left is taken from them; the table keeps the
  states of :mod:`raylake.layers.aggregate_states`, and only groups whose minimum or maximum left
  are computed from the source.
* ``groups``: groups of rows that came or left are computed from the source.
* ``partitions``: so are the table's partitions.
* ``whole``: the table is computed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from sqlglot import exp

from raylake.config.columns import PartitionField
from raylake.config.findings import did_you_mean
from raylake.delta.partition_values import READ_AS_NULL
from raylake.layers.aggregate_states import State, States, TypeOf, aggregate_of
from raylake.layers.query import DIALECT, OWN, Query

Strategy = Literal["maintain", "groups", "partitions", "whole"]
Types = Callable[[Sequence[exp.Expr]], pa.Schema]
"""The Arrow types of expressions over the source's columns, in order."""


@dataclass(frozen=True, slots=True)
class Key:
    """One expression that rows are grouped by.

    Attributes:
        name: Its column in our queries.
        tree: The expression over the source's columns.
        type: Its type.
    """

    name: str
    tree: exp.Expr
    type: pa.DataType


@dataclass(frozen=True, slots=True)
class Grouped:
    """A query over one table, its rows grouped.

    Attributes:
        where: Which rows of the source count; None: all.
        keys: What they are grouped by; none: they are one group, which is always there.
        states: What is computed of each group.
        outputs: The query's columns: name, and expression over keys and states.
        having: Which groups are rows of the table; None: all.
    """

    where: exp.Expr | None
    keys: tuple[Key, ...]
    states: tuple[State, ...]
    outputs: tuple[tuple[str, exp.Expr], ...]
    having: exp.Expr | None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a table is kept up to date.

    Attributes:
        strategy: See the module.
        reason: Why, in words.
        grouped: Of ``maintain`` and ``groups``: the query.
        partitions: Of ``partitions``: what the partition columns are of the source's columns.
    """

    strategy: Strategy
    reason: str
    grouped: Grouped | None = None
    partitions: tuple[Key, ...] = ()


class _NoGroups(Exception):
    """The query's groups cannot be computed one by one; the text says why."""


def plan_of(
    query: Query, source: pa.Schema, types: Types, partition_by: Sequence[PartitionField] = ()
) -> Plan:
    """How a table of this query is kept up to date.

    Args:
        query: The query.
        source: The source's columns.
        types: Types of expressions.
        partition_by: The table's partition columns.

    Raises:
        QueryRefused: A column is not there, or stands outside of GROUP BY and aggregates.
    """
    try:
        return _grouped_plan(query, source, types)
    except _NoGroups as reason:
        found = _partitions(query, source, types, partition_by)
        if found:
            names = ", ".join(one.name for one in partition_by)
            return Plan(
                "partitions",
                f"{reason}: the partitions ({names}) of rows that came or left are recomputed",
                partitions=found,
            )
        return Plan("whole", f"{reason}: the table is recomputed whole")


def _grouped_plan(query: Query, source: pa.Schema, types: Types) -> Plan:
    select = _single(query)
    resolver = _Resolver(query, select, source)
    group = _group_by(select, resolver)
    trees = [resolver.resolved(one) for one in group]
    kinds = types(trees)
    keys = tuple(Key(f"{OWN}k{at}", tree, kinds.field(at).type) for at, tree in enumerate(trees))
    for key in keys:
        if pa.types.is_floating(key.type) or pa.types.is_nested(key.type):
            raise _NoGroups(f"it groups by {key.tree.sql(DIALECT)}, which is {key.type}")
    states = States(_type_of(types))
    outputs = []
    for one in select.selects:
        alias = one.alias_or_name
        tree = resolver.resolved(one.unalias())
        outputs.append((alias, _outer(query, one, tree, keys, states, alias)))
    having = select.args.get("having")
    kept = None
    if having is not None:
        kept = _outer(query, having, resolver.resolved(having.this), keys, states, "having")
    where = select.args.get("where")
    rows = None if where is None else resolver.resolved(where.this)
    grouped = Grouped(rows, keys, states.found, tuple(outputs), kept)
    return _chosen(grouped, states)


def _chosen(grouped: Grouped, states: States) -> Plan:
    reasons = list(dict.fromkeys(states.reasons))
    if grouped.having is not None:
        reasons.append("a group that HAVING leaves out has no state in the table")
    if reasons and not grouped.keys:
        raise _NoGroups(f"{reasons[0]}, and all rows are one group")
    if reasons:
        return Plan("groups", f"{'; '.join(reasons)}: groups of rows that came or left", grouped)
    extremes = [one for one in grouped.states if one.kind in ("min", "max")]
    reason = "counts, and sums of whole numbers and decimals, go on by what came and left"
    if extremes:
        reason += "; groups whose minimum or maximum left are recomputed"
    return Plan("maintain", reason, grouped)


def _single(query: Query) -> exp.Select:
    """The query as one SELECT over one table.

    Raises:
        _NoGroups: It is more than that.
    """
    tree = query.tree
    if not isinstance(tree, exp.Select):
        raise _NoGroups(f"it is a {tree.key.upper()}")
    for part, what in (
        ("with_", "it has a WITH"),
        ("joins", "it joins tables"),
        ("distinct", "it is a SELECT DISTINCT"),
        ("qualify", "it has QUALIFY"),
        ("windows", "it has window functions"),
        ("limit", "it has LIMIT"),
        ("offset", "it has OFFSET"),
    ):
        if tree.args.get(part):
            raise _NoGroups(what)
    begin = tree.args["from_"].this
    if not isinstance(begin, exp.Table) or begin.args.get("joins"):
        raise _NoGroups("it reads another query")
    for kind, what in ((exp.Window, "it has window functions"), (exp.Select, "it has subqueries")):
        if any(one is not tree for one in tree.find_all(kind)):
            raise _NoGroups(what)
    group = tree.args.get("group")
    if group is not None and _several(group):
        raise _NoGroups("it has several groupings")
    if group is None and not any(_has_aggregate(one) for one in tree.selects):
        raise _NoGroups("it has neither aggregates nor GROUP BY")
    return tree


def _group_by(select: exp.Select, resolver: _Resolver) -> list[exp.Expr]:
    group = select.args.get("group")
    if group is None:
        return []
    if group.args.get("all"):
        return [one.unalias() for one in select.selects if not _has_aggregate(one)]
    found = []
    for one in group.expressions:
        if isinstance(one, exp.Literal) and not one.is_string:
            place = int(one.name)
            if not 0 < place <= len(select.selects):
                raise resolver.query.refused(
                    f"groups by column {place} of {len(select.selects)}", one, "name the column"
                )
            found.append(select.selects[place - 1].unalias())
        elif isinstance(one, exp.Tuple):
            found += one.expressions
        else:
            found.append(one)
    unique: list[exp.Expr] = []
    for one in found:
        if one not in unique:
            unique.append(one)
    return unique


class _Resolver:
    """Brings the names in a query over one table down to the source's columns.

    A name is a column of the source, or else an output's, as DuckDB has it.
    """

    def __init__(self, query: Query, select: exp.Select, source: pa.Schema) -> None:
        self.query = query
        self._columns = {name.lower(): name for name in source.names}
        table = select.args["from_"].this
        self._tables = {table.alias_or_name.lower()}
        self._aliases = {
            one.alias.lower(): one.this for one in select.selects if isinstance(one, exp.Alias)
        }

    def resolved(self, tree: exp.Expr, within: frozenset[str] = frozenset()) -> exp.Expr:
        """The expression over columns of the source alone.

        Raises:
            QueryRefused: A name is neither.
        """

        def put(node: exp.Expr) -> exp.Expr:
            return self._column(node, within) if isinstance(node, exp.Column) else node

        return tree.copy().transform(put)

    def _column(self, node: exp.Column, within: frozenset[str]) -> exp.Expr:
        names = [part.name for part in node.parts]
        if len(names) > 1 and names[-2].lower() in self._tables and len(names) <= 3:
            names = names[-1:]
        elif len(names) > 1 and names[0].lower() in self._tables:
            names = names[1:]
        first = names[0].lower()
        if first in self._columns:
            found: exp.Expr = exp.column(self._columns[first], quoted=True)
            for name in names[1:]:
                found = exp.Bracket(this=found, expressions=[exp.Literal.string(name)])
            return found
        if len(names) == 1 and first in self._aliases and first not in within:
            return exp.Paren(this=self.resolved(self._aliases[first], within | {first}))
        raise self.query.refused(
            f"names the column {names[0]!r}, which {self.query.source} lacks",
            node,
            did_you_mean(names[0], [*self._columns.values(), *self._aliases]),
        )


def _outer(
    query: Query,
    place: exp.Expr,
    tree: exp.Expr,
    keys: Sequence[Key],
    states: States,
    alias: str,
) -> exp.Expr:
    """An output over keys and states."""

    def put(node: exp.Expr) -> exp.Expr:
        bare = node.unnest()
        for key in keys:
            if bare == key.tree.unnest():
                return exp.column(key.name, quoted=True)
        if aggregate_of(node):
            return states.of(node, alias)
        if isinstance(node, exp.Column):
            raise query.refused(
                f"has {node.name!r} outside of GROUP BY and aggregates",
                place,
                f"add it to GROUP BY, or write min({node.name})",
            )
        return node

    return tree.transform(put)


def _partitions(
    query: Query, source: pa.Schema, types: Types, partition_by: Sequence[PartitionField]
) -> tuple[Key, ...]:
    """What the partition columns are of the source's columns; none where that is not known.

    Of a query that joins tables it is not: a row of the other one may change any partition.
    """
    try:
        select = _single(query)
    except _NoGroups:
        return ()
    resolver = _Resolver(query, select, source)
    group = [resolver.resolved(one).unnest() for one in _group_by(select, resolver)]
    named = {one.alias_or_name: resolver.resolved(one.unalias()) for one in select.selects}
    if any(named[one.column].unnest() not in group for one in partition_by):
        return ()
    trees = [transformed(named[one.column], one) for one in partition_by]
    kinds = [one.type for one in types(trees)]
    if not all(_listed(kind) for kind in kinds):
        return ()
    return tuple(
        Key(f"{OWN}p{at}", _as_kept(tree, kind), kind)
        for at, (tree, kind) in enumerate(zip(trees, kinds, strict=True))
    )


def _as_kept(tree: exp.Expr, kind: pa.DataType) -> exp.Expr:
    """A partition's value as the table has it: some texts are null there."""
    for text in READ_AS_NULL if pa.types.is_string(kind) else ():
        tree = exp.Nullif(this=tree, expression=exp.Literal.string(text))
    return tree


def transformed(tree: exp.Expr, partition: PartitionField) -> exp.Expr:
    """What a partition column is of the column that it is taken from."""
    if partition.transform == "date":
        return exp.cast(tree.copy(), exp.DataType.build("DATE", dialect=DIALECT))
    if partition.transform == "hour":
        return exp.TimestampTrunc(this=tree.copy(), unit=exp.var("HOUR"))
    return tree.copy()


def _several(group: exp.Expr) -> bool:
    """Whether rows are grouped in several ways at once."""
    return any(True for _ in group.find_all(exp.Rollup, exp.Cube, exp.GroupingSets))


def _has_aggregate(tree: exp.Expr) -> bool:
    return any(aggregate_of(one) for one in tree.walk())


def _listed(kind: pa.DataType) -> bool:
    """Whether values of a type can be named in a condition on the table."""
    types = pa.types
    zoned = types.is_timestamp(kind) and kind.tz is not None
    return bool(types.is_string(kind) or types.is_integer(kind) or types.is_date(kind) or zoned)


def _type_of(types: Types) -> TypeOf:
    def type_of(tree: exp.Expr) -> pa.DataType:
        return types([tree]).field(0).type

    return type_of
