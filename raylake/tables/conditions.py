"""Conditions on rows that are in memory."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from raylake.tables.expressions import Expression


def holds(rows: pa.Table, condition: Expression) -> pa.ChunkedArray:
    """For each row: whether a condition holds; false where that is unknown."""
    text = condition.sql("duckdb")
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("source", rows)
        query = f"SELECT COALESCE({text}, FALSE) AS chosen FROM source"  # noqa: S608
        return pa.table(connection.sql(query).to_arrow_table()).column("chosen")
