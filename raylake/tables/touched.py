"""What an operation has to touch, from the statistics in a table's log; no data is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from raylake.delta.schema import arrow_schema
from raylake.errors import UnsupportedTable
from raylake.storage.place import place
from raylake.tables.delta_rs_open import opened, refuse_unknown
from raylake.tables.errors import FeatureUnsupported, TableError
from raylake.tables.expressions import Scope, condition
from raylake.tables.requests import (
    Advance,
    Append,
    Create,
    Delete,
    Overwrite,
    Restore,
    Scd2,
    Update,
    Upsert,
    Write,
)
from raylake.tables.routing import DELTA_RS, Load
from raylake.tables.table_properties import needs_spark
from raylake.tables.upkeep_requests import (
    AddColumns,
    Apart,
    Compact,
    DropConstraint,
    Repartition,
    SetProperties,
    WidenColumns,
    ZOrder,
)

Bound = tuple[str, str, Any]
"""Column, operator, value: what rows must fulfil to be touched."""

_COMPARED: Final = {
    "=": (("min", pc.less_equal), ("max", pc.greater_equal)),
    "<": (("min", pc.less),),
    "<=": (("min", pc.less_equal),),
    ">": (("max", pc.greater),),
    ">=": (("max", pc.greater_equal),),
}
_REWRITES: Final = (
    *(Upsert, Scd2, Delete, Update, Overwrite),
    *(Compact, ZOrder, Repartition, WidenColumns),
)
_LOG_ALONE: Final = (SetProperties, DropConstraint, AddColumns, Advance)
"""Changes of the log for which no row has to be looked at."""


def load(table: str, operation: Write, handle: DeltaTable | None = None) -> Load:
    """What an operation has to touch.

    A condition that cannot be judged by the files' statistics counts as touching all of them.

    Args:
        table: The table's address.
        operation: What is to be done. What is wrong with it is told when it is run.
        handle: The table's newest version, where it is open already.

    Raises:
        TableMissing, LogDamaged, DependencyUnreachable: The table cannot be read.
    """
    source = getattr(operation, "rows", None)
    source_bytes = int(source.nbytes) if isinstance(source, pa.Table) else 0
    if isinstance(operation, Create | Apart):
        return Load(computes=isinstance(operation, Create))
    if reason := needs_spark(operation):
        return Load(refused={DELTA_RS: reason})
    try:
        handle = handle or opened(place(table))
        refuse_unknown(handle, table)
    except (FeatureUnsupported, UnsupportedTable) as error:
        return Load(source_bytes=source_bytes, refused={DELTA_RS: error.message})
    adds = pa.table(handle.get_add_actions(flatten=True))
    sizes = adds.column("size_bytes")
    mask = _touched(handle, adds, operation)
    return Load(
        touched_bytes=int(pc.sum(sizes.filter(mask)).as_py() or 0),
        touched_files=int(pc.sum(mask).as_py() or 0),
        total_bytes=int(pc.sum(sizes).as_py() or 0),
        total_files=adds.num_rows,
        source_bytes=source_bytes,
        sorts=isinstance(operation, ZOrder),
        computes=not isinstance(operation, _LOG_ALONE),
    )


def surely_untouched(handle: DeltaTable, operation: Write) -> frozenset[str]:
    """Files of which no row can be concerned, by statistics that are exact; as the log names them.

    Args:
        handle: delta-rs's handle of the version.
        operation: A delete, an update or an upsert.
    """
    adds = pa.table(handle.get_add_actions(flatten=True))
    schema = arrow_schema(handle.schema())
    try:
        bounds = [one for one in _bounds(schema, operation) if _exact(schema, one[0])]
    except TableError:
        # What is wrong with it is told when it is run.
        return frozenset()
    mask = pa.chunked_array([pa.array([True] * adds.num_rows, pa.bool_())])
    for column, operator, value in bounds:
        mask = pc.and_(mask, _may_hold(adds, column, operator, value))
    return frozenset(adds.column("path").filter(pc.invert(mask)).to_pylist())


def _exact(schema: pa.Schema, column: str) -> bool:
    """Whether statistics hold a column's bounds whole: times are cut, and floats have NaN."""
    kind = schema.field(column).type
    types = pa.types
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_date(kind))


def _touched(handle: DeltaTable, adds: pa.Table, operation: Write) -> pa.Array:
    """For each file, whether it may be touched."""
    whole = pa.chunked_array([pa.array([True] * adds.num_rows, pa.bool_())])
    if isinstance(operation, Append | Restore) or not isinstance(operation, _REWRITES):
        return pc.invert(whole)
    if isinstance(operation, Overwrite) and operation.where is None:
        # The files leave unread.
        return pc.invert(whole)
    try:
        bounds = list(_bounds(arrow_schema(handle.schema()), operation))
    except TableError:
        # What is wrong with it is told when it is run.
        return whole
    for column, operator, value in bounds:
        whole = pc.and_(whole, _may_hold(adds, column, operator, value))
    return whole


def _bounds(schema: pa.Schema, operation: Write) -> Iterable[Bound]:
    if isinstance(operation, Upsert | Scd2):
        if getattr(operation, "not_matched_by_source", None) is None:
            yield from _of_keys(operation)
        return
    where = getattr(operation, "where", None)
    if where is None:
        return
    for column, operator, text in condition(where, Scope({"": schema}, "where")).bounds():
        kind = schema.field(column).type if column in schema.names else None
        value = _value(text, kind)
        if value is not None:
            yield column, operator, value


def _of_keys(operation: Upsert | Scd2) -> Iterable[Bound]:
    for key in operation.keys:
        if key not in operation.rows.schema.names:
            continue
        kind = operation.rows.schema.field(key).type
        if pa.types.is_nested(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
            continue
        ends = pc.min_max(operation.rows.column(key))
        if ends["min"].is_valid:
            yield key, ">=", ends["min"]
            yield key, "<=", ends["max"]


def _value(text: str, kind: pa.DataType | None) -> Any:
    """A literal as a column has it; None where that is not plain."""
    if kind is None or pa.types.is_boolean(kind) or pa.types.is_nested(kind):
        return None
    try:
        return pc.cast(pa.scalar(text), kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _may_hold(adds: pa.Table, column: str, operator: str, value: Any) -> pa.Array:
    """For each file, whether a row of it may fulfil the bound; true where nothing is known."""
    found = pa.chunked_array([pa.array([True] * adds.num_rows, pa.bool_())])
    for end, compare in _COMPARED[operator]:
        statistic = _statistic(adds, end, column)
        if statistic is None:
            continue
        try:
            found = pc.and_(found, pc.fill_null(compare(statistic, value), True))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            # The types have no order in common.
            continue
    return found


def _statistic(adds: pa.Table, end: str, column: str) -> pa.ChunkedArray | None:
    for name in (f"{end}.{column}", f"partition.{column}"):
        if name in adds.schema.names:
            return adds.column(name)
    return None
