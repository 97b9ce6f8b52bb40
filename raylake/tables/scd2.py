"""Tables of versions (SCD type 2): their columns, and the changes that are brought into them.

The rules:

- A key has at each time at most one state: what its change at that time says, which holds until the
  key's next change. A version is a longest stretch without a change of the tracked columns; it is a
  half-open interval, and the one without an end is the current version. After a delete there is no
  version until the key's next change.
- Columns that are not tracked have the value of the last change in the version.
- Of two changes of one key and one time, the greater one by the rest of the sequence counts (no
  value is the least); then a delete; then the greater row, compared column by column in the table's
  order (no value is the least, then NaN). So equal times do not depend on what came first either.
- No value equals no value, and NaN equals NaN.

What intervals do not show is kept beside them, in the column ``kept_changes``: the times of changes
that made no version, for a late change may fall between them and then they end its version; the
values of untracked columns at each of them; deletes of a key that was deleted already. Its value is
null where the row says it all: a version of one change. Deletes of a key that has no version yet
stand in a row of their own, with an empty interval (``valid_from`` equals ``valid_to``), which
no question for a time finds; :func:`no_tombstones` leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from raylake.config.findings import did_you_mean
from raylake.tables.cow_conditions import Judge
from raylake.tables.errors import (
    BadColumnName,
    BadExpression,
    BadRequest,
    SchemaMismatch,
    UnknownColumn,
    ValuesRefused,
)
from raylake.tables.expressions import Expression, Scope, condition, quoted
from raylake.tables.keys import Mask, check_keys, refuse_null_keys
from raylake.tables.requests import Create, Scd2
from raylake.tables.rows import Shape, aligned, plain, refuse_nulls, without_views

DELETED = "raylake.deleted"
"""A column of changes: whether the key is deleted. No table's column has a dot in its name."""
_MARK = "_delete"
_ORDERED = (
    pa.types.is_integer,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_string,
)


def sequence_column(at: int) -> str:
    """The column of changes with the part of the sequence at a place."""
    return f"raylake.sequence.{at}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column of a table of versions is what.

    Attributes:
        table: The table's schema.
        keys: Its keys.
        sequence: The columns of changes that order them.
        tracked: The columns whose change makes a version.
        values: The columns beside keys and interval, in the table's order.
        valid_from: See :class:`~raylake.tables.requests.Scd2`.
        valid_to: As there.
        is_current: As there.
        kept_changes: As there.
    """

    table: pa.Schema
    keys: tuple[str, ...]
    sequence: tuple[str, ...]
    tracked: tuple[str, ...]
    values: tuple[str, ...]
    valid_from: str
    valid_to: str
    is_current: str
    kept_changes: str

    @property
    def sequence_columns(self) -> list[str]:
        """The columns of changes with the sequence, first the time."""
        return [sequence_column(at) for at in range(len(self.sequence))]

    @property
    def sequence_types(self) -> list[pa.DataType]:
        """Their types."""
        return [self.kept.field(name).type for name in self.sequence]

    @property
    def kept(self) -> pa.StructType:
        """One kept change: whether it deletes, its sequence, its untracked values."""
        return self.table.field(self.kept_changes).type.value_type

    @property
    def untracked(self) -> list[str]:
        """The columns that a kept change has values of its own for."""
        return [n for n in self.values if n not in self.tracked and n not in self.sequence]

    @property
    def rows_tell_order(self) -> bool:
        """Whether a version of one change has the change's whole sequence in its own columns."""
        return all(name in self.values for name in self.sequence[1:])

    @property
    def change_schema(self) -> pa.Schema:
        """The columns of changes as they are worked on."""
        order = zip(self.sequence_columns, self.sequence_types, strict=True)
        own = [self.table.field(name).with_nullable(True) for name in (*self.keys, *self.values)]
        return pa.schema([*own, *(pa.field(*one) for one in order), (DELETED, pa.bool_())])


def table_for(request: Scd2, columns: Sequence[str] | None = None) -> Create:
    """What makes a table that a request can be brought into.

    Args:
        request: The request; its rows need not be the first ones.
        columns: The table's columns beside the keys; None: the tracked ones, or all but the
            sequence and what ``delete_when`` reads.

    Raises:
        BadColumnName, UnknownColumn, BadRequest, SchemaMismatch: The request is wrong.
    """
    where = "scd2 table"
    rows = without_views(request.rows.schema)
    _refuse_names(request, where)
    _require(rows, (*request.keys, *request.sequence_by, *(request.track or ())), "rows", where)
    if columns is None:
        dropped = {*request.keys, *request.sequence_by, *_read(_delete_when(request, where))}
        columns = [n for n in rows.names if n not in dropped] + list(request.track or ())
        columns = list(dict.fromkeys(columns))
    _require(rows, columns, "rows", where)
    fields = [plain(rows.field(n)).with_nullable(True) for n in (*request.keys, *columns)]
    time = plain(rows.field(request.sequence_by[0])).type
    tracked = _tracked(request, tuple(columns))
    fields += [
        pa.field(request.valid_from, time),
        pa.field(request.valid_to, time),
        pa.field(request.is_current, pa.bool_()),
    ]
    sequence = {name: plain(rows.field(name)).type for name in request.sequence_by}
    untracked = [f for f in fields if f.name in columns and f.name not in (*tracked, *sequence)]
    fields.append(plain(_kept_field(request, sequence, untracked)))
    return Create(pa.schema(fields))


def no_tombstones(request: Scd2) -> str:
    """The condition that leaves rows with an empty interval out, for :class:`Read`."""
    begin, end = quoted(request.valid_from), quoted(request.valid_to)
    return f"{end} IS NULL OR {begin} < {end}"


def layout_of(request: Scd2, table: pa.Schema, where: str) -> Layout:
    """Which column of the table is what; the request is held against its schema.

    Raises:
        BadColumnName: The names of the interval's columns clash.
        BadMergeKeys, UnknownColumn, BadRequest: Columns are named that are not there, or twice.
        SchemaMismatch: The interval's columns do not have the types that the request asks for.
    """
    _refuse_names(request, where)
    check_keys(request.keys, request.rows.schema, table, where)
    _require(request.rows.schema, request.sequence_by, "rows (sequence_by)", where)
    own = (request.valid_from, request.valid_to, request.is_current, request.kept_changes)
    lost = [name for name in own if name not in table.names]
    if lost:
        raise UnknownColumn(
            f"{where}: the table has no column {lost[0]!r}, so it is no table of versions",
            hint="raylake.tables.scd2.table_for(request) makes one",
            column=lost[0],
        )
    values = tuple(name for name in table.names if name not in (*request.keys, *own))
    _require(pa.schema([table.field(n) for n in values]), request.track or (), "table", where)
    layout = Layout(
        table, request.keys, request.sequence_by, _tracked(request, values), values, *own
    )
    _check_types(request, layout, where)
    return layout


def changes_of(request: Scd2, layout: Layout, where: str) -> pa.Table:
    """The changes in the table's types, with their sequence and whether they delete.

    Raises:
        SchemaMismatch, SchemaNarrowed, BadColumnName: The rows do not fit the table.
        NullMergeKeys: A key has no value.
        ValuesRefused: A time has no value, or a column that is NOT NULL.
        BadExpression: ``delete_when`` is none.
    """
    condition_read = _delete_when(request, where)
    wanted = [layout.table.field(name) for name in (*layout.keys, *layout.values)]
    order = zip(layout.sequence, layout.sequence_types, strict=True)
    wanted += [pa.field(name, kind) for name, kind in order if name not in layout.values]
    schema = pa.schema(wanted)
    ignored = frozenset(_read(condition_read) - set(schema.names))
    lost = [name for name in schema.names if name not in request.rows.schema.names]
    if lost:
        raise SchemaMismatch(
            f"{where}: the changes lack the table's column {', '.join(map(repr, lost))}",
            hint="a change is a whole row: without the column nobody could tell what it became",
            columns=lost,
        )
    extra = [n for n in request.rows.schema.names if n not in schema.names and n not in ignored]
    if extra:
        raise SchemaMismatch(
            f"{where}: the table has no column {', '.join(map(repr, extra))}",
            hint="leave it out of the changes, or make a table that has it",
            columns=extra,
        )
    rows = aligned(request.rows, Shape(where.partition(":")[0], schema, ignored=ignored))
    refuse_null_keys(rows, layout.keys, where)
    time = layout.sequence[0]
    missing = rows.column(time).null_count
    if missing:
        raise ValuesRefused(
            f"{where}: {missing} of {rows.num_rows} changes have no value in {time!r}, which "
            "orders them",
            hint="fill it, or leave these changes out",
            column=time,
            rows=missing,
        )
    deleted = _deleted(request.rows, condition_read, where)
    required = pa.schema([layout.table.field(name) for name in (*layout.keys, *layout.values)])
    if any(not field.nullable for field in required):
        kept = rows.filter(pa.array(~deleted))
        refuse_nulls(kept, required, where)
    columns = [rows.column(name) for name in (*layout.keys, *layout.values, *layout.sequence)]
    return pa.table([*columns, pa.array(deleted)], schema=layout.change_schema)


def _delete_when(request: Scd2, where: str) -> Expression | None:
    if request.delete_when is None:
        return None
    scope = Scope({"": without_views(request.rows.schema)}, f"{where} delete_when")
    return condition(request.delete_when, scope)


def _read(expression: Expression | None) -> set[str]:
    return set() if expression is None else {name for _, name in expression.columns}


def _deleted(rows: pa.Table, expression: Expression | None, where: str) -> Mask:
    """For each change whether it deletes its key; what is unknown does not."""
    if expression is None:
        return np.zeros(rows.num_rows, dtype=bool)
    read = rows.select(sorted(_read(expression)))
    try:
        with Judge() as judge:
            return judge.holds(expression.sql(), rows.num_rows, {"": read})
    except duckdb.Error as error:
        raise BadExpression(
            f"{where} delete_when: cannot be computed: {str(error).splitlines()[0]}"
        ) from None


def _tracked(request: Scd2, values: tuple[str, ...]) -> tuple[str, ...]:
    if request.track is None:
        return tuple(name for name in values if name not in request.sequence_by)
    return tuple(name for name in values if name in request.track)


def _kept_field(
    request: Scd2, sequence: dict[str, pa.DataType], untracked: Sequence[pa.Field]
) -> pa.Field:
    parts = [(_MARK, pa.bool_()), *sequence.items(), *((f.name, f.type) for f in untracked)]
    return pa.field(request.kept_changes, pa.list_(pa.field("element", pa.struct(parts))))


def _refuse_names(request: Scd2, where: str) -> None:
    """Refuse columns of the interval that are one, or are columns of the changes too."""
    own = [request.valid_from, request.valid_to, request.is_current, request.kept_changes]
    taken = {_MARK: "the mark of a kept delete"}
    taken |= {
        name.lower(): f"a column of the changes, {name!r}" for name in request.rows.schema.names
    }
    if _MARK in (name.lower() for name in request.rows.schema.names):
        raise BadColumnName(
            f"{where}: the name {_MARK!r} is reserved", hint="rename the column", column=_MARK
        )
    for name in own:
        if name.lower() in taken:
            raise BadColumnName(
                f"{where}: {name!r} is to hold a version's interval, and is {taken[name.lower()]}",
                hint="rename the column, or name another one for the interval",
                column=name,
            )
        taken[name.lower()] = "another column of it"
    if not request.sequence_by:
        raise BadRequest(
            f"{where}: nothing orders the changes", hint="name their time in sequence_by"
        )
    for what, names in (("sequence_by", request.sequence_by), ("track", request.track or ())):
        twice = set(names) & set(request.keys) or {n for n in names if names.count(n) > 1}
        if twice:
            raise BadRequest(
                f"{where}: {min(twice)!r} is named in {what}, and as a key or twice",
                hint="name each column once",
            )
    if request.track is not None and not request.track:
        raise BadRequest(
            f"{where}: no column is tracked", hint="leave track out to track all of them"
        )


def _require(schema: pa.Schema, names: Sequence[str], side: str, where: str) -> None:
    for name in names:
        if name not in schema.names:
            raise UnknownColumn(
                f"{where}: the {side} have no column {name!r}"
                if side != "table"
                else f"{where}: the table has no column {name!r} to track",
                hint=did_you_mean(name, schema.names),
                column=name,
            )


def _check_types(request: Scd2, layout: Layout, where: str) -> None:
    time = layout.table.field(layout.valid_from).type
    if not any(check(time) for check in _ORDERED):
        raise BadRequest(
            f"{where}: {layout.valid_from!r} is {time}, by which no versions are put in order",
            hint="order changes by times, dates, integers, decimals or strings",
        )
    rows = without_views(request.rows.schema)
    sequence = {layout.sequence[0]: time}
    kept = layout.table.field(layout.kept_changes).type
    there = kept.value_type if pa.types.is_list(kept) else pa.struct([])
    for name in layout.sequence[1:]:
        if name in layout.values:
            sequence[name] = layout.table.field(name).type
        elif pa.types.is_struct(there) and there.get_field_index(name) >= 0:
            sequence[name] = there.field(name).type
        else:
            sequence[name] = plain(rows.field(name)).type
    untracked = [
        layout.table.field(name)
        for name in layout.values
        if name not in layout.tracked and name not in sequence
    ]
    wanted = {
        layout.valid_to: time,
        layout.is_current: pa.bool_(),
        layout.kept_changes: plain(_kept_field(request, sequence, untracked)).type,
    }
    if layout.sequence[0] in layout.values:
        wanted[layout.sequence[0]] = time
    for name, kind in wanted.items():
        found = layout.table.field(name).type
        if found != kind:
            raise SchemaMismatch(
                f"{where}: column {name!r} is {found}, and these keys, sequence and tracked "
                f"columns need {kind}",
                hint="name the columns that the table was made for; raylake.tables.scd2.table_for "
                "makes another",
                column=name,
            )
