"""Rows of single files that a source's commits name: data files, and those of its change feed.

A file gives its rows with the columns that the source has at the end of the span: columns that it
lacks are null, narrower types are cast, and with column mapping its physical names are resolved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from deltalake import Schema

from raylake.delta.live_rows import alive_rows
from raylake.delta.log_reader import TableMetadata
from raylake.delta.schema import arrow_schema
from raylake.delta.verify_offsets import Mask
from raylake.layers.derived import Slice
from raylake.storage.place import Place
from raylake.tables.data_files import FileScan, LiveFile, read_file
from raylake.tables.delta_rs_open import opened

CHANGE: Final = "_change_type"
_MAPPING: Final = "delta.columnMapping.mode"
_PHYSICAL: Final = "delta.columnMapping.physicalName"


@dataclass(frozen=True, slots=True)
class SourceColumns:
    """Columns of a source, by the names that its users know and by those in its files.

    Attributes:
        logical: As users see them.
        physical: The same columns in the same order, as files name them.
    """

    logical: pa.Schema
    physical: pa.Schema

    @classmethod
    def of(cls, metadata: TableMetadata) -> SourceColumns:
        """All columns of a table."""
        logical = arrow_schema(Schema.from_json(metadata.schema_json))
        if metadata.configuration.get(_MAPPING, "none") in ("", "none"):
            return cls(logical, logical)
        fields = _physical(json.loads(metadata.schema_json))
        return cls(logical, arrow_schema(Schema.from_json(json.dumps(fields))))

    def chosen(self, names: Sequence[str]) -> SourceColumns:
        """Some of them, in this order."""
        at = [self.logical.get_field_index(name) for name in names]
        return SourceColumns(
            pa.schema([self.logical.field(i) for i in at]),
            pa.schema([self.physical.field(i) for i in at]),
        )

    def renamed(self, rows: pa.Table) -> pa.Table:
        """Rows of files, whose first columns are these, with the names that users know."""
        if self.logical.equals(self.physical):
            return rows
        pairs = zip(rows.columns, self.logical, strict=False)
        columns = [_named(column, field.type) for column, field in pairs]
        rest = list(rows.schema)[len(columns) :]
        columns += rows.columns[len(columns) :]
        return pa.table(columns, schema=pa.schema([*self.logical, *rest]))


class SourceFiles:
    """Reads files that commits of one source name.

    Args:
        root: The source.
        columns: The columns that are wanted.
    """

    def __init__(self, root: Place, columns: SourceColumns) -> None:
        self._root = root
        self._columns = columns
        self._vectors: dict[int, dict[str, Mask]] = {}

    def rows(self, action: Mapping[str, Any], version: int) -> pa.Table:
        """The rows of a data file that are alive.

        Args:
            action: An ``add``, or a ``remove``, of the log.
            version: The version of which the file, with its deletion vector, is a part.

        Raises:
            FileNotFoundError: The file is gone.
            pa.ArrowException: It cannot be read.
        """
        found = self._read(action, self._columns.physical)
        if action.get("deletionVector"):
            found = found.filter(self._alive(str(action["path"]), version, found.num_rows))
        return self._columns.renamed(found)

    def some(self, wanted: Slice, version: int) -> pa.Table:
        """Of some rows of a data file those that are alive; raises as :meth:`rows`."""
        action = wanted.action
        found = self._read(action, self._columns.physical, wanted)
        if action.get("deletionVector"):
            alive = self._alive(str(action["path"]), version, wanted.begin + found.num_rows)
            found = found.filter(alive.slice(wanted.begin))
        return self._columns.renamed(found)

    def changes(self, action: Mapping[str, Any]) -> pa.Table:
        """The rows of a file of the change feed, and :data:`CHANGE`.

        Raises:
            FileNotFoundError: The file is gone.
            pa.ArrowException: It cannot be read.
        """
        schema = pa.schema([*self._columns.physical, (CHANGE, pa.string())])
        return self._columns.renamed(self._read(action, schema))

    def _read(
        self, action: Mapping[str, Any], schema: pa.Schema, wanted: Slice | None = None
    ) -> pa.Table:
        values = dict(action.get("partitionValues") or {})
        file = LiveFile(str(action["path"]), int(action.get("size") or 0), None, values)
        scan = FileScan(str(self._root), -1, schema, tuple(schema.names))
        batches = _all(scan, file)
        if wanted is not None:
            batches = _between(batches, wanted)
        return pa.Table.from_batches(batches, schema)

    def _alive(self, path: str, version: int, rows: int) -> pa.Array:
        if version not in self._vectors:
            handle = opened(self._root, version)
            self._vectors = {**self._vectors, version: dict(alive_rows(handle))}
        plain = unquote(path)
        masks = self._vectors[version].items()
        short = next((m for at, m in masks if at == plain or at.endswith(f"/{plain}")), None)
        alive = np.ones(rows, dtype=bool)
        if short is not None:
            alive[: len(short)] = short[:rows]
        return pa.array(alive)


def _all(scan: FileScan, file: LiveFile) -> Iterator[pa.RecordBatch]:
    for batch in read_file(scan, file):
        yield batch.cast(scan.wanted)


def _between(batches: Iterator[pa.RecordBatch], wanted: Slice) -> Iterator[pa.RecordBatch]:
    """Of a file's rows some; what comes after them is not read."""
    at = 0
    for batch in batches:
        begin = max(0, wanted.begin - at)
        end = batch.num_rows if wanted.end is None else min(batch.num_rows, wanted.end - at)
        if begin < end:
            yield batch.slice(begin, end - begin)
        at += batch.num_rows
        if wanted.end is not None and at >= wanted.end:
            return


def _physical(node: Any) -> Any:
    """A schema of the log with the names that files have."""
    if isinstance(node, list):
        return [_physical(one) for one in node]
    if not isinstance(node, dict):
        return node
    inner = {key: value if key == "metadata" else _physical(value) for key, value in node.items()}
    name = (node.get("metadata") or {}).get(_PHYSICAL)
    return inner if name is None else {**inner, "name": name, "metadata": {}}


def _named(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column whose nested fields have other names, with those of a type."""
    chunks = [_array_named(chunk, kind) for chunk in column.chunks]
    return pa.chunked_array(chunks, kind)


def _array_named(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type.equals(kind) or not pa.types.is_nested(kind):
        return array
    if array.offset:
        array = array.take(pa.array(np.arange(len(array))))
    buffers = array.buffers()[: 1 if pa.types.is_struct(kind) else 2]
    if pa.types.is_struct(kind):
        children = [_array_named(array.field(i), kind.field(i).type) for i in range(len(kind))]
    elif pa.types.is_map(kind):
        pairs = [_array_named(array.keys, kind.key_type), _array_named(array.items, kind.item_type)]
        fields = [kind.key_field, kind.item_field]
        children = [pa.StructArray.from_arrays(pairs, fields=fields)]
    else:
        children = [_array_named(array.values, kind.value_type)]
    return pa.Array.from_buffers(kind, len(array), buffers, children=children)
