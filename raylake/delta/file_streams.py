"""Rows of one partition value, or of any, written to files in bounded memory.

The files are not yet part of the table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

import pyarrow as pa

from raylake.delta.file_stream import DataFileStream
from raylake.delta.files import WriteOptions, by_value
from raylake.delta.partition_values import folder
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, sync_path

ROW_GROUP_BYTES: Final = 32 * 2**20
"""Arrow bytes that are collected for one row group."""
MOST_WAITING_BYTES: Final = 256 * 2**20
"""Arrow bytes that all partitions together may collect."""
MOST_OPEN_FILES: Final = 128


class FileStream:
    """Writes rows of one partition value to files that are begun anew when they are large.

    Use it as a context manager: when its block fails, every file of it is deleted. Nothing refers
    to the files before they are committed.

    Args:
        root: The table's folder.
        schema: The files' schema, without partition columns.
        values: The partition's values as text.
        options: Compression, durability, statistics; ``target_file_bytes`` is the size on the disk
            from which on a file is ended.
    """

    def __init__(
        self,
        root: Place,
        schema: pa.Schema,
        values: Mapping[str, str | None],
        options: WriteOptions,
    ) -> None:
        self._root = root
        self._schema = schema.remove_metadata()
        self._values = dict(values)
        self._options = options
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._open: DataFileStream | None = None
        self.files: list[DataFile] = []
        self.rows = 0

    def __enter__(self) -> Self:
        """Nothing is written before there are rows."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the last file; delete all of them after an error."""
        if kind is None:
            with contextlib.ExitStack() as undone:
                undone.callback(self._delete)
                self.end_file()
                self._sync_folders()
                undone.pop_all()
        else:
            self._delete()

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Add rows; they have the schema's columns."""
        for batch in rows.to_batches() if isinstance(rows, pa.Table) else [rows]:
            self._waiting.append(batch)
            self._waiting_bytes += batch.nbytes
            self.rows += batch.num_rows
            if self._waiting_bytes >= ROW_GROUP_BYTES:
                self._end_row_group()

    def write_all(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Add all rows of a stream."""
        for batch in batches:
            self.write(batch)

    @property
    def waiting_bytes(self) -> int:
        """Arrow bytes that are not in a file yet."""
        return self._waiting_bytes

    @property
    def is_open(self) -> bool:
        """Whether a file is open."""
        return self._open is not None

    def flush(self) -> None:
        """Write what waits as a row group."""
        if self._waiting:
            self._end_row_group()

    def end_file(self) -> None:
        """End the file that is open; further rows begin another one."""
        self.flush()
        if self._open is not None:
            done, self._open = self._open, None
            file = done.closed()
            if file is not None:
                self.files.append(file)

    def _end_row_group(self) -> None:
        rows = pa.Table.from_batches(self._waiting, schema=self._waiting[0].schema)
        rows = rows.select(self._schema.names).cast(self._schema)
        self._waiting, self._waiting_bytes = [], 0
        if self._open is None:
            below = folder(self._values)
            self._open = DataFileStream(self._root, below, self._values, self._options)
        for start in range(0, rows.num_rows, self._options.row_group_rows):
            self._open.write(rows.slice(start, self._options.row_group_rows))
        if self._open.size_bytes >= self._options.target_file_bytes:
            self.end_file()

    def _sync_folders(self) -> None:
        if self._options.durability != "sync" or not isinstance(self._root, Path):
            return
        found: set[Path] = set()
        for file in self.files:
            path = self._root / unquote(file.path)
            found |= {one for one in path.parents if one.is_relative_to(self._root)}
        for one in sorted(found):
            sync_path(one)

    def _delete(self) -> None:
        if self._open is not None:
            self._open.abandon()
        for file in self.files:
            with contextlib.suppress(OSError):
                (self._root / unquote(file.path)).unlink()


class PartitionedStream:
    """Writes rows of any partition value, each to its partition's files, in bounded memory.

    Use it as a context manager: when its block fails, every file of it is deleted.

    Args:
        root: The table's folder.
        schema: The table's schema, partition columns included.
        partition_by: The partition columns.
        options: As for :class:`FileStream`.
    """

    def __init__(
        self, root: Place, schema: pa.Schema, partition_by: Sequence[str], options: WriteOptions
    ) -> None:
        self._root = root
        self._by = tuple(partition_by)
        self._schema = pa.schema([one for one in schema if one.name not in self._by])
        self._options = options
        self._streams: dict[tuple[str | None, ...], FileStream] = {}
        self._stack = contextlib.ExitStack()
        self.rows = 0

    def __enter__(self) -> Self:
        """Nothing is written before there are rows."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the files; delete all of them after an error."""
        self._stack.__exit__(kind, error, trace)

    @property
    def files(self) -> list[DataFile]:
        """The files that are complete: all, once the block has ended."""
        return [file for stream in self._streams.values() for file in stream.files]

    def write(self, rows: pa.Table) -> None:
        """Add rows; they have the schema's columns."""
        self.rows += rows.num_rows
        for values, part in by_value(rows, self._by):
            key = tuple(values.values())
            stream = self._streams.pop(key, None)
            if stream is None:
                made = FileStream(self._root, self._schema, values, self._options)
                stream = self._stack.enter_context(made)
            # The ones that were not written to for the longest come first.
            self._streams[key] = stream
            stream.write(part)
        while sum(one.waiting_bytes for one in self._streams.values()) > MOST_WAITING_BYTES:
            max(self._streams.values(), key=lambda one: one.waiting_bytes).flush()
        opened = [one for one in self._streams.values() if one.is_open]
        for one in opened[: max(0, len(opened) - MOST_OPEN_FILES)]:
            one.end_file()
