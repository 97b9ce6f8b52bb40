"""The engine that needs no JVM: delta-rs, in this process."""

from __future__ import annotations

import functools
import json
import uuid
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from raylake import faults
from raylake.clock import Clock, SystemClock
from raylake.delta.log_commit import LogCommit, commit_first, new_metadata_line
from raylake.delta.protocols import new_protocol
from raylake.ingest.retry import RetryPolicy
from raylake.storage.place import Place, place
from raylake.tables import delta_rs_reads
from raylake.tables.creating import new_table
from raylake.tables.delta_rs_apart import run_apart
from raylake.tables.delta_rs_open import ENGINE, opened_for, translated
from raylake.tables.delta_rs_scd2 import scd2_task
from raylake.tables.delta_rs_tasks import (
    Task,
    Unneeded,
    append_task,
    delete_task,
    overwrite_task,
    restore_task,
    update_task,
)
from raylake.tables.delta_rs_upkeep import upkeep_task
from raylake.tables.errors import TableExists
from raylake.tables.first_versions import is_first
from raylake.tables.guards import refuse_slot
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
    Scd2,
    Update,
    Upsert,
    Write,
)
from raylake.tables.results import OperationResult, RowCounts, TableVersion
from raylake.tables.table_properties import check_properties
from raylake.tables.turns import CONFLICTS, Attempt, Done, Turns, ended
from raylake.tables.upkeep_requests import Alter, Apart, Rearrange
from raylake.tables.upserting import MergeBy, upsert_task
from raylake.tables.versions import history


class DeltaRsEngine:
    """:class:`~raylake.tables.port.TableEngine` on delta-rs.

    An operation is checked whole before it writes, commits with a batch id of its own, and what
    became of it is read in the log. Where another writer came first it is done again on the new
    version, with back-off. Not safe across ``fork``.

    Args:
        clock: Time.
        conflicts: How often and how far apart an operation is tried.
        merge_by: Whose merge an upsert takes.
    """

    name: Final = ENGINE

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        conflicts: RetryPolicy = CONFLICTS,
        merge_by: MergeBy = "auto",
    ) -> None:
        self._turns = Turns(clock or SystemClock(), conflicts)
        self._upsert_task = functools.partial(upsert_task, merge_by=merge_by)

    def execute(
        self, table: str, operation: Write, *, why: str = "", fence: Fence | None = None
    ) -> OperationResult:
        """See :meth:`raylake.tables.port.TableEngine.execute`."""
        root = place(table)

        def work() -> Done:
            if isinstance(operation, Create):
                refuse_slot(root, fence)
                return _create(root, operation)
            if isinstance(operation, Apart):
                return run_apart(root, operation, fence, self._turns.clock)
            what = type(operation).__name__.lower()
            batch = uuid.uuid4().hex
            return self._turns.until_done(
                operation,
                lambda: self._tried(root, operation, fence, batch),
                lambda error: translated(error, root, what),
            )

        return self._turns.result(operation, (table, self.name, why), work)

    def read(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.port.TableEngine.read`."""
        return delta_rs_reads.read(place(table), request)

    def changes(self, table: str, request: Changes) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.port.TableEngine.changes`."""
        return delta_rs_reads.changes(place(table), request)

    def history(self, table: str, limit: int | None = None) -> list[TableVersion]:
        """See :meth:`raylake.tables.port.TableEngine.history`."""
        return history(place(table), limit)

    def _tried(self, root: Place, operation: Write, fence: Fence | None, batch: str) -> Attempt:
        handle = opened_for(root, operation, fence)
        base = int(handle.version())
        task: Task | Unneeded | None
        if isinstance(operation, Upsert):
            task = self._upsert_task(root, handle, operation)
        elif isinstance(operation, Scd2):
            task = scd2_task(root, handle, operation, self._upsert_task)
        else:
            task = _task(root, handle, operation)
        if task is None or isinstance(task, Unneeded):
            return Attempt(base, lambda _: RowCounts(), note="" if task is None else task.note)
        mine = {KEY: {"batch": batch, "operation": type(operation).__name__.lower()}}
        properties = CommitProperties(
            custom_metadata=mine,
            # The number was checked on this very version: another one must not pass under it.
            max_commit_retries=task.retries if fence is None else 0,
            app_transactions=None if fence is None else [Transaction(*fence)],
        )
        faults.reach("tables.before_commit", table=str(root))
        error = ended(lambda: task.run(properties))
        found = landed(root, batch, base)

        def count(commit: Landed) -> RowCounts:
            # The handle may lie behind, or ahead, where the error came after the commit.
            handle.load_as_version(commit.version)
            return task.count(commit.metrics)

        return Attempt(base, count, found, error, isinstance(error, CommitFailedError), task.why)


def _task(root: Place, handle: DeltaTable, operation: Write) -> Task | Unneeded | None:
    if isinstance(operation, Append):
        return append_task(root, handle, operation)
    if isinstance(operation, Overwrite):
        return overwrite_task(root, handle, operation)
    if isinstance(operation, Delete):
        return delete_task(root, handle, operation)
    if isinstance(operation, Update):
        return update_task(root, handle, operation)
    if isinstance(operation, Restore):
        return restore_task(root, handle, operation)
    if isinstance(operation, Alter | Rearrange):
        return upkeep_task(root, handle, operation)
    raise TypeError(f"{type(operation).__name__} is not an operation that writes")


def _create(root: Place, request: Create) -> Done:
    """Create a table by one commit of our own, with all of its constraints, or not at all.

    delta-rs's own lists ``variantType`` on tables with named features (docs/adr/0029).

    Raises:
        TableError: As :func:`~raylake.tables.creating.new_table`.
        BadRequest, FeatureUnsupported: A property is none, or not honoured.
    """
    new = new_table(root, request)
    check_properties(request.properties, f"{root}: create")
    # In Spark, double quotes are a text's; delta-rs reads both ways of quoting.
    rules = {f"delta.constraints.{name}": one.sql("spark") for name, one in new.constraints.items()}
    configuration = {**request.properties, **rules}
    schema_json = new.schema.to_json()
    metadata = new_metadata_line(
        schema_json, request.partition_by, configuration, request.description
    )
    protocol = new_protocol(configuration, schema_json)
    parameters = {"partitionBy": json.dumps(list(request.partition_by))}
    commit = LogCommit("CREATE TABLE", [protocol, metadata], parameters)
    failure = ended(lambda: commit_first(root, commit))
    if failure is not None and is_first(root, commit):
        # It is there: what failed came after it.
        return Done(-1, 0)
    if isinstance(failure, FileExistsError):
        raise TableExists(f"{root} holds a Delta table already", hint="choose another address")
    if failure is not None:
        raise translated(failure, root, "create") from failure
    return Done(-1, 0)
