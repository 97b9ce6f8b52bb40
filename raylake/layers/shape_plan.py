"""What rows of a source become in a table, worked out for the source's columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from raylake.codecs.types import normalise_type, parse_type
from raylake.config.columns import PartitionField, parse_partition
from raylake.config.findings import did_you_mean
from raylake.layers.conversion import convertible
from raylake.layers.derived import TIES
from raylake.layers.envelopes import (
    KEY,
    TOMBSTONE,
    envelope_columns,
    envelope_order,
    flat_schema,
    payload_of,
    tie_columns,
)
from raylake.layers.errors import TransformRefused
from raylake.layers.row_spec import RowWiseSpec
from raylake.tables.errors import BadRequest
from raylake.tables.expressions import Expression, Scope, condition, value
from raylake.tables.requests import Create

_ORDERED: Final = (
    pa.types.is_integer,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_string,
)


@dataclass(frozen=True, slots=True)
class Output:
    """A column of shaped rows.

    Attributes:
        field: Its name and type.
        column: The column of the converted rows that it is; empty: a value.
        value: The value.
    """

    field: pa.Field
    column: str
    value: Expression | None = None


@dataclass(frozen=True, slots=True)
class ShapePlan:
    """How rows of a source are shaped.

    Attributes:
        flat: Their columns out of their envelopes.
        types: Of these, those that are converted.
        where: Which rows are taken.
        outputs: The columns that are made of them.
        partitions: The columns that are made of those.
        order: The columns of shaped rows that order them: sequence, then ties.
        sequence: How many of these are the sequence.
        read: The columns of the source that all of this needs.
    """

    flat: pa.Schema
    types: dict[str, pa.DataType]
    where: Expression | None
    outputs: tuple[Output, ...]
    partitions: tuple[PartitionField, ...]
    order: tuple[str, ...]
    sequence: int
    read: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns of shaped rows."""
        fields = [one.field for one in self.outputs]
        kinds = {one.name: one.type for one in fields}
        for one in self.partitions:
            kind = pa.date32() if one.transform == "date" else kinds[one.column]
            fields.append(pa.field(one.name, kind))
        return pa.schema(fields)

    def source_of(self, name: str) -> str:
        """The column of flat rows that a column of shaped ones is; empty: a value."""
        return next((one.column for one in self.outputs if one.field.name == name), "")

    def only(self, rows: pa.Table, names: Sequence[str]) -> pa.Table:
        """Shaped rows of which only some columns have values."""
        columns = [
            rows.column(one.name) if one.name in names else pa.nulls(rows.num_rows, one.type)
            for one in self.schema
        ]
        return pa.table(columns, schema=self.schema)


def plan_of(spec: RowWiseSpec, source: pa.Schema) -> ShapePlan:
    """How rows of a source are shaped.

    Raises:
        TransformRefused: The source lacks what the definition needs, or that is no definition.
    """
    flat = flat_schema(spec, source)
    types = {name: _type(spec, flat, name, text) for name, text in spec.types.items()}
    converted = pa.schema([one.with_type(types.get(one.name, one.type)) for one in flat])
    where = None
    if spec.where is not None:
        where = _checked(spec, converted, "where", spec.where)
    outputs = _outputs(spec, converted, envelope_order(spec, source))
    names = [one.field.name for one in outputs]
    partitions = _partitions(spec, outputs)
    for what, wanted in (("keys", spec.keys), ("track", spec.track), ("not_null", spec.not_null)):
        for name in wanted:
            _require(spec, name, names, what)
    sequence = _sequence(spec, source)
    order = (*sequence, *(one for one in TIES if one in names and one not in sequence))
    _check_order(spec, outputs, (sequence, order))
    if spec.keyed and (spec.envelope != "none" or _has_tombstones(spec, source)):
        _check_keys_are_columns(spec, outputs)
    read = _read(spec, source, (flat, types, where, outputs))
    return ShapePlan(flat, types, where, outputs, partitions, order, len(sequence), read)


def _has_tombstones(spec: RowWiseSpec, source: pa.Schema) -> bool:
    return spec.tombstones_delete and TOMBSTONE in source.names


def _sequence(spec: RowWiseSpec, source: pa.Schema) -> tuple[str, ...]:
    return spec.sequence_by or envelope_order(spec, source)


def _type(spec: RowWiseSpec, flat: pa.Schema, name: str, text: str) -> pa.DataType:
    _require(spec, name, flat.names, "types")
    target = parse_type(text)
    if not convertible(flat.field(name).type, target):
        raise TransformRefused(
            f"{spec.name}: types: {name!r} is {flat.field(name).type}, which is not converted into "
            f"{text}",
            hint="plain columns are converted into plain types",
            column=name,
        )
    return target


def _checked(spec: RowWiseSpec, schema: pa.Schema, what: str, text: str) -> Expression:
    check = condition if what == "where" else value
    try:
        return check(text, Scope({"": schema}, f"{spec.name}: {what}"))
    except BadRequest as error:
        raise TransformRefused(error.message, hint=error.hint, **error.context) from None


def _outputs(
    spec: RowWiseSpec, converted: pa.Schema, envelope: tuple[str, ...]
) -> tuple[Output, ...]:
    chosen = _chosen(spec, converted, envelope)
    ties = tie_columns(converted) if spec.keyed or spec.columns is None else ()
    for name in (*(spec.sequence_by or envelope), *ties):
        if name not in chosen:
            _require(spec, name, converted.names, "sequence_by")
            chosen[name] = name
    found = []
    for name, text in chosen.items():
        if text in converted.names:
            field = converted.field(text)
            kind = normalise_type(field.type)
            found.append(Output(pa.field(name, kind, metadata=field.metadata), text))
        else:
            tree = _checked(spec, converted, f"columns.{name}", text)
            found.append(Output(pa.field(name, _type_of_value(spec, tree, converted)), "", tree))
    return tuple(found)


def _chosen(spec: RowWiseSpec, converted: pa.Schema, envelope: tuple[str, ...]) -> dict[str, str]:
    if spec.columns is not None:
        chosen = dict(spec.columns)
        if spec.mode == "scd2":
            chosen = {name: name for name in (*spec.keys, *spec.track)} | chosen
        return chosen
    if spec.mode == "scd2":
        return {name: name for name in (*spec.keys, *spec.track)}
    return {name: name for name in converted.names if payload_of(name) and name not in envelope}


def _type_of_value(spec: RowWiseSpec, tree: Expression, schema: pa.Schema) -> pa.DataType:
    try:
        return normalise_type(values(tree, schema.empty_table()).type)
    except duckdb.Error as error:
        what = str(error).splitlines()[0]
        raise TransformRefused(f"{spec.name}: columns: cannot be computed: {what}") from None


def values(tree: Expression, rows: pa.Table) -> pa.ChunkedArray:
    """A value for each row.

    Raises:
        duckdb.Error: It cannot be computed.
    """
    read = sorted({name for _, name in tree.columns})
    columns = rows.select(read) if read else pa.table({"one": pa.nulls(rows.num_rows)})
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", columns)
        # Written anew from a checked tree: no text of a user's (raylake.tables.expressions).
        query = f"SELECT {tree.sql('duckdb')} AS found FROM given"  # noqa: S608
        return connection.sql(query).to_arrow_table().column("found")


def _partitions(spec: RowWiseSpec, outputs: Sequence[Output]) -> tuple[PartitionField, ...]:
    by = {one.field.name: one.field.type for one in outputs}
    found = []
    for one in (parse_partition(text) for text in spec.partition_by):
        if one.transform == "column":
            continue
        _require(spec, one.column, list(by), "partition_by")
        kind = by[one.column]
        days = pa.types.is_date(kind) and one.transform == "date"
        if not pa.types.is_timestamp(kind) and not days:
            what = f"{one.transform}({one.column})"
            raise TransformRefused(
                f"{spec.name}: partition_by: {what}: {one.column!r} is {kind}",
                hint="days and hours are taken from a timestamp",
                column=one.column,
            )
        if one.name not in by:
            found.append(one)
    return tuple(found)


def _check_order(
    spec: RowWiseSpec, outputs: Sequence[Output], names: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    sequence, order = names
    if not spec.keyed:
        return
    if not order or (spec.mode == "scd2" and not sequence):
        raise TransformRefused(
            f"{spec.name}: nothing orders the rows of a key", hint="name a column in sequence_by"
        )
    kinds = {one.field.name: one.field.type for one in outputs}
    for name in order:
        if not any(check(kinds[name]) for check in _ORDERED):
            raise TransformRefused(
                f"{spec.name}: sequence_by: {name!r} is {kinds[name]}, which puts no rows in order",
                hint="order by times, dates, integers, decimals or texts; types converts a column",
                column=name,
            )


def _check_keys_are_columns(spec: RowWiseSpec, outputs: Sequence[Output]) -> None:
    for one in outputs:
        if one.field.name in spec.keys and not one.column:
            raise TransformRefused(
                f"{spec.name}: the key {one.field.name!r} is computed, and a delete has nothing "
                "to compute it of",
                hint="make the key a column of the source",
                column=one.field.name,
            )


def _read(
    spec: RowWiseSpec,
    source: pa.Schema,
    parts: tuple[pa.Schema, dict[str, pa.DataType], Expression | None, Sequence[Output]],
) -> tuple[str, ...]:
    flat, types, where, outputs = parts
    wanted = {*types, *(one.column for one in outputs)}
    for tree in (where, *(one.value for one in outputs)):
        wanted |= {name for _, name in tree.columns} if tree is not None else set()
    if spec.envelope == "debezium":
        wanted = (wanted & set(tie_columns(flat))) | set(envelope_columns(spec, source))
    wanted |= {TOMBSTONE}
    if spec.keyed:
        wanted |= set(TIES)
    if spec.tombstones_delete and spec.envelope == "none":
        wanted.add(KEY)
    return tuple(name for name in source.names if name in wanted)


def _require(spec: RowWiseSpec, name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        raise TransformRefused(
            f"{spec.name}: {what}: there is no column {name!r}",
            hint=did_you_mean(name, names),
            column=name,
        )


def table_of(spec: RowWiseSpec, plan: ShapePlan) -> Create:
    """The table of shaped rows."""
    required = {*spec.keys, *spec.not_null}
    fields = [one.with_nullable(one.name not in required) for one in plan.schema]
    by = tuple(parse_partition(one).name for one in spec.partition_by)
    for name in by:
        if name not in plan.schema.names:
            raise TransformRefused(
                f"{spec.name}: partition_by: there is no column {name!r}", column=name
            )
    return Create(pa.schema(fields), partition_by=by, properties=dict(spec.properties))
