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

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from raylake.layers import aggregate_sql as sql
from raylake.layers.aggregate_definition import AggregateDefinition, AggregateSpec, Planned
from raylake.layers.aggregate_plan import Grouped, Plan
from raylake.layers.along_curve import along_the_curve
from raylake.layers.derived import NEVER, SOURCE_VERSION, Deed, Look, Shaped, SourceRows
from raylake.layers.group_pruning import is_one_of, rows_of_groups, some_of
from raylake.layers.query import GROUP, OWN, ROWS, Query
from raylake.layers.sandbox import QueryFailed, Sandbox
from raylake.tables.requests import Create, Overwrite, Read, Upsert

__all__ = ["AggregateSpec", "Aggregates"]

GONE: Final = f"{OWN}gone"
_MOSTLY: Final = 0.25
"""Where so many of the source's rows change, beyond a step's limit, all of them are read anew."""
_MANY: Final = 0.25
"""From so many of a table's groups on to choose rows by their groups costs more than it saves."""
_NEARLY_ALL: Final = 0.75
"""From so many on no files are left out either; whole versions are read faster."""
_MOST_PARTITIONS: Final = 200
"""Partitions that are replaced by name; of more, the table is recomputed whole."""


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
        self._of = AggregateDefinition(name, spec, tables)
        self._affected: tuple[SourceRows, pa.Table] | None = None
        self._how: dict[str, str] = {}

    @property
    def query(self) -> Query:
        """The query."""
        return self._of.query

    def others(self, schemas: Mapping[str, pa.Schema]) -> None:
        """The columns of the other tables that the query reads, before the table is made."""
        self._of.others = dict(schemas)

    def explain(self, source: pa.Schema) -> str:
        """How the table is kept up to date, and why, in words."""
        plan = self._of.planned(source).plan
        told = f"{plan.strategy}: {plan.reason}"
        if plan.grouped is None:
            return told
        return f"{told}; from {_MANY:.0%} of the table's groups on all of them, in one pass"

    def table(self, source: pa.Schema) -> Create:
        """See :meth:`raylake.layers.derived.Derivation.table`."""
        return self._of.create(source)

    def columns(self, source: pa.Schema) -> tuple[str, ...]:
        """See :meth:`raylake.layers.derived.Derivation.columns`."""
        return self._of.columns(source)

    def in_parts(self, source: pa.Schema) -> bool:
        """See :meth:`raylake.layers.derived.Derivation.in_parts`.

        A group that is computed from the source has the rows of later parts as well: computed again
        with them it is the same, but nothing may be added to it then. That happens to rows that
        only come where rules keep groups out of the table.
        """
        return self._of.planned(source).plan.strategy != "whole" and not self._of.spec.rejects

    def streams(self, source: pa.Schema, share: float) -> bool:
        """See :meth:`raylake.layers.derived.Derivation.streams`."""
        if self._of.planned(source).plan.strategy == "whole" or share >= 1:
            return True
        # Groups that rules keep out would be told anew.
        return share >= _MOSTLY and not self._of.spec.rejects

    def shape(self, changes: SourceRows, look: Look) -> Shaped:
        """See :meth:`raylake.layers.derived.Derivation.shape`.

        The first step takes the source's rows from ``changes``, or as a stream where that has none.

        Raises:
            QueryFailed: The query fails on the rows.
        """
        planned = self._planned(changes, look)
        self._how = {}
        with self._of.sandbox() as box:
            if planned.texts is None:
                rows = self._not_grouped(box, planned, changes, look)
            elif _anew(changes):
                box.give(sql.SOURCE, self._everything(planned, changes, look))
                rows = box.rows(planned.texts.anew)
            elif planned.plan.strategy == "maintain":
                rows = self._moved(box, planned, changes, look)
            else:
                rows = self._recomputed(box, planned, look, self._affected_by(planned, changes))
        return Shaped(_fitted(rows, planned.schema, self._of.name), pa.nulls(len(rows), pa.int64()))

    def deed(self, rows: pa.Table, changes: SourceRows, look: Look) -> Deed:
        """See :meth:`raylake.layers.derived.Derivation.deed`."""
        planned = self._planned(changes, look)
        plan = planned.plan
        counts: dict[str, Any] = {"strategy": plan.strategy, "reason": plan.reason}
        rows = along_the_curve(rows, self._of.spec.zorder_by)
        counts |= self._how
        if _anew(changes) or plan.strategy == "whole":
            if changes.unread and changes.span.after != NEVER:
                counts["how"] = f"a version of {changes.span.over} rows: the source is read anew"
            return Deed(last=Overwrite(rows), counts={**counts, "rows": rows.num_rows})
        found = self._affected_by(planned, changes)
        if plan.grouped is None:
            counts["rows"] = rows.num_rows
            replaced = Overwrite(rows, self._where(found))
            return Deed(last=replaced if found.num_rows else None, counts=counts)
        affected = found.column(GROUP)
        gone = affected.filter(pc.invert(pc.is_in(affected, value_set=rows.column(GROUP))))
        counts |= {"groups": rows.num_rows, "groups_deleted": len(gone)}
        return Deed(last=_upsert(rows, gone), counts=counts)

    def _everything(
        self, planned: Planned, changes: SourceRows, look: Look
    ) -> pa.Table | pa.RecordBatchReader:
        """All rows of the source; as a stream where nobody has read them yet."""
        names = self.columns(planned.source)
        if changes.came.num_rows or changes.span.part is not None:
            return changes.came.select(list(names))
        return look.source(Read(columns=names))

    def _affected_by(self, planned: Planned, changes: SourceRows) -> pa.Table:
        """The groups or partitions that rows came to or left, found once for a step.

        Of groups whose states are kept also what changed in these.
        """
        if self._affected is None or self._affected[0] is not changes:
            texts = planned.texts
            text = sql.partitions(planned.plan) if texts is None else texts.groups
            with self._of.sandbox() as box:
                box.give(sql.CAME, changes.came)
                box.give(sql.LEFT, changes.left)
                self._affected = (changes, box.rows(text))
        return self._affected[1]

    def _moved(self, box: Sandbox, planned: Planned, changes: SourceRows, look: Look) -> pa.Table:
        """Rows of groups whose states go on; those of stale ones from the source."""
        grouped, texts = _grouped(planned)
        change = self._affected_by(planned, changes)
        if not change.num_rows:
            return planned.schema.empty_table()
        names = (GROUP, *(state.name for state in grouped.states))
        where = some_of(GROUP, change.column(GROUP))
        box.give(sql.CHANGE, change)
        box.give(sql.KEPT, look.target(Read(where=where, columns=names)))
        found = box.rows(texts.moved)
        stale = found.column(sql.STALE)
        there = pc.greater(found.column(ROWS), 0) if grouped.keys else pc.invert(stale)
        rows = found.filter(pc.and_(pc.invert(stale), there))
        if not pc.any(stale).as_py():
            return rows
        again = self._recomputed(box, planned, look, found.filter(stale))
        fitted = [_fitted(one, planned.schema, self._of.name) for one in (rows, again)]
        return pa.concat_tables(fitted)

    def _recomputed(
        self, box: Sandbox, planned: Planned, look: Look, affected: pa.Table
    ) -> pa.Table:
        """Rows of some groups, from the source.

        Where these are many of the table's, groups are computed as they come and those that are not
        asked for left out: to ask of each row whether its group is one of them costs more.
        """
        grouped, texts = _grouped(planned)
        if not affected.num_rows:
            return planned.schema.empty_table()
        share = _share(affected.num_rows, look.target_rows())
        keys = [(key.tree, affected.column(key.name)) for key in grouped.keys]
        where = rows_of_groups(keys, planned.source) if share < _NEARLY_ALL else None
        request = Read(where=where, columns=self.columns(planned.source))
        box.give(sql.SOURCE, look.source(request))
        self._how = {"how": _in_words(affected.num_rows, share)}
        if share >= _MANY:
            rows = box.rows(texts.anew)
            return rows.filter(pc.is_in(rows.column(GROUP), value_set=affected.column(GROUP)))
        box.give(sql.AFFECTED, affected.select([key.name for key in grouped.keys] or [GROUP]))
        return box.rows(texts.again)

    def _not_grouped(
        self, box: Sandbox, planned: Planned, changes: SourceRows, look: Look
    ) -> pa.Table:
        where, plan = None, Plan("whole", planned.plan.reason)
        if planned.plan.strategy == "partitions" and not _anew(changes):
            affected = self._affected_by(planned, changes)
            if not affected.num_rows:
                return planned.schema.empty_table()
            if self._where(affected) is not None:
                plan = planned.plan
                keys = [(key.tree, affected.column(key.name)) for key in plan.partitions]
                where = rows_of_groups(keys, planned.source)
                box.give(sql.AFFECTED, affected)
        # A stream can be read once, and a query may name a table several times.
        give = box.give if sql.reads_once(self.query) else box.keep
        give(sql.SOURCE, look.source(Read(where=where, columns=self.columns(planned.source))))
        for table in self.query.tables[1:]:
            request = Read(columns=self.columns(self._of.others[table]))
            give(sql.given_name(self.query, table), look.other(table, request))
        return box.rows(sql.whole(self.query, plan, self._of.partition_by))

    def _planned(self, changes: SourceRows, look: Look) -> Planned:
        missing = [one for one in self.query.tables[1:] if one not in self._of.others]
        if missing:
            found = {one: look.other(one, Read()).schema for one in missing}
            self._of.others = {**self._of.others, **found}
        return self._of.planned(_without_version(changes.came.schema))

    def _where(self, affected: pa.Table) -> str | None:
        """The condition of partitions; None where they are too many, or cannot be named."""
        if affected.num_rows > _MOST_PARTITIONS:
            return None
        parts = []
        for at in range(affected.num_rows):
            row = affected.slice(at, 1)
            named = [
                is_one_of(one.name, row.column(place))
                for place, one in enumerate(self._of.partition_by)
            ]
            if None in named:
                return None
            parts.append(" AND ".join(f"({one})" for one in named))
        return " OR ".join(f"({one})" for one in parts)


def _anew(changes: SourceRows) -> bool:
    """Whether the table is computed of all that its source has."""
    part = changes.span.part
    first = changes.span.after == NEVER and (part is None or part.begin == 0)
    return first or changes.unread


def _share(groups: int, table: int | None) -> float:
    """How many of a table's groups some are, from 0 to 1; one that is not there yet has none."""
    return min(1.0, groups / max(1, table)) if table is not None else 0.0


def _in_words(groups: int, share: float) -> str:
    if share >= _MANY:
        return f"{groups} groups, {share:.0%} of the table's: all groups are computed at once"
    return f"{groups} groups, {share:.0%} of the table's: rows of these alone are grouped"


def _grouped(planned: Planned) -> tuple[Grouped, sql.Texts]:
    if planned.plan.grouped is None or planned.texts is None:
        raise TypeError(f"a table of strategy {planned.plan.strategy} has no groups")
    return planned.plan.grouped, planned.texts


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
