"""Data files of one version read one by one, for readers that share the work between processes.

A file gives the same rows as the engine's own read of the version: columns that it lacks are null,
partition columns come from the log. Conditions that every engine reads alike are evaluated by
DuckDB. What this cannot do (deletion vectors, column mapping, other conditions) says
:func:`file_scan` by None: the engine reads it then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import Schema
from sqlglot import exp

from raylake.delta.live_rows import cast_column
from raylake.delta.log_reader import LogReader, TableMetadata
from raylake.delta.partition_values import READ_AS_NULL
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place, open_input, place
from raylake.tables.expressions import Expression, Scope, condition
from raylake.tables.requests import Read

BATCH_ROWS: Final = 65_536
_MAPPING: Final = "delta.columnMapping.mode"
_ALIKE: Final = frozenset(
    {
        *(exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.And, exp.Or, exp.Not, exp.Is),
        *(exp.In, exp.Between, exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Paren),
        *(exp.Boolean, exp.Neg, exp.Cast, exp.DataType, exp.DataTypeParam),
    }
)
"""What of a condition DuckDB surely reads as DataFusion does, on columns of plain types."""


@dataclass(frozen=True, slots=True)
class FileScan:
    """How files of a version are read; plain data that travels between processes.

    Attributes:
        table: The table's address.
        version: The version.
        schema: Its columns, partition columns included.
        columns: Those that are wanted, in order.
        where: A condition in DuckDB's words; empty for every row.
        needed: The columns that the condition reads.
    """

    table: str
    version: int
    schema: pa.Schema
    columns: tuple[str, ...]
    where: str = ""
    needed: frozenset[str] = frozenset()

    @property
    def wanted(self) -> pa.Schema:
        """The schema of what is read."""
        return pa.schema([self.schema.field(name) for name in self.columns])


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file of a version.

    Attributes:
        path: As the log names it.
        size_bytes: Its size.
        rows: Its rows; None where the log does not tell.
        partition: Partition columns and their values, as the log has them.
    """

    path: str
    size_bytes: int
    rows: int | None
    partition: Mapping[str, str | None]


def file_scan(root: Place, request: Read) -> tuple[FileScan, list[LiveFile]] | None:
    """The files of a version and how to read them; None where the engine must do it.

    Args:
        root: The table.
        request: With a version; checked already.
    """
    snapshot = LogReader(str(root)).snapshot(request.version)
    scan = scan_of(root, snapshot.version, snapshot.metadata, request)
    if scan is None or any(snapshot.files.column("deleted_records").to_pylist()):
        return None
    rows = snapshot.files.select(["path", "size", "num_records", "partition_values"]).to_pylist()
    files = [
        LiveFile(r["path"], r["size"] or 0, r["num_records"], dict(r["partition_values"] or ()))
        for r in rows
    ]
    return scan, files


def scan_of(root: Place, version: int, metadata: TableMetadata, request: Read) -> FileScan | None:
    """How files are read with the schema of some metadata; None where the engine must do it."""
    if metadata.configuration.get(_MAPPING, "none") not in ("", "none"):
        return None
    schema = arrow_schema(Schema.from_json(metadata.schema_json))
    return scan_of_rows(str(root), version, schema, request)


def scan_of_rows(table: str, version: int, schema: pa.Schema, request: Read) -> FileScan | None:
    """How rows of a version are chosen; None where its condition must be left to the engine."""
    where, needed = "", frozenset[str]()
    if request.where is not None:
        found = condition(request.where, Scope({"": schema}, f"{table}: where"))
        needed = frozenset(name for _, name in found.columns)
        if not _alike(found, [schema.field(name).type for name in needed]):
            return None
        where = found.sql("duckdb")
    columns = request.columns if request.columns is not None else tuple(schema.names)
    return FileScan(table, version, schema, tuple(columns), where, needed)


def read_file(scan: FileScan, file: LiveFile) -> Iterator[pa.RecordBatch]:
    """The rows of one file, in batches of :data:`BATCH_ROWS` at most.

    Raises:
        OSError: The file cannot be read; ``FileNotFoundError`` where it is gone.
    """
    with open_input(_at(scan.table, file.path)) as opened:
        parquet = pq.ParquetFile(opened, coerce_int96_timestamp_unit="us")
        asked = [n for n in scan.schema.names if n in scan.needed or n in scan.columns]
        there = [n for n in asked if n in parquet.schema_arrow.names and n not in file.partition]
        for batch in parquet.iter_batches(BATCH_ROWS, columns=there, use_threads=False):
            columns = [_column(scan.schema.field(name), batch, file) for name in asked]
            whole = pa.RecordBatch.from_arrays(
                columns, schema=pa.schema([scan.schema.field(name) for name in asked])
            )
            yield from chosen(scan, pa.Table.from_batches([whole]))


def chosen(scan: FileScan, rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Of rows that have all columns that the scan needs, those that it wants.

    Args:
        scan: What is wanted.
        rows: Rows of the version.
    """
    found = _filtered(rows, scan) if scan.where else rows.select(list(scan.columns))
    for one in found.to_batches():
        if one.num_rows:
            yield one


def _at(table: str, path: str) -> Place:
    """Where a file of the log lies; shallow clones name files of other tables."""
    plain = unquote(path)
    if "://" in plain or plain.startswith("/"):
        return place(plain.removeprefix("file://"))
    return place(table) / plain


def _column(field: pa.Field, batch: pa.RecordBatch, file: LiveFile) -> pa.Array:
    if field.name in file.partition:
        return _constant(file.partition[field.name], field.type, batch.num_rows)
    at = batch.schema.get_field_index(field.name)
    if at < 0:
        return pa.nulls(batch.num_rows, field.type)
    return cast_column(batch.column(at), field.type)


def _constant(text: str | None, kind: pa.DataType, rows: int) -> pa.Array:
    if text is None or text in READ_AS_NULL:
        return pa.nulls(rows, kind)
    value = pa.array([text])
    if pa.types.is_timestamp(kind) and kind.tz is not None and not text.endswith("Z"):
        found = pc.assume_timezone(value.cast(pa.timestamp("us")), "UTC").cast(kind)
    else:
        found = value.cast(kind)
    return pa.repeat(found[0], rows)


def _filtered(rows: pa.Table, scan: FileScan) -> pa.Table:
    names = ", ".join(exp.column(name, quoted=True).sql() for name in scan.columns) or "1 AS one"
    with duckdb.connect(
        ":memory:", config={"threads": 1, "enable_external_access": "false"}
    ) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("batch", rows)
        # Written anew from a checked tree: no text of a user's (raylake.tables.expressions).
        found = connection.sql(f"SELECT {names} FROM batch WHERE {scan.where}")  # noqa: S608
        return found.to_arrow_table().cast(scan.wanted)


def _alike(found: Expression, kinds: Sequence[Any]) -> bool:
    plain = all(
        pa.types.is_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_temporal(kind)
        or pa.types.is_decimal(kind)
        for kind in kinds
    )
    return plain and found.holds_only(_ALIKE)
