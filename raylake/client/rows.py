"""Rows of a table that are read when they are asked for, in the form that is asked for."""

from __future__ import annotations

import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import pyarrow as pa
from deltalake.exceptions import DeltaError
from rich.table import Table as RichTable

from raylake.client.held_rows import HeldRows
from raylake.client.ray_rows import dataset_of_files, dataset_of_rows
from raylake.client.shown import html_table, rich_table
from raylake.client.spark_rows import spark_changes, spark_rows
from raylake.delta.log_reader import LogReader
from raylake.errors import ConfigError, DependencyUnreachable, RayLakeError
from raylake.storage.place import Place, place
from raylake.tables.data_files import file_scan
from raylake.tables.errors import VersionGone
from raylake.tables.pins import Pin, pinned
from raylake.tables.requests import Changes, Read
from raylake.tables.service import EngineChoice, TableService
from raylake.tables.versions import Versions

log = logging.getLogger(__name__)

PREVIEW_ROWS: Final = 10
_BROKEN: Final = (pa.ArrowException, DeltaError, OSError)
"""What a stream of rows ends with when a file cannot be read."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """What rows are read from.

    Attributes:
        name: ``layer.name``.
        address: The table's address.
        tables: What reads and writes it.
        engine: The engine that writes, or ``auto``.
        ray_address: The Ray cluster of the lake; None: what is there, or an embedded one.
        held: What is held of the lake on its cluster.
    """

    name: str
    address: str
    tables: TableService
    engine: EngineChoice = "auto"
    ray_address: str | None = None
    held: HeldRows | None = None

    @property
    def root(self) -> Place:
        """The table's place."""
        return place(self.address)


class Rows(ABC):
    """Rows that nobody has read yet. Each ``to_…`` reads them once, from the beginning.

    Whole results are held in memory, but for :meth:`to_batches` and ``to_ray``. A notebook shows
    the first ones.
    """

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What rows they are, in words."""

    @abstractmethod
    def to_batches(self) -> pa.RecordBatchReader:
        """The rows as a stream of Arrow batches; the order of rows is not given.

        Raises:
            VersionGone: Vacuum took files of the version meanwhile.
            DependencyUnreachable: A file cannot be read.
        """

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self.to_batches().read_all()

    def to_polars(self) -> Any:
        """The rows as a polars ``DataFrame``.

        Raises:
            ConfigError: polars is not installed.
        """
        polars = _optional("polars")
        return polars.from_arrow(self.to_arrow())

    def to_pandas(self) -> Any:
        """The rows as a pandas ``DataFrame``.

        Raises:
            ConfigError: pandas is not installed.
        """
        _optional("pandas")
        return self.to_arrow().to_pandas()

    def to_duckdb(self, connection: Any = None) -> Any:
        """The rows as a DuckDB relation, which can be asked as often as one likes.

        Args:
            connection: Of yours, to join with what it holds; None: DuckDB's own default one.
        """
        import duckdb

        table = self.to_arrow()
        return duckdb.from_arrow(table) if connection is None else connection.from_arrow(table)

    def head(self, limit: int = PREVIEW_ROWS) -> pa.Table:
        """Some rows, and no more of the files than they take.

        Args:
            limit: At most so many.
        """
        reader = self.to_batches()
        kept: list[pa.RecordBatch] = []
        found = 0
        for batch in reader:
            kept.append(batch.slice(0, limit - found))
            found += kept[-1].num_rows
            if found >= limit:
                break
        return pa.Table.from_batches(kept, schema=reader.schema)

    def __repr__(self) -> str:
        return f"<{self.title}>"

    def __rich__(self) -> RichTable:
        """The first rows, for a terminal."""
        found = self.head()
        return rich_table(self.title, found.schema.names, _lines(found))

    def _repr_html_(self) -> str:
        try:
            found = self.head()
        except RayLakeError as error:
            return html_table(self.title, ["error"], [[error.message]], error.hint)
        note = f"the first {found.num_rows} rows" if found.num_rows >= PREVIEW_ROWS else ""
        return html_table(self.title, found.schema.names, _lines(found), note)


class Reading(Rows):
    """Rows of one version of a table, chosen when this was made, whatever is committed since.

    A reading of the newest version whose files vacuum took before anything of it was read is held
    against the version that is the newest then, once.

    Args:
        source: The table.
        request: What to read.

    Raises:
        TableError: The request is wrong, or there is no such version.
    """

    def __init__(self, source: Source, request: Read) -> None:
        self._source = source
        self._asked = request
        self._pin = pinned(source.root, request)
        self._given = False

    @property
    def version(self) -> int:
        """The version that is read."""
        return self._pin.version

    @property
    def schema(self) -> pa.Schema:
        """The columns that are read, as that version had them."""
        return self._pin.schema

    @property
    def title(self) -> str:
        """The table, the version, and the condition."""
        where = f" where {self._asked.where}" if self._asked.where else ""
        return f"{self._source.name} version {self.version}{where}"

    def to_batches(self) -> pa.RecordBatchReader:
        """See :meth:`Rows.to_batches`."""
        return self._fresh(self._stream)

    def to_arrow(self) -> pa.Table:
        """See :meth:`Rows.to_arrow`."""
        return self._fresh(lambda: self._stream().read_all())

    def to_ray(self) -> Any:
        """The rows as a ``ray.data.Dataset`` that reads this version file by file, when used.

        Each file is read by a task of its own. Tables with deletion vectors or column mapping,
        and conditions with more than comparisons, are streamed by one task. A version that is held
        in the cluster's object store is taken from there.

        Raises:
            ConfigError: Ray Data's packages are not installed, or the lake's address is no
                driver's.
            DependencyUnreachable: No Ray cluster answers.
        """
        held = None if self._source.held is None else self._source.held.dataset(self._pin)
        if held is not None:
            self._given = True
            return held
        found = file_scan(self._source.root, self._pin.request)
        self._given = True
        if found is None:
            return dataset_of_rows(self._source.address, self._pin.request, self._ray)
        return dataset_of_files(*found, self._ray)

    def to_spark(self, session: Any = None) -> Any:
        """The rows as a Spark ``DataFrame`` of this version.

        Args:
            session: A session with Delta that reaches the lake; None: the active one of this
                thread, or else the one that the process began with. None is started.

        Raises:
            ConfigError: There is none, or it has no Delta.
        """
        self._given = True
        source = self._source
        return spark_rows(source.address, self._pin, session)

    @property
    def _ray(self) -> str | None:
        return self._source.ray_address

    def _stream(self) -> pa.RecordBatchReader:
        pin, source = self._pin, self._source
        held = None if source.held is None else source.held.stream(pin)
        if held is not None:
            return held
        found = source.tables.read(source.address, pin.request)
        return watched(found, partial(_why_broken, source, pin))

    def _fresh(self, work: Callable[[], T]) -> T:
        """Do something that reads; once more on the newest version where the files are gone."""
        try:
            done = work()
        except VersionGone:
            newest = self._asked.version is None and self._asked.at is None
            if self._given or not newest:
                raise
            before, self._pin = self._pin.version, pinned(self._source.root, self._asked)
            if self._pin.version == before:
                raise
            log.info(
                "%s: version %d was vacuumed before it was read; version %d is read",
                self._source.name,
                before,
                self._pin.version,
            )
            done = work()
        self._given = True
        return done


class ChangeReading(Rows):
    """Rows as they were inserted, updated and deleted in a range of versions.

    Args:
        source: The table.
        request: The range; its ends are decided now.

    Raises:
        TableError: The request is wrong, or a part of the range is gone or was not recorded.
    """

    def __init__(self, source: Source, request: Changes) -> None:
        self._source = source
        if request.to_version is None and request.to_time is None:
            request = replace(request, to_version=Versions(source.root).latest)
        self.request = request
        self._schema = self._read().schema

    @property
    def schema(self) -> pa.Schema:
        """The table's columns, ``_change_type``, ``_commit_version`` and ``_commit_timestamp``."""
        return self._schema

    @property
    def title(self) -> str:
        """The table and the range."""
        asked = self.request
        first = asked.from_version if asked.from_time is None else asked.from_time
        last = asked.to_version if asked.to_time is None else asked.to_time
        return f"{self._source.name} changes from {first} to {last}"

    def to_batches(self) -> pa.RecordBatchReader:
        """See :meth:`Rows.to_batches`."""
        return watched(self._read(), self._why_broken)

    def to_ray(self) -> Any:
        """The changes as a ``ray.data.Dataset``; they are read now."""
        return dataset_of_rows(self._source.address, self.request, self._source.ray_address)

    def to_spark(self, session: Any = None) -> Any:
        """The changes as a Spark ``DataFrame``; as :meth:`Reading.to_spark`."""
        return spark_changes(self._source.address, self.request, session)

    def _read(self) -> pa.RecordBatchReader:
        return self._source.tables.changes(self._source.address, self.request)

    def _why_broken(self, error: Exception) -> RayLakeError:
        # Asked again, a range that lost files is refused with the gap's name.
        self._read()
        return unreadable(self._source, error)


def watched(
    found: pa.RecordBatchReader, why: Callable[[Exception], RayLakeError]
) -> pa.RecordBatchReader:
    """A stream that ends, where a file cannot be read, with an error of ours.

    Args:
        found: The stream.
        why: What the engine's error means; may raise it itself.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from found
        except _BROKEN as error:
            raise why(error) from error

    return pa.RecordBatchReader.from_batches(found.schema, batches())


def _why_broken(source: Source, pin: Pin, error: Exception) -> RayLakeError:
    """What it means that rows of a version cannot be read to their end."""
    reader = LogReader(source.address)
    versions = Versions(source.root)
    now = set(reader.snapshot(versions.latest).files.column("path").to_pylist())
    then = set(reader.snapshot(pin.version).files.column("path").to_pylist())
    try:
        versions.require_files(then - now, pin.version)
    except VersionGone as gone:
        return gone
    return unreadable(source, error)


def unreadable(source: Source, error: Exception) -> DependencyUnreachable:
    """The error for a file that is there, or should be, and cannot be read."""
    reason = str(error).strip().split("\n", maxsplit=1)[0]
    return DependencyUnreachable(
        f"{source.address}: a data file cannot be read: {reason}",
        hint="is the store reachable? `raylake verify` tells whether a file is missing",
    )


def _optional(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"{package} is not installed ({error})", hint="pip install 'raylake[readers]'"
        ) from error


def _lines(table: pa.Table) -> list[list[Any]]:
    return [list(row.values()) for row in table.to_pylist()]
