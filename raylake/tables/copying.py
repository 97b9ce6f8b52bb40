"""Copying a folder of Parquet files into a table's folder, and comparing both by checksums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from raylake.delta.file_streams import PartitionedStream
from raylake.delta.live_rows import BATCH_ROWS, file_place, fitted
from raylake.errors import DependencyUnreachable, RayLakeError
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, open_input
from raylake.tables.errors import SchemaNarrowed
from raylake.tables.expressions import quoted
from raylake.tables.parquet_folder import ParquetFolder
from raylake.tables.partition_text import typed_values
from raylake.tables.rewrite_parts import target_size, write_options
from raylake.tables.rows import refuse_null_texts


def copied(
    source: ParquetFolder,
    target: Place,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    prefix: str,
) -> list[DataFile]:
    """Write a folder's rows as data files below a target, not yet of a table.

    Args:
        source: The folder.
        target: The table's folder.
        partition_by: The table's partition columns.
        properties: The table's properties.
        prefix: What the files' names begin with.

    Raises:
        ValuesRefused: A partition column has an empty text, which a table cannot hold.
        SchemaNarrowed: A value does not fit its column's type in Delta.
        OSError: A file cannot be read or written.
    """
    stored = pa.schema([one for one in source.schema if one.name not in partition_by])
    size = target_size(properties, None, str(target))
    options = replace(write_options(properties, stored, size), prefix=prefix)
    with PartitionedStream(target, source.schema, partition_by, options) as stream:
        for batch in _rows_of(source):
            refuse_null_texts(batch, partition_by, f"{target}: migrate")
            stream.write(pa.Table.from_batches([batch]))
    return stream.files


def source_sums(source: ParquetFolder) -> tuple[int, dict[str, str]]:
    """Rows of a folder, and the sum of the hashes of each column's values."""
    return _sums(source.schema, _rows_of(source))


def copied_sums(
    root: Place, files: Sequence[DataFile], schema: pa.Schema
) -> tuple[int, dict[str, str]]:
    """As :func:`source_sums`, of data files; what is read is what lies there.

    Raises:
        DependencyUnreachable: A file is gone or damaged.
    """

    def rows() -> Iterator[pa.RecordBatch]:
        for one in files:
            yield from _rows(file_place(root, one.path), one.partition_values, schema)

    return _sums(schema, rows())


def _rows_of(source: ParquetFolder) -> Iterator[pa.RecordBatch]:
    for one in source.parts:
        yield from _rows(source.root / one.path, one.values, source.schema)


def _rows(
    at: Place, values: Mapping[str, str | None], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """A file's rows with all columns, those of its folders' names too."""
    named = {
        one.name: typed_values([values[one.name]], one)[0] for one in schema if one.name in values
    }
    stored = pa.schema([one for one in schema if one.name not in named])
    try:
        with (
            open_input(at) as opened,
            pq.ParquetFile(opened, coerce_int96_timestamp_unit="us") as parquet,
        ):
            for batch in parquet.iter_batches(BATCH_ROWS, use_threads=False):
                found = _fitted(at, batch, stored)
                columns = [
                    pa.repeat(named[one.name], batch.num_rows)
                    if one.name in named
                    else found.column(one.name)
                    for one in schema
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except (pa.ArrowException, OSError) as error:
        raise DependencyUnreachable(f"{at} cannot be read: {error}") from error


def _fitted(at: Place, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    try:
        return fitted(batch, schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaNarrowed(
            f"{at}: a value does not fit its column's type in Delta: {error}",
            hint="mend it in the source; nothing is visible yet",
        ) from error


def _sums(schema: pa.Schema, rows: Iterator[pa.RecordBatch]) -> tuple[int, dict[str, str]]:
    """Sums do not depend on the rows' order; null counts as a value."""
    failures: list[RayLakeError] = []

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except RayLakeError as error:
            # DuckDB would make a text of it.
            failures.append(error)
            raise

    reader = pa.RecordBatchReader.from_batches(schema, watched())
    sums = ", ".join(f"CAST(sum(hash({quoted(name)})) AS VARCHAR)" for name in schema.names)
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.execute("SET threads = 1")
        connection.register("found", reader)
        try:
            row = connection.execute(f"SELECT count(*), {sums} FROM found").fetchone()  # noqa: S608
        except duckdb.Error as error:
            raise (failures[0] if failures else DependencyUnreachable(str(error))) from error
    if row is None:
        return 0, {}
    return int(row[0]), dict(zip(schema.names, (str(one) for one in row[1:]), strict=True))
