"""A DuckDB that reaches nothing: no files, no network, no variables of Python, no settings.

It has the tables that it is given and nothing else, calculates in UTC, within a memory limit that
all queries of a process with the same limits share, and spills to a folder of its own.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import duckdb
import pyarrow as pa

from raylake.errors import RayLakeError, Terminal

_CLOSED: Final = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "preserve_insertion_order": "false",
}


class QueryFailed(Terminal):
    """The SQL of a derived table failed on the rows: a cast, an overflow, the memory limit."""

    code = "query_failed"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a query may take.

    Attributes:
        memory_bytes: Above this it spills to the disk.
        threads: Threads.
        spill_folder: Where it spills; None: the system's folder for temporary files.
    """

    memory_bytes: int = 512 * 2**20
    threads: int = 2
    spill_folder: str | None = None


class Sandbox:
    """Runs queries over given tables. Not for several threads.

    Args:
        limits: What a query may take.
        where: What the queries are for, for messages.
    """

    def __init__(self, limits: Limits, where: str) -> None:
        self._limits = limits
        self._where = where
        self._streams: list[_Stream] = []

    def __enter__(self) -> Self:
        """Opens it; nothing that others are given is seen."""
        self._connection = _database(self._limits).connection.cursor()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes it."""
        self._connection.close()

    def give(self, name: str, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Rows under a name; those of a reader can be read once."""
        if isinstance(rows, pa.RecordBatchReader):
            stream = _Stream(rows)
            self._streams.append(stream)
            rows = pa.RecordBatchReader.from_batches(rows.schema, stream.batches())
        self._connection.register(name, rows)

    def keep(self, name: str, rows: pa.RecordBatchReader) -> None:
        """Rows of a reader under a name, to be read any number of times; they may spill.

        Raises:
            QueryFailed: There is no room for them.
            RayLakeError, OSError: They could not be read.
        """
        self.give(f"{name}_once", rows)
        with self._telling():
            self._connection.execute(f'CREATE TEMP TABLE "{name}" AS FROM "{name}_once"')

    def rows(self, sql: str) -> pa.Table:
        """The rows of a query.

        Args:
            sql: Written from a checked tree (:mod:`raylake.layers.query`).

        Raises:
            QueryFailed: It fails on the rows.
            RayLakeError, OSError: Given rows could not be read.
        """
        with self._telling():
            found = self._connection.sql(sql)
            return pa.table(found.to_arrow_table())

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            for stream in self._streams:
                if stream.failed is not None:
                    raise stream.failed from error
            raise self._told(error) from error

    def _told(self, error: duckdb.Error) -> QueryFailed:
        text = str(error).split("\n", maxsplit=1)[0]
        if isinstance(error, duckdb.OutOfMemoryException):
            return QueryFailed(
                f"{self._where}: {text}",
                hint="fewer or smaller groups need less memory, or raise the memory limit",
            )
        return QueryFailed(
            f"{self._where}: {text}",
            hint="use try_cast, or a wider type such as CAST(x AS DECIMAL(38,0)) in a sum",
        )


class _Database:
    """A closed DuckDB. Opening one takes longer than most steps, so it is kept."""

    def __init__(self, limits: Limits) -> None:
        # Taken away when the process ends.
        self._spill = tempfile.TemporaryDirectory(prefix="raylake-query-", dir=limits.spill_folder)
        settings = {
            **_CLOSED,
            "memory_limit": f"{limits.memory_bytes // 2**10}KiB",
            "threads": str(limits.threads),
            "temp_directory": self._spill.name,
        }
        self.connection = duckdb.connect(":memory:", config=settings)
        self.connection.execute("SET GLOBAL TimeZone = 'UTC'")
        self.connection.execute("SET lock_configuration = true")


_database = functools.cache(_Database)


class _Stream:
    """A reader whose own error is remembered, which DuckDB makes one of its own of."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader = reader
        self.failed: RayLakeError | OSError | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._reader
        except (RayLakeError, OSError) as error:
            self.failed = error
            raise
