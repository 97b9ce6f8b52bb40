"""A Parquet file that is written batch by batch, for rewrites that do not fit into memory."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.files import WriteOptions, parquet_writer, stored
from raylake.delta.partition_values import log_path
from raylake.delta.stats import Leaf, file_stats, leaf_values, leaves
from raylake.errors import DependencyUnreachable
from raylake.ingest.unit import DataFile
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, make_folder


class DataFileStream:
    """One data file, each batch a row group of it; with an error nothing of it is left.

    Args:
        root: The table's folder.
        below: The file's folder as it is on the disk, relative to the table's; empty: the table's.
        values: Its partition values.
        options: Compression, durability, columns with statistics.

    Raises:
        DependencyUnreachable: On leaving, and from :meth:`write`: it cannot be written.
    """

    def __init__(
        self, root: Place, below: str, values: Mapping[str, str | None], options: WriteOptions
    ) -> None:
        name = f"{options.prefix}-{uuid.uuid4()}.{options.compression}.parquet"
        self._below = f"{below}/{name}" if below else name
        self._path = root / self._below
        self._values = dict(values)
        self._options = options
        self._stack = contextlib.ExitStack()
        self._buffered: pa.BufferOutputStream | None = None
        self._sink: Any = None
        self._writer: pq.ParquetWriter | None = None
        self._floats: list[Leaf] = []
        self._with_nan: list[pa.Table] = []

    def __enter__(self) -> Self:
        """Nothing is written before the first batch."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file; takes it away after an error."""
        if error is not None:
            self.abandon()

    def abandon(self) -> None:
        """Close the file and take it away."""
        with contextlib.suppress(OSError, pa.ArrowException):
            self._stack.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return 0 if self._sink is None else int(self._sink.tell())

    def write(self, rows: pa.Table) -> None:
        """Add rows as one row group; all batches have one schema."""
        if not rows.num_rows:
            return
        try:
            if self._writer is None:
                self._writer = self._opened(rows)
            self._writer.write_table(rows, row_group_size=rows.num_rows)
        except OSError as error:
            raise self._unwritable(error) from error
        for leaf in self._floats:
            nan = pc.is_nan(leaf_values(rows, leaf))
            if pc.any(nan).as_py():
                self._with_nan.append(rows.slice(pc.index(nan, True).as_py(), 1))
                self._floats = [one for one in self._floats if one is not leaf]

    def closed(self) -> DataFile | None:
        """The file, durable as the options say; None where no row was written."""
        if self._writer is None:
            return None
        try:
            self._stack.close()
            size_bytes = stored(self._path, self._buffered, self._options.durability)
        except OSError as error:
            raise self._unwritable(error) from error
        footer = self._writer.writer.metadata
        # What a footer does not tell: whether there is a NaN; a row of each such column says so.
        told = pa.Table.from_batches([], self._writer.schema)
        if self._with_nan:
            told = pa.concat_tables(self._with_nan)
        return DataFile(
            path=log_path(self._below),
            size_bytes=size_bytes,
            rows=footer.num_rows,
            partition_values=self._values,
            stats=file_stats(footer, told, self._options.stats_columns),
        )

    def _opened(self, rows: pa.Table) -> pq.ParquetWriter:
        make_folder(self._path.parent)
        sink: Any
        if isinstance(self._path, StorePath):
            sink = self._buffered = pa.BufferOutputStream()
        else:
            sink = self._stack.enter_context(pa.OSFile(str(self._path), "wb"))
        self._sink = sink
        self._floats = [leaf for leaf in leaves(rows.schema) if _may_hold_nan(leaf)]
        return self._stack.enter_context(parquet_writer(sink, rows, self._options))

    def _unwritable(self, error: OSError) -> DependencyUnreachable:
        return DependencyUnreachable(
            f"{self._path}: a data file could not be written: {error}",
            hint="Check free space and permissions of the table's folder.",
            errno=error.errno,
        )


def _may_hold_nan(leaf: Leaf) -> bool:
    return bool(pa.types.is_floating(leaf.type)) and not leaf.repeated
