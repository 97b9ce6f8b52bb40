"""Step 4 of the commit rule: look at a unit's files, since delta-rs validates nothing."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from raylake.errors import DependencyUnreachable
from raylake.ingest.unit import DataFile, Unit
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, open_input


def check_unit(unit: Unit, root: Place, schema: pa.Schema, partition_by: tuple[str, ...]) -> str:
    """Why a unit's files must not be committed; empty when they may.

    Checked: path inside the table, existence, size, rows and schema from the footer, partition
    values, statistics, and that rows and dead letters agree with the unit's counts.

    Raises:
        DependencyUnreachable: A file cannot be read just now (the unit is neither good nor bad).
    """
    stored = pa.schema([f for f in schema if f.name not in partition_by])
    rows = 0
    paths: set[str] = set()
    for file in unit.files:
        if file.path in paths:
            return f"file: {file.path} is named twice"
        paths.add(file.path)
        reason = check_file(file, root, stored, partition_by)
        if reason:
            return f"file: {file.path}: {reason}"
        rows += file.rows
    counts = unit.counts
    if rows != counts.rows:
        return f"file: {rows} rows in the files, {counts.rows} in the ranges"
    dead = sum(f.rows for f in unit.dead_letter_files)
    lost_ranges = sum(1 for r in unit.ranges if r.counts.lost)
    if not counts.dead <= dead <= counts.dead + lost_ranges:
        return f"file: {dead} rows in the dead-letter files, {counts.dead} in the ranges"
    return ""


def disk_path(root: Place, path: str) -> Place | None:
    """Where a path of the log lies on the disk; None when it leads out of the table."""
    if "://" in path or path.startswith("/"):
        return None
    below = PurePosixPath(unquote(path))
    if (
        below.is_absolute()
        or ".." in below.parts
        or not below.parts
        or below.parts[0] == "_delta_log"
    ):
        return None
    if isinstance(root, StorePath):
        return root / str(below)
    place = root / below
    return place if place.resolve().is_relative_to(root.resolve()) else None


def check_file(
    file: DataFile, root: Place, stored: pa.Schema, partition_by: tuple[str, ...]
) -> str:
    """Why one file must not be committed; empty when it may.

    Args:
        file: The file.
        root: The table's folder.
        stored: The table's schema without partition columns.
        partition_by: The partition columns.

    Raises:
        DependencyUnreachable: The file cannot be read just now.
    """
    place = disk_path(root, file.path)
    if place is None:
        return "lies outside the table"
    if set(file.partition_values) != set(partition_by):
        return f"partition values {sorted(file.partition_values)}, not {list(partition_by)}"
    try:
        size = place.stat().st_size
        if size != file.size_bytes:
            return f"has {size} bytes, not {file.size_bytes}"
        with open_input(place) as opened, pq.ParquetFile(opened) as parquet:
            rows = parquet.metadata.num_rows
            found = parquet.schema_arrow
    except FileNotFoundError:
        return "does not exist"
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        return f"is not a Parquet file: {str(error).splitlines()[0]}"
    except OSError as error:
        raise DependencyUnreachable(f"{place}: cannot be read: {error}") from error
    if rows != file.rows:
        return f"has {rows} rows, not {file.rows}"
    return _check_columns(found, stored) or _check_stats(file)


def _check_columns(found: pa.Schema, stored: pa.Schema) -> str:
    if found.names != stored.names:
        unlike = sorted(set(found.names) ^ set(stored.names)) or ["their order"]
        return f"its columns are not the table's: {', '.join(unlike[:5])}"
    for mine, table in zip(found, stored, strict=True):
        if not _plain(mine.type).equals(_plain(table.type)):
            return f"column {mine.name!r} is {mine.type}, not {table.type}"
    return ""


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type without what a Parquet file does not keep: names and nullability of elements."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _plain(f.type)) for f in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", _plain(kind.value_type)))
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    return kind


def _check_stats(file: DataFile) -> str:
    try:
        stats = json.loads(file.stats)
    except ValueError:
        return "its statistics are not JSON"
    if not isinstance(stats, dict) or stats.get("numRecords") != file.rows:
        return "its statistics do not tell its rows"
    for key in ("minValues", "maxValues", "nullCount"):
        if not isinstance(stats.get(key, {}), dict):
            return f"its statistics have a broken {key}"
    return ""
