"""Each key's versions (``mode: scd2``), by the rules of :mod:`raylake.tables.scd2`.

A source of which no row is another one's successor (``source_keys`` is empty: events, as in
bronze) tells a key's history by itself: where rows of it left, the key's versions are made anew of
those that are there.

A source that holds one row a thing (``source_keys``) tells only what it is now. An updated row
brings a change; what it was before says nothing new. Where the last row of a key leaves, its
version is closed right after the row's place in the sequence: at the next microsecond, day or
number. So a row that comes late with an earlier place does not open it again, and one with a later
place does. The time of the delete itself is not known to the source's rows, and a clock's "now"
would close what a replay of old data is still to bring. What such a source was between two steps
nobody sees: steps that are cut in another way may know of versions that others missed.
"""

from __future__ import annotations

import datetime as dt
import decimal
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from raylake.config.columns import parse_partition
from raylake.layers.affected import (
    Affected,
    Brought,
    moves,
    range_of,
    refuse_left,
    rows_with_keys,
    without,
)
from raylake.layers.derived import SOURCE_VERSION, Deed, Look, Shaped, SourceRows
from raylake.layers.errors import TransformRefused
from raylake.layers.folding import DELETED, distinct, events_of, greatest, of_keys
from raylake.layers.merging import check_merge, parted
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.shape_plan import ShapePlan
from raylake.layers.shaping import Shaper
from raylake.tables.expressions import quoted
from raylake.tables.requests import Create, Read, Scd2, Upsert
from raylake.tables.scd2 import Layout, changes_of, layout_of, table_for
from raylake.tables.scd2_plan import Plan, plan

_MICROSECOND: Final = dt.timedelta(microseconds=1)


class VersionedRows:
    """Each key's versions.

    Args:
        spec: The table.
    """

    def __init__(self, spec: RowWiseSpec) -> None:
        self.spec = spec
        self._shaper = Shaper(spec)
        # What left a source of states is no reason to read it whole.
        ignoring = replace(spec, on_source_delete="ignore") if spec.source_keys else spec
        self._affected = Affected(ignoring, self._shaper)

    def table(self, source: pa.Schema) -> Create:
        """See :meth:`raylake.layers.derived.Derivation.table`."""
        found = self._shaper.plan(source)
        check_merge(self.spec, found.schema)
        none = found.schema.empty_table()
        request = self._request(found, events_of(none, none))
        create = table_for(request, self._values(found))
        by = tuple(parse_partition(one).name for one in self.spec.partition_by)
        for name in by:
            if name not in create.schema.names:
                raise TransformRefused(
                    f"{self.spec.name}: partition_by: there is no column {name!r}", column=name
                )
        return replace(create, partition_by=by, properties=dict(self.spec.properties))

    def columns(self, source: pa.Schema) -> tuple[str, ...]:
        """See :meth:`raylake.layers.derived.Derivation.columns`."""
        return self._shaper.plan(source).read

    def in_parts(self, source: pa.Schema) -> bool:
        """See :meth:`raylake.layers.derived.Derivation.in_parts`."""
        del source
        return True

    def streams(self, source: pa.Schema, share: float) -> bool:
        """See :meth:`raylake.layers.derived.Derivation.streams`."""
        del source, share
        return False

    def shape(self, changes: SourceRows, look: Look) -> Shaped:
        """See :meth:`raylake.layers.derived.Derivation.shape`.

        Raises:
            SourceRowsLeft: Rows left the source, and that is to be refused.
        """
        refuse_left(self.spec, changes)
        found = self._affected.brought(changes, look)
        return Shaped(found.rows, found.origin, found.rejected)

    def deed(self, rows: pa.Table, changes: SourceRows, look: Look) -> Deed:
        """See :meth:`raylake.layers.derived.Derivation.deed`."""
        found = self._shaper.plan(changes.came.schema)
        brought = self._affected.brought(changes, look)
        rows, deleting = parted(self.spec, rows)
        gone = found.only(deleting, (*self.spec.keys, *found.order))
        deletes = [brought.deletes, gone, self._closed(found, changes, look)]
        events = events_of(rows, pa.concat_tables(deletes))
        counts = {"events": events.num_rows, "recomputed_keys": brought.affected.num_rows}
        request = self._request(found, events)
        if brought.affected.num_rows:
            return Deed(last=self._made_anew(request, brought, look), counts=counts)
        return Deed(last=request if events.num_rows else None, counts=counts)

    def _values(self, found: ShapePlan) -> list[str]:
        """The table's columns beside keys and interval."""
        spec = self.spec
        named = {*spec.track, *(spec.columns or ()), *(one.name for one in found.partitions)}
        return [n for n in found.schema.names if n in named and n not in spec.keys]

    def _request(self, found: ShapePlan, events: pa.Table) -> Scd2:
        columns = [*self.spec.keys, *self._values(found), *found.order, DELETED]
        return Scd2(
            events.select(list(dict.fromkeys(columns))),
            self.spec.keys,
            sequence_by=found.order,
            track=self.spec.track or None,
            delete_when=quoted(DELETED),
        )

    def _closed(self, found: ShapePlan, changes: SourceRows, look: Look) -> pa.Table:
        """Deletes of the keys whose last row left a source of states."""
        spec, empty = self.spec, found.schema.empty_table()
        if not spec.source_keys or spec.when_rows_leave != "follow" or not changes.left.num_rows:
            return empty
        left = self._shaper.shaped(changes.left)
        came = self._shaper.shaped(changes.came)
        # A key of which a row came in the version in which one left, or later, is still there.
        sides = [
            moves(shaped, rows, spec.keys)
            for shaped, rows in ((came, changes.came), (left, changes.left))
        ]
        ended = greatest(events_of(*sides), spec.keys, (SOURCE_VERSION,), deletes_last=False)
        maybe = left.rows.filter(
            pa.array(of_keys(left.rows, ended.filter(ended.column(DELETED)), spec.keys))
        )
        if not maybe.num_rows:
            return empty
        keys = distinct(maybe, spec.keys)
        still = self._affected.still_there(keys, changes, look).rows
        gone = without(maybe, still, spec.keys)
        last = greatest(events_of(gone, gone.slice(0, 0)), spec.keys, found.order)
        return _deletes_after(last.drop_columns([DELETED]), spec.keys, found.order[0])

    def _made_anew(self, request: Scd2, brought: Brought, look: Look) -> Upsert | None:
        """The versions of affected keys made of the source alone, of others as ever."""
        where = f"{self.spec.name}: scd2"
        keys = distinct(
            pa.concat_tables([request.rows.select(list(self.spec.keys)), brought.affected]),
            self.spec.keys,
        )
        reader = look.target(Read(where=range_of(keys)))
        layout = layout_of(request, reader.schema, where)
        stored = rows_with_keys(reader, keys)
        changes = changes_of(request, layout, where)
        theirs = pa.array(of_keys(stored, brought.affected, self.spec.keys))
        if changes.num_rows:
            others = without(stored, brought.affected, self.spec.keys)
            found = plan(layout, others, changes, where)
        else:
            found = _nothing(layout)
        begin = [*self.spec.keys, layout.valid_from]
        lost = without(stored.filter(theirs), found.written, tuple(begin)).select(begin)
        gone = pa.concat_tables([found.gone, lost.cast(found.gone.schema)])
        return replace(found, gone=gone).upsert(layout)


def _nothing(layout: Layout) -> Plan:
    schema = pa.schema([one.with_nullable(True) for one in layout.table])
    rows = schema.empty_table()
    return Plan(rows, rows.select([*layout.keys, layout.valid_from]), 0)


def _deletes_after(rows: pa.Table, keys: tuple[str, ...], sequence: str) -> pa.Table:
    """Deletes that come right after some rows."""
    columns = []
    for field in rows.schema:
        column = rows.column(field.name)
        if field.name == sequence:
            later = [_next(one, field.type) for one in column.to_pylist()]
            columns.append(pa.chunked_array([pa.array(later, field.type)]))
        elif field.name in keys:
            columns.append(column)
        else:
            columns.append(pa.chunked_array([pa.nulls(rows.num_rows, field.type)]))
    return pa.table(columns, schema=rows.schema)


def _next(value: Any, kind: pa.DataType) -> Any:
    """The least value after one."""
    if pa.types.is_timestamp(kind):
        return value + _MICROSECOND
    if pa.types.is_date(kind):
        return value + dt.timedelta(days=1)
    if pa.types.is_decimal(kind):
        return value + decimal.Decimal(1).scaleb(-kind.scale)
    # Of printable characters the space is the least.
    return f"{value} " if isinstance(value, str) else value + 1
