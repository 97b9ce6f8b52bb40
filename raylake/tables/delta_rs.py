"""The engine that needs no JVM: delta-rs, in this process."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError

from raylake.clock import Clock, SystemClock
from raylake.delta import log_files
from raylake.delta.attempts import Ending
from raylake.delta.schema import delta_schema
from raylake.errors import SchemaConflict
from raylake.ingest.retry import RetryPolicy
from raylake.storage.place import Place, make_folder, place, storage_options
from raylake.tables import delta_rs_reads
from raylake.tables.delta_rs_open import ENGINE, opened, opened_for, translated
from raylake.tables.delta_rs_tasks import (
    Task,
    append_task,
    delete_task,
    overwrite_task,
    restore_task,
    update_task,
)
from raylake.tables.delta_rs_upsert import upsert_task
from raylake.tables.errors import PartlyDone, SchemaMismatch, TableExists, UnknownColumn
from raylake.tables.expressions import Scope, condition
from raylake.tables.landing import KEY, Landed, landed
from raylake.tables.port import Fence
from raylake.tables.requests import (
    Append,
    Changes,
    Create,
    Delete,
    Overwrite,
    Read,
    Restore,
    Update,
    Upsert,
    Write,
)
from raylake.tables.results import FileCounts, OperationResult, RowCounts, TableVersion
from raylake.tables.rows import check_names, plain

CONFLICTS: Final = RetryPolicy(attempts=10, initial_s=0.05, max_s=5.0)
"""How an operation that another writer came before is done again, on what is there then."""


class DeltaRsEngine:
    """:class:`~raylake.tables.port.TableEngine` on delta-rs.

    An operation is checked whole before it writes, commits with a batch id of its own, and what
    became of it is read in the log. Where another writer came first it is done again on the new
    version, with back-off. Not safe across ``fork``.

    Args:
        clock: Time.
        conflicts: How often and how far apart an operation is tried.
    """

    name: Final = ENGINE

    def __init__(self, clock: Clock | None = None, *, conflicts: RetryPolicy = CONFLICTS) -> None:
        self._clock = clock or SystemClock()
        self._conflicts = conflicts

    def execute(
        self, table: str, operation: Write, *, why: str = "", fence: Fence | None = None
    ) -> OperationResult:
        """See :meth:`raylake.tables.port.TableEngine.execute`."""
        root = place(table)
        started_s = self._clock.monotonic()
        if isinstance(operation, Create):
            before, after = -1, _create(root, operation)
            rows, files, attempts = RowCounts(), FileCounts(), 1
        else:
            before, after, rows, files, attempts = self._committed(root, operation, fence)
        return OperationResult(
            operation=type(operation).__name__.lower(),
            table=table,
            engine=self.name,
            why=why or "the engine was named",
            version_before=before,
            version_after=after,
            rows=rows,
            files=files,
            duration_s=self._clock.monotonic() - started_s,
            attempts=attempts,
        )

    def read(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.port.TableEngine.read`."""
        return delta_rs_reads.read(place(table), request)

    def changes(self, table: str, request: Changes) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.port.TableEngine.changes`."""
        return delta_rs_reads.changes(place(table), request)

    def history(self, table: str, limit: int | None = None) -> list[TableVersion]:
        """See :meth:`raylake.tables.port.TableEngine.history`."""
        return delta_rs_reads.history(place(table), limit)

    def _committed(
        self, root: Place, operation: Write, fence: Fence | None
    ) -> tuple[int, int, RowCounts, FileCounts, int]:
        failures = 0
        commit = _Commit(uuid.uuid4().hex, fence)
        while True:
            handle = opened_for(root, operation, fence)
            base = int(handle.version())
            task = _task(root, handle, operation)
            if task is None:
                return base, base, RowCounts(source=_source(operation)), FileCounts(), failures + 1
            found, error = _tried(root, base, task, operation, commit)
            if found is not None:
                # The handle may lie behind, or ahead, where the error came after the commit.
                handle.load_as_version(found.version)
                rows = task.count(found.metrics)
                return found.version - 1, found.version, rows, found.files, failures + 1
            if error is None:
                rows = RowCounts(source=_source(operation))
                return base, base, rows, FileCounts(), failures + 1
            failures += 1
            again = isinstance(error, CommitFailedError) and not self._conflicts.exhausted(failures)
            if not again:
                raise translated(error, root, type(operation).__name__.lower()) from error
            self._clock.sleep(self._conflicts.wait_s(failures))


@dataclass(frozen=True, slots=True)
class _Commit:
    """What the commit of an operation is known by, over all its attempts."""

    batch: str
    fence: Fence | None


def _task(root: Place, handle: DeltaTable, operation: Write) -> Task | None:
    if isinstance(operation, Append):
        return append_task(root, handle, operation)
    if isinstance(operation, Overwrite):
        return overwrite_task(root, handle, operation)
    if isinstance(operation, Upsert):
        return upsert_task(root, handle, operation)
    if isinstance(operation, Delete):
        return delete_task(root, handle, operation)
    if isinstance(operation, Update):
        return update_task(root, handle, operation)
    if isinstance(operation, Restore):
        return restore_task(root, handle, operation)
    raise TypeError(f"{type(operation).__name__} is not an operation that writes")


def _tried(
    root: Place, base: int, task: Task, operation: Write, commit: _Commit
) -> tuple[Landed | None, Exception | None]:
    """What became of one attempt: its commit, or the error that ended it, or neither."""
    mine = {KEY: {"batch": commit.batch, "operation": type(operation).__name__.lower()}}
    fence = commit.fence
    properties = CommitProperties(
        custom_metadata=mine,
        # The number was checked on this very version: another one must not pass under it.
        max_commit_retries=task.retries if fence is None else 0,
        app_transactions=None if fence is None else [Transaction(*fence)],
    )
    error = _ended(lambda: task.run(properties))
    return landed(root, commit.batch, base), error


def _source(operation: Write) -> int:
    """Rows that an operation brings."""
    rows = getattr(operation, "rows", None)
    return rows.num_rows if isinstance(rows, pa.Table) else 0


def _create(root: Place, request: Create) -> int:
    """Create a table; returns its version.

    Raises:
        TableExists: Something is there.
        BadColumnName, UnknownColumn, SchemaMismatch, BadExpression: The request is wrong.
    """
    where = f"{root}: create"
    check_names(request.schema, where)
    schema = pa.schema([plain(field) for field in request.schema])
    for name in request.partition_by:
        if name not in schema.names:
            raise UnknownColumn(f"{where}: there is no column {name!r} to partition by")
    constraints = {
        name: condition(text, Scope({"": schema}, f"{where} constraint {name}")).sql()
        for name, text in request.constraints.items()
    }
    if log_files.commit_versions(root) or log_files.checkpoint_versions(root):
        raise TableExists(f"{root} holds a Delta table already", hint="choose another address")
    try:
        wanted = delta_schema(schema)
    except SchemaConflict as error:
        raise SchemaMismatch(f"{where}: {error.message}") from None
    failure = _ended(lambda: _create_table(root, wanted, request))
    if failure is not None:
        raise translated(failure, root, "create") from failure
    handle = opened(root)
    for name, text in constraints.items():
        failure = _ended(functools.partial(handle.alter.add_constraint, {name: text}))
        if failure is not None:
            raise PartlyDone(
                f"{where}: the table is there, but constraint {name!r} was not added: {failure}",
                hint="drop the table's folder and create it without the constraint, or alter it",
            ) from failure
    return int(handle.version())


def _create_table(root: Place, schema: Schema, request: Create) -> None:
    make_folder(root)
    DeltaTable.create(
        str(root),
        schema,
        storage_options=storage_options(root),
        partition_by=list(request.partition_by),
        configuration=dict(request.properties),
        description=request.description or None,
    )


def _ended(work: Callable[[], object]) -> Exception | None:
    """Do something; whatever error ended it."""
    errors: list[Exception] = []
    with Ending(lambda error: errors.append(error) if error is not None else None):
        work()
    return errors[0] if errors else None
