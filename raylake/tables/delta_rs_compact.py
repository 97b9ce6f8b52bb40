"""Compaction and Z-order: files written anew, committed only while what they replace is live."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from raylake.delta.files import WriteOptions
from raylake.delta.live_rows import RowReader, SourceFile, source_files
from raylake.delta.log_commit import LogCommit
from raylake.delta.log_reader import LogReader
from raylake.delta.rewriting import FileGroup
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.aside import compaction_part, zorder_options, zorder_part
from raylake.tables.compaction_plan import bins, by_partition, share_of
from raylake.tables.delta_rs_tasks import Metrics, Task, Unneeded
from raylake.tables.rearranging import check_columns, chosen
from raylake.tables.results import RowCounts
from raylake.tables.rewrite_parts import (
    Part,
    commit_parts,
    stored_schema,
    target_size,
    write_options,
    write_parts,
)
from raylake.tables.space import require_space
from raylake.tables.threads import threads_here
from raylake.tables.upkeep_requests import Compact, ZOrder


def compact_task(root: Place, handle: DeltaTable, request: Compact) -> Task | Unneeded:
    """Small files become larger ones; nothing to do where that would not make fewer of them."""
    configuration = handle.metadata().configuration
    target_bytes = target_size(configuration, request.target_file_bytes, f"{root}: compact")
    files = _of_request(root, handle, request, f"{root}: compact")
    plan = bins(files, target_bytes, share_of(request.files))
    if not plan:
        return Unneeded(
            f"nothing to gain: of {len(files)} files no two small ones of a partition fit into "
            f"{target_bytes:,} bytes, and none has many deleted rows"
        )
    schema = stored_schema(handle)
    reader = RowReader(root, handle, schema)
    parts = [compaction_part(reader, one.files) for one in plan]
    # A little more than the target is better in one file than in two.
    options = write_options(configuration, schema, 2 * target_bytes)
    commit = LogCommit("OPTIMIZE", (), {"predicate": "[]", "targetSize": str(target_bytes)})
    return _task(root, handle, parts, options, commit)


def zorder_task(root: Place, handle: DeltaTable, request: ZOrder) -> Task | Unneeded:
    """Each partition's rows lie along the Z-order curve."""
    configuration = handle.metadata().configuration
    schema = stored_schema(handle)
    check_columns(root, schema, handle.metadata().partition_columns, request.columns)
    target_bytes = target_size(configuration, request.target_file_bytes, f"{root}: zorder")
    files = _of_request(root, handle, request, f"{root}: zorder")
    if not files:
        return Unneeded("nothing to gain: there are no rows")
    reader = RowReader(root, handle, schema)
    keys = RowReader(root, handle, pa.schema([schema.field(name) for name in request.columns]))
    parts = [
        zorder_part((keys, reader), tuple(of_one), target_bytes, threads_here())
        for of_one in by_partition(files).values()
    ]
    options = zorder_options(configuration, schema, target_bytes, request.columns)
    columns = ",".join(f'"{name}"' for name in request.columns)
    commit = LogCommit("OPTIMIZE", (), {"predicate": "[]", "zOrderBy": f"[{columns}]"})
    return _task(root, handle, parts, options, commit)


def _task(
    root: Place,
    handle: DeltaTable,
    parts: Sequence[Part],
    options: WriteOptions,
    commit: LogCommit,
) -> Task:
    version, schema = int(handle.version()), stored_schema(handle)
    require_space(root, sum(one.size_bytes for one in parts), f"{root}: {commit.operation}")

    def written() -> tuple[list[FileGroup], LogCommit]:
        return write_parts(root, schema, parts, options, threads_here()), commit

    def run(properties: CommitProperties) -> None:
        groups, _ = written()
        commit_parts(root, groups, version, commit.signed(properties))

    def count(metrics: Metrics) -> RowCounts:
        return RowCounts(copied=int(metrics.get("numCopiedRows") or 0))

    return Task(run, count, written=written)


def _of_request(
    root: Place, handle: DeltaTable, request: Compact | ZOrder, what: str
) -> list[SourceFile]:
    files = source_files(LogReader(str(root)).snapshot(int(handle.version())))
    by = handle.metadata().partition_columns
    return chosen(files, request, (arrow_schema(handle.schema()), by), what)
