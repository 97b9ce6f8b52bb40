"""The changes that a table's versions were made of, as far as they matter, from its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.tables.errors import ValuesRefused
from raylake.tables.keys import Mask, Places, alike, repeats
from raylake.tables.scd2 import Layout

ORIGIN: Final = "raylake.origin"
"""The stored version that a change is known from; -1: none."""
BEGINS: Final = "raylake.begins"
"""Whether that version begins with it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of some keys.

    Attributes:
        versions: Their versions, by keys and begin.
        events: The changes that these were made of.
        counts: For each version, how many of them.
    """

    versions: pa.Table
    events: pa.Table
    counts: Places


def known_changes(layout: Layout, stored: pa.Table, where: str) -> Known:
    """The changes that stored versions tell of.

    Raises:
        ValuesRefused: Versions begin at no time, or two of one key at the same.
    """
    begin = layout.valid_from
    order = pc.sort_indices(
        stored, sort_keys=[(name, "ascending") for name in (*layout.keys, begin)]
    )
    versions = stored.take(order).combine_chunks()
    same_key = repeats(versions, layout.keys)
    broken = versions.column(begin).null_count
    broken += int((same_key & repeats(versions, [begin])).sum())
    if broken:
        raise ValuesRefused(
            f"{where}: {broken} versions of these keys begin at no time, or when another one of "
            "their key does: the table was not written by the rules of raylake.tables.scd2",
            hint="take the surplus rows away first",
            rows=broken,
        )
    kept = pc.fill_null(pc.list_value_length(versions.column(layout.kept_changes)), 0).to_numpy()
    plain = np.flatnonzero(kept == 0)
    closed = _closed_by_a_delete(layout, versions, same_key) & (kept == 0)
    events = pa.concat_tables(
        [
            _own(layout, versions, plain),
            _deletes(layout, versions, np.flatnonzero(closed)),
            _kept(layout, versions),
        ]
    )
    counts = np.where(kept == 0, 1 + closed, kept)
    return Known(versions, events, counts)


def _closed_by_a_delete(layout: Layout, versions: pa.Table, same_key: Mask) -> Mask:
    """The versions that end where none of their key begins."""
    count = versions.num_rows
    if not count:
        return np.zeros(0, dtype=bool)
    begins, ends = (
        pa.concat_arrays(versions.column(name).chunks)
        for name in (layout.valid_from, layout.valid_to)
    )
    follows = same_key & alike(ends.slice(0, count - 1), begins.slice(1))
    ended: Mask = pc.is_valid(ends).to_numpy(zero_copy_only=False) & ~np.append(follows, False)
    return ended


def _own(layout: Layout, versions: pa.Table, places: Places) -> pa.Table:
    """The changes that versions of one change are."""
    rows = versions.take(pa.array(places))
    sequence = [rows.column(layout.valid_from)]
    for name, kind in zip(layout.sequence[1:], layout.sequence_types[1:], strict=True):
        there = name in layout.values
        sequence.append(rows.column(name) if there else pa.nulls(rows.num_rows, kind))
    values = [rows.column(name) for name in (*layout.keys, *layout.values)]
    return _table(layout, [*values, *sequence], _all(False, rows), places, _all(True, rows))


def _deletes(layout: Layout, versions: pa.Table, places: Places) -> pa.Table:
    """The deletes that end versions."""
    rows = versions.take(pa.array(places))
    keys = [rows.column(name) for name in layout.keys]
    values = [pa.nulls(rows.num_rows, layout.table.field(n).type) for n in layout.values]
    rest = [pa.nulls(rows.num_rows, kind) for kind in layout.sequence_types[1:]]
    columns = [*keys, *values, rows.column(layout.valid_to), *rest]
    return _table(layout, columns, _all(True, rows), places, _all(False, rows))


def _kept(layout: Layout, versions: pa.Table) -> pa.Table:
    """The changes that stand beside versions."""
    column = versions.column(layout.kept_changes)
    kept = pa.concat_arrays(column.chunks) if column.chunks else pa.array([], column.type)
    parents = pc.list_parent_indices(kept)
    changes = pc.list_flatten(kept)
    rows = versions.take(parents)
    parts = {field.name: changes.field(at) for at, field in enumerate(layout.kept)}
    values = [
        pa.chunked_array([parts[name]]) if name in parts else rows.column(name)
        for name in (*layout.keys, *layout.values)
    ]
    time = parts[layout.sequence[0]]
    first = rows.column(layout.valid_from).combine_chunks()
    first = pa.concat_arrays(first.chunks) if isinstance(first, pa.ChunkedArray) else first
    sequence = [parts[name] for name in layout.sequence]
    deleted = changes.field(0)
    return _table(
        layout, [*values, *sequence], deleted, parents.to_numpy(), pa.array(alike(time, first))
    )


def _table(
    layout: Layout, columns: list[pa.Array], deleted: pa.Array, origin: Places, begins: pa.Array
) -> pa.Table:
    schema = layout.change_schema.append(pa.field(ORIGIN, pa.int64()))
    schema = schema.append(pa.field(BEGINS, pa.bool_()))
    return pa.table([*columns, deleted, pa.array(origin, pa.int64()), begins], schema=schema)


def _all(flag: bool, rows: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(flag), rows.num_rows)
