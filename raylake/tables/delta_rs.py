"""The engine that needs no JVM: delta-rs, in this process."""

from __future__ import annotations

import functools
import json
import logging
import uuid
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from raylake import faults
from raylake.clock import Clock, SystemClock
from raylake.delta.log_commit import LogCommit, commit_first, new_metadata_line
from raylake.delta.protocols import new_protocol
from raylake.ingest.retry import RetryPolicy
from raylake.storage.place import Place, place
from raylake.tables import delta_rs_reads
from raylake.tables.alongside import Alongside
from raylake.tables.carrying import NOTHING, check_alongside, commit_nothing, refuse_moved
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
from raylake.tables.landing import Landed, Signature, landed
from raylake.tables.log_tending import tend
from raylake.tables.port import Fence
from raylake.tables.requests import (
    Advance,
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
from raylake.tables.turns import CONFLICTS, Attempt, Done, Turns, ended, source_rows
from raylake.tables.upkeep_requests import Alter, Apart, Rearrange
from raylake.tables.upserting import MergeBy, upsert_task
from raylake.tables.versions import history

log = logging.getLogger(__name__)


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
        self,
        table: str,
        operation: Write,
        *,
        why: str = "",
        fence: Fence | None = None,
        alongside: Alongside | None = None,
    ) -> OperationResult:
        """See :meth:`raylake.tables.port.TableEngine.execute`."""
        root = place(table)
        check_alongside(table, operation, alongside)

        def work() -> Done:
            if isinstance(operation, Create):
                refuse_slot(root, fence)
                return _create(root, operation)
            if isinstance(operation, Apart):
                return run_apart(root, operation, fence, self._turns.clock)
            signature = Signature(uuid.uuid4().hex, operation, fence, alongside)
            return self._turns.until_done(
                operation,
                lambda: self._tried(root, signature),
                lambda error: translated(error, root, signature.name),
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

    def _tried(self, root: Place, signature: Signature) -> Attempt:
        operation, carries = signature.operation, signature.alongside is not None
        handle = opened_for(root, operation, signature.fence)
        refuse_moved(root, signature.alongside, handle.transaction_version)
        base = int(handle.version())

        def nothing(properties: CommitProperties) -> None:
            commit_nothing(root, base, operation, properties)

        task = self._task(root, handle, operation)
        note = task.note if isinstance(task, Unneeded) else ""
        if task is None or isinstance(task, Unneeded):
            if not carries:
                return Attempt(base, lambda _: RowCounts(), note=note)
            task = Task(nothing, lambda _: RowCounts(source=source_rows(operation)))
            note = note or NOTHING
        properties = signature.properties(task.retries)
        faults.reach("tables.before_commit", table=str(root))
        error = ended(lambda: task.run(properties))
        found = landed(root, signature.batch, base)
        if found is None and error is None and carries:
            # Without a row to change delta-rs commits nothing.
            error = ended(lambda: nothing(properties))
            found, note = landed(root, signature.batch, base), NOTHING
        if found is not None:
            _tended(root, found.version, handle.metadata().configuration)

        def count(commit: Landed) -> RowCounts:
            # The handle may lie behind, or ahead, where the error came after the commit.
            handle.load_as_version(commit.version)
            return task.count(commit.metrics)

        conflict = isinstance(error, CommitFailedError)
        return Attempt(base, count, found, error, conflict, task.why, note)

    def _task(self, root: Place, handle: DeltaTable, operation: Write) -> Task | Unneeded | None:
        if isinstance(operation, Upsert):
            return self._upsert_task(root, handle, operation)
        if isinstance(operation, Scd2):
            return scd2_task(root, handle, operation, self._upsert_task)
        return _task(root, handle, operation)


def _task(root: Place, handle: DeltaTable, operation: Write) -> Task | Unneeded | None:
    if isinstance(operation, Append):
        return append_task(root, handle, operation)
    if isinstance(operation, Overwrite):
        return overwrite_task(root, handle, operation)
    if isinstance(operation, Delete):
        return delete_task(root, handle, operation)
    if isinstance(operation, Update):
        return update_task(root, handle, operation)
    if isinstance(operation, Advance):
        return None
    if isinstance(operation, Restore):
        return restore_task(root, handle, operation)
    if isinstance(operation, Alter | Rearrange):
        return upkeep_task(root, handle, operation)
    raise TypeError(f"{type(operation).__name__} is not an operation that writes")


def _tended(root: Place, made: int, configuration: Mapping[str, str]) -> None:
    failure = ended(lambda: tend(root, made, configuration))
    if failure is not None:
        log.warning("%s: no checkpoint, or no clean-up, of version %d: %s", root, made, failure)


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
