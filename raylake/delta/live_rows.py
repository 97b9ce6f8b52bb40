"""Rows of single live files as the table has them today: deleted ones left out, types fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from raylake.delta.log_reader import LogSnapshot
from raylake.delta.verify_offsets import Mask
from raylake.errors import LogDamaged
from raylake.storage.place import Place, open_input, place

BATCH_ROWS: Final = 65_536
_ALIASES: Final = {"s3a://": "s3://", "s3n://": "s3://", "gcs://": "gs://"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A live file that is read to be written anew.

    Attributes:
        path: As the log has it.
        size_bytes: By the log.
        rows: Live rows by the log; None when it does not say.
        deleted: Rows that a deletion vector takes away.
        values: Its partition values.
        vector: The deletion vector's descriptor; None without one.
    """

    path: str
    size_bytes: int
    rows: int | None
    deleted: int
    values: Mapping[str, str | None]
    vector: Mapping[str, Any] | None = field(default=None, compare=False)

    def remove_action(self, now_s: float, *, data_change: bool = False) -> dict[str, Any]:
        """The file as the log removes it; a file and its vector are one (Delta protocol)."""
        removed: dict[str, Any] = {
            "path": self.path,
            "deletionTimestamp": int(now_s * 1000),
            "dataChange": data_change,
            "extendedFileMetadata": True,
            "partitionValues": dict(self.values),
            "size": self.size_bytes,
        }
        return {**removed, "deletionVector": dict(self.vector)} if self.vector else removed


def source_files(snapshot: LogSnapshot) -> list[SourceFile]:
    """The live files of a version, in the order of its log."""
    found = []
    for row in snapshot.files.to_pylist():
        total, deleted = row["num_records"], int(row["deleted_records"] or 0)
        vector = row["deletion_vector"]
        found.append(
            SourceFile(
                path=str(row["path"]),
                size_bytes=int(row["size"] or 0),
                rows=None if total is None else int(total) - deleted,
                deleted=deleted,
                values=dict(row["partition_values"] or ()),
                vector=None if vector is None else orjson.loads(vector),
            )
        )
    return found


def file_place(root: Place, log_path: str) -> Place:
    """Where a file of the log lies; a shallow clone names files elsewhere, by their address."""
    if not is_absolute(log_path):
        return root / unquote(log_path)
    if log_path.startswith(("file:", "/")):
        return place(unquote(urlsplit(log_path).path))
    return place(unquote(log_path))


def path_below(root: Place, log_path: str) -> str:
    """A file of the log as it lies in the table's folder; its address where it lies elsewhere.

    A log may name a file of its own table by an address, in more than one way of writing it.
    """
    if not is_absolute(log_path):
        return unquote(log_path)
    at = file_place(root, log_path)
    if isinstance(root, Path) and isinstance(at, Path):
        return next(
            (
                one.relative_to(folder).as_posix()
                for folder, one in ((root.absolute(), at), (root.resolve(), at.resolve()))
                if one.is_relative_to(folder)
            ),
            str(at),
        )
    begins, address = f"{root}/", str(at)
    for alias, name in _ALIASES.items():
        if address.startswith(alias):
            address = f"{name}{address.removeprefix(alias)}"
    return address.removeprefix(begins)


def file_address(root: Place, log_path: str) -> str:
    """The address by which the log of another table names a file."""
    if is_absolute(log_path):
        return log_path
    at = file_place(root, log_path)
    return f"file://{quote(str(at.absolute()))}" if isinstance(at, Path) else quote(str(at), ":/")


def is_absolute(log_path: str) -> bool:
    """Whether a path of the log is an address of its own."""
    return log_path.startswith(("file:", "/")) or "://" in log_path


class RowReader:
    """Reads live files of one version, one batch at a time.

    Args:
        root: The table.
        handle: delta-rs's handle of that version, which reads its deletion vectors; None where no
            file that is read has one.
        schema: The types that rows are wanted in: the table's, or wider ones, without partition
            columns.
    """

    def __init__(self, root: Place, handle: DeltaTable | None, schema: pa.Schema) -> None:
        self._root = root
        self._schema = schema
        self._handle = handle
        self._alive: list[tuple[str, Mask]] | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that its rows have."""
        return list(self._schema.names)

    def rows(self, source: SourceFile) -> Iterator[pa.RecordBatch]:
        """The live rows of a file.

        Raises:
            LogDamaged: The file is gone, cannot be read, or does not hold what the log says.
            StoreError: The store does not answer.
        """
        mask = self._mask(source)
        at = file_place(self._root, source.path)
        count = start = 0
        try:
            with open_input(at) as opened, _parquet(opened) as parquet:
                there = set(parquet.schema_arrow.names)
                columns = [name for name in self._schema.names if name in there]
                for batch in parquet.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                    found = fitted(batch, self._schema)
                    if mask is not None:
                        keep = mask[start : start + found.num_rows]
                        start += found.num_rows
                        found = found.filter(pa.array(keep))
                    count += found.num_rows
                    yield found
        except (FileNotFoundError, pa.ArrowException) as error:
            raise _damaged(source.path, f"cannot be read: {error}") from error
        if source.rows is not None and count != source.rows:
            raise _damaged(source.path, f"holds {count} rows, the log says {source.rows}")

    def _mask(self, source: SourceFile) -> Mask | None:
        if source.vector is None:
            return None
        if self._alive is None:
            self._alive = [] if self._handle is None else list(alive_rows(self._handle))
        path = unquote(source.path)
        short = next(
            (mask for at, mask in self._alive if at == path or at.endswith(f"/{path}")), None
        )
        if short is None:
            raise _damaged(source.path, "has a deletion vector that cannot be read")
        # What a vector does not reach is alive.
        total = len(short) if source.rows is None else source.rows + source.deleted
        rest: Mask = np.ones(max(0, total - len(short)), np.bool_)
        whole: Mask = np.concatenate([short, rest])
        return whole


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of a file with the columns of a schema: those that it lacks are null.

    Raises:
        pa.ArrowInvalid: A value does not fit.
    """
    columns = []
    for one in schema:
        if one.name in batch.schema.names:
            columns.append(cast_column(batch.column(one.name), one.type))
        else:
            columns.append(pa.nulls(batch.num_rows, one.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def cast_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column in another type; fields of a struct that an older file lacks are null."""
    if column.type.equals(kind):
        return column
    if pa.types.is_struct(kind) and pa.types.is_struct(column.type):
        have = {field.name: place for place, field in enumerate(column.type)}
        children = [
            cast_column(column.field(have[one.name]), one.type)
            if one.name in have
            else pa.nulls(len(column), one.type)
            for one in kind
        ]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=column.is_null())
    return column.cast(kind)


def _parquet(opened: pa.NativeFile) -> pq.ParquetFile:
    return pq.ParquetFile(opened, coerce_int96_timestamp_unit="us")


def alive_rows(handle: DeltaTable) -> Iterator[tuple[str, Mask]]:
    """The address of each file with a deletion vector, and which of its rows are alive.

    Rows beyond a mask's end are alive.
    """
    for batch in pa.RecordBatchReader.from_stream(handle.deletion_vectors()):
        paths, masks = batch.column("filepath").to_pylist(), batch.column("selection_vector")
        for path, mask in zip(paths, masks, strict=True):
            yield unquote(path), mask.values.to_numpy(zero_copy_only=False)


def _damaged(path: str, what: str) -> LogDamaged:
    return LogDamaged(
        f"{path} {what}",
        hint="nothing was changed; `raylake verify --level data` says more",
        path=path,
    )
