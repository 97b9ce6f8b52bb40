"""Rows on their way into a table: names, types and NOT NULL, checked before any engine sees them.

Engines cast in silence (delta-rs stores 1 for 1.5 in an integer column). Here a value either fits
the table's type without loss or the whole operation is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from raylake.config.findings import did_you_mean
from raylake.delta.partition_values import reads_as_null
from raylake.delta.schema import arrow_schema, delta_schema, refuse_names
from raylake.errors import SchemaConflict
from raylake.tables.errors import (
    BadColumnName,
    SchemaMismatch,
    SchemaNarrowed,
    TimeWithoutZone,
    ValuesRefused,
)

CHANGE_COLUMNS: Final = ("_change_type", "_commit_version", "_commit_timestamp")
"""What the change feed adds to the table's columns."""
_ENGINES_OWN: Final = "__delta_rs"
_REFUSED: Final = re.compile(r"[.`\"\x00-\x1f\x7f]")
_DIGITS: Final = {8: 3, 16: 5, 32: 10, 64: 19}


def check_names(schema: pa.Schema, where: str) -> None:
    """Refuse names that cannot be columns, are reserved, or differ from each other in case alone.

    Raises:
        BadColumnName: Naming the column.
    """
    for name in schema.names:
        if name.lower() in CHANGE_COLUMNS or name.lower().startswith(_ENGINES_OWN):
            raise BadColumnName(
                f"{where}: the name {name!r} is reserved", hint="rename the column", column=name
            )
        if _REFUSED.search(name):
            raise BadColumnName(
                f"{where}: {name!r} cannot be a column's name",
                hint="use letters, digits and underscores",
                column=name,
            )
    try:
        refuse_names(schema, where)
    except SchemaConflict as error:
        raise BadColumnName(error.message, hint=error.hint) from None


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rows of a request must fit.

    Attributes:
        table: The table's address.
        schema: Its schema.
        adds: Whether columns that it lacks are added to it.
        ignored: Columns of the rows that are read and not written.
    """

    table: str
    schema: pa.Schema
    adds: bool = False
    ignored: frozenset[str] = frozenset()


def aligned(rows: pa.Table, shape: Shape) -> pa.Table:
    """The rows in the table's types, in the order of its columns, new columns last.

    Columns of the table that the rows lack stay away.

    Raises:
        BadColumnName: A name of a new column cannot be one.
        SchemaMismatch: A column is new and may not be added, or has another kind of type.
        SchemaNarrowed: A value would lose something.
        TimeWithoutZone: Times without a zone are to become points in time.
    """
    check_names(rows.schema, shape.table)
    _refuse_case_clash(rows.schema.names, shape)
    known = [name for name in shape.schema.names if name in rows.schema.names]
    new = [n for n in rows.schema.names if n not in shape.schema.names]
    extra = [name for name in new if name not in shape.ignored]
    if extra and not shape.adds:
        raise SchemaMismatch(
            f"{shape.table}: the table has no column {', '.join(map(repr, extra))}",
            hint=did_you_mean(extra[0], shape.schema.names) + "; schema='merge' adds columns",
            columns=extra,
        )
    columns = [_fitted(rows, shape.schema.field(name), shape.table) for name in known]
    fields = [shape.schema.field(name) for name in known]
    for name in new:
        fields.append(plain(rows.schema.field(name)))
        columns.append(_fitted(rows, fields[-1], shape.table))
    # Nullable: what NOT NULL means is checked with a name, and only for rows that are written.
    return pa.table(columns, schema=pa.schema([one.with_nullable(True) for one in fields]))


def as_partitioned(rows: pa.Table, partition_by: Iterable[str]) -> pa.Table:
    """The rows as a table with these partition columns will have them.

    Such a column cannot hold every text: what :func:`reads_as_null` says is null there.
    """
    for name in partition_by:
        if name not in rows.schema.names:
            continue
        column, field = rows.column(name), rows.schema.field(name)
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            filled = pc.if_else(reads_as_null(column), pa.scalar(None, field.type), column)
            rows = rows.set_column(rows.schema.get_field_index(name), field, filled)
    return rows


def refuse_null_texts(
    rows: pa.Table | pa.RecordBatch, partition_by: Iterable[str], where: str
) -> None:
    """Refuse rows whose text would become null when their column becomes a partition column.

    Delta's protocol has an empty text for null among partition values of any type, and folders are
    written and read with a name for it.

    Raises:
        ValuesRefused: Naming the column.
    """
    for name in partition_by:
        kind = rows.schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            continue
        mask = reads_as_null(rows.column(name))
        if pc.any(mask).as_py():
            text = rows.column(name).filter(mask)[0].as_py() or "an empty text"
            raise ValuesRefused(
                f"{where}: rows have {text} in {name!r}; among partition values of a "
                "Delta table that is null",
                hint=f"update these rows to null or to a text first, or leave {name!r} out of the "
                "partition columns",
                column=name,
            )


def refuse_nulls(rows: pa.Table, schema: pa.Schema, where: str) -> None:
    """Refuse rows without a value in a column that is NOT NULL.

    Raises:
        ValuesRefused: Naming the column and how many rows.
    """
    for field in schema:
        if field.nullable:
            continue
        there = field.name in rows.schema.names
        missing = rows.column(field.name).null_count if there else rows.num_rows
        if missing:
            raise ValuesRefused(
                f"{where}: column {field.name!r} is NOT NULL, and {missing} of {rows.num_rows} "
                "rows have no value",
                hint="fill the column, or leave these rows out",
                column=field.name,
                rows=missing,
            )


def plain(field: pa.Field) -> pa.Field:
    """A field in the Arrow type that its Delta type has, its nullability and comment kept.

    Raises:
        SchemaMismatch: Delta has no such type.
    """
    try:
        found = arrow_schema(delta_schema(pa.schema([field.with_type(_common(field.type))])))
    except SchemaConflict as error:
        raise SchemaMismatch(f"column {field.name!r}: {error.message}") from None
    return found.field(0)


def lossy(source: pa.DataType, target: pa.DataType) -> str:
    """Why values of one type may not go into another; empty where each one fits without loss."""
    source = _common(source)
    if source.equals(target) or pa.types.is_null(source):
        return ""
    if _is_number(source) and _is_number(target):
        return "" if _number_fits(source, target) else f"{source} does not fit {target}"
    if pa.types.is_timestamp(source) and pa.types.is_timestamp(target):
        if (source.tz is None) == (target.tz is None):
            return ""
        return "a time without a zone is no point in time" if target.tz else "the zone would go"
    if _same_in_delta(source, target):
        return ""
    return f"{source} is not {target}"


def without_views(schema: pa.Schema) -> pa.Schema:
    """The schema with plain strings and bytes, which every reader of Arrow knows."""
    return pa.schema([f.with_type(_common(f.type)) for f in schema], metadata=schema.metadata)


def plain_text(kind: pa.DataType) -> pa.DataType:
    """The type with plain strings and bytes in the place of views, at any depth."""
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([one.with_type(plain_text(one.type)) for one in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(plain_text(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(plain_text(kind.key_type), plain_text(kind.item_type))
    return kind


def _fitted(rows: pa.Table, field: pa.Field, where: str) -> pa.ChunkedArray:
    column = rows.column(field.name)
    reason = lossy(column.type, field.type)
    if reason:
        raise _unfit(column.type, field, where, reason)
    try:
        return pc.cast(column, _common(column.type)).cast(field.type, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaNarrowed(
            f"{where}: column {field.name!r}: a value does not fit {field.type}: {error}",
            hint="cast it in the source",
            column=field.name,
        ) from None


def _unfit(source: pa.DataType, field: pa.Field, where: str, reason: str) -> Exception:
    text = f"{where}: column {field.name!r}: {reason}"
    if pa.types.is_timestamp(source) and pa.types.is_timestamp(field.type) and field.type.tz:
        return TimeWithoutZone(text, hint="give the source's times a zone", column=field.name)
    if _is_number(source) and _is_number(field.type):
        return SchemaNarrowed(
            text,
            hint="cast it in the source, or overwrite the table with schema='overwrite'",
            column=field.name,
        )
    return SchemaMismatch(text, hint="cast it in the source", column=field.name)


def _refuse_case_clash(names: Iterable[str], shape: Shape) -> None:
    folded = {name.lower(): name for name in shape.schema.names}
    for name in names:
        other = folded.get(name.lower(), name)
        if other != name and name not in shape.schema.names:
            raise BadColumnName(
                f"{shape.table}: column {name!r} differs from the table's {other!r} only in case",
                hint=f"call it {other!r}",
                column=name,
            )


def _common(kind: pa.DataType) -> pa.DataType:
    """The type as Delta's reader would give it, for kinds that only say how values are kept."""
    if pa.types.is_dictionary(kind):
        return _common(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_unsigned_integer(kind):
        # The next wider one holds every value; of 64 bits the cast finds those that are too big.
        return {8: pa.int16(), 16: pa.int32()}.get(kind.bit_width, pa.int64())
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp("us", tz="UTC")
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us")
    return kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _number_fits(source: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_integer(source) and pa.types.is_integer(target):
        return bool(source.bit_width <= target.bit_width)
    if pa.types.is_floating(target):
        room = {16: 8, 32: 16, 64: 32}[target.bit_width]
        if pa.types.is_integer(source):
            return bool(source.bit_width <= room)
        return bool(pa.types.is_floating(source) and source.bit_width <= target.bit_width)
    if not pa.types.is_decimal(target):
        return False
    if pa.types.is_integer(source):
        return bool(_DIGITS[source.bit_width] <= target.precision - target.scale)
    if not pa.types.is_decimal(source):
        return False
    digits = source.precision - source.scale
    return bool(source.scale <= target.scale and digits <= target.precision - target.scale)


def _same_in_delta(source: pa.DataType, target: pa.DataType) -> bool:
    try:
        texts = [delta_schema(pa.schema([("x", kind)])).to_json() for kind in (source, target)]
    except SchemaConflict:
        return False
    return bool(texts[0] == texts[1])
