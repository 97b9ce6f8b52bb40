"""The change feed of a copy-on-write merge: each row as it was and as it is now.

By the Delta protocol: files in ``_change_data`` with the table's columns and ``_change_type``,
partition values in the log, and a ``cdc`` action each. Where a commit has one, readers take its
changes from these files alone; where it has none, added files are inserts. So a merge that only
inserts writes none, and every other one writes the inserts there too.

There are no folders of partitions in there: delta-rs 1.6 looks for files of a feed under the path
as the log spells it, and finds none where a partition value is encoded in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa

from raylake.delta.file_stream import DataFileStream
from raylake.delta.files import WriteOptions, by_value
from raylake.delta.partition_values import partition_text
from raylake.ingest.unit import DataFile
from raylake.tables.cow_target import Target, TargetFile

FOLDER: Final = "_change_data"
KIND: Final = "_change_type"
INSERT: Final = "insert"
BEFORE: Final = "update_preimage"
AFTER: Final = "update_postimage"
DELETE: Final = "delete"
_ROW_GROUP_ROWS: Final = 65_536
"""Changed rows that are collected for a row group: as many as a merge changes at a time."""


class FileChanges:
    """The changes of one file that is written anew; none where the table records none.

    Use it as a context manager: with an error nothing of it is left.

    Args:
        target: The table.
        file: The file whose rows change.
        options: How files are written.
    """

    def __init__(self, target: Target, file: TargetFile, options: WriteOptions) -> None:
        values = {name: partition_text(one.as_py()) for name, one in file.values.items()}
        self._stream = DataFileStream(target.root, FOLDER, values, options)
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self.recorded = target.feeds

    def __enter__(self) -> Self:
        """Nothing is written before there are changes."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the file away after an error."""
        self._stream.__exit__(kind, error, trace)

    def add(self, kind: str, rows: pa.Table) -> None:
        """Add rows of the file's partition, without the partition columns.

        Args:
            kind: What became of them.
            rows: The rows; they are held until a row group is whole.
        """
        if not self.recorded or not rows.num_rows:
            return
        self._waiting.append(of_kind(kind, rows))
        self._rows += rows.num_rows
        if self._rows >= _ROW_GROUP_ROWS:
            self._end_row_group()

    def closed(self) -> DataFile | None:
        """The file; None where nothing was added."""
        self._end_row_group()
        return self._stream.closed()

    def _end_row_group(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(self._waiting)
            self._waiting, self._rows = [], 0
            self._stream.write(rows)


def of_kind(kind: str, rows: pa.Table) -> pa.Table:
    """The rows with what became of them."""
    return rows.append_column(KIND, pa.repeat(kind, rows.num_rows))


def new_changes(
    target: Target, inserted: pa.Table | None, moved: Sequence[pa.Table], options: WriteOptions
) -> Iterator[DataFile]:
    """Write the changes of rows that are of no file yet, a file for each partition.

    Args:
        target: The table.
        inserted: Rows that are inserted, with all columns.
        moved: Updated rows whose partition is another one now, with all columns.
        options: How files are written.

    Raises:
        DependencyUnreachable: One cannot be written; nothing of it is left.
    """
    rows = [] if inserted is None else [of_kind(INSERT, inserted)]
    rows += [of_kind(AFTER, one) for one in moved]
    if not rows:
        return
    for values, part in by_value(pa.concat_tables(rows), target.partition_by):
        with DataFileStream(target.root, FOLDER, values, options) as stream:
            for start in range(0, part.num_rows, _ROW_GROUP_ROWS):
                stream.write(part.slice(start, _ROW_GROUP_ROWS))
            file = stream.closed()
        if file is not None:
            yield file


def cdc_line(file: DataFile) -> dict[str, Any]:
    """The ``cdc`` action of a file of changes."""
    return {
        "cdc": {
            "path": file.path,
            "partitionValues": dict(file.partition_values),
            "size": file.size_bytes,
            "dataChange": False,
        }
    }
