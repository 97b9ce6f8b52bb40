"""Live files written anew by any process, as files that are of no table until they are committed.

The two halves of a compaction and a Z-order apart: :func:`write_aside` needs no owner and no slot,
so several processes do it at once and nobody waits for them; what they wrote is then put in place
by a commit of the table's owner (:class:`~raylake.tables.upkeep_requests.PutInPlace`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, Schema

from raylake import faults
from raylake.delta.files import WriteOptions
from raylake.delta.live_rows import RowReader, SourceFile, source_files
from raylake.delta.log_commit import LogCommit
from raylake.delta.log_reader import LogSnapshot
from raylake.delta.rewriting import FileGroup, surviving
from raylake.delta.schema import arrow_schema
from raylake.storage.access import also_use_stores, stores_from_json
from raylake.storage.place import Place, place
from raylake.tables.delta_rs_open import opened
from raylake.tables.delta_rs_tasks import Task, Unneeded
from raylake.tables.results import RowCounts
from raylake.tables.rewrite_parts import (
    Part,
    Stream,
    commit_parts,
    delete_files,
    write_options,
    write_parts,
)
from raylake.tables.threads import together
from raylake.tables.upkeep_requests import PutInPlace
from raylake.tables.z_sort import MAX_BUCKETS, SAMPLE_ROWS, curve_of, every_nth, z_ordered

_Z_ROW_GROUP_ROWS: Final = 131_072
_MOST_OF_TARGET: Final = 1.75
"""Of a Z-order's file: beyond it, it is cut."""
_SAMPLED_FILES: Final = 1024
"""Of more files only so many, evenly spread, are looked at for the curve."""


@dataclass(frozen=True, slots=True)
class Aside:
    """Files of one version that are to be written anew; plain data that travels.

    Attributes:
        table: The table's address.
        version: The version that they are of.
        schema_json: Its columns, as the log has them.
        partition_by: Its partition columns.
        configuration: Its properties.
        groups: Files that are written together: of a compaction each becomes one file.
        zorder: Columns of the curve that the rows are to lie along; empty: as they come.
        target_bytes: The size of new files.
        statistics: Columns that the new files have statistics of, whatever the properties say.
        stores: How object stores are reached, references instead of secrets.
    """

    table: str
    version: int
    schema_json: str
    partition_by: tuple[str, ...]
    configuration: Mapping[str, str]
    groups: tuple[tuple[SourceFile, ...], ...]
    zorder: tuple[str, ...]
    target_bytes: int
    statistics: tuple[str, ...] = ()
    stores: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes that are read."""
        return sum(one.size_bytes for group in self.groups for one in group)

    @property
    def parameters(self) -> dict[str, str]:
        """Of the operation, as other engines write them into the history."""
        if self.zorder:
            columns = ",".join(f'"{name}"' for name in self.zorder)
            return {"predicate": "[]", "zOrderBy": f"[{columns}]"}
        return {"predicate": "[]", "targetSize": str(self.target_bytes)}


@dataclass(frozen=True, slots=True)
class Written:
    """Files that are of no table yet.

    Attributes:
        groups: Each with the files that it replaces.
        cpu_s: CPU-seconds that it took.
        wall_s: Seconds that it took.
    """

    groups: tuple[FileGroup, ...]
    cpu_s: float
    wall_s: float


def write_aside(asked: Aside, threads: int = 1) -> Written:
    """Write files anew; after an error none of them is left.

    Args:
        asked: Which ones, and how.
        threads: So many at once.

    Raises:
        LogDamaged: A file is gone, cannot be read, or does not hold what the log says.
        DependencyUnreachable, StoreError: A file cannot be written.
    """
    also_use_stores(stores_from_json(asked.stores))
    began_cpu_s, began_s = time.process_time(), time.monotonic()
    root = place(asked.table)
    whole = arrow_schema(Schema.from_json(asked.schema_json))
    schema = pa.schema([one for one in whole if one.name not in asked.partition_by])
    vectors = any(one.vector is not None for group in asked.groups for one in group)
    handle = opened(root, asked.version) if vectors else None
    reader = RowReader(root, handle, schema)
    if asked.zorder:
        keys = RowReader(root, handle, pa.schema([schema.field(name) for name in asked.zorder]))
        parts = [
            zorder_part((keys, reader), one, asked.target_bytes, threads) for one in asked.groups
        ]
        options = zorder_options(asked.configuration, schema, asked.target_bytes, asked.statistics)
    else:
        parts = [compaction_part(reader, one) for one in asked.groups]
        # A little more than the target is better in one file than in two.
        whole_bytes = 2 * asked.target_bytes
        options = write_options(asked.configuration, schema, whole_bytes, asked.statistics)
    groups = write_parts(root, schema, parts, options, threads)
    faults.reach("maintain.aside", table=asked.table)
    cpu_s, wall_s = time.process_time() - began_cpu_s, time.monotonic() - began_s
    return Written(tuple(groups), cpu_s, wall_s)


def files_named(snapshot: LogSnapshot, paths: Sequence[str]) -> dict[str, SourceFile]:
    """Live files of a version by their names in the log."""
    wanted = pc.is_in(snapshot.files.column("path"), value_set=pa.array(paths, pa.string()))
    found = source_files(replace(snapshot, files=snapshot.files.filter(wanted)))
    return {one.path: one for one in found}


def put_task(root: Place, request: PutInPlace) -> Task | Unneeded:
    """Put files in the place of others; nothing to do once other commits took those."""
    found = surviving(root, request.groups, request.read_version)
    if found.landed:
        return Unneeded("it is in the log already")
    if not found.groups:
        if found.certain:
            delete_files(root, request.groups)
        return Unneeded(
            "other commits took the files that were to be replaced, or a vacuum the new ones"
        )
    commit = LogCommit("OPTIMIZE", (), request.parameters)

    def run(properties: CommitProperties) -> None:
        commit_parts(root, request.groups, request.read_version, commit.signed(properties))

    def written() -> tuple[list[FileGroup], LogCommit]:
        delete_files(root, found.lost)
        return list(found.groups), commit

    def count(metrics: Mapping[str, Any]) -> RowCounts:
        return RowCounts(copied=int(metrics.get("numCopiedRows") or 0))

    return Task(run, count, written=written)


def compaction_part(reader: RowReader, files: tuple[SourceFile, ...]) -> Part:
    """Files whose rows are written as they come, one file after the other."""
    stream = (files[0].values, _rows(reader, files))
    return Part(files, lambda: nullcontext([stream]))


def zorder_options(
    configuration: Mapping[str, str],
    schema: pa.Schema,
    target_bytes: int,
    statistics: Sequence[str],
) -> WriteOptions:
    """How files along the curve are written; each is planned for one stretch of it."""
    most_bytes = int(_MOST_OF_TARGET * target_bytes)
    options = write_options(configuration, schema, most_bytes, statistics)
    return replace(options, row_group_rows=_Z_ROW_GROUP_ROWS)


def zorder_part(
    readers: tuple[RowReader, RowReader],
    files: tuple[SourceFile, ...],
    target_bytes: int,
    threads: int,
) -> Part:
    """Files whose rows are written along the Z-order curve of some columns.

    Args:
        readers: One of the curve's columns, and one of all columns.
        files: The files, all of one partition.
        target_bytes: The size of a new file.
        threads: So many at most, each for a stretch of the curve with files of its own.
    """
    share = sum(one.size_bytes for one in files) / target_bytes
    # A power of two: each file is a box of the curve then, as far as the columns are independent.
    new = min(2 ** round(math.log2(max(1.0, share))), MAX_BUCKETS)
    mine = min(threads, new)
    return Part(files, partial(_along_the_curve, readers, files, new, mine), mine)


@contextmanager
def _along_the_curve(
    readers: tuple[RowReader, RowReader], files: Sequence[SourceFile], new: int, threads: int
) -> Iterator[list[Stream]]:
    keys, reader = readers
    seen = files[:: max(1, -(-len(files) // _SAMPLED_FILES))]
    stride = max(1, sum(one.rows or 0 for one in seen) // SAMPLE_ROWS)
    works = [
        partial(every_nth, partial(_rows, keys, some), stride) for some in _even(seen, threads)
    ]
    sample = [one for taken in together(works, threads) for one in taken]
    if not sample:
        yield []
        return
    curve = curve_of(pa.Table.from_batches(sample), keys.columns)
    sources = [partial(_rows, reader, some) for some in _even(files, threads)]
    count = sum(one.rows or 0 for one in files)
    with z_ordered(sources, curve, count, new) as streams:
        yield [(files[0].values, one) for one in streams]


def _even(files: Sequence[SourceFile], parts: int) -> list[Sequence[SourceFile]]:
    """Files that follow each other, in parts of about as many bytes."""
    ends = np.cumsum([one.size_bytes for one in files])
    at = np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts) + 1
    borders = [0, *at.tolist(), len(files)]
    return [files[start:end] for start, end in pairwise(borders) if end > start]


def _rows(reader: RowReader, files: Sequence[SourceFile]) -> Iterator[pa.RecordBatch]:
    for one in files:
        yield from reader.rows(one)
