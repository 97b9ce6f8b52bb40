"""A new table, checked before any engine makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from deltalake import Schema

from raylake.delta import log_files
from raylake.delta.schema import delta_schema
from raylake.errors import SchemaConflict
from raylake.storage.place import Place
from raylake.tables.errors import PartlyDone, SchemaMismatch, TableExists, UnknownColumn
from raylake.tables.expressions import Expression, Scope, condition
from raylake.tables.requests import Create
from raylake.tables.rows import check_names, plain


@dataclass(frozen=True, slots=True)
class NewTable:
    """A table that can be made.

    Attributes:
        schema: Its schema.
        constraints: Name to checked condition.
    """

    schema: Schema
    constraints: Mapping[str, Expression]


def new_table(root: Place, request: Create) -> NewTable:
    """The table that a request asks for.

    Raises:
        TableExists: Something is there.
        BadColumnName, UnknownColumn, SchemaMismatch, BadExpression: The request is wrong.
    """
    where = f"{root}: create"
    check_names(request.schema, where)
    schema = pa.schema([plain(field) for field in request.schema])
    for name in request.partition_by:
        if name not in schema.names:
            raise UnknownColumn(f"{where}: there is no column {name!r} to partition by")
    constraints = {
        name: condition(text, Scope({"": schema}, f"{where} constraint {name}"))
        for name, text in request.constraints.items()
    }
    if log_files.commit_versions(root) or log_files.checkpoint_versions(root):
        raise TableExists(f"{root} holds a Delta table already", hint="choose another address")
    try:
        return NewTable(delta_schema(schema), constraints)
    except SchemaConflict as error:
        raise SchemaMismatch(f"{where}: {error.message}") from None


def without_constraint(root: Place, name: str, error: Exception) -> PartlyDone:
    """The error for a new table that did not get one of its constraints."""
    return PartlyDone(
        f"{root}: create: the table is there, but constraint {name!r} was not added: {error}",
        hint="drop the table's folder and create it without the constraint, or alter it",
    )
