"""Writing Arrow data to Parquet files in a table's folder, not yet part of the table."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake import faults
from raylake.delta.column_encodings import column_encodings
from raylake.delta.partition_values import folder, log_path, partition_text
from raylake.delta.spec import Durability
from raylake.delta.stats import file_stats
from raylake.errors import DependencyUnreachable, SchemaConflict
from raylake.ingest.unit import DataFile
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, make_folder, place, sync_path


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How data files are written.

    Attributes:
        durability: ``sync``: file and folder are on the disk before the call returns.
        compression: The Parquet codec.
        target_file_bytes: Arrow bytes above which the rows of one partition value are split.
        stats_columns: Top-level columns to keep statistics of; None for the first 32 leaves.
        row_group_rows: Rows in a row group, at most.
        prefix: What the files' names begin with.
    """

    durability: Durability = "sync"
    compression: Literal["zstd", "snappy"] = "zstd"
    target_file_bytes: int = 512 * 1024 * 1024
    stats_columns: tuple[str, ...] | None = None
    row_group_rows: int = 1_000_000
    prefix: str = "part"


DEFAULT_OPTIONS = WriteOptions()
_MOST_CODES = 1 << 16


def write_data_files(
    table_path: str | Place,
    batch: pa.Table | pa.RecordBatch,
    schema: pa.Schema,
    partition_by: Sequence[str] = (),
    options: WriteOptions = DEFAULT_OPTIONS,
    *,
    durability: Durability | None = None,
) -> tuple[DataFile, ...]:
    """Write rows as Parquet files, one per partition value (more when they are large).

    Partition columns are not stored in the files. If this fails, no file of this call is left
    that could be taken for data: what was written is deleted, and nothing refers to it.

    Args:
        table_path: The table's folder.
        batch: The rows; its columns are the schema's, in any order.
        schema: The table's schema, partition columns included.
        partition_by: The partition columns.
        options: Compression, durability, sizes.
        durability: Instead of the options' one.

    Returns:
        The files, empty without rows.

    Raises:
        SchemaConflict: A column is missing, unknown, of another type, or null where it must not be.
        DependencyUnreachable: The folder cannot be written (read-only, disk full).
    """
    if durability is not None:
        options = replace(options, durability=durability)
    data = _conform(batch, schema)
    if data.num_rows == 0:
        return ()
    root = place(table_path)
    written: list[Place] = []
    complete = False
    try:
        files = tuple(
            _write_one(root, values, part, options, written)
            for values, part in _split(data, partition_by, options.target_file_bytes)
        )
        faults.reach("consumer.storing", files=len(files))
        if options.durability == "sync" and isinstance(root, Path):
            for one in _folders(root, [path for path in written if isinstance(path, Path)]):
                sync_path(one)
        complete = True
    except OSError as error:
        raise DependencyUnreachable(
            f"{root}: a data file could not be written: {error}",
            hint="Check free space and permissions of the table's folder.",
            errno=error.errno,
        ) from error
    finally:
        if not complete:
            for path in written:
                with contextlib.suppress(OSError):
                    path.unlink()
    return files


def _conform(batch: pa.Table | pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """The rows as a table with exactly the schema's columns.

    Nothing is cast but what keeps every value (string to large_string and the like).
    """
    data = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    if sorted(data.column_names) != sorted(schema.names):
        unlike = sorted(set(data.column_names) ^ set(schema.names)) or ["a name twice"]
        raise SchemaConflict(
            f"the rows do not have the table's columns; they differ in {', '.join(unlike[:10])}",
            columns=unlike,
        )
    data = data.select(schema.names)
    for field in schema:
        if not field.nullable and data.column(field.name).null_count:
            raise SchemaConflict(f"column {field.name!r} must not be null", column=field.name)
    if not data.schema.equals(schema):
        for field, found in zip(schema, data.schema, strict=True):
            if not _same_values(found.type, field.type):
                raise SchemaConflict(
                    f"column {field.name!r}: the rows have {found.type}, the table {field.type}",
                    column=field.name,
                )
        try:
            data = data.cast(schema.with_metadata(None))
        except ValueError as error:
            raise SchemaConflict(f"the rows do not fit the table's schema: {error}") from error
    return data


def _same_values(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_null(found) or found.equals(wanted):
        return True
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        return [f.name for f in found] == [f.name for f in wanted] and all(
            _same_values(a.type, b.type) for a, b in zip(found, wanted, strict=True)
        )
    if pa.types.is_map(found) and pa.types.is_map(wanted):
        return _same_values(found.key_type, wanted.key_type) and _same_values(
            found.item_type, wanted.item_type
        )
    if _is_list(found) and _is_list(wanted):
        return _same_values(found.value_type, wanted.value_type)
    return any(of(found) and of(wanted) for of in (_is_text, _is_bytes))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _split(
    data: pa.Table, partition_by: Sequence[str], target_bytes: int
) -> Iterator[tuple[dict[str, str | None], pa.Table]]:
    for values, part in by_value(data, partition_by):
        pieces = max(1, -(-part.nbytes // max(1, target_bytes)))
        rows = -(-part.num_rows // pieces)
        for start in range(0, part.num_rows, rows):
            yield values, part.slice(start, rows)


def by_value(
    data: pa.Table, partition_by: Sequence[str]
) -> Iterator[tuple[dict[str, str | None], pa.Table]]:
    """The rows of each partition value, without the partition columns, in the order they came."""
    if not partition_by:
        yield {}, data
        return
    keys = data.select(list(partition_by))
    for index, name in enumerate(keys.column_names):
        column = keys.column(name)
        if _is_text(column.type):
            # Delta has no empty string as a partition value: it is null.
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
            keys = keys.set_column(index, name, column)
    rest = data.drop_columns(list(partition_by))
    order, starts = _grouped(keys)
    moved = rest if len(starts) == 1 else rest.take(pa.array(order))
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        row = int(order[start])
        values = {name: partition_text(keys.column(name)[row].as_py()) for name in partition_by}
        yield values, moved.slice(start, end - start)


def _grouped(keys: pa.Table) -> tuple[npt.NDArray[np.int64], list[int]]:
    """The rows ordered by their values, those of one value as they came, and where each begins."""
    codes = np.zeros(keys.num_rows, np.int64)
    values = 1
    for column in keys.columns:
        if _one_value(column):
            continue
        found = column.combine_chunks().dictionary_encode(null_encoding="encode")
        codes = codes * len(found.dictionary) + found.indices.to_numpy()
        values *= len(found.dictionary)
        if values > _MOST_CODES:
            distinct, codes = np.unique(codes, return_inverse=True)
            values = len(distinct)
    if values == 1:
        return np.arange(keys.num_rows), [0]
    # A stable sort of 16 bits is a radix sort.
    order = np.argsort(codes.astype(np.uint16) if values <= _MOST_CODES else codes, kind="stable")
    return order, [0, *(np.flatnonzero(np.diff(codes[order])) + 1).tolist()]


def _one_value(column: pa.ChunkedArray) -> bool:
    if column.null_count:
        return bool(column.null_count == len(column))
    return bool(pc.all(pc.equal(column, column[0])).as_py())


def _write_one(
    root: Place,
    values: dict[str, str | None],
    data: pa.Table,
    options: WriteOptions,
    written: list[Place],
) -> DataFile:
    name = f"part-{uuid.uuid4()}.{options.compression}.parquet"
    subfolder = folder(values)
    below = f"{subfolder}/{name}" if subfolder else name
    path = root / below
    make_folder(path.parent)
    # A name that nobody else has: nothing is overwritten.
    written.append(path)
    buffered = pa.BufferOutputStream() if isinstance(path, StorePath) else None
    with (
        buffered or pa.OSFile(str(path), "wb") as sink,
        parquet_writer(sink, data, options) as writer,
    ):
        writer.write_table(data, row_group_size=options.row_group_rows)
    size_bytes = stored(path, buffered, options.durability)
    footer = writer.writer.metadata
    return DataFile(
        path=log_path(below),
        size_bytes=size_bytes,
        rows=footer.num_rows,
        partition_values=values,
        stats=file_stats(footer, data, options.stats_columns),
    )


def parquet_writer(sink: Any, data: pa.Table, options: WriteOptions) -> pq.ParquetWriter:
    """A writer with the settings of ADR 15, chosen by a look at the first rows of a file.

    Args:
        sink: Where the file goes.
        data: Its first rows, or all of them.
        options: Compression and the columns with statistics.
    """
    chosen = column_encodings(data, options.stats_columns)
    return pq.ParquetWriter(
        sink,
        data.schema,
        compression=options.compression,
        version="2.6",
        coerce_timestamps="us",
        use_dictionary=chosen.dictionary,
        column_encoding=chosen.plain,
        write_statistics=chosen.statistics,
    )


def stored(path: Place, buffered: pa.BufferOutputStream | None, durability: Durability) -> int:
    """Make a written file durable; returns its size in bytes."""
    if isinstance(path, StorePath):
        data = b"" if buffered is None else buffered.getvalue().to_pybytes()
        path.put(data)
        return len(data)
    if durability == "sync":
        sync_path(path)
    return path.stat().st_size


def _folders(root: Path, written: list[Path]) -> list[Path]:
    """The folders whose entries must be durable: each file's, and those up to the table's."""
    found: dict[Path, None] = {}
    for path in written:
        place = path.parent
        while place not in found:
            found[place] = None
            if place == root:
                break
            place = place.parent
    return list(found)
