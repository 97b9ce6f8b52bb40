"""Changes and a table's versions of the same keys: what the versions become, in columns.

Everything that is known of the keys, kept changes included, is put in order once; each version is
a stretch of that order. So what a table becomes depends on the set of changes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.storage.place import Place
from raylake.tables.errors import ValuesRefused
from raylake.tables.keys import Mask, Places, alike, repeats
from raylake.tables.requests import Scd2, Upsert
from raylake.tables.scd2 import DELETED, Layout, changes_of, layout_of
from raylake.tables.scd2_events import BEGINS, ORIGIN, known_changes

GONE: Final = "raylake_gone"


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the table.

    Attributes:
        written: Versions that are new or other than they were, in the table's columns.
        gone: Keys and begin of versions that are no more.
        superseded: Changes that are known already, or lose against another of their time.
    """

    written: pa.Table
    gone: pa.Table
    superseded: int

    def upsert(self, layout: Layout) -> Upsert | None:
        """The plan as a merge of whole rows by keys and begin; None when nothing changes."""
        if not self.written.num_rows and not self.gone.num_rows:
            return None
        keys = (*layout.keys, layout.valid_from)
        if not self.gone.num_rows:
            return Upsert(self.written, keys)
        mark = GONE
        while mark in layout.table.names:
            mark += "_"
        lost = {
            field.name: self.gone.column(field.name)
            if field.name in keys
            else pa.nulls(self.gone.num_rows, field.type)
            for field in self.written.schema
        }
        gone = pa.table(lost, schema=self.written.schema)
        marks = np.repeat([False, True], [self.written.num_rows, gone.num_rows])
        rows = pa.concat_tables([self.written, gone]).append_column(mark, pa.array(marks))
        return Upsert(rows, keys, delete_when=f'"{mark}"')


def plan(layout: Layout, stored: pa.Table, changes: pa.Table, where: str) -> Plan:
    """What the versions of some keys become.

    Args:
        layout: Which column is what.
        stored: All rows of the table with these keys, in any order; rows of other keys stay.
        changes: One or more changes (:func:`raylake.tables.scd2.changes_of`).
        where: For messages.

    Raises:
        ValuesRefused: The table holds versions that begin at no time or at the same, or a column
            that is NOT NULL stands against a delete that comes before all versions.
    """
    known = known_changes(layout, stored, where)
    order = _ordered(layout, pa.concat_tables([known.events, changes_only(changes)]))
    states = order.rows.take(pa.array(order.last)).combine_chunks()
    stretches = _stretches(layout, states, order.key_starts())
    kept_as_is = _unchanged(layout, states, stretches, known.versions, known.counts)
    begins = order.rows.column(BEGINS).to_numpy()
    # The place in the order at which each stored version begins.
    places = order.slots[begins]
    gone = ~np.isin(places, stretches.first)
    origin = order.rows.column(ORIGIN).to_numpy()[begins]
    written = stretches.only(~kept_as_is)
    winners = int((states.column(ORIGIN).to_numpy() < 0).sum())
    _refuse_tombstones(layout, written, where)
    lost = known.versions.select([*layout.keys, layout.valid_from])
    return Plan(
        _rows(layout, states, written),
        lost.take(pa.array(origin[gone])),
        changes.num_rows - winners,
    )


def changes_only(changes: pa.Table) -> pa.Table:
    """Changes that come from no row of the table."""
    nowhere = pa.repeat(pa.scalar(-1, pa.int64()), changes.num_rows)
    begins = pa.repeat(pa.scalar(False), changes.num_rows)
    return changes.append_column(ORIGIN, nowhere).append_column(BEGINS, begins)


@dataclass(frozen=True, slots=True)
class Merge:
    """What brings changes into a table, on any engine that merges.

    Attributes:
        upsert: The merge. It holds for the version that its rows were planned on and for no other.
        superseded: Changes that are known already, or lose against another of their time.
    """

    upsert: Upsert
    superseded: int


def planned(
    root: Place, table: pa.Schema, request: Scd2, rows_of: Callable[[pa.Table], pa.Table]
) -> Merge | None:
    """The merge that brings changes into a table; None when it knows them all.

    Args:
        root: The table.
        table: Its schema.
        request: The changes.
        rows_of: Reads all rows of the table with the keys in some rows, in the table's types.

    Raises:
        TableError: The request is wrong, or the table's rows are.
    """
    where = f"{root}: scd2"
    layout = layout_of(request, table, where)
    changes = changes_of(request, layout, where)
    if not changes.num_rows:
        return None
    found = plan(layout, rows_of(changes.select(list(layout.keys))), changes, where)
    upsert = found.upsert(layout)
    return None if upsert is None else Merge(upsert, found.superseded)


@dataclass(frozen=True, slots=True)
class _Order:
    """Changes by key and time.

    Attributes:
        rows: The changes.
        same_key: For each row but the first, whether the one before has its key.
        slots: For each row, the number of its key and time.
        last: For each number, the row that counts.
    """

    rows: pa.Table
    same_key: Mask
    slots: Places
    last: Places

    def key_starts(self) -> Mask:
        """For each number, whether its key's times start there."""
        first = np.append(True, self.slots[1:] != self.slots[:-1])
        starts: Mask = np.append(True, ~self.same_key)[first]
        return starts


def _ordered(layout: Layout, events: pa.Table) -> _Order:
    sequence = layout.sequence_columns
    by = [*layout.keys, *sequence, DELETED]
    # Of equal changes the table's own, which stand first, come last: they are the ones that count.
    rows = events.take(pa.array(_ascending(events, by))).combine_chunks()
    same_key = repeats(rows, layout.keys)
    same_time = same_key & repeats(rows, sequence[:1])
    slots = np.cumsum(np.append(0, ~same_time))
    last = np.flatnonzero(np.append(~same_time, True))
    ties = same_time & repeats(rows, [*sequence[1:], DELETED])
    ties &= ~np.asarray(rows.column(DELETED))[1:]
    if ties.any():
        last = _greatest(layout, rows, slots, last, ties)
    return _Order(rows, same_key, slots, last)


def _ascending(rows: pa.Table, by: Sequence[str]) -> Places:
    """Rows from the least to the greatest, no value first; equal ones in reverse."""
    keys = [(name, "descending") for name in by]
    order: Places = pc.sort_indices(rows, sort_keys=keys).to_numpy()
    return order[::-1]


def _greatest(layout: Layout, rows: pa.Table, slots: Places, last: Places, ties: Mask) -> Places:
    """The rows that count, where nothing but their values tells them apart."""
    tied = np.flatnonzero(np.append(False, ties) | np.append(ties, False))
    some = rows.take(pa.array(tied))
    within = ties[tied[1:] - 1] & (tied[1:] - tied[:-1] == 1)
    differ = within & ~repeats(some, layout.values)
    if not differ.any():
        return last
    chosen = np.isin(slots[tied], slots[tied[1:][differ]])
    # In reverse, as the order that follows turns equal rows round.
    tied, some = tied[chosen][::-1], some.filter(pa.array(chosen))
    some = some.take(pa.array(np.arange(len(tied))[::-1]))
    columns: dict[str, Any] = {"slot": pa.array(slots[tied])}
    for at, name in enumerate((*layout.sequence_columns[1:], DELETED, *layout.values)):
        column = some.column(name)
        if pa.types.is_nested(column.type) or pa.types.is_boolean(column.type):
            column = pa.array([None if v is None else repr(v) for v in column.to_pylist()])
        columns[f"by{at}"] = column
    order = _ascending(pa.table(columns), list(columns))
    ordered = slots[tied][order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    # Below a delete, or a later place in the sequence, nothing needs telling apart.
    ends = ends[np.isin(last[ordered[ends]], tied)]
    last = last.copy()
    last[ordered[ends]] = tied[order][ends]
    return last


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Rows of the table as stretches of the states of all keys, in order.

    Attributes:
        low: Where the states begin that the row answers for; deletes before a key's first version
            are among them.
        high: Where they end; deletes after the version are among them.
        first: The state with which the version begins.
        last: Its last one.
        end: The state that ends it; -1: none does.
        tombstone: Whether there is no version, as the key has nothing but deletes.
    """

    low: Places
    high: Places
    first: Places
    last: Places
    end: Places
    tombstone: Mask

    def only(self, chosen: Mask) -> _Stretches:
        """Some of them."""
        return _Stretches(
            self.low[chosen],
            self.high[chosen],
            self.first[chosen],
            self.last[chosen],
            self.end[chosen],
            self.tombstone[chosen],
        )


def _stretches(layout: Layout, states: pa.Table, key_starts: Mask) -> _Stretches:
    deleted = states.column(DELETED).to_numpy()
    same = ~key_starts[1:] & (deleted[1:] == deleted[:-1])
    same &= deleted[1:] | repeats(states, layout.tracked)
    starts = np.flatnonzero(np.append(True, ~same))
    stops = np.append(starts[1:], len(deleted))
    gone, begins = deleted[starts], key_starts[starts]
    follows = np.append(~begins[1:], False)
    # What comes after a delete is a version; deletes that follow each other are one stretch.
    leads = gone & begins & follows
    low = starts.copy()
    low[1:][leads[:-1]] = starts[:-1][leads[:-1]]
    high = stops.copy()
    before_delete = follows & np.append(gone[1:], False)
    high[:-1][before_delete[:-1]] = stops[1:][before_delete[:-1]]
    tombstone = gone & begins & ~follows
    end = np.where(follows, np.append(starts[1:], -1), np.where(tombstone, starts, -1))
    every = _Stretches(low, high, starts, stops - 1, end, tombstone)
    return every.only(~gone | tombstone)


def _unchanged(
    layout: Layout, states: pa.Table, rows: _Stretches, stored: pa.Table, counts: Places
) -> Mask:
    """The rows that say what a stored one says: made of all of its changes and of no other."""
    if not len(rows.low):
        return np.zeros(0, dtype=bool)
    origin: Places = states.column(ORIGIN).to_numpy()
    least = np.minimum.reduceat(origin, rows.low)
    same: Mask = (least == np.maximum.reduceat(origin, rows.low)) & (least >= 0)
    same[same] = (rows.high - rows.low)[same] == counts[least[same]]
    ends = _taken(states, layout.sequence_columns[0], rows.end[same], rows.end[same] < 0)
    before = stored.column(layout.valid_to).combine_chunks().take(pa.array(least[same]))
    same[same] = alike(ends, before)
    return same


def _taken(rows: pa.Table, name: str, places: Places, absent: Mask) -> pa.Array:
    column = rows.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    return column.take(pa.array(np.where(absent, 0, places), mask=absent))


def _rows(layout: Layout, states: pa.Table, rows: _Stretches) -> pa.Table:
    none = np.zeros(len(rows.low), dtype=bool)
    time = layout.sequence_columns[0]
    columns = {name: _taken(states, name, rows.first, none) for name in layout.keys}
    for name in layout.values:
        columns[name] = _taken(states, name, rows.last, rows.tombstone)
    columns[layout.valid_from] = _taken(states, time, rows.first, none)
    columns[layout.valid_to] = _taken(states, time, rows.end, rows.end < 0)
    columns[layout.is_current] = pa.array(rows.end < 0)
    columns[layout.kept_changes] = _kept(layout, states, rows)
    fields = [field.with_nullable(True) for field in layout.table]
    return pa.table([columns[f.name] for f in fields], schema=pa.schema(fields))


def _kept(layout: Layout, states: pa.Table, rows: _Stretches) -> pa.Array:
    """The changes that the rows' own columns do not tell."""
    width = rows.high - rows.low
    told = (rows.low == rows.first) & (rows.first == rows.last) & ~rows.tombstone
    if layout.rows_tell_order:
        # A delete's time is the end; the rest of its sequence is nowhere else.
        told &= width <= (2 if len(layout.sequence) == 1 else 1)
    else:
        told[:] = False
    widths = np.where(told, 0, width)
    offsets = np.append(0, np.cumsum(widths))
    steps = np.arange(offsets[-1]) - np.repeat(offsets[:-1], widths)
    places = np.repeat(rows.low, widths) + steps
    deleted = states.column(DELETED).to_numpy()[places]
    none = np.zeros(len(places), dtype=bool)
    parts = [pa.array(deleted)]
    parts += [_taken(states, name, places, none) for name in layout.sequence_columns]
    parts += [_taken(states, name, places, deleted) for name in layout.untracked]
    values = pa.StructArray.from_arrays(parts, fields=list(layout.kept))
    kind = layout.table.field(layout.kept_changes).type
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), values, type=kind, mask=pa.array(told)
    )


def _refuse_tombstones(layout: Layout, rows: _Stretches, where: str) -> None:
    """Refuse deletes without a version where the table asks for values."""
    count = int(rows.tombstone.sum())
    required: Sequence[str] = [n for n in layout.values if not layout.table.field(n).nullable]
    if count and required:
        raise ValuesRefused(
            f"{where}: {count} keys are deleted before they have a version; what is remembered of "
            f"that has no value in {required[0]!r}, which is NOT NULL",
            hint="bring these deletes together with their inserts, or let the column be null",
            column=required[0],
            rows=count,
        )
