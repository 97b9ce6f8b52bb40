"""Files of a table's folder that are no longer live and still hold rows that a condition is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from raylake.delta import log_files
from raylake.delta.live_rows import cast_column, path_below, source_files
from raylake.delta.log_reader import LogReader
from raylake.delta.log_store import files_of
from raylake.storage.place import Place, open_input
from raylake.tables.upkeep_requests import MIN_RETENTION_HOURS
from raylake.tables.vacuum import is_data, kept_now

Holds = Callable[[pa.Table], bool]
"""Whether rows that are to leave are among some rows."""
_BATCH_ROWS: Final = 65_536
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class HoldingFiles:
    """What was found in a table's folder.

    Attributes:
        free: Files that hold such rows and that nothing needs, with their bytes.
        held: Files that hold such rows and that a reader or a pin needs.
        live: Live files that hold such rows behind a deletion vector.
        young: Files with such rows that no commit names, and that a writer may be about to commit.
        unread: Files that cannot be read, and why.
        holders: Who holds older versions, for people.
    """

    free: Mapping[str, int]
    held: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    young: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    holders: str = ""


@dataclass(slots=True)
class _Sorted:
    free: dict[str, int] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    live: list[str] = field(default_factory=list)
    young: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def holding_files(
    root: Place, columns: pa.Schema, holds: Holds, now_s: float, *, break_holds: bool = False
) -> HoldingFiles:
    """Look through the files of a table's folder that its newest version does not need.

    Args:
        root: The table.
        columns: What ``holds`` looks at; a file that lacks one has null in it.
        holds: Whether rows that are to leave are among some rows.
        now_s: The time, in seconds since the epoch.
        break_holds: Readers and pins need nothing.

    Raises:
        LeaseUnread: What a reader or a pin needs cannot be told.
        RayLakeError: The log or the store cannot be read.
    """
    there = files_of(str(root)).tree("")
    needed, known, holders = kept_now(root, now_s, break_holds=break_holds)
    newest = source_files(LogReader(str(root)).snapshot())
    live = {path_below(root, one.path) for one in newest}
    behind = {path_below(root, one.path) for one in newest if one.vector is not None}
    young_ns = int((now_s - MIN_RETENTION_HOURS * 3600) * 1e9)
    found = _Sorted()
    for path, size in sorted(there.items()):
        if not path.endswith(".parquet") or not is_data(path) or path in live - behind:
            continue
        try:
            if not _has(root, path, columns, holds):
                continue
        except FileNotFoundError:
            continue
        except (OSError, pa.ArrowException) as error:
            found.unread.append(f"{path}: {str(error).splitlines()[0]}")
            continue
        mark = log_files.mark(root / path)
        if path in behind:
            found.live.append(path)
        elif path in needed:
            found.held.append(path)
        elif path not in known and mark is not None and mark.mtime_ns > young_ns:
            found.young.append(path)
        else:
            found.free[path] = size
    return HoldingFiles(
        found.free,
        tuple(found.held),
        tuple(found.live),
        tuple(found.young),
        tuple(found.unread),
        holders if found.held or break_holds else "",
    )


def behind_vectors(root: Place, columns: pa.Schema, holds: Holds) -> tuple[str, ...]:
    """Live files, as the log names them, that hold such rows behind a deletion vector or beside it.

    Args:
        root: The table.
        columns: What ``holds`` looks at.
        holds: Whether rows that are to leave are among some rows.

    Raises:
        RayLakeError: The log or the store cannot be read.
        OSError: A file cannot be read.
    """
    newest = source_files(LogReader(str(root)).snapshot())
    vectored = (one.path for one in newest if one.vector is not None)
    return tuple(one for one in vectored if _has(root, path_below(root, one), columns, holds))


def _has(root: Place, path: str, columns: pa.Schema, holds: Holds) -> bool:
    values = _values(path)
    with open_input(root / path) as opened, pq.ParquetFile(opened) as parquet:
        stored = [name for name in columns.names if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=stored, use_threads=False):
            made = [_column(batch, one, values) for one in columns]
            if holds(pa.table(made, schema=columns)):
                return True
    return False


def _column(batch: pa.RecordBatch, wanted: pa.Field, values: Mapping[str, str | None]) -> pa.Array:
    count = batch.num_rows
    if wanted.name in batch.schema.names:
        return cast_column(batch.column(wanted.name), wanted.type)
    if values.get(wanted.name) is not None:
        text = pa.scalar(values[wanted.name], pa.string())
        return pa.repeat(text.cast(wanted.type), count)
    return pa.nulls(count, wanted.type)


def _values(path: str) -> dict[str, str | None]:
    """Partition values, from the folders' names."""
    found: dict[str, str | None] = {}
    for one in _folders(path):
        name, sign, text = one.partition("=")
        if sign:
            found[unquote(name)] = None if text == _NULL else unquote(text)
    return found


def _folders(path: str) -> Sequence[str]:
    return path.split("/")[:-1]
