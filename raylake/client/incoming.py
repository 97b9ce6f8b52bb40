"""Rows as they are handed over, in whatever form, as Arrow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raylake.client.rows import Rows
from raylake.tables.errors import BadRequest, SchemaMismatch, SchemaNarrowed, TimeWithoutZone


def as_arrow(rows: Any, schema: Callable[[], pa.Schema], where: str) -> pa.Table:
    """The rows as an Arrow table.

    Args:
        rows: An Arrow table, batch or stream; a pandas or polars frame; a DuckDB relation; a list
            of dicts; another table's rows; or anything else that hands out an Arrow stream.
        schema: The table's columns, asked for where the rows are plain Python values; these get
            its types as far as nothing is lost.
        where: Which operation of which table, for messages.

    Raises:
        BadRequest: They are nothing of that.
        SchemaMismatch, SchemaNarrowed, TimeWithoutZone: A Python value does not fit its column.
    """
    found = _columnar(rows)
    if found is not None:
        return found
    if isinstance(rows, Mapping):
        rows = [rows]
    if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        return _from_dicts(rows, schema(), where)
    raise BadRequest(
        f"{where}: rows cannot be made of {type(rows).__name__}",
        hint="give an Arrow table, a pandas or polars frame, a DuckDB relation or a list of dicts",
    )


def _columnar(rows: Any) -> pa.Table | None:
    """Rows that are in columns already; None for what is not."""
    if isinstance(rows, Rows):
        return rows.to_arrow()
    if isinstance(rows, pa.RecordBatchReader):
        return rows.read_all()
    made_by = type(rows).__module__.split(".")[0]
    if made_by == "pandas" and hasattr(rows, "columns"):
        # Through the stream below, its index would become a column.
        return pa.Table.from_pandas(rows, preserve_index=False)
    if made_by == "polars" and hasattr(rows, "collect"):
        return rows.collect().to_arrow()
    if hasattr(rows, "to_arrow_table"):
        return rows.to_arrow_table()
    if hasattr(rows, "__arrow_c_stream__"):
        return pa.table(rows)
    if hasattr(rows, "__arrow_c_array__"):
        return pa.Table.from_batches([pa.record_batch(rows)])
    return None


def _from_dicts(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, where: str) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        at = schema.get_field_index(str(name))
        kind = schema.field(at).type if at >= 0 else None
        columns[str(name)] = _column(name, [row.get(name) for row in rows], kind, where)
    if not names:
        return schema.empty_table()
    return pa.table(columns)


def _column(name: str, values: list[Any], kind: pa.DataType | None, where: str) -> pa.Array:
    zoned = kind is not None and pa.types.is_timestamp(kind) and kind.tz is not None
    if zoned and any(isinstance(v, dt.datetime) and v.tzinfo is None for v in values):
        # Arrow would take it as UTC.
        raise TimeWithoutZone(
            f"{where}: column {name!r}: a time without a zone is no point in time",
            hint="give it a zone: datetime(…, tzinfo=timezone.utc)",
            column=name,
        )
    try:
        return _fitted(pa.array(values), kind)
    except OverflowError as error:
        raise SchemaNarrowed(f"{where}: column {name!r}: {error}", column=name) from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        kinds = SchemaNarrowed if _is_number(kind) else SchemaMismatch
        raise kinds(
            f"{where}: column {name!r}: {error}", hint="give values of its type", column=name
        ) from None


def _fitted(column: pa.Array, kind: pa.DataType | None) -> pa.Array:
    """Python's one kind of integers, of floats and of decimals in the width of the table's.

    Raises:
        pa.ArrowInvalid: A value does not fit.
    """
    found = column.type
    if kind is None or not _is_number(kind):
        return column
    if pa.types.is_floating(found) and pa.types.is_floating(kind):
        return column.cast(kind)
    if pa.types.is_integer(found) or (pa.types.is_decimal(found) and pa.types.is_decimal(kind)):
        return column.cast(kind, safe=True)
    return column


def _is_number(kind: pa.DataType | None) -> bool:
    return kind is not None and bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
