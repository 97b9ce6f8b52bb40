"""A table as an operation finds it, and what is checked against it before any engine writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from raylake.config.findings import did_you_mean
from raylake.storage.place import Place
from raylake.tables.errors import (
    BadExpression,
    BadRequest,
    SchemaMismatch,
    SchemaNarrowed,
    UnknownColumn,
)
from raylake.tables.expressions import Expression, Scope, condition, value
from raylake.tables.requests import Overwrite
from raylake.tables.rows import Shape, aligned, as_partitioned, lossy, plain, refuse_nulls


@dataclass(frozen=True, slots=True)
class Subject:
    """A table as an operation finds it.

    Attributes:
        root: Where it is.
        schema: Its schema, as Arrow has Delta's types.
        configuration: Its properties.
        partition_by: Its partition columns.
        kind_of: The type of a checked expression over its columns (unqualified, or of ``target``)
            as the engine plans it. Raises BadExpression where it cannot be computed.
    """

    root: Place
    schema: pa.Schema
    configuration: Mapping[str, str]
    partition_by: tuple[str, ...]
    kind_of: Callable[[Expression, str], pa.DataType]


def where_of(subject: Subject, text: str, what: str) -> Expression:
    """The checked condition of an operation on the table's own columns."""
    return condition(text, Scope({"": subject.schema}, f"{subject.root}: {what} where"))


def whole_rows(subject: Subject, rows: pa.Table, *, adds: bool) -> pa.Table:
    """The rows with all columns of the table, as it has them.

    Raises:
        SchemaMismatch, SchemaNarrowed, BadColumnName, TimeWithoutZone: They do not fit.
        ValuesRefused: A value of a column that is NOT NULL is missing.
    """
    root, schema = str(subject.root), subject.schema
    fitted = as_partitioned(aligned(rows, Shape(root, schema, adds=adds)), subject.partition_by)
    refuse_nulls(fitted, schema, root)
    new = [field for field in fitted.schema if field.name not in schema.names]
    fields = [*schema, *new]
    there = set(fitted.schema.names)
    columns = [
        fitted.column(one.name) if one.name in there else pa.nulls(fitted.num_rows, one.type)
        for one in fields
    ]
    return pa.table(columns, schema=pa.schema(fields))


def overwriting(subject: Subject, request: Overwrite) -> tuple[pa.Table, Expression | None]:
    """The rows that an overwrite brings, as the table will have them, and what they replace.

    Raises:
        BadRequest: A part of the rows is to get another schema.
        TableError: As :func:`whole_rows`, and where the condition is none.
    """
    if request.schema != "overwrite":
        rows = whole_rows(subject, request.rows, adds=request.schema == "merge")
    elif request.where is None:
        rows = _new_shape(subject, request.rows)
    else:
        raise BadRequest(
            f"{subject.root}: overwrite: a part of the rows cannot get another schema",
            hint="leave `where` out, or schema='overwrite'",
        )
    if request.where is None:
        return rows, None
    scope = Scope({"": rows.schema}, f"{subject.root}: overwrite where")
    return rows, condition(request.where, scope)


def assignments(
    subject: Subject, wanted: Mapping[str, str], what: str, *, side: str = ""
) -> dict[str, Expression]:
    """New values of columns, each one checked to fit its column.

    Args:
        subject: The table.
        wanted: Column to its new value.
        what: The operation, for messages.
        side: What qualifies the table's columns in the SQL; empty: nothing.

    Raises:
        UnknownColumn: A column is not there.
        SchemaNarrowed, SchemaMismatch: A value does not fit its column.
        BadExpression: A value cannot be computed.
    """
    schema = subject.schema
    if not wanted:
        raise BadRequest(f"{subject.root}: {what}: no column is to get a value")
    found = {}
    for name, text in wanted.items():
        if name not in schema.names:
            raise UnknownColumn(
                f"{subject.root}: {what}: there is no column {name!r}",
                hint=did_you_mean(name, schema.names),
                column=name,
            )
        where = f"{subject.root}: {what} set {name}"
        expression = value(text, Scope({side: schema}, where))
        _refuse_unfit(subject.kind_of(expression, where), schema.field(name), expression, where)
        found[name] = expression
    return found


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


def _new_shape(subject: Subject, rows: pa.Table) -> pa.Table:
    """The rows in a schema of their own; comments and NOT NULL of columns that stay are kept."""
    root, old = subject.root, subject.schema
    shape = Shape(str(root), pa.schema([]), adds=True)
    fitted = as_partitioned(aligned(rows, shape), subject.partition_by)
    lost = [c for c in subject.partition_by if c not in fitted.schema.names]
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
    for key, text in subject.configuration.items():
        name = key.removeprefix("delta.constraints.")
        if name != key and text:
            _refuse_orphan(root, name, text, schema)
    refuse_nulls(fitted, schema, f"{root}: overwrite")
    return fitted.cast(schema)


def _refuse_orphan(root: Place, name: str, text: str, schema: pa.Schema) -> None:
    """Refuse a schema that lacks a column of a constraint."""
    try:
        # Spark quotes names with backticks.
        value(text.replace("`", '"'), Scope({"": schema}, f"{root}: constraint {name}"))
    except UnknownColumn as error:
        raise SchemaMismatch(
            f"{root}: overwrite: {error.message.partition(': ')[2]}",
            hint="keep the column, or drop the constraint first",
            constraint=name,
        ) from None
    except BadExpression:
        # Another engine's words: it is judged when rows are written.
        return
