"""One file of a copy-on-write merge: its keys read and judged, then its rows written anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.file_stream import DataFileStream
from raylake.delta.files import WriteOptions
from raylake.delta.partition_values import partition_text, reads_as_null
from raylake.delta.verify_log import table_path
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, open_input
from raylake.tables.cow_feed import AFTER, BEFORE, DELETE, FileChanges
from raylake.tables.cow_keys import Positions, SourceKeys
from raylake.tables.cow_target import NotHere, Target, TargetFile

ROW_GROUP_ROWS: Final = 65_536
"""Rows that are read, changed and written at a time: what bounds the memory of a rewrite."""
_BUFFER_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a file that the source has keys of.

    Attributes:
        file: The file.
        rows: How many rows it has.
        positions: Where the matching rows are, ascending.
        source: The source's row of each.
        columns: What else was asked for: columns of the matching rows; of all rows where unmatched
            ones matter.
    """

    file: TargetFile
    rows: int
    positions: Positions
    source: Positions
    columns: pa.Table


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What becomes of a file.

    Attributes:
        file: The file.
        rows: How many rows it has.
        updated: Where rows are that get new values, ascending.
        source: The source's row of each.
        gone: Where rows are that leave, ascending.
    """

    file: TargetFile
    rows: int
    updated: Positions
    source: Positions
    gone: Positions

    @property
    def changes(self) -> bool:
        """Whether the file must be written anew."""
        return bool(len(self.updated) or len(self.gone))


@dataclass(frozen=True, slots=True)
class Values:
    """What updates write.

    Attributes:
        rows: The source.
        columns: The columns that an update writes.
    """

    rows: pa.Table
    columns: tuple[str, ...]


def find(
    target: Target, file: TargetFile, keys: SourceKeys, also: Sequence[str], *, whole: bool
) -> Found:
    """Read the keys of a file, and other columns of the rows that match.

    Args:
        target: The table.
        file: The file.
        keys: The source's keys.
        also: Other columns that conditions read.
        whole: ``also`` is wanted of all rows.

    Raises:
        NotHere: The file is written in a way that is not known here.
        OSError: It cannot be read.
    """
    with _opened(target.root, file) as parquet:
        rows = parquet.metadata.num_rows
        names = tuple(dict.fromkeys((*keys.names, *also)))
        _stored_names(parquet, target, target.stored.names)
        there = parquet.read(columns=_stored_names(parquet, target, names), use_threads=False)
    whole_table = _completed(there, rows, target, file, names)
    positions, source = keys.matches([whole_table.column(key) for key in keys.names])
    columns = whole_table.select(list(also))
    if not whole:
        columns = columns.take(pa.array(positions))
    return Found(file, rows, positions, source, columns)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a file became.

    Attributes:
        file: The new file; None when no row stays.
        moved: Rows whose partition is now another one; None for none.
        changes: The file of its change feed; None where nothing is recorded.
    """

    file: DataFile | None
    moved: pa.Table | None
    changes: DataFile | None


def rewritten(
    target: Target, rewrite: Rewrite, values: Values, options: WriteOptions, ahead: Executor
) -> Rewritten:
    """Write a file anew, beside the old one, not yet part of the table.

    Args:
        target: The table.
        rewrite: What becomes of its rows.
        values: What updates write.
        options: How it is written.
        ahead: Reads the next rows while these are written.
    """
    below = rewrite.file.path.rpartition("/")[0]
    texts = {name: partition_text(one.as_py()) for name, one in rewrite.file.values.items()}
    folder = table_path(below) if below else ""
    moved: list[pa.Table] = []
    with (
        _opened(target.root, rewrite.file) as parquet,
        DataFileStream(target.root, folder, texts, options) as stream,
        FileChanges(target, rewrite.file, options) as changes,
    ):
        start = 0
        for batch in _ahead(_batches(parquet, target), ahead):
            rows = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
            part = _part(rewrite, start, rows.num_rows)
            start += rows.num_rows
            stored = _completed(rows, rows.num_rows, target, rewrite.file, target.stored.names)
            kept, leaving = _changed(stored, part, values, target, changes)
            moved += leaving
            stream.write(kept)
        new, told = stream.closed(), changes.closed()
    pa.default_memory_pool().release_unused()
    return Rewritten(new, pa.concat_tables(moved) if moved else None, told)


def with_columns(
    rows: pa.Table, schema: pa.Schema, constants: Mapping[str, pa.Scalar] | None = None
) -> pa.Table:
    """The rows with all columns of a schema: those that they lack are constant, or null."""
    columns = []
    for field in schema:
        if field.name in rows.schema.names:
            columns.append(rows.column(field.name))
        elif constants and field.name in constants:
            value = constants[field.name].cast(field.type)
            columns.append(pa.chunked_array([pa.repeat(value, rows.num_rows)], field.type))
        else:
            columns.append(pa.chunked_array([pa.nulls(rows.num_rows, field.type)], field.type))
    return pa.table(columns, schema=schema)


@contextmanager
def _opened(root: Place, file: TargetFile) -> Iterator[pq.ParquetFile]:
    with (
        open_input(root / table_path(file.path)) as opened,
        pq.ParquetFile(
            opened, buffer_size=_BUFFER_BYTES, pre_buffer=False, coerce_int96_timestamp_unit="us"
        ) as parquet,
    ):
        yield parquet


def _batches(parquet: pq.ParquetFile, target: Target) -> Iterator[pa.RecordBatch]:
    names = _stored_names(parquet, target, target.stored.names)
    return iter(parquet.iter_batches(batch_size=ROW_GROUP_ROWS, columns=names, use_threads=False))


def _stored_names(parquet: pq.ParquetFile, target: Target, names: Sequence[str]) -> list[str]:
    """The columns that the file has, checked to hold what the table says.

    Raises:
        NotHere: A nested column of the file is of another type than the table's.
    """
    found = parquet.schema_arrow
    there = [name for name in names if name in found.names and name not in target.partition_by]
    for name in there:
        kind, wanted = found.field(name).type, target.schema.field(name).type
        if pa.types.is_nested(wanted) and not _alike(kind, wanted):
            raise NotHere(f"column {name!r} has another type in a file than in the table")
    return there


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether two nested types differ in nothing but the names of list elements."""
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        return [f.name for f in found] == [f.name for f in wanted] and all(
            _alike(a.type, b.type) for a, b in zip(found, wanted, strict=True)
        )
    if pa.types.is_map(found) and pa.types.is_map(wanted):
        return _alike(found.key_type, wanted.key_type) and _alike(found.item_type, wanted.item_type)
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _alike(found.value_type, wanted.value_type)
    return bool(found.equals(wanted))


def _completed(
    rows: pa.Table, count: int, target: Target, file: TargetFile, names: Sequence[str]
) -> pa.Table:
    """Columns of a file in the table's types, with partition values and columns that it lacks."""
    schema = pa.schema([target.schema.field(name) for name in names])
    if not rows.num_columns:
        # Nothing but partition columns, or columns that are younger than the file.
        rows = pa.table({"": pa.nulls(count)})
    there = [one for one in schema if one.name in rows.schema.names]
    fitted = rows.select([one.name for one in there]) if there else rows
    if there:
        fitted = fitted.cast(pa.schema(there))
    return with_columns(fitted, schema, file.values)


def _part(rewrite: Rewrite, start: int, rows: int) -> Rewrite:
    """The rewrite of some rows of a file, places counted from the first of them."""
    ends = (start, start + rows)
    first, last = np.searchsorted(rewrite.updated, ends)
    left, right = np.searchsorted(rewrite.gone, ends)
    return Rewrite(
        rewrite.file,
        rows,
        rewrite.updated[first:last] - start,
        rewrite.source[first:last],
        rewrite.gone[left:right] - start,
    )


def _changed(
    rows: pa.Table, part: Rewrite, values: Values, target: Target, changes: FileChanges
) -> tuple[pa.Table, list[pa.Table]]:
    """The rows that stay in the file, and updated ones whose partition is another one now."""
    if not part.changes:
        return rows, []
    updated, source, gone = part.updated, part.source, part.gone
    if changes.recorded:
        changes.add(BEFORE, rows.take(pa.array(updated)))
        changes.add(DELETE, rows.take(pa.array(gone)))
    new = values.rows.take(pa.array(source)) if len(source) else values.rows.slice(0, 0)
    leaving = []
    moves = _moves(new, part.file, values.columns, target)
    if moves.any():
        places = updated[moves]
        before = with_columns(rows.take(pa.array(places)), target.schema, part.file.values)
        leaving.append(_replaced(before, np.arange(len(places)), new.filter(moves), values.columns))
        gone = np.sort(np.append(gone, places))
        updated, new = updated[~moves], new.filter(pa.array(~moves))
    columns = [name for name in values.columns if name not in target.partition_by]
    rows = _replaced(rows, updated, new, columns)
    if changes.recorded:
        changes.add(AFTER, rows.take(pa.array(updated)))
    if len(gone):
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[gone] = False
        rows = rows.filter(pa.array(keep))
    return rows, leaving


def _moves(
    new: pa.Table, file: TargetFile, columns: Sequence[str], target: Target
) -> npt.NDArray[np.bool_]:
    """Which updated rows now have another partition value than their file."""
    found = np.zeros(new.num_rows, dtype=bool)
    for name in target.partition_by:
        if name in columns and new.num_rows:
            column, mine = new.column(name), file.values[name]
            if pa.types.is_string(column.type):
                column = pc.if_else(reads_as_null(column), pa.scalar(None, column.type), column)
            if mine.is_valid:
                other = pc.fill_null(pc.not_equal(column, mine.cast(column.type)), True)
            else:
                other = pc.is_valid(column)
            found |= np.asarray(other.to_numpy(), dtype=bool)
    return found


def _replaced(rows: pa.Table, places: Positions, new: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The rows with new values of some columns at some places, which ascend."""
    if not len(places):
        return rows
    mask = np.zeros(rows.num_rows, dtype=bool)
    mask[places] = True
    chosen = pa.array(mask)
    for name in columns:
        at = rows.schema.get_field_index(name)
        field = rows.schema.field(at)
        before = _one_array(rows.column(at))
        after = _one_array(new.column(name).cast(field.type))
        if pa.types.is_nested(field.type):
            taken = np.arange(len(before))
            taken[places] = len(before) + np.arange(len(after))
            found = pa.concat_arrays([before, after]).take(pa.array(taken))
        else:
            found = pc.replace_with_mask(before, chosen, after)
        rows = rows.set_column(at, field, found)
    return rows


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _ahead(batches: Iterator[pa.RecordBatch], pool: Executor) -> Iterator[pa.RecordBatch]:
    """The batches, the next one being read while one is worked on."""
    coming: Future[pa.RecordBatch | None] = pool.submit(next, batches, None)
    while (batch := coming.result()) is not None:
        coming = pool.submit(next, batches, None)
        yield batch
