"""Properties, constraints and columns: commits of a table's metadata, of our own making.

delta-rs's ``alter`` is not used: it lists features that nobody asked for (``variantType``, with
which Spark 3.5 cannot read the table), adds NOT NULL columns to tables with rows, and cannot unset
a property.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from raylake.config.findings import did_you_mean
from raylake.delta.log_commit import LogCommit, commit_after, metadata_line
from raylake.delta.protocols import asked_for, protocol_line
from raylake.delta.schema import arrow_schema, delta_schema
from raylake.errors import SchemaConflict
from raylake.storage.place import Place
from raylake.tables.delta_rs_tasks import Task, Unneeded
from raylake.tables.errors import (
    BadColumnName,
    BadRequest,
    FeatureUnsupported,
    SchemaMismatch,
    UnknownColumn,
    ValuesRefused,
)
from raylake.tables.expressions import Expression, Scope, condition, quoted
from raylake.tables.results import RowCounts
from raylake.tables.rewrite_parts import fields_json
from raylake.tables.rows import check_names, plain
from raylake.tables.table_properties import check_properties, refuse_reserved
from raylake.tables.upkeep_requests import (
    AddColumns,
    AddConstraint,
    DropColumn,
    DropConstraint,
    RenameColumn,
    SetNotNull,
    SetProperties,
)

CONSTRAINT: Final = "delta.constraints."
_NAME: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@dataclass(frozen=True, slots=True)
class _Change:
    """Another metadata for a table.

    Attributes:
        operation: What it is called in the history.
        parameters: Its parameters.
        configuration: The properties; None: as they are.
        schema_json: The schema; None: as it is.
    """

    operation: str
    parameters: Mapping[str, str]
    configuration: Mapping[str, str] | None = None
    schema_json: str | None = None


def properties_task(root: Place, handle: DeltaTable, request: SetProperties) -> Task | Unneeded:
    """Properties are set and unset."""
    where = f"{root}: properties"
    old = dict(handle.metadata().configuration)
    check_properties(request.properties, where)
    for key in request.unset:
        refuse_reserved(key, where)
        if key not in old:
            raise BadRequest(
                f"{where}: {key!r} is not set", hint=did_you_mean(key, list(old)), property=key
            )
    _check_stats_columns(request.properties, arrow_schema(handle.schema()), where)
    new = {key: text for key, text in old.items() if key not in request.unset}
    new.update(request.properties)
    if new == old:
        return Unneeded("the properties are so already")
    parameters = {"properties": json.dumps(dict(request.properties))}
    if request.unset:
        parameters["unset"] = json.dumps(list(request.unset))
    return _task(root, handle, _Change("SET TBLPROPERTIES", parameters, new))


Breaking = Callable[[DeltaTable, Expression], int]
"""How many rows of a handle's version a condition is false for, or unknown."""


def breaking(handle: DeltaTable, rule: Expression) -> int:
    """:data:`Breaking` by delta-rs."""
    columns = [handle.schema().fields[0].name]
    where = f"NOT COALESCE({rule.sql()}, FALSE)"
    found = pa.RecordBatchReader.from_stream(handle.scan(columns=columns, predicate=where))
    return sum(batch.num_rows for batch in found)


def add_constraint_task(
    root: Place, handle: DeltaTable, request: AddConstraint, count: Breaking = breaking
) -> Task:
    """A CHECK constraint is added, once no row breaks it.

    Raises:
        ValuesRefused: Rows break it; says how many.
    """
    where = f"{root}: constraint {request.name}"
    old = dict(handle.metadata().configuration)
    if not _NAME.match(request.name):
        raise BadRequest(
            f"{where}: this cannot be a constraint's name", hint="use letters, digits, underscores"
        )
    taken = [key for key in old if key.lower() == f"{CONSTRAINT}{request.name}".lower()]
    if taken:
        raise BadRequest(f"{where}: it is there: {old[taken[0]]}", hint="drop it first")
    checked = condition(request.condition, Scope({"": arrow_schema(handle.schema())}, where))
    broken = count(handle, checked)
    if broken:
        raise ValuesRefused(
            f"{where}: {broken} rows of the table break {request.condition}",
            hint="mend or delete these rows first; null breaks a condition too",
            rows=broken,
        )
    # In Spark, double quotes are a text's; delta-rs reads both ways of quoting.
    text = checked.sql("spark")
    parameters = {"name": request.name, "expr": text}
    new = {**old, f"{CONSTRAINT}{request.name}": text}
    return _task(root, handle, _Change("ADD CONSTRAINT", parameters, new))


def drop_constraint_task(root: Place, handle: DeltaTable, request: DropConstraint) -> Task:
    """A CHECK constraint is taken off."""
    old = dict(handle.metadata().configuration)
    wanted = f"{CONSTRAINT}{request.name}".lower()
    new = {key: text for key, text in old.items() if key.lower() != wanted}
    if new == old:
        names = [k.removeprefix(CONSTRAINT) for k in old if k.startswith(CONSTRAINT)]
        raise BadRequest(
            f"{root}: there is no constraint {request.name!r}",
            hint=did_you_mean(request.name, names),
        )
    return _task(root, handle, _Change("DROP CONSTRAINT", {"name": request.name}, new))


def not_null_task(
    root: Place, handle: DeltaTable, request: SetNotNull, count: Breaking = breaking
) -> Task | Unneeded:
    """NOT NULL is set, once each row has a value, or taken off.

    Raises:
        ValuesRefused: Rows have no value; says how many.
    """
    schema = arrow_schema(handle.schema())
    where = f"{root}: not null {request.column}"
    require_column(schema, request.column, where)
    if schema.field(request.column).nullable != request.required:
        return Unneeded("the column is so already")
    rule = condition(f"{quoted(request.column)} IS NOT NULL", Scope({"": schema}, where))
    missing = count(handle, rule) if request.required else 0
    if missing:
        raise ValuesRefused(
            f"{where}: {missing} rows have no value",
            hint="fill the column first",
            column=request.column,
            rows=missing,
        )
    fields = fields_json(handle.schema().to_json())
    for one in fields:
        if one["name"] == request.column:
            one["nullable"] = not request.required
    column = json.dumps({"column": request.column, "nullable": not request.required})
    return _task(root, handle, _Change("CHANGE COLUMN", {"column": column}, None, _schema(fields)))


def add_columns_task(root: Place, handle: DeltaTable, request: AddColumns) -> Task | Unneeded:
    """Columns are added at the end.

    Raises:
        BadColumnName: A name cannot be one, or is taken.
        ValuesRefused: A column is NOT NULL, and rows that are there have no value.
    """
    where = f"{root}: add columns"
    old = arrow_schema(handle.schema())
    if not len(request.columns):
        return Unneeded("no column is named")
    check_names(request.columns, where)
    there = {name.lower(): name for name in old.names}
    for one in request.columns:
        if one.name.lower() in there:
            raise BadColumnName(
                f"{where}: the table has a column {there[one.name.lower()]!r}", column=one.name
            )
        if not one.nullable:
            raise ValuesRefused(
                f"{where}: rows that are there have no value of {one.name!r}",
                hint="add it nullable, fill it, then set NOT NULL",
                column=one.name,
            )
    try:
        added = delta_schema(pa.schema([plain(one) for one in request.columns]))
    except SchemaConflict as error:
        raise SchemaMismatch(f"{where}: {error.message}") from None
    fields = [*fields_json(handle.schema().to_json()), *fields_json(added.to_json())]
    parameters = {"columns": json.dumps([one.name for one in request.columns])}
    return _task(root, handle, _Change("ADD COLUMNS", parameters, None, _schema(fields)))


def refuse_mapped(root: Place, handle: DeltaTable, request: RenameColumn | DropColumn) -> Task:
    """Names of columns stay: without column mapping they are those in the files.

    Raises:
        FeatureUnsupported: Always, but for a column that is not there.
    """
    verb = "rename" if isinstance(request, RenameColumn) else "drop"
    require_column(arrow_schema(handle.schema()), request.column, f"{root}: {verb}")
    raise FeatureUnsupported(
        f"{root}: delta-rs cannot {verb} column {request.column!r}: that needs columnMapping",
        hint="use engine: spark, or overwrite the table with schema='overwrite'",
        feature="columnMapping",
    )


def require_column(schema: pa.Schema, name: str, where: str) -> None:
    """Refuse a column that is not there.

    Raises:
        UnknownColumn: With the name that is nearest.
    """
    if name not in schema.names:
        raise UnknownColumn(
            f"{where}: there is no column {name!r}",
            hint=did_you_mean(name, schema.names),
            column=name,
        )


def _task(root: Place, handle: DeltaTable, change: _Change) -> Task:
    version = int(handle.version())
    configuration, schema_json = change.configuration, change.schema_json
    if configuration is None:
        configuration = dict(handle.metadata().configuration)
    metadata = metadata_line(handle, configuration=configuration, schema_json=schema_json)
    needed = asked_for(configuration, metadata["metaData"]["schemaString"])
    protocol = protocol_line(handle, needed)

    def run(properties: CommitProperties) -> None:
        actions = [metadata] if protocol is None else [protocol, metadata]
        commit = LogCommit(change.operation, actions, change.parameters)
        commit_after(root, version, commit.signed(properties))

    return Task(run, lambda _: RowCounts())


def _check_stats_columns(wanted: Mapping[str, str], schema: pa.Schema, where: str) -> None:
    named = wanted.get("delta.dataSkippingStatsColumns", "")
    for name in (one.strip().strip("`") for one in named.split(",") if one.strip()):
        require_column(schema, name.split(".")[0], where)


def _schema(fields: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"type": "struct", "fields": list(fields)})
