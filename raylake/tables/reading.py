"""What a read asks of a version, checked for every engine alike."""

from __future__ import annotations

import pyarrow as pa

from raylake.config.findings import did_you_mean
from raylake.storage.place import Place
from raylake.tables.errors import UnknownColumn
from raylake.tables.expressions import Expression, Scope, condition
from raylake.tables.requests import Read


def wanted_of(
    root: Place, schema: pa.Schema, version: int, request: Read
) -> tuple[pa.Schema, Expression | None]:
    """The columns that a read asks for, and its condition.

    Raises:
        UnknownColumn: The version has no such column.
        BadExpression, TimeWithoutZone: The condition is none.
    """
    columns = list(request.columns) if request.columns is not None else schema.names
    for name in columns:
        if name not in schema.names:
            raise UnknownColumn(
                f"{root}: version {version} has no column {name!r}",
                hint=did_you_mean(name, schema.names),
                column=name,
            )
    where = None
    if request.where is not None:
        where = condition(request.where, Scope({"": schema}, f"{root}: where"))
    return pa.schema([schema.field(name) for name in columns]), where
