"""Rows that versions appended, read from their files: changes of tables without a change feed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raylake.delta.log_reader import Commit, LogReader
from raylake.storage.place import Place
from raylake.tables.data_files import FileScan, LiveFile, read_file, scan_of
from raylake.tables.errors import ChangesUnavailable
from raylake.tables.feeds import FEED_FIELDS, feed_schema
from raylake.tables.requests import Read
from raylake.tables.times import utc
from raylake.tables.versions import Versions

_FEED_HINT = (
    "set delta.enableChangeDataFeed on the table (it counts from then on), or pass over such "
    "versions with reset()"
)


@dataclass(frozen=True, slots=True)
class AppendedFile:
    """A file that a version appended."""

    file: LiveFile
    version: int
    made_ms: int


def as_inserts(batch: pa.RecordBatch, version: int, made_ms: int) -> pa.RecordBatch:
    """Rows with the three columns of a change feed, as inserted by a version."""
    values = ("insert", version, utc(made_ms))
    columns = [
        pa.repeat(pa.scalar(value, field.type), batch.num_rows)
        for value, field in zip(values, FEED_FIELDS, strict=True)
    ]
    return pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=feed_schema(batch.schema))


def appended(
    root: Place, first: int, last: int, *, ignore_deletes: bool = False
) -> pa.RecordBatchReader:
    """The rows of the files that some versions appended, as inserts, with today's columns.

    Versions that only rewrite or only say something add no row.

    Args:
        root: The table.
        first: The first version.
        last: The last one.
        ignore_deletes: Pass over versions that only take rows away.

    Raises:
        ChangesUnavailable: A version changed rows or took some away: only a change feed tells
            which; or the table has column mapping or deletion vectors.
        VersionGone: The log no longer has one of the versions, or a file of one is gone.
    """
    versions = Versions(root)
    versions.commits(first, first)
    reader = LogReader(str(root))
    files: list[AppendedFile] = []
    for commit in reader.commits(first, last):
        files += _files(root, commit, versions, ignore_deletes=ignore_deletes)
    scan = scan_of(root, last, reader.snapshot(last).metadata, Read())
    if scan is None:
        raise ChangesUnavailable(
            f"{root}: the table has column mapping: its files alone do not tell what was appended",
            hint=_FEED_HINT,
        )
    live = set(reader.snapshot(versions.latest).files.column("path").to_pylist())
    for version in sorted({one.version for one in files}):
        gone = {one.file.path for one in files if one.version == version} - live
        versions.require_files(gone, version)
    schema = feed_schema(scan.schema)
    return pa.RecordBatchReader.from_batches(schema, _rows(scan, files))


def _rows(scan: FileScan, files: list[AppendedFile]) -> Iterator[pa.RecordBatch]:
    for one in files:
        for batch in read_file(scan, one.file):
            yield as_inserts(batch, one.version, one.made_ms)


def _files(
    root: Place, commit: Commit, versions: Versions, *, ignore_deletes: bool
) -> list[AppendedFile]:
    adds = [one for one in commit.adds() if one.get("dataChange", True)]
    removes = any(one.get("dataChange", True) for one in commit.removes())
    vectors = any(one.get("deletionVector") for one in adds)
    if (removes and adds) or vectors or (removes and not ignore_deletes):
        what = "changed rows" if adds else "took rows away"
        raise ChangesUnavailable(
            f"{root}: version {commit.version} {what}, and the table recorded no changes: "
            "delta.enableChangeDataFeed was off",
            hint=_FEED_HINT if adds else f"read with ignore_deletes=True, or {_FEED_HINT}",
            version=commit.version,
        )
    stamp = commit.info.get("timestamp")
    made_ms = versions.made_ms(commit.version) if stamp is None else int(stamp)
    return [AppendedFile(_live(one), commit.version, made_ms) for one in adds]


def _live(add: Mapping[str, Any]) -> LiveFile:
    return LiveFile(
        str(add["path"]), int(add.get("size") or 0), None, dict(add.get("partitionValues") or {})
    )
