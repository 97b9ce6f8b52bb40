"""Aggregate tables: the result of a query over another table, kept up to date by its groups.

A grouped table has columns beside the query's: ``_group``, the group's keys as a JSON array of
texts, by which its rows are found (a key may be null, and then equals nothing); and where states
are kept, ``_rows``, ``_sum_<column>``, ``_count_<column>``, ``_min_<column>``, ``_max_<column>``.
Sums of whole numbers are ``bigint`` and sums of decimals ``decimal(38, scale)``; one that does not
fit fails. Averages are doubles of the exact sum and count.

What is kept and what is computed anew come out the same, with one exception: sums and averages of
floats are added up in whatever order rows are read, so that two computations over the same rows may
differ in the last digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from raylake.config.columns import PartitionField, parse_partition
from raylake.config.findings import did_you_mean
from raylake.layers import aggregate_sql as sql
from raylake.layers.aggregate_plan import Grouped, Plan, plan_of
from raylake.layers.along_curve import along_the_curve, not_on_the_curve
from raylake.layers.derived import NEVER, SOURCE_VERSION, Deed, Look, Shaped, SourceRows
from raylake.layers.group_pruning import is_one_of, rows_of_groups, some_of
from raylake.layers.query import GROUP, OWN, ROWS, QueryRefused, parse_query
from raylake.layers.sandbox import Limits, QueryFailed, Sandbox
from raylake.tables.requests import Create, Overwrite, Read, Upsert
from raylake.tables.rows import plain

GONE: Final = f"{OWN}gone"
STATISTICS: Final = "delta.dataSkippingStatsColumns"
_STATISTICS_BY_DEFAULT: Final = 32
"""Columns that have statistics where none are named."""
_MOST_PARTITIONS: Final = 200
"""Partitions that are replaced by name; of more, the table is recomputed whole."""


@dataclass(frozen=True, slots=True)
class AggregateSpec:
    """An aggregate table as the pipeline file has it.

    Attributes:
        sql: The query.
        partition_by: ``column``, ``date(column)``, ``hour(column)`` of the query's columns.
        zorder_by: Columns along which the first write is ordered.
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
class _Planned:
    """What follows from the source's columns."""

    source: pa.Schema
    plan: Plan
    schema: pa.Schema
    layout: sql.Layout


class Aggregates:
    """:class:`~raylake.layers.derived.Derivation` of an aggregate table.

    Args:
        name: The table, ``layer.name``.
        spec: What it is.
        tables: The tables that its query may read, ``layer.name``.

    Raises:
        QueryRefused: The query is none, or a partition column is none of its.
    """

    def __init__(self, name: str, spec: AggregateSpec, tables: Iterable[str]) -> None:
        self._name = name
        self._spec = spec
        self.query: Final = parse_query(spec.sql, tables)
        self._partition_by = tuple(self._partition(text) for text in spec.partition_by)
        self._others: dict[str, pa.Schema] = {}
        self._known: _Planned | None = None
        self._affected: tuple[SourceRows, pa.Table] | None = None

    def others(self, schemas: dict[str, pa.Schema]) -> None:
        """The columns of the other tables that the query reads, before anything else is asked."""
        self._others = dict(schemas)
        self._known = None

    def explain(self, source: pa.Schema) -> str:
        """How the table is kept up to date, and why, in words."""
        plan = self._planned(source).plan
        return f"{plan.strategy}: {plan.reason}"

    def table(self, source: pa.Schema) -> Create:
        """See :meth:`raylake.layers.derived.Derivation.table`."""
        planned = self._planned(source)
        properties = {}
        if len(planned.schema) > _STATISTICS_BY_DEFAULT:
            properties[STATISTICS] = ",".join(self._searched(planned))
        return Create(
            planned.schema,
            tuple(one.name for one in self._partition_by),
            properties,
            description=self._spec.description,
        )

    def columns(self, source: pa.Schema) -> tuple[str, ...]:
        """See :meth:`raylake.layers.derived.Derivation.columns`."""
        tree = self.query.tree
        named = {part.name.lower() for one in tree.find_all(exp.Column) for part in one.parts}
        for join in tree.find_all(exp.Join):
            named |= {one.name.lower() for one in join.args.get("using") or []}
        found = tuple(name for name in source.names if name.lower() in named)
        # A count of rows alone reads no column, and something must be read to count.
        return found or tuple(source.names[:1])

    def shape(self, changes: SourceRows, look: Look) -> Shaped:
        """See :meth:`raylake.layers.derived.Derivation.shape`.

        Raises:
            QueryFailed: The query fails on the rows.
        """
        planned = self._planned(_without_version(changes.came.schema))
        with self._sandbox() as box:
            first = changes.span.after == NEVER
            if not first:
                box.give(sql.CAME, changes.came)
                box.give(sql.LEFT, changes.left)
            if planned.plan.grouped is None:
                rows = self._not_grouped(box, planned, look, first=first)
            elif first:
                box.give(sql.SOURCE, look.source(Read(columns=self.columns(planned.source))))
                grouped = planned.plan.grouped
                rows = box.rows(sql.computed(grouped, planned.layout, affected=False))
            elif planned.plan.strategy == "maintain":
                rows = self._moved(box, planned, changes, look)
            else:
                affected = self._groups(box, planned, changes)
                rows = self._recomputed(box, planned, look, affected)
        return Shaped(_fitted(rows, planned.schema, self._name), pa.nulls(len(rows), pa.int64()))

    def deed(self, rows: pa.Table, changes: SourceRows, look: Look) -> Deed:
        """See :meth:`raylake.layers.derived.Derivation.deed`."""
        del look
        planned = self._planned(_without_version(changes.came.schema))
        plan = planned.plan
        counts: dict[str, Any] = {"strategy": plan.strategy, "reason": plan.reason}
        if changes.span.after == NEVER or plan.strategy == "whole":
            ordered = along_the_curve(rows, self._spec.zorder_by)
            return Deed(last=Overwrite(ordered), counts={**counts, "rows": rows.num_rows})
        with self._sandbox() as box:
            box.give(sql.CAME, changes.came)
            box.give(sql.LEFT, changes.left)
            if plan.grouped is None:
                counts["rows"] = rows.num_rows
                affected = box.rows(sql.partitions(plan))
                replaced = Overwrite(rows, self._where(affected))
                return Deed(last=replaced if affected.num_rows else None, counts=counts)
            affected = self._groups(box, planned, changes).column(GROUP)
        gone = affected.filter(pc.invert(pc.is_in(affected, value_set=rows.column(GROUP))))
        counts |= {"groups": rows.num_rows, "groups_deleted": len(gone)}
        return Deed(last=_upsert(rows, gone), counts=counts)

    def _groups(self, box: Sandbox, planned: _Planned, changes: SourceRows) -> pa.Table:
        """The groups that rows came to or left, found once for a step; and what they changed."""
        if self._affected is None or self._affected[0] is not changes:
            grouped, maintains = _grouped(planned), planned.plan.strategy == "maintain"
            text = sql.changed(grouped) if maintains else sql.groups(grouped)
            self._affected = (changes, box.rows(text))
        return self._affected[1]

    def _moved(self, box: Sandbox, planned: _Planned, changes: SourceRows, look: Look) -> pa.Table:
        """Rows of groups whose states go on; those of stale ones from the source."""
        grouped, layout = _grouped(planned), planned.layout
        change = self._groups(box, planned, changes)
        if not change.num_rows:
            return planned.schema.empty_table()
        names = (GROUP, *(state.name for state in grouped.states))
        where = some_of(GROUP, change.column(GROUP))
        box.give(sql.CHANGE, change)
        box.give(sql.KEPT, look.target(Read(where=where, columns=names)))
        text = sql.moved(grouped, layout, unknown_is_stale=self._spec.rejects)
        found = box.rows(text)
        stale = found.column(sql.STALE)
        there = pc.greater(found.column(ROWS), 0) if grouped.keys else pc.invert(stale)
        rows = found.filter(pc.and_(pc.invert(stale), there))
        if not pc.any(stale).as_py():
            return rows
        again = self._recomputed(box, planned, look, found.filter(stale))
        fitted = [_fitted(one, planned.schema, self._name) for one in (rows, again)]
        return pa.concat_tables(fitted)

    def _recomputed(
        self, box: Sandbox, planned: _Planned, look: Look, affected: pa.Table
    ) -> pa.Table:
        """Rows of some groups, from the source."""
        grouped = _grouped(planned)
        if not affected.num_rows:
            return planned.schema.empty_table()
        keys = [(key.tree, affected.column(key.name)) for key in grouped.keys]
        where = rows_of_groups(keys, planned.source)
        box.give(sql.AFFECTED, affected.select([key.name for key in grouped.keys] or [GROUP]))
        request = Read(where=where, columns=self.columns(planned.source))
        box.give(sql.SOURCE, look.source(request))
        return box.rows(sql.computed(grouped, planned.layout, affected=True))

    def _not_grouped(self, box: Sandbox, planned: _Planned, look: Look, *, first: bool) -> pa.Table:
        where, plan = None, Plan("whole", planned.plan.reason)
        if planned.plan.strategy == "partitions" and not first:
            affected = box.rows(sql.partitions(planned.plan))
            if not affected.num_rows:
                return planned.schema.empty_table()
            if self._where(affected) is not None:
                plan = planned.plan
                keys = [(key.tree, affected.column(key.name)) for key in plan.partitions]
                where = rows_of_groups(keys, planned.source)
                box.give(sql.AFFECTED, affected)
        box.give(sql.SOURCE, look.source(Read(where=where, columns=self.columns(planned.source))))
        for table in self.query.tables[1:]:
            request = Read(columns=self.columns(self._others[table]))
            box.give(sql.given_name(self.query, table), look.other(table, request))
        return box.rows(sql.whole(self.query, plan, self._partition_by))

    def _where(self, affected: pa.Table) -> str | None:
        """The condition of partitions; None where they are too many, or cannot be named."""
        if affected.num_rows > _MOST_PARTITIONS:
            return None
        parts = []
        for at in range(affected.num_rows):
            row = affected.slice(at, 1)
            named = [
                is_one_of(one.name, row.column(place))
                for place, one in enumerate(self._partition_by)
            ]
            if None in named:
                return None
            parts.append(" AND ".join(f"({one})" for one in named))
        return " OR ".join(f"({one})" for one in parts)

    def _planned(self, source: pa.Schema) -> _Planned:
        wanted = pa.schema([source.field(name) for name in self.columns(source)])
        if self._known is None or not self._known.source.equals(wanted):
            self._known = self._plan(source, wanted)
        return self._known

    def _plan(self, source: pa.Schema, wanted: pa.Schema) -> _Planned:
        """The plan for a source of these columns, of which some are needed; the table's columns.

        Raises:
            QueryRefused: The query does not fit the source.
        """
        with self._sandbox() as box:
            box.give(sql.SOURCE, source.empty_table())

            def types(trees: Sequence[exp.Expr]) -> pa.Schema:
                if not trees:
                    return pa.schema([])
                return self._tried(box, sql.expressions(trees))

            plan = plan_of(self.query, source, types, self._partition_by)
            layout = sql.Layout(self._partition_by, plan.strategy == "maintain")
            if plan.grouped is not None:
                found = self._tried(box, sql.computed(plan.grouped, layout, affected=False))
            else:
                for table in self.query.tables[1:]:
                    self._give_other(box, table)
                text = sql.whole(self.query, Plan("whole", ""), self._partition_by)
                found = self._tried(box, text)
        schema = self._schema(found)
        if reason := not_on_the_curve(schema, self._spec.zorder_by):
            raise QueryRefused(f"{self._name}: zorder_by: {reason}")
        return _Planned(wanted, plan, schema, layout)

    def _give_other(self, box: Sandbox, table: str) -> None:
        if table not in self._others:
            raise QueryRefused(
                f"{self._name}: {table} is not there yet", hint="run the pipeline that writes it"
            )
        schema = self._others[table]
        wanted = pa.schema([schema.field(name) for name in self.columns(schema)])
        box.give(sql.given_name(self.query, table), wanted.empty_table())

    def _tried(self, box: Sandbox, text: str) -> pa.Schema:
        try:
            return box.rows(text).schema
        except QueryFailed as error:
            raise QueryRefused(
                f"{self._name}: sql: {error.message}",
                hint=f"{self.query.source} and what DuckDB's SELECT knows",
            ) from error

    def _schema(self, found: pa.Schema) -> pa.Schema:
        fields = []
        for one in found:
            if not _kept_by_delta(one.type):
                raise QueryRefused(
                    f"{self._name}: column {one.name!r} is {one.type}, which no Delta table keeps",
                    hint=f"write CAST({one.name} AS VARCHAR), or take numbers out of it",
                )
            fields.append(plain(one.with_nullable(one.name != GROUP)))
        return pa.schema(fields)

    def _searched(self, planned: _Planned) -> list[str]:
        """The columns that rows are looked for by."""
        grouped, found = planned.plan.grouped, list(self._spec.zorder_by)
        if grouped is not None:
            keys = {key.name for key in grouped.keys}
            found += [
                name
                for name, tree in grouped.outputs
                if isinstance(tree, exp.Column) and tree.name in keys
            ]
            found.append(GROUP)
        partitions = {one.name for one in self._partition_by}
        return [name for name in dict.fromkeys(found) if name not in partitions] or [
            planned.schema.names[0]
        ]

    def _partition(self, text: str) -> PartitionField:
        found = parse_partition(text)
        if found.column not in self.query.outputs:
            raise QueryRefused(
                f"{self._name}: partition_by: the query has no column {found.column!r}",
                hint=did_you_mean(found.column, self.query.outputs),
            )
        return found

    def _sandbox(self) -> Sandbox:
        return Sandbox(self._spec.limits, self._name)


def _grouped(planned: _Planned) -> Grouped:
    if planned.plan.grouped is None:
        raise TypeError(f"a table of strategy {planned.plan.strategy} has no groups")
    return planned.plan.grouped


def _upsert(rows: pa.Table, gone: pa.ChunkedArray) -> Upsert | None:
    """Rows by their groups, and groups that leave; None where there is neither."""
    if not rows.num_rows and not len(gone):
        return None
    if not len(gone):
        return Upsert(rows, (GROUP,))
    leaving = pa.table(
        [gone if one.name == GROUP else pa.nulls(len(gone), one.type) for one in rows.schema],
        schema=pa.schema(
            [one if one.name == GROUP else one.with_nullable(True) for one in rows.schema]
        ),
    )
    both = pa.concat_tables([rows.cast(leaving.schema), leaving])
    marks = pa.array([False] * rows.num_rows + [True] * len(gone))
    return Upsert(both.append_column(GONE, marks), (GROUP,), delete_when=f"source.{GONE}")


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


def _fitted(rows: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """The rows in the table's types.

    Raises:
        QueryFailed: A value does not fit.
    """
    try:
        found = rows.select(schema.names).cast(schema)
        found.validate(full=True)
    except pa.ArrowInvalid as error:
        raise QueryFailed(f"{where}: {error}", hint="write CAST in the query") from error
    return found


def _without_version(schema: pa.Schema) -> pa.Schema:
    return pa.schema([one for one in schema if one.name != SOURCE_VERSION])
