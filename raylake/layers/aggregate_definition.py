"""What an aggregate table is: its query, its columns, and how it is kept up to date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
from sqlglot import exp

from raylake.config.columns import PartitionField, parse_partition
from raylake.config.findings import did_you_mean
from raylake.layers import aggregate_sql as sql
from raylake.layers.aggregate_plan import Plan, plan_of
from raylake.layers.along_curve import not_on_the_curve
from raylake.layers.query import GROUP, QueryRefused, parse_query
from raylake.layers.sandbox import Limits, QueryFailed, Sandbox
from raylake.tables.requests import Create
from raylake.tables.rows import plain

STATISTICS: Final = "delta.dataSkippingStatsColumns"
_STATISTICS_BY_DEFAULT: Final = 32
"""Columns that have statistics where none are named."""


@dataclass(frozen=True, slots=True)
class AggregateSpec:
    """An aggregate table as the pipeline file has it.

    Attributes:
        sql: The query.
        partition_by: ``column``, ``date(column)``, ``hour(column)`` of the query's columns.
        zorder_by: Columns along which the rows of each write are ordered.
        rejects: Rules may keep rows out of the table, so that a group that it lacks may have rows.
        description: The table's comment.
        limits: What a query may take.
    """

    sql: str
    partition_by: tuple[str, ...] = ()
    zorder_by: tuple[str, ...] = ()
    rejects: bool = False
    description: str = ""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Planned:
    """What follows from the source's columns.

    Attributes:
        source: The columns that are needed.
        plan: How the table is kept up to date.
        schema: The table's columns.
        texts: The queries of a table that is computed by groups; None for others.
    """

    source: pa.Schema
    plan: Plan
    schema: pa.Schema
    texts: sql.Texts | None


class AggregateDefinition:
    """An aggregate table's definition, held against the columns of what it reads.

    Args:
        name: The table, ``layer.name``.
        spec: What it is.
        tables: The tables that its query may read, ``layer.name``.

    Raises:
        QueryRefused: The query is none, or a partition column is none of its.
    """

    def __init__(self, name: str, spec: AggregateSpec, tables: Iterable[str]) -> None:
        self.name: Final = name
        self.spec: Final = spec
        self.query: Final = parse_query(spec.sql, tables)
        self.partition_by: Final = tuple(self._partition(text) for text in spec.partition_by)
        self.others: Mapping[str, pa.Schema] = {}
        self._named: Final = _named(self.query.tree)
        self._known: Planned | None = None

    def create(self, source: pa.Schema) -> Create:
        """The table, for a source of these columns.

        Raises:
            QueryRefused: The query does not fit the source.
        """
        planned = self.planned(source)
        properties = {}
        if len(planned.schema) > _STATISTICS_BY_DEFAULT:
            properties[STATISTICS] = ",".join(self._searched(planned))
        partition_by = tuple(one.name for one in self.partition_by)
        return Create(planned.schema, partition_by, properties, description=self.spec.description)

    def columns(self, source: pa.Schema) -> tuple[str, ...]:
        """The columns of a table that the query names; its first one where it names none."""
        found = tuple(name for name in source.names if name.lower() in self._named)
        # A count of rows alone reads no column, and something must be read to count.
        return found or tuple(source.names[:1])

    def planned(self, source: pa.Schema) -> Planned:
        """What follows from a source's columns, found once for these.

        Raises:
            QueryRefused: The query does not fit the source.
        """
        wanted = pa.schema([source.field(name) for name in self.columns(source)])
        if self._known is None or not self._known.source.equals(wanted):
            try:
                self._known = self._plan(source, wanted)
            except QueryRefused as error:
                told = f"{self.name}: {error.message.removeprefix(f'{self.name}: ')}"
                raise QueryRefused(told, hint=error.hint, **error.context) from error
        return self._known

    def _plan(self, source: pa.Schema, wanted: pa.Schema) -> Planned:
        """The plan for a source of these columns, of which some are needed; the table's columns.

        Raises:
            QueryRefused: The query does not fit the source.
        """
        with self.sandbox() as box:
            box.give(sql.SOURCE, source.empty_table())

            def types(trees: Sequence[exp.Expr]) -> pa.Schema:
                if not trees:
                    return pa.schema([])
                return self._tried(box, sql.expressions(trees))

            plan = plan_of(self.query, source, types, self.partition_by)
            layout = sql.Layout(self.partition_by, plan.strategy == "maintain")
            texts = None
            if plan.grouped is not None:
                rejects = self.spec.rejects
                texts = sql.Texts.of(plan.grouped, layout, unknown_is_stale=rejects)
                found = self._tried(box, texts.anew)
            else:
                for table in self.query.tables[1:]:
                    self._give_other(box, table)
                text = sql.whole(self.query, Plan("whole", ""), self.partition_by)
                found = self._tried(box, text)
        schema = self._schema(found)
        if reason := not_on_the_curve(schema, self.spec.zorder_by):
            raise QueryRefused(f"{self.name}: zorder_by: {reason}")
        return Planned(wanted, plan, schema, texts)

    def _give_other(self, box: Sandbox, table: str) -> None:
        if table not in self.others:
            raise QueryRefused(
                f"{self.name}: {table} is not there yet", hint="run the pipeline that writes it"
            )
        schema = self.others[table]
        wanted = pa.schema([schema.field(name) for name in self.columns(schema)])
        box.give(sql.given_name(self.query, table), wanted.empty_table())

    def _tried(self, box: Sandbox, text: str) -> pa.Schema:
        try:
            return box.rows(text).schema
        except QueryFailed as error:
            raise QueryRefused(
                f"{self.name}: sql: {error.message}",
                hint=f"{self.query.source} and what DuckDB's SELECT knows",
            ) from error

    def _schema(self, found: pa.Schema) -> pa.Schema:
        fields = []
        for one in found:
            if not _kept_by_delta(one.type):
                raise QueryRefused(
                    f"{self.name}: column {one.name!r} is {one.type}, which no Delta table keeps",
                    hint=f"write CAST({one.name} AS VARCHAR), or take numbers out of it",
                )
            fields.append(plain(one.with_nullable(one.name != GROUP)))
        return pa.schema(fields)

    def _searched(self, planned: Planned) -> list[str]:
        """The columns that rows are looked for by."""
        grouped, found = planned.plan.grouped, list(self.spec.zorder_by)
        if grouped is not None:
            keys = {key.name for key in grouped.keys}
            found += [
                name
                for name, tree in grouped.outputs
                if isinstance(tree, exp.Column) and tree.name in keys
            ]
            found.append(GROUP)
        partitions = {one.name for one in self.partition_by}
        return [name for name in dict.fromkeys(found) if name not in partitions] or [
            planned.schema.names[0]
        ]

    def _partition(self, text: str) -> PartitionField:
        found = parse_partition(text)
        if found.column not in self.query.outputs:
            raise QueryRefused(
                f"{self.name}: partition_by: the query has no column {found.column!r}",
                hint=did_you_mean(found.column, self.query.outputs),
            )
        return found

    def sandbox(self) -> Sandbox:
        """Where the table's queries run."""
        return Sandbox(self.spec.limits, self.name)


def _named(tree: exp.Query) -> frozenset[str]:
    """What a query calls columns, in small letters."""
    found = {part.name.lower() for one in tree.find_all(exp.Column) for part in one.parts}
    for join in tree.find_all(exp.Join):
        found |= {one.name.lower() for one in join.args.get("using") or []}
    return frozenset(found)


def _kept_by_delta(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_map(kind):
        return _kept_by_delta(kind.key_type) and _kept_by_delta(kind.item_type)
    if types.is_struct(kind):
        return all(_kept_by_delta(one.type) for one in kind)
    if types.is_list(kind) or types.is_large_list(kind):
        return _kept_by_delta(kind.value_type)
    odd = (types.is_time(kind), types.is_duration(kind), types.is_interval(kind))
    return not any(odd) and not types.is_null(kind) and not types.is_fixed_size_list(kind)
