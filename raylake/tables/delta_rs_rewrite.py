"""Wider types and other partition columns: every file written anew, in one commit with the schema.

A metadata-only change of a type is read by delta-rs and not by Spark 3.5 (DESIGN §3), so the files
change too. Versions before it stay as they were: their schema and their files are in the log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from raylake.delta.file_streams import PartitionedStream
from raylake.delta.files import WriteOptions
from raylake.delta.live_rows import RowReader, SourceFile, source_files
from raylake.delta.log_commit import LogCommit, commit_after, metadata_line
from raylake.delta.log_reader import LogReader
from raylake.delta.protocols import asked_for, protocol_line
from raylake.delta.rewriting import FileGroup, refuse_unequal, rewrite_commit, surviving
from raylake.delta.schema import arrow_schema, delta_schema
from raylake.storage.place import Place
from raylake.tables.delta_rs_alter import require_column
from raylake.tables.delta_rs_tasks import Task, Unneeded
from raylake.tables.errors import BadRequest, SchemaMismatch, SchemaNarrowed
from raylake.tables.partition_text import typed_values
from raylake.tables.results import RowCounts
from raylake.tables.rewrite_parts import delete_files, fields_json, target_size, write_options
from raylake.tables.rows import lossy, plain, refuse_null_texts
from raylake.tables.space import require_space
from raylake.tables.upkeep_requests import Repartition, WidenColumns


@dataclass(frozen=True, slots=True)
class Shape:
    """What a table becomes.

    Attributes:
        schema: Its schema.
        partition_by: Its partition columns.
        schema_json: The schema as the log has it.
    """

    schema: pa.Schema
    partition_by: tuple[str, ...]
    schema_json: str


Written = Callable[
    [DeltaTable, Sequence[SourceFile], Shape, WriteOptions],
    AbstractContextManager[FileGroup],
]
"""Writes all rows of a handle's version in another shape, to files that are of no table yet.

Within the context they may be committed; who holds it deletes them where they certainly are not.
"""


def widen_task(
    root: Place, handle: DeltaTable, request: WidenColumns, written: Written | None = None
) -> Task | Unneeded:
    """Columns get wider types.

    Args:
        root: The table.
        handle: delta-rs's handle of it.
        request: Which, and which types.
        written: Writes the rows; None: this process does.

    Raises:
        SchemaNarrowed: A type does not hold each value of the old one.
        SchemaMismatch: It is another kind of type.
    """
    where = f"{root}: widen"
    old = arrow_schema(handle.schema())
    partition_by = tuple(handle.metadata().partition_columns)
    fields = fields_json(handle.schema().to_json())
    schema = old
    for name, kind in request.types.items():
        require_column(old, name, where)
        new = plain(pa.field(name, kind)).type
        _refuse_unfit(old.field(name), new, where)
        if name in partition_by and not new.equals(old.field(name).type):
            _refuse_partition(old.field(name), new, where)
        schema = schema.set(old.get_field_index(name), old.field(name).with_type(new))
        asked = json.loads(delta_schema(pa.schema([(name, new)])).to_json())["fields"][0]["type"]
        next(one for one in fields if one["name"] == name)["type"] = asked
    if schema.equals(old):
        return Unneeded("the columns have these types already")
    shape = Shape(schema, partition_by, json.dumps({"type": "struct", "fields": fields}))
    described = {name: str(kind) for name, kind in request.types.items()}
    commit = LogCommit("CHANGE COLUMN", (), {"types": json.dumps(described)})
    return _task(root, handle, shape, commit, written or partial(_written, root))


def repartition_task(
    root: Place, handle: DeltaTable, request: Repartition, written: Written | None = None
) -> Task | Unneeded:
    """The table is partitioned by other columns; ``written`` as for :func:`widen_task`.

    Raises:
        ValuesRefused: While it runs: a partition column would have an empty text.
    """
    where = f"{root}: repartition"
    schema = arrow_schema(handle.schema())
    if len(set(request.partition_by)) < len(request.partition_by):
        raise BadRequest(f"{where}: a column is named twice")
    for name in request.partition_by:
        require_column(schema, name, where)
        if pa.types.is_nested(schema.field(name).type) or _is_bytes(schema.field(name).type):
            raise BadRequest(
                f"{where}: {name!r} ({schema.field(name).type}) cannot partition a table",
                column=name,
            )
    if len(request.partition_by) == len(schema):
        raise BadRequest(f"{where}: no column would be left for the files")
    if request.partition_by == tuple(handle.metadata().partition_columns):
        return Unneeded("the table is partitioned so already")
    shape = Shape(schema, request.partition_by, handle.schema().to_json())
    commit = LogCommit("REPARTITION", (), {"partitionBy": json.dumps(list(request.partition_by))})
    return _task(root, handle, shape, commit, written or partial(_written, root))


def _task(
    root: Place, handle: DeltaTable, shape: Shape, commit: LogCommit, written: Written
) -> Task:
    version = int(handle.version())
    files = source_files(LogReader(str(root)).snapshot(version))
    require_space(root, sum(one.size_bytes for one in files), f"{root}: {commit.operation}")
    configuration = dict(handle.metadata().configuration)
    metadata = metadata_line(handle, schema_json=shape.schema_json, partition_by=shape.partition_by)
    protocol = protocol_line(handle, asked_for(configuration, shape.schema_json))
    actions = [metadata] if protocol is None else [protocol, metadata]
    target_bytes = target_size(configuration, None, str(root))
    stored = pa.schema([one for one in shape.schema if one.name not in shape.partition_by])
    options = write_options(configuration, stored, target_bytes)

    def run(properties: CommitProperties) -> None:
        mine = replace(commit, actions=actions).signed(properties)
        with written(handle, files, shape, options) as group:
            refuse_unequal(root, group)
            try:
                # Nothing may come between: a file that is appended has the old shape.
                commit_after(root, version, rewrite_commit(mine, [group], time.time()))
            except CommitFailedError:
                now = surviving(root, [group], version)
                if now.certain and not now.landed:
                    delete_files(root, [group])
                raise

    return Task(run, lambda metrics: RowCounts(copied=int(metrics.get("numCopiedRows") or 0)))


@contextmanager
def _written(
    root: Place,
    handle: DeltaTable,
    files: Sequence[SourceFile],
    shape: Shape,
    options: WriteOptions,
) -> Iterator[FileGroup]:
    old = handle.metadata().partition_columns
    stored = pa.schema([one for one in shape.schema if one.name not in old])
    reader = RowReader(root, handle, stored)
    with PartitionedStream(root, shape.schema, shape.partition_by, options) as stream:
        for file in files:
            for batch in reader.rows(file):
                rows = _whole(batch, file.values, shape.schema)
                refuse_null_texts(rows, shape.partition_by, f"{root}: repartition")
                stream.write(rows)
    yield FileGroup(tuple(files), tuple(stream.files), stream.rows)


def _whole(batch: pa.RecordBatch, values: Mapping[str, str | None], schema: pa.Schema) -> pa.Table:
    """A file's rows with the columns that its table was partitioned by."""
    columns = []
    for one in schema:
        if one.name in batch.schema.names:
            columns.append(batch.column(one.name))
        else:
            value = typed_values([values.get(one.name)], one)[0]
            columns.append(pa.repeat(value, batch.num_rows))
    return pa.table(columns, schema=schema)


def _refuse_unfit(column: pa.Field, kind: pa.DataType, where: str) -> None:
    """Refuse a type that is not a wider one of the same kind."""
    old = column.type
    if pa.types.is_date32(old) and pa.types.is_timestamp(kind) and kind.tz is None:
        return
    reason = lossy(old, kind)
    if not reason:
        return
    if _is_number(old) and _is_number(kind):
        raise SchemaNarrowed(
            f"{where}: column {column.name!r}: {reason}",
            hint="a type that holds each value of the old one will do; for another one overwrite "
            "the table with schema='overwrite'",
            column=column.name,
        )
    raise SchemaMismatch(
        f"{where}: column {column.name!r}: {reason}",
        hint="overwrite the table with schema='overwrite'",
        column=column.name,
    )


def _refuse_partition(column: pa.Field, kind: pa.DataType, where: str) -> None:
    """Partition values are texts; those of whole numbers are the same in every type."""
    if not (pa.types.is_integer(column.type) and pa.types.is_integer(kind)):
        raise BadRequest(
            f"{where}: {column.name!r} is a partition column: only whole numbers are widened there",
            hint="repartition the table by other columns first",
            column=column.name,
        )


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
