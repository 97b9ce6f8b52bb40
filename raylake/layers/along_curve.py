"""Rows in the order of the Z-curve, from the first write on, so that files can be left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raylake.tables.z_curve import MAX_COLUMNS, orderable
from raylake.tables.z_sort import sampled


def along_the_curve(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The rows, those near to each other in the columns near to each other.

    Args:
        rows: Rows in memory.
        columns: The columns, the most important one first; none: the rows stay as they are.
    """
    if not columns or rows.num_rows < 2:
        return rows
    curve = sampled(lambda: iter(rows.select(list(columns)).to_batches()), columns, rows.num_rows)
    return rows.take(pa.array(np.argsort(curve.of(rows), kind="stable")))


def not_on_the_curve(schema: pa.Schema, columns: Sequence[str]) -> str:
    """Why rows cannot be ordered by some columns; empty where they can."""
    if len(columns) > MAX_COLUMNS:
        return f"at most {MAX_COLUMNS} columns order a table"
    for name in columns:
        if name not in schema.names:
            return f"there is no column {name!r} to order by"
        if not orderable(schema.field(name).type):
            return f"{name!r} is {schema.field(name).type}, which has no order"
    return ""
