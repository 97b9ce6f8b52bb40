"""Keys of which rows left the source: what the source still says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from raylake.layers.derived import SOURCE_VERSION, Look, Rejected, SourceRows
from raylake.layers.envelopes import TOMBSTONE
from raylake.layers.errors import SourceRowsLeft
from raylake.layers.folding import DELETED, distinct, events_of, greatest, of_keys
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.shape_plan import ShapePlan
from raylake.layers.shaping import ShapedRecords, Shaper
from raylake.tables.expression_grammar import MAX_CHARACTERS
from raylake.tables.expressions import quoted
from raylake.tables.keys import key_range
from raylake.tables.requests import Read

CHUNK_ROWS: Final = 1 << 18
"""So many rows of the source are looked through at a time."""
_LISTED: Final = 500
_PLACE: Final = "raylake_place"


@dataclass(frozen=True, slots=True)
class Brought:
    """What a span's changes are for a keyed table.

    Attributes:
        rows: Rows that came; of affected keys, all that the source has.
        origin: Their places in :attr:`~raylake.layers.derived.SourceRows.came`; null for rows that
            were read from the source anew.
        deletes: Deletes, likewise.
        rejected: Records that came and are neither.
        affected: The keys of rows that left the source, each once.
    """

    rows: pa.Table
    origin: pa.Array
    deletes: pa.Table
    rejected: tuple[Rejected, ...]
    affected: pa.Table


class Affected:
    """Reads what spans brought; what it read last is kept, as it is asked for twice.

    Args:
        spec: The table.
        shaper: Shapes rows of its source.
    """

    def __init__(self, spec: RowWiseSpec, shaper: Shaper) -> None:
        self._spec = spec
        self._shaper = shaper
        self._last: tuple[SourceRows, Brought] | None = None

    def brought(self, changes: SourceRows, look: Look) -> Brought:
        """What a span's changes are."""
        if self._last is None or self._last[0] is not changes:
            self._last = changes, self._read(changes, look)
        return self._last[1]

    def _read(self, changes: SourceRows, look: Look) -> Brought:
        found = self._shaper.shaped(changes.came)
        keys = self._spec.keys
        if not changes.left.num_rows or self._spec.when_rows_leave == "ignore":
            nothing = found.rows.select(list(keys)).slice(0, 0)
            return Brought(found.rows, found.origin, found.deletes, found.rejected, nothing)
        left = self._shaper.shaped(changes.left)
        affected = self.keys_of(left)
        if self._one_row_a_key(changes):
            return self._net(changes, found, left, affected)
        still = self.still_there(affected, changes, look)
        chosen, gone = (
            pa.array(~of_keys(one, affected, keys)) for one in (found.rows, found.deletes)
        )
        rows = pa.concat_tables([found.rows.filter(chosen), still.rows])
        origin = pa.concat_arrays(
            [found.origin.filter(chosen), pa.nulls(still.rows.num_rows, pa.int64())]
        )
        deletes = pa.concat_tables([found.deletes.filter(gone), still.deletes])
        return Brought(rows, origin, deletes, found.rejected, affected)

    def _one_row_a_key(self, changes: SourceRows) -> bool:
        """Whether the source has at most one row of each of the table's keys."""
        plan, sources = self._shaper.plan(changes.came.schema), self._spec.source_keys
        columns = {plan.source_of(name) for name in self._spec.keys}
        return bool(sources) and columns >= set(sources) and not columns & set(plan.types)

    def _net(
        self, changes: SourceRows, found: ShapedRecords, left: ShapedRecords, affected: pa.Table
    ) -> Brought:
        """What is left of a key that has one row: that of the last version that speaks of it."""
        keys = self._spec.keys
        mine = of_keys(found.rows, affected, keys)
        came, gone = (
            moves(shaped, rows, keys)
            for shaped, rows in ((found, changes.came), (left, changes.left))
        )
        places = pa.array(np.arange(came.num_rows))
        nowhere = pa.nulls(gone.num_rows, pa.int64())
        both = events_of(
            came.append_column(_PLACE, places).filter(pa.array(mine)),
            gone.append_column(_PLACE, nowhere),
        )
        last = greatest(both, keys, (SOURCE_VERSION,), deletes_last=False)
        kept = ~mine
        kept[last.filter(pc.invert(last.column(DELETED))).column(_PLACE).to_numpy()] = True
        chosen = pa.array(kept)
        deletes = without(found.deletes, affected, keys)
        return Brought(
            found.rows.filter(chosen),
            found.origin.filter(chosen),
            deletes,
            found.rejected,
            affected,
        )

    def keys_of(self, shaped: ShapedRecords) -> pa.Table:
        """The keys of rows and deletes, each once."""
        return distinct(pa.concat_tables([shaped.rows, shaped.deletes]), self._spec.keys)

    def still_there(self, wanted: pa.Table, changes: SourceRows, look: Look) -> ShapedRecords:
        """All rows and deletes with some keys that the source has at the end of the span."""
        plan = self._shaper.plan(changes.came.schema)
        rows, deletes = [plan.schema.empty_table()], [plan.schema.empty_table()]
        request = Read(where=self._where(plan, wanted, changes.came.schema), columns=plan.read)
        for chunk in _chunks(look.source(request)):
            found = self._shaper.shaped(chunk)
            for parts, of in ((rows, found.rows), (deletes, found.deletes)):
                parts.append(of.filter(pa.array(of_keys(of, wanted, self._spec.keys))))
        none = pa.nulls(sum(one.num_rows for one in rows), pa.int64())
        return ShapedRecords(pa.concat_tables(rows), none, pa.concat_tables(deletes), ())

    def _where(self, plan: ShapePlan, wanted: pa.Table, source: pa.Schema) -> str | None:
        """A condition that all rows with the keys meet, where that is plain to say."""
        if self._spec.envelope != "none" or not wanted.num_rows:
            return None
        columns = [plan.source_of(name) for name in self._spec.keys]
        if not all(columns) or any(name in plan.types for name in columns):
            return None
        named = wanted.rename_columns(columns)
        text = _listed(named) or key_range(named, columns)
        if text and TOMBSTONE in source.names and self._spec.tombstones_delete:
            # A tombstone's columns are empty: its key is elsewhere.
            text = f"({text}) OR {quoted(TOMBSTONE)}"
        return text or None


def moves(shaped: ShapedRecords, rows: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """The keys of shaped rows, and the versions in which they came or left.

    Args:
        shaped: The rows.
        rows: The records that they are of.
        keys: The keys.
    """
    versions = rows.column(SOURCE_VERSION).take(shaped.origin)
    return shaped.rows.select(list(keys)).append_column(SOURCE_VERSION, versions)


def _listed(wanted: pa.Table) -> str:
    """That a single key is one of a few values; empty where that is not to be said so."""
    if wanted.num_columns != 1 or wanted.num_rows > _LISTED:
        return ""
    kind = wanted.schema.field(0).type
    literal: Any
    if pa.types.is_string(kind):
        literal = exp.Literal.string
    elif pa.types.is_integer(kind):
        literal = exp.Literal.number
    else:
        return ""
    values = ", ".join(literal(one).sql() for one in wanted.column(0).to_pylist())
    text = f"{quoted(wanted.column_names[0])} IN ({values})"
    return text if len(text) < MAX_CHARACTERS // 2 else ""


def _chunks(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    batches: list[pa.RecordBatch] = []
    for batch in reader:
        batches.append(batch)
        if sum(one.num_rows for one in batches) >= CHUNK_ROWS:
            yield pa.Table.from_batches(batches)
            batches = []
    if batches:
        yield pa.Table.from_batches(batches)


def rows_with_keys(reader: pa.RecordBatchReader, wanted: pa.Table) -> pa.Table:
    """Of the rows of a reader those with some keys."""
    names = wanted.column_names
    found = [chunk.filter(pa.array(of_keys(chunk, wanted, names))) for chunk in _chunks(reader)]
    return pa.concat_tables([reader.schema.empty_table(), *found])


def range_of(wanted: pa.Table) -> str | None:
    """The range that some keys lie in, as a condition; None where their types have none."""
    if not wanted.num_rows:
        return None
    return key_range(wanted, wanted.column_names) or None


def without(rows: pa.Table, other: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """The rows whose keys others do not have."""
    return rows.filter(pa.array(np.logical_not(of_keys(rows, other, keys))))


def refuse_left(spec: RowWiseSpec, changes: SourceRows) -> None:
    """Refuse rows that left the source, where the table is not to follow.

    Raises:
        SourceRowsLeft: Naming the versions.
    """
    if not changes.left.num_rows or spec.when_rows_leave != "refuse":
        return
    span = changes.span
    raise SourceRowsLeft(
        f"{spec.name}: versions {span.after + 1} to {span.last} of {span.source} changed or took "
        f"away {changes.left.num_rows} rows, which are appended here already, or would be twice",
        hint="on_source_delete: ignore passes over that; a full refresh takes the source as it is",
        rows=changes.left.num_rows,
    )
