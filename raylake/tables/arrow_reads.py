"""Whole versions read by Arrow's dataset scanner, which hands on what it decoded without a copy.

delta-rs gives texts as views, and a plain column of each takes memory and time once more. Arrow
reads what needs no more than its types: local files of flat columns, without deletion vectors,
column mapping or a condition. For all else :func:`arrow_reader` says None, and delta-rs reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs

from raylake.delta.live_rows import is_absolute
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place

BATCH_ROWS: Final = 65_536
_AHEAD: Final = {"batch_readahead": 8, "fragment_readahead": 2}
"""What is decoded before it is asked for: some batches of two files."""
_MAPPING: Final = "delta.columnMapping.mode"
_VECTORS: Final = "deletionVectors"
_FORMAT: Final = ds.ParquetFileFormat(coerce_int96_timestamp_unit="us")


def arrow_reader(root: Place, handle: DeltaTable, wanted: pa.Schema) -> pa.RecordBatchReader | None:
    """All rows of a handle's version; None where delta-rs is to read them.

    Batches of several files come as they are decoded, in the order of the log.

    Args:
        root: The table.
        handle: delta-rs's handle of the version.
        wanted: The columns, in the table's types.
    """
    schema = arrow_schema(handle.schema())
    if not isinstance(root, Path) or not len(wanted) or not _plain(handle, schema):
        return None
    adds = pa.table(handle.get_add_actions(flatten=True))
    paths = adds.column("path").to_pylist()
    if any(is_absolute(path) for path in paths):
        return None
    partition_by = handle.metadata().partition_columns
    values = [adds.column(f"partition.{name}") for name in partition_by]
    local = fs.LocalFileSystem()
    fragments = [
        _FORMAT.make_fragment(
            str(root / unquote(path)),
            local,
            _where(dict(zip(partition_by, (column[at] for column in values), strict=True)), schema),
        )
        for at, path in enumerate(paths)
    ]
    found = ds.FileSystemDataset(fragments, schema, _FORMAT, local)
    scanner = found.scanner(columns=wanted.names, batch_size=BATCH_ROWS, **_AHEAD)
    return pa.RecordBatchReader.from_batches(wanted, _batches(scanner, wanted))


def _plain(handle: DeltaTable, schema: pa.Schema) -> bool:
    features = set(handle.protocol().reader_features or ())
    mapping = handle.metadata().configuration.get(_MAPPING, "none")
    return (
        _VECTORS not in features
        and mapping in ("", "none")
        and not any(pa.types.is_nested(field.type) for field in schema)
    )


def _where(values: Mapping[str, pa.Scalar], schema: pa.Schema) -> ds.Expression | None:
    """What holds for all rows of a file: the values of its partition columns."""
    found: list[Any] = []
    for name, value in values.items():
        cast = value.cast(schema.field(name).type)
        field = ds.field(name)
        found.append(field == cast if cast.is_valid else field.is_null())
    return reduce(and_, found) if found else None


def _batches(scanner: ds.Scanner, wanted: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in scanner.to_reader():
        if batch.num_rows:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=wanted)
