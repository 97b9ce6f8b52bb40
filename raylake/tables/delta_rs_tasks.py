"""What each operation asks of delta-rs, and what it counts; all is checked before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import DeltaError

from raylake.config.findings import did_you_mean
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.delta_rs_open import opened
from raylake.tables.delta_rs_reads import files, rows_by_file
from raylake.tables.errors import (
    BadExpression,
    BadRequest,
    SchemaMismatch,
    SchemaNarrowed,
    UnknownColumn,
)
from raylake.tables.expressions import Expression, Scope, condition, quoted, value
from raylake.tables.requests import Append, Delete, Overwrite, Restore, Update
from raylake.tables.results import RowCounts
from raylake.tables.rows import Shape, aligned, lossy, plain, refuse_nulls
from raylake.tables.versions import Versions

Metrics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """An operation that is ready to run.

    Attributes:
        run: Runs it with the properties of its commit.
        count: Rows by outcome, from what the engine counted.
        retries: How often delta-rs may put the commit behind another writer's by itself; None for
            its default. 0 where what was read decides what is written.
    """

    run: Callable[[CommitProperties], object]
    count: Callable[[Metrics], RowCounts]
    retries: int | None = 0


def append_task(root: Place, handle: DeltaTable, request: Append) -> Task | None:
    """Rows are added; None when there are none."""
    rows = _whole_rows(root, handle, request.rows, adds=request.schema == "merge")
    if not rows.num_rows:
        return None

    def run(properties: CommitProperties) -> None:
        write_deltalake(
            handle,
            rows,
            mode="append",
            schema_mode="merge" if request.schema == "merge" else None,
            commit_properties=properties,
        )

    return Task(run, lambda _: RowCounts(source=rows.num_rows, inserted=rows.num_rows), None)


def overwrite_task(root: Place, handle: DeltaTable, request: Overwrite) -> Task:
    """All rows, or those of a condition, are replaced."""
    if request.schema == "overwrite":
        if request.where is not None:
            raise BadRequest(
                f"{root}: overwrite: a part of the rows cannot get another schema",
                hint="leave `where` out, or schema='overwrite'",
            )
        rows = _new_shape(root, handle, request.rows)
    else:
        rows = _whole_rows(root, handle, request.rows, adds=request.schema == "merge")
    where = None
    if request.where is not None:
        scope = Scope({"": rows.schema}, f"{root}: overwrite where")
        where = condition(request.where, scope).sql()
    before = sum(rows_by_file(handle).values())

    def run(properties: CommitProperties) -> None:
        write_deltalake(
            handle,
            rows,
            mode="overwrite",
            predicate=where,
            schema_mode=None if request.schema == "strict" else request.schema,
            commit_properties=properties,
        )

    def count(_: Metrics) -> RowCounts:
        inserted = rows.num_rows
        deleted = before
        if where is not None:
            # The rows of rewritten files that stayed are on both sides.
            deleted = before + inserted - sum(rows_by_file(handle).values())
        return RowCounts(source=inserted, inserted=inserted, deleted=deleted)

    return Task(run, count)


def delete_task(root: Place, handle: DeltaTable, request: Delete) -> Task:
    """Rows are taken away."""
    scope = Scope({"": arrow_schema(handle.schema())}, f"{root}: delete where")
    where = condition(request.where, scope).sql()
    before = sum(rows_by_file(handle).values())

    def count(metrics: Metrics) -> RowCounts:
        # Whole files leave without being read: then delta-rs does not say how many rows.
        deleted = metrics.get("num_deleted_rows")
        if deleted is None:
            deleted = before - sum(rows_by_file(handle).values())
        return RowCounts(deleted=int(deleted), copied=int(metrics.get("num_copied_rows") or 0))

    return Task(lambda properties: handle.delete(where, commit_properties=properties), count)


def update_task(root: Place, handle: DeltaTable, request: Update) -> Task:
    """Columns get new values."""
    updates = assignments(root, handle, request.set, "update")
    where = None
    if request.where is not None:
        scope = Scope({"": arrow_schema(handle.schema())}, f"{root}: update where")
        where = condition(request.where, scope).sql()

    def run(properties: CommitProperties) -> None:
        handle.update(
            updates=updates,
            predicate=where,
            error_on_type_mismatch=True,
            commit_properties=properties,
        )

    def count(metrics: Metrics) -> RowCounts:
        return RowCounts(
            updated=int(metrics.get("num_updated_rows") or 0),
            copied=int(metrics.get("num_copied_rows") or 0),
        )

    return Task(run, count)


def restore_task(root: Place, handle: DeltaTable, request: Restore) -> Task | None:
    """The table becomes what it was; None when it is that already."""
    if request.version is None and request.at is None:
        raise BadRequest(f"{root}: restore: neither a version nor a time is given")
    versions = Versions(root)
    target = versions.resolve(request.version, request.at)
    if target == handle.version():
        return None
    versions.require_files(files(opened(root, target)) - files(handle), target)
    before = rows_by_file(handle)

    def count(_: Metrics) -> RowCounts:
        after = rows_by_file(handle)
        return RowCounts(
            inserted=sum(rows for path, rows in after.items() if path not in before),
            deleted=sum(rows for path, rows in before.items() if path not in after),
        )

    return Task(lambda properties: handle.restore(target, commit_properties=properties), count)


def assignments(
    root: Place, handle: DeltaTable, wanted: Mapping[str, str], what: str, *, side: str = ""
) -> dict[str, str]:
    """New values of columns as SQL, each one checked to fit its column.

    Args:
        root: The table.
        handle: Its handle.
        wanted: Column to its new value.
        what: The operation, for messages.
        side: What qualifies the table's columns in the SQL; empty: nothing.

    Raises:
        UnknownColumn: A column is not there.
        SchemaNarrowed, SchemaMismatch: A value does not fit its column.
        BadExpression: A value cannot be computed.
    """
    schema = arrow_schema(handle.schema())
    if not wanted:
        raise BadRequest(f"{root}: {what}: no column is to get a value")
    found = {}
    for name, text in wanted.items():
        if name not in schema.names:
            raise UnknownColumn(
                f"{root}: {what}: there is no column {name!r}",
                hint=did_you_mean(name, schema.names),
                column=name,
            )
        where = f"{root}: {what} set {name}"
        expression = value(text, Scope({side: schema}, where))
        _refuse_unfit(_kind(handle, expression, where), schema.field(name), expression, where)
        found[name] = expression.sql()
    return found


def _kind(handle: DeltaTable, expression: Expression, where: str) -> pa.DataType:
    """The type of an expression, as delta-rs plans it; nothing is read."""
    query = f"SELECT {expression.sql()} AS {quoted('found')} FROM target LIMIT 0"  # noqa: S608
    try:
        reader = QueryBuilder().register("target", handle).execute(query)
    except DeltaError as error:
        raise BadExpression(
            f"{where}: the value cannot be computed: {str(error).splitlines()[0]}"
        ) from error
    return pa.schema(reader.schema).field(0).type


def _refuse_unfit(kind: pa.DataType, column: pa.Field, expression: Expression, where: str) -> None:
    if pa.types.is_integer(kind) and pa.types.is_integer(column.type):
        # Counting is done in 64 bits; a sum that does not fit fails when it is written.
        return
    if expression.fits(column.type):
        return
    reason = lossy(kind, column.type)
    if reason:
        numbers = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
        error = SchemaNarrowed if numbers else SchemaMismatch
        raise error(
            f"{where}: {reason}", hint="write cast(… as …) where that is meant", column=column.name
        )


def _whole_rows(root: Place, handle: DeltaTable, rows: pa.Table, *, adds: bool) -> pa.Table:
    """The rows with all columns of the table, as it has them."""
    schema = arrow_schema(handle.schema())
    fitted = aligned(rows, Shape(str(root), schema, adds=adds))
    refuse_nulls(fitted, schema, str(root))
    new = [field for field in fitted.schema if field.name not in schema.names]
    fields = [*schema, *new]
    there = set(fitted.schema.names)
    columns = [
        fitted.column(one.name) if one.name in there else pa.nulls(fitted.num_rows, one.type)
        for one in fields
    ]
    return pa.table(columns, schema=pa.schema(fields))


def _new_shape(root: Place, handle: DeltaTable, rows: pa.Table) -> pa.Table:
    """The rows in a schema of their own; comments and NOT NULL of columns that stay are kept."""
    old = arrow_schema(handle.schema())
    configuration = handle.metadata().configuration
    fitted = aligned(rows, Shape(str(root), pa.schema([]), adds=True))
    lost = [c for c in handle.metadata().partition_columns if c not in fitted.schema.names]
    if lost:
        raise SchemaMismatch(
            f"{root}: overwrite: the rows lack the partition column {lost[0]!r}", column=lost[0]
        )
    fields = []
    for one in fitted.schema:
        before = old.field(one.name) if one.name in old.names else one
        kept = {**(before.metadata or {}), **(one.metadata or {})}
        required = not before.nullable or not rows.schema.field(one.name).nullable
        fields.append(plain(one).with_nullable(not required).with_metadata(kept))
    schema = pa.schema(fields)
    for key, text in configuration.items():
        name = key.removeprefix("delta.constraints.")
        if name != key:
            _refuse_orphan(root, name, text, schema)
    refuse_nulls(fitted, schema, f"{root}: overwrite")
    return fitted.cast(schema)


def _refuse_orphan(root: Place, name: str, text: str, schema: pa.Schema) -> None:
    """Refuse a schema that lacks a column of a constraint."""
    try:
        value(text, Scope({"": schema}, f"{root}: constraint {name}"))
    except UnknownColumn as error:
        raise SchemaMismatch(
            f"{root}: overwrite: {error.message.partition(': ')[2]}",
            hint="keep the column, or drop the constraint first",
            constraint=name,
        ) from None
    except BadExpression:
        # Another engine's words: it is judged when rows are written.
        return
