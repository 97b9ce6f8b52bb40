"""The rows of a table's live files, read by DuckDB."""

from __future__ import annotations

import json

import duckdb

from .replay import AuditError, Snapshot


class Files:
    """The rows of a snapshot's live files, with the columns that only the log holds.

    Attributes:
        rows: The rows, to be projected with :meth:`column`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        paths = list(snapshot.files)
        values = [json.dumps(snapshot.files[path]) for path in paths]
        named = connection.sql(
            "SELECT unnest($1::VARCHAR[]) AS live_file, unnest($2::VARCHAR[]) AS live_values",
            params=[paths, values],
        )
        # A file's own hive-style folder names mean nothing: the log alone gives partition values.
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        files = connection.sql(
            f"FROM read_parquet([{listed}], filename = 'live_file', union_by_name = true,"
            " hive_partitioning = false)"
        )
        self._in_files = frozenset(files.columns)
        self.rows = files.join(named, "live_file")

    def has(self, name: str) -> bool:
        """Whether the table has a column ``name``."""
        return name in self._in_files or name in self._snapshot.partition_columns

    def column(self, name: str) -> str:
        """The SQL expression of a column.

        Raises:
            AuditError: The table has no such column.
        """
        if name in self._snapshot.partition_columns:
            return f"json_extract_string(live_values, '$.\"{name}\"')"
        if name not in self._in_files:
            raise AuditError(f"{self._snapshot.root}: no column {name}")
        return f'"{name}"'
