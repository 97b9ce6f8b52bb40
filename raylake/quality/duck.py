"""DuckDB on rows in memory; nothing outside of them can be reached."""

from __future__ import annotations

import functools
from typing import Any

import duckdb
import pyarrow as pa

SETTINGS = {"enable_external_access": "false"}


def ask(query: str, **tables: pa.Table) -> pa.Table:
    """The rows of a query, in the order of the rows that it reads; from any thread.

    Args:
        query: Made by RayLake, or written anew from a checked tree.
        **tables: What it may read, by name.

    Raises:
        duckdb.Error: It cannot be answered.
    """
    # A cursor is a connection of its own; to open a database takes as long as a small query.
    with _database().cursor() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, rows in tables.items():
            connection.register(name, rows)
        found: Any = connection.sql(query).to_arrow_table()
        return found


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config=SETTINGS)
