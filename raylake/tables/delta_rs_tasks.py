"""What each operation asks of delta-rs, and what it counts; all is checked before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deltalake import CommitProperties, DeltaTable, write_deltalake

from raylake.storage.place import Place
from raylake.tables.delta_rs_open import opened, subject_of
from raylake.tables.delta_rs_reads import files, rows_by_file
from raylake.tables.errors import BadRequest
from raylake.tables.requests import Append, Delete, Overwrite, Restore, Update
from raylake.tables.results import RowCounts
from raylake.tables.subject import assignments, overwriting, where_of, whole_rows
from raylake.tables.versions import Versions

Metrics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """An operation that is ready to run.

    Attributes:
        run: Runs it with the properties of its commit.
        count: Rows by outcome, from what the engine counted.
        retries: How often delta-rs may put the commit behind another writer's by itself; None for
            its default. 0 where what was read decides what is written.
        why: Why it is run in this way, where there is another.
    """

    run: Callable[[CommitProperties], object]
    count: Callable[[Metrics], RowCounts]
    retries: int | None = 0
    why: str = ""


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

    def run(properties: CommitProperties) -> None:
        write_deltalake(
            handle,
            rows,
            mode="append",
            schema_mode="merge" if request.schema == "merge" else None,
            commit_properties=properties,
        )

    return Task(run, lambda _: RowCounts(source=rows.num_rows, inserted=rows.num_rows), None)


def overwrite_task(root: Place, handle: DeltaTable, request: Overwrite) -> Task:
    """All rows, or those of a condition, are replaced."""
    rows, condition = overwriting(subject_of(root, handle), request)
    where = None if condition is None else condition.sql()
    before = sum(rows_by_file(handle).values())

    def run(properties: CommitProperties) -> None:
        write_deltalake(
            handle,
            rows,
            mode="overwrite",
            predicate=where,
            schema_mode=None if request.schema == "strict" else request.schema,
            commit_properties=properties,
        )

    def count(_: Metrics) -> RowCounts:
        inserted = rows.num_rows
        deleted = before
        if where is not None:
            # The rows of rewritten files that stayed are on both sides.
            deleted = before + inserted - sum(rows_by_file(handle).values())
        return RowCounts(source=inserted, inserted=inserted, deleted=deleted)

    return Task(run, count)


def delete_task(root: Place, handle: DeltaTable, request: Delete) -> Task:
    """Rows are taken away."""
    where = where_of(subject_of(root, handle), request.where, "delete").sql()
    before = sum(rows_by_file(handle).values())

    def count(metrics: Metrics) -> RowCounts:
        # Whole files leave without being read: then delta-rs does not say how many rows.
        deleted = metrics.get("num_deleted_rows")
        if deleted is None:
            deleted = before - sum(rows_by_file(handle).values())
        return RowCounts(deleted=int(deleted), copied=int(metrics.get("num_copied_rows") or 0))

    return Task(lambda properties: handle.delete(where, commit_properties=properties), count)


def update_task(root: Place, handle: DeltaTable, request: Update) -> Task:
    """Columns get new values."""
    subject = subject_of(root, handle)
    values = assignments(subject, request.set, "update")
    updates = {name: expression.sql() for name, expression in values.items()}
    where = None if request.where is None else where_of(subject, request.where, "update").sql()

    def run(properties: CommitProperties) -> None:
        handle.update(
            updates=updates,
            predicate=where,
            error_on_type_mismatch=True,
            commit_properties=properties,
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
    before = rows_by_file(handle)

    def count(_: Metrics) -> RowCounts:
        after = rows_by_file(handle)
        return RowCounts(
            inserted=sum(rows for path, rows in after.items() if path not in before),
            deleted=sum(rows for path, rows in before.items() if path not in after),
        )

    return Task(lambda properties: handle.restore(target, commit_properties=properties), count)
