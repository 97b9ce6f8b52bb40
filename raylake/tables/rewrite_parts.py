"""Writing live files anew, part by part, and committing what is still as it was read."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from raylake import faults
from raylake.delta.file_streams import FileStream
from raylake.delta.files import WriteOptions
from raylake.delta.live_rows import SourceFile, file_place
from raylake.delta.log_commit import LogCommit, commit_after
from raylake.delta.rewriting import FileGroup, rewrite_commit, surviving
from raylake.delta.schema import arrow_schema
from raylake.delta.stats import columns_with_statistics
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place
from raylake.tables.errors import BadRequest
from raylake.tables.table_properties import TARGET_SIZE, size_bytes
from raylake.tables.threads import together

DEFAULT_TARGET_BYTES: Final = 128 * 2**20
_RACES: Final = 20
"""Commits of others between the look and the commit; each one costs another look."""

Stream = tuple[Mapping[str, str | None], Iterator[pa.RecordBatch]]
"""Partition values, and rows in the order in which they are written."""


@dataclass(frozen=True, slots=True)
class Part:
    """Files of one partition that are written anew together.

    Attributes:
        files: The files; empty where the rows are of several parts.
        streams: What is written; each stream's rows come into files of their own.
        threads: So many streams are written at once; other parts wait until they are.
    """

    files: tuple[SourceFile, ...]
    streams: Callable[[], AbstractContextManager[Sequence[Stream]]]
    threads: int = 1

    @property
    def size_bytes(self) -> int:
        """Bytes that are read."""
        return sum(one.size_bytes for one in self.files)


def write_parts(
    root: Place,
    schema: pa.Schema,
    parts: Sequence[Part],
    options: WriteOptions,
    threads: int = 1,
) -> list[FileGroup]:
    """Write parts as files that are not of the table yet; none of them is left after an error.

    Args:
        root: The table's folder.
        schema: The files' schema, without partition columns.
        parts: What is written.
        options: How.
        threads: So many parts at once; what each part's files hold does not depend on it.
    """
    done: list[DataFile] = []

    def written(stream: Stream) -> list[DataFile]:
        values, batches = stream
        with FileStream(root, schema, values, options) as files:
            files.write_all(batches)
        done.extend(files.files)
        return files.files

    def group(part: Part) -> FileGroup:
        with part.streams() as streams:
            found = together([partial(written, one) for one in streams], part.threads)
        files = [file for of_one in found for file in of_one]
        return FileGroup(part.files, tuple(files), _rows(part, files))

    with contextlib.ExitStack() as undone:
        undone.callback(lambda: _delete(root, done))
        alone = any(one.threads > 1 for one in parts)
        groups = together([partial(group, one) for one in parts], 1 if alone else threads)
        undone.pop_all()
    return groups


def commit_parts(
    root: Place, groups: Sequence[FileGroup], read_version: int, commit: LogCommit
) -> None:
    """Commit each group whose files are still live, all in one version; delete the others' files.

    Args:
        root: The table.
        groups: What was written.
        read_version: The version that was read.
        commit: Its name and parameters.

    Raises:
        CommitFailedError: Another commit took files of every group; nothing was changed.
    """
    faults.reach("rewrite.written", version=read_version)
    for _ in range(_RACES):
        now = surviving(root, groups, read_version)
        faults.reach("rewrite.checked", version=now.version)
        if now.landed or not now.certain:
            break
        # A slot's number must not pass behind that of another owner.
        fenced = any(now.txns.get(app) != number - 1 for app, number in commit.txns.items())
        if fenced or not now.groups:
            delete_files(root, groups)
            break
        try:
            commit_after(root, now.version, rewrite_commit(commit, now.groups, time.time()))
        except CommitFailedError:
            continue
        delete_files(root, now.lost)
        return
    raise CommitFailedError(f"{root}: other commits took the files that were to be replaced")


def delete_files(root: Place, groups: Sequence[FileGroup]) -> None:
    """Delete files that were written and are certainly not committed."""
    _delete(root, [file for group in groups for file in group.added])


def _delete(root: Place, files: Sequence[DataFile]) -> None:
    for one in files:
        with contextlib.suppress(OSError):
            file_place(root, one.path).unlink()


def stored_schema(handle: DeltaTable) -> pa.Schema:
    """What files of a table hold: its columns without those that it is partitioned by."""
    by = set(handle.metadata().partition_columns)
    return pa.schema([one for one in arrow_schema(handle.schema()) if one.name not in by])


def write_options(
    configuration: Mapping[str, str],
    schema: pa.Schema,
    target_bytes: int,
    statistics: Sequence[str] = (),
) -> WriteOptions:
    """How a table's properties want files written.

    Args:
        configuration: The table's properties.
        schema: The files' schema.
        target_bytes: The size from which on a file is ended.
        statistics: Columns that get statistics, whatever the properties say.
    """
    columns = columns_with_statistics(configuration, schema, statistics)
    return WriteOptions(stats_columns=columns, target_file_bytes=target_bytes)


def target_size(configuration: Mapping[str, str], asked: int | None, where: str) -> int:
    """The size of a new file in bytes.

    Raises:
        BadRequest: What is asked for is no size.
    """
    if asked is not None:
        if asked < 1:
            raise BadRequest(f"{where}: a target size of {asked} bytes is none")
        return asked
    return size_bytes(configuration.get(TARGET_SIZE, "")) or DEFAULT_TARGET_BYTES


def fields_json(schema_json: str) -> list[dict[str, Any]]:
    """The columns of a Delta schema as plain data."""
    return list(json.loads(schema_json)["fields"])


def _rows(part: Part, files: Sequence[DataFile]) -> int:
    known = [one.rows for one in part.files]
    if None in known:
        return sum(one.rows for one in files)
    return sum(one or 0 for one in known)
