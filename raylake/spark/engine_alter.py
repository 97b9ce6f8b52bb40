"""ALTER TABLE by Spark itself: for what a table uses, or is to use, that only Spark writes.

Each request is one statement, and so one version or none. Spark checks the rows that are there.
Its ALTER TABLE carries no number of an owner's slot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
from pyspark.sql.types import StructType
from sqlglot import exp

from raylake.delta.schema import delta_schema
from raylake.spark.engine_open import address
from raylake.spark.engine_tasks import Task, Work
from raylake.storage.objects import StorePath
from raylake.tables.delta_rs_alter import require_column
from raylake.tables.delta_rs_tasks import Unneeded
from raylake.tables.errors import BadColumnName, BadRequest, FeatureUnsupported
from raylake.tables.expressions import Scope, condition, quoted
from raylake.tables.likeness import SPARK
from raylake.tables.results import RowCounts
from raylake.tables.rows import check_names, plain
from raylake.tables.table_properties import check_properties, refuse_reserved
from raylake.tables.upkeep_requests import (
    AddColumns,
    AddConstraint,
    Alter,
    DropColumn,
    DropConstraint,
    RenameColumn,
    SetNotNull,
    SetProperties,
)

BY_SPARK: Final = "Spark's own ALTER TABLE, since only Spark writes what it asks for"
MAPPING: Final = "delta.columnMapping.mode"
MAPPING_WRITER: Final = 5
_MAPPED: Final = {
    "delta.minReaderVersion": "2",
    "delta.minWriterVersion": str(MAPPING_WRITER),
}
"""What Delta wants to be told when column mapping is switched on."""


def native_task(work: Work, request: Alter, *, fenced: bool) -> Task | Unneeded:
    """A change of metadata as one statement of Spark's.

    Raises:
        FeatureUnsupported: Under a slot, or the table has no column mapping and needs it.
        BadRequest: It cannot be one statement, or means nothing.
    """
    what = type(request).__name__.lower()
    if fenced:
        raise FeatureUnsupported(
            f"{work.root}: {what}: Spark's ALTER TABLE cannot carry the number of the owner's slot",
            hint="no engine can do it to a table that has an owner",
            feature="ALTER TABLE under a slot",
        )
    change = _change(work, request)
    if not change:
        return Unneeded("the table is so already")
    if isinstance(work.root, StorePath):
        raise FeatureUnsupported(
            f"{work.root}: {what}: Spark's ALTER TABLE commits itself, and in a store it could put "
            "its commit over another one",
            hint="no engine of RayLake's can do it to a table in a store; run it in Spark itself "
            "while nobody else writes the table",
            feature="ALTER TABLE in a store",
        )
    table = address(work.root, work.session).replace("`", "``")
    statement = f"ALTER TABLE delta.`{table}` {change}"
    return Task(lambda at: at.session.sql(statement), lambda _: RowCounts(), BY_SPARK)


def _change(work: Work, request: Alter) -> str:
    """What is to be altered, checked; empty for nothing."""
    if isinstance(request, SetProperties):
        return _properties(work, request)
    if isinstance(request, RenameColumn | DropColumn):
        return _mapped(work, request)
    if isinstance(request, AddColumns):
        return _columns(work, request.columns)
    if isinstance(request, SetNotNull):
        require_column(work.found.schema, request.column, str(work.root))
        if work.found.schema.field(request.column).nullable != request.required:
            return ""
        if request.required:
            raise FeatureUnsupported(
                f"{work.root}: Spark cannot make a column that is there NOT NULL",
                hint=f"AddConstraint(name, '{request.column} IS NOT NULL') asks the same of rows",
                feature="NOT NULL afterwards",
            )
        return f"ALTER COLUMN {quoted(request.column, dialect=SPARK)} DROP NOT NULL"
    if isinstance(request, AddConstraint):
        scope = Scope({"": work.found.schema}, f"{work.root}: constraint {request.name}")
        rule = condition(request.condition, scope).sql(SPARK)
        return f"ADD CONSTRAINT {quoted(request.name, dialect=SPARK)} CHECK ({rule})"
    if isinstance(request, DropConstraint):
        return f"DROP CONSTRAINT {quoted(request.name, dialect=SPARK)}"
    what = type(request).__name__.lower()
    raise FeatureUnsupported(
        f"{work.root}: {what}: the table's files would be written anew, and only Spark can commit "
        "to it",
        hint="overwrite it with schema='overwrite', or take the feature off the table",
        feature=what,
    )


def _properties(work: Work, request: SetProperties) -> str:
    where = f"{work.root}: properties"
    check_properties(request.properties, where, spark=True)
    for key in request.unset:
        refuse_reserved(key, where)
    if request.properties and request.unset:
        raise BadRequest(
            f"{where}: Spark sets and unsets properties in two versions",
            hint="ask for the one, then for the other",
        )
    if request.unset:
        return f"UNSET TBLPROPERTIES ({', '.join(_text(key) for key in request.unset)})"
    if all(work.found.configuration.get(k) == v for k, v in request.properties.items()):
        return ""
    wanted: Mapping[str, str] = request.properties
    if MAPPING in wanted and work.found.log.protocol.min_writer < MAPPING_WRITER:
        wanted = {**wanted, **_MAPPED}
    pairs = (f"{_text(key)} = {_text(value)}" for key, value in wanted.items())
    return f"SET TBLPROPERTIES ({', '.join(pairs)})"


def _mapped(work: Work, request: RenameColumn | DropColumn) -> str:
    schema, column = work.found.schema, quoted(request.column, dialect=SPARK)
    verb = "rename" if isinstance(request, RenameColumn) else "drop"
    require_column(schema, request.column, f"{work.root}: {verb}")
    if work.found.configuration.get(MAPPING, "none") == "none":
        raise FeatureUnsupported(
            f"{work.root}: {verb} {request.column!r}: the table has no columnMapping",
            hint=f"set {MAPPING} to name first, with engine: spark; from then on only Spark writes "
            "the table",
            feature="columnMapping",
        )
    if isinstance(request, DropColumn):
        return f"DROP COLUMN {column}"
    check_names(pa.schema([schema.field(request.column).with_name(request.to)]), str(work.root))
    taken = [name for name in schema.names if name.lower() == request.to.lower()]
    if taken and taken != [request.column]:
        raise BadColumnName(
            f"{work.root}: rename: the table has a column {taken[0]!r}", column=request.to
        )
    return f"RENAME COLUMN {column} TO {quoted(request.to, dialect=SPARK)}"


def _columns(work: Work, columns: pa.Schema) -> str:
    where = f"{work.root}: add columns"
    check_names(columns, where)
    there = {name.lower() for name in work.found.schema.names}
    for one in columns:
        if one.name.lower() in there or not one.nullable:
            raise BadColumnName(
                f"{where}: {one.name!r} is a column already, or is NOT NULL, which rows that are "
                "there cannot fulfil",
                column=one.name,
            )
    found = delta_schema(pa.schema([plain(one) for one in columns]))
    texts = []
    for field in StructType.fromJson(json.loads(found.to_json())):
        comment = field.metadata.get("comment") if field.metadata else None
        told = f" COMMENT {_text(comment)}" if comment else ""
        texts.append(f"{quoted(field.name, dialect=SPARK)} {field.dataType.simpleString()}{told}")
    return f"ADD COLUMNS ({', '.join(texts)})" if texts else ""


def _text(value: str) -> str:
    """A text as Spark's SQL has it."""
    return str(exp.Literal.string(value).sql(SPARK))
