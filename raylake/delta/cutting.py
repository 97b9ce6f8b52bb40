"""Taking rows out of a table: which files hold them, and files without them in their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylake.arrow import without_views
from raylake.delta.files import WriteOptions, write_data_files
from raylake.delta.log_reader import LogReader
from raylake.delta.spec import Durability
from raylake.delta.verify_data import LiveFile, read
from raylake.delta.verify_log import table_path
from raylake.delta.verify_offsets import Mask
from raylake.errors import LogDamaged
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, open_input

Doomed = Callable[[pa.RecordBatch], Mask]
"""Which rows of a batch are to leave."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A file that holds rows which are to leave.

    Attributes:
        file: The file.
        doomed: Which of its rows.
    """

    file: LiveFile
    doomed: Mask

    @property
    def rows(self) -> int:
        """How many rows leave."""
        return int(self.doomed.sum())

    def remove_action(self, now_s: float) -> dict[str, Any]:
        """The file as the log removes it."""
        return {
            "path": self.file.path,
            "deletionTimestamp": int(now_s * 1000),
            "dataChange": True,
            "extendedFileMetadata": True,
            "partitionValues": dict(self.file.values),
            "size": self.file.size_bytes,
        }


def find_cuts(
    reader: LogReader, files: Iterable[LiveFile], columns: Sequence[str], doomed: Doomed
) -> Iterator[Cut]:
    """The files that hold rows which are to leave; one file at a time is in memory.

    Args:
        reader: The table's log.
        files: Its live files.
        columns: The columns that ``doomed`` looks at.
        doomed: Which rows leave.

    Raises:
        LogDamaged: A file is missing, or is not what the log says.
    """
    listed = list(files)
    by_path = {one.path: one for one in listed}
    batches = read(reader, listed, columns, refuse_fault)
    for path, of_file in groupby(batches, key=lambda pair: pair[0]):
        mask = np.concatenate([doomed(batch) for _, batch in of_file])
        if mask.any():
            yield Cut(by_path[path], mask)


def refuse_fault(path: str, expected: str, found: str) -> None:
    """A file is missing, or is not what the log says.

    Raises:
        LogDamaged: Always.
    """
    raise LogDamaged(
        f"{path}: {found} where {expected} is expected",
        hint="run `raylake verify --level data`; nothing was changed",
        path=path,
    )


def write_the_rest(
    root: Place, cuts: Iterable[Cut], configuration: Mapping[str, str], durability: Durability
) -> tuple[DataFile, ...]:
    """Write what stays of files with rows that leave; files beside them, not yet of the table.

    Args:
        root: The table's folder.
        cuts: The files.
        configuration: The table's properties.
        durability: ``sync``: they are on the disk when it returns.
    """
    named = configuration.get("delta.dataSkippingStatsColumns")
    columns = tuple(named.split(",")) if named else None
    options = WriteOptions(durability, stats_columns=columns)
    return tuple(file for cut in cuts for file in keep_the_rest(root, cut, options))


def keep_the_rest(root: Place, cut: Cut, options: WriteOptions) -> tuple[DataFile, ...]:
    """Write the rows that stay as files of their own, not yet part of the table.

    They lie beside the file: some readers take partition values from the folders' names.
    """
    if cut.doomed.all():
        return ()
    place = root / table_path(cut.file.path)
    with open_input(place) as opened, pq.ParquetFile(opened) as parquet:
        plain = without_views(parquet.schema_arrow)
        rows = parquet.read(use_threads=False).cast(plain).filter(pa.array(~cut.doomed))
    below, slash, _ = cut.file.path.rpartition("/")
    folder = root / table_path(below) if below else root
    written = write_data_files(folder, rows, rows.schema, options=options)
    values = dict(cut.file.values)
    return tuple(
        dataclasses.replace(one, path=f"{below}{slash}{one.path}", partition_values=values)
        for one in written
    )
