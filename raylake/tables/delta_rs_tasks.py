"""What each operation asks of delta-rs, and what it counts; all is checked before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from raylake.delta.log_commit import LogCommit
from raylake.delta.protocols import asked_for
from raylake.delta.rewriting import FileGroup
from raylake.delta.schema import delta_schema
from raylake.storage.place import Place
from raylake.tables.delta_rs_files import written_as
from raylake.tables.delta_rs_limits import (
    refuse_partition_updates,
    refuse_partition_values,
    refuse_spellings,
)
from raylake.tables.delta_rs_open import opened, subject_of
from raylake.tables.delta_rs_reads import files, rows_by_file
from raylake.tables.errors import BadRequest, FeatureUnsupported
from raylake.tables.log_tending import NO_HOOKS
from raylake.tables.requests import Append, Delete, Overwrite, Restore, Update
from raylake.tables.results import RowCounts
from raylake.tables.subject import assignments, overwriting, where_of, whole_rows
from raylake.tables.versions import Versions

Metrics = Mapping[str, Any]
_NAMED: Final = 7
"""The writer version from which on a protocol names its features."""


@dataclass(frozen=True, slots=True)
class Task:
    """An operation that is ready to run.

    Attributes:
        run: Runs it with the properties of its commit.
        count: Rows by outcome, from what the engine counted.
        retries: How often delta-rs may put the commit behind another writer's by itself; None for
            its default. 0 where what was read decides what is written.
        why: Why it is run in this way, where there is another.
        written: Of files that are written anew: writes them, for another one to commit.
    """

    run: Callable[[CommitProperties], object]
    count: Callable[[Metrics], RowCounts]
    retries: int | None = 0
    why: str = ""
    written: Callable[[], tuple[list[FileGroup], LogCommit]] | None = None


@dataclass(frozen=True, slots=True)
class Unneeded:
    """An operation that would change nothing.

    Attributes:
        note: Why, for the result.
    """

    note: str


def append_task(root: Place, handle: DeltaTable, request: Append) -> Task | None:
    """Rows are added; None when there are none."""
    rows = whole_rows(subject_of(root, handle), request.rows, adds=request.schema == "merge")
    if not rows.num_rows:
        return None
    _refuse_lost_features(root, handle, rows.schema, "append")
    refuse_partition_values(root, handle, rows)
    settings = written_as(rows)

    def run(properties: CommitProperties) -> None:
        write_deltalake(
            handle,
            rows,
            mode="append",
            writer_properties=settings,
            schema_mode="merge" if request.schema == "merge" else None,
            commit_properties=properties,
            post_commithook_properties=NO_HOOKS,
        )

    return Task(run, lambda _: RowCounts(source=rows.num_rows, inserted=rows.num_rows), None)


def overwrite_task(root: Place, handle: DeltaTable, request: Overwrite) -> Task:
    """All rows, or those of a condition, are replaced."""
    rows, condition = overwriting(subject_of(root, handle), request)
    _refuse_lost_features(root, handle, rows.schema, "overwrite")
    refuse_spellings(root, handle)
    refuse_partition_values(root, handle, rows)
    where = None if condition is None else condition.sql()
    before, settings = sum(rows_by_file(handle).values()), written_as(rows)

    def run(properties: CommitProperties) -> None:
        write_deltalake(
            handle,
            rows,
            mode="overwrite",
            writer_properties=settings,
            predicate=where,
            schema_mode=None if request.schema == "strict" else request.schema,
            commit_properties=properties,
            post_commithook_properties=NO_HOOKS,
        )

    def count(_: Metrics) -> RowCounts:
        inserted = rows.num_rows
        deleted = before
        if where is not None:
            # The rows of rewritten files that stayed are on both sides.
            deleted = before + inserted - sum(rows_by_file(handle).values())
        return RowCounts(source=inserted, inserted=inserted, deleted=deleted)

    return Task(run, count)


def _refuse_lost_features(root: Place, handle: DeltaTable, schema: pa.Schema, what: str) -> None:
    """Refuse rows whose new columns would make delta-rs forget what the table's protocol has.

    For a first column of times without a zone it names that feature alone: constraints, NOT NULL
    and the change feed, which numbered protocols have without naming them, would be lost.

    Raises:
        FeatureUnsupported: Says what adds such a column.
    """
    protocol = handle.protocol()
    new = delta_schema(schema).to_json()
    before = asked_for({}, handle.schema().to_json())
    wanted = asked_for(handle.metadata().configuration, new) | before
    if "timestampNtz" not in wanted - before or protocol.min_writer_version >= _NAMED:
        return
    if lost := sorted(wanted - {"timestampNtz"}):
        raise FeatureUnsupported(
            f"{root}: {what}: with a new column of times without a zone delta-rs would take "
            f"{', '.join(lost)} off the table",
            hint="add the column first, by itself (AddColumns)",
            feature="timestampNtz",
        )


def delete_task(root: Place, handle: DeltaTable, request: Delete) -> Task:
    """Rows are taken away."""
    refuse_spellings(root, handle)
    where = where_of(subject_of(root, handle), request.where, "delete").sql()
    before = sum(rows_by_file(handle).values())

    def count(metrics: Metrics) -> RowCounts:
        # Whole files leave without being read: then delta-rs does not say how many rows.
        deleted = metrics.get("num_deleted_rows")
        if deleted is None:
            deleted = before - sum(rows_by_file(handle).values())
        return RowCounts(deleted=int(deleted), copied=int(metrics.get("num_copied_rows") or 0))

    def run(properties: CommitProperties) -> None:
        handle.delete(
            where,
            writer_properties=written_as(),
            commit_properties=properties,
            post_commithook_properties=NO_HOOKS,
        )

    return Task(run, count)


def update_task(root: Place, handle: DeltaTable, request: Update) -> Task:
    """Columns get new values."""
    refuse_spellings(root, handle)
    subject = subject_of(root, handle)
    values = assignments(subject, request.set, "update")
    refuse_partition_updates(root, handle, values)
    updates = {name: expression.sql() for name, expression in values.items()}
    where = None if request.where is None else where_of(subject, request.where, "update").sql()

    def run(properties: CommitProperties) -> None:
        handle.update(
            updates=updates,
            predicate=where,
            error_on_type_mismatch=True,
            writer_properties=written_as(),
            commit_properties=properties,
            post_commithook_properties=NO_HOOKS,
        )

    def count(metrics: Metrics) -> RowCounts:
        return RowCounts(
            updated=int(metrics.get("num_updated_rows") or 0),
            copied=int(metrics.get("num_copied_rows") or 0),
        )

    return Task(run, count)


def restore_task(root: Place, handle: DeltaTable, request: Restore) -> Task | None:
    """The table becomes what it was; None when it is that already."""
    if request.version is None and request.at is None:
        raise BadRequest(f"{root}: restore: neither a version nor a time is given")
    versions = Versions(root)
    target = versions.resolve(request.version, request.at)
    if target == handle.version():
        return None
    versions.require_files(files(opened(root, target)) - files(handle), target)
    refuse_spellings(root, handle)
    before = rows_by_file(handle)

    def count(_: Metrics) -> RowCounts:
        after = rows_by_file(handle)
        return RowCounts(
            inserted=sum(rows for path, rows in after.items() if path not in before),
            deleted=sum(rows for path, rows in before.items() if path not in after),
        )

    def run(properties: CommitProperties) -> None:
        handle.restore(target, commit_properties=properties, post_commithook_properties=NO_HOOKS)

    return Task(run, count)
