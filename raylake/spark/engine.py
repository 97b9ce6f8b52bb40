"""The engine for heavy work: Spark with Delta, on a session that is handed to it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Final, Protocol

import pyarrow as pa
from pyspark.sql import SparkSession

from raylake.clock import Clock, SystemClock
from raylake.ingest.retry import RetryPolicy
from raylake.spark import engine_reads
from raylake.spark.engine_aside import nothing_task, standing_in
from raylake.spark.engine_create import create
from raylake.spark.engine_errors import is_conflict, translated
from raylake.spark.engine_open import ENGINE, looked_at, refuse_unwritable
from raylake.spark.engine_rows import Scratch
from raylake.spark.engine_scd2 import scd2_task
from raylake.spark.engine_sessions import Sessions, name_commit, prepared
from raylake.spark.engine_tasks import (
    Task,
    Work,
    append_task,
    delete_task,
    overwrite_task,
    restore_task,
    update_task,
)
from raylake.spark.engine_upkeep import NO_ENGINE, upkeep_task
from raylake.spark.engine_upsert import upsert_task
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, place
from raylake.tables.alongside import Alongside
from raylake.tables.carrying import NOTHING, check_alongside, refuse_moved
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.delta_rs_apart import run_apart
from raylake.tables.delta_rs_tasks import Unneeded
from raylake.tables.fencing import refuse_closed
from raylake.tables.guards import refuse_slot, refuse_write
from raylake.tables.landing import Signature, landed
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
from raylake.tables.turns import CONFLICTS, Attempt, Done, Turns, ended
from raylake.tables.upkeep_requests import Alter, Apart, Rearrange
from raylake.tables.versions import history


class Live(Protocol):
    """A session that runs, as a host of it has it."""

    def session(self, table: str) -> SparkSession:
        """A new session for one operation on a table."""
        ...


class SparkEngine:
    """:class:`~raylake.tables.port.TableEngine` on Spark.

    An operation has a session of its own, is checked whole before it writes, commits with a batch
    id of its own, and what became of it is read in the log. Under a slot its commit carries the
    slot's number: Spark skips it where the log has a higher one, which is an error here. One that
    carries more than that is done on a stand-in, and committed by RayLake.

    Args:
        sessions: Gives each operation its session.
        scratch: The address of a folder that this process and all executors reach, through which
            rows pass; None: one in a table's store, and for tables on a disk a temporary folder,
            for executors on this machine.
        clock: Time.
        conflicts: How often and how far apart an operation is tried.
    """

    name: Final = ENGINE

    def __init__(
        self,
        sessions: Sessions,
        scratch: str | None = None,
        clock: Clock | None = None,
        *,
        conflicts: RetryPolicy = CONFLICTS,
    ) -> None:
        self._sessions = sessions
        self._folder = scratch
        self._turns = Turns(clock or SystemClock(), conflicts)

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
                if isinstance(root, StorePath):
                    DeltaRsEngine().execute(table, operation)
                    return Done(-1, 0, why=NO_ENGINE)
                with prepared(self._sessions, root) as session:
                    return create(root, session, operation)
            if isinstance(operation, Apart):
                done = run_apart(root, operation, fence, self._turns.clock)
                return replace(done, why=NO_ENGINE)
            signature = Signature(uuid.uuid4().hex, operation, fence, alongside)
            return self._turns.until_done(
                operation,
                lambda: self._tried(root, signature),
                lambda error: translated(error, root, signature.name),
            )

        return self._turns.result(operation, (table, self.name, why), work)

    def read(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.port.TableEngine.read`."""
        root = place(table)
        looked_at(root)
        with prepared(self._sessions, root) as session:
            return engine_reads.read(root, session, self._scratch(root), request)

    def changes(self, table: str, request: Changes) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.port.TableEngine.changes`."""
        root = place(table)
        looked_at(root)
        with prepared(self._sessions, root) as session:
            return engine_reads.changes(root, session, self._scratch(root), request)

    def history(self, table: str, limit: int | None = None) -> list[TableVersion]:
        """See :meth:`raylake.tables.port.TableEngine.history`."""
        return history(place(table), limit)

    def _scratch(self, root: Place) -> Scratch:
        return Scratch.of(root) if self._folder is None else Scratch(self._folder)

    def _tried(self, root: Place, signature: Signature) -> Attempt:
        operation, fence = signature.operation, signature.fence
        found = looked_at(root)
        base, txns = found.log.version, found.log.txns
        refuse_unwritable(found)
        refuse_write(root, operation, found.configuration, txns.get, fence)
        refuse_moved(root, signature.alongside, txns.get)
        note = ""
        with prepared(self._sessions, root) as session:
            name_commit(session, signature)
            work = Work(found, session, self._scratch(root), signature.properties())
            task = _task(work, signature)
            if task is None or isinstance(task, Unneeded):
                note = "" if task is None else task.note
                if signature.alongside is None:
                    return Attempt(base, lambda _: RowCounts(), note=note)
                note, task = note or NOTHING, nothing_task(operation)
            error = ended(lambda: task.run(work))
        commit = landed(root, signature.batch, base)
        if commit is None and error is None and fence is not None:
            # Spark passes over an operation whose number is not the highest, and says nothing.
            refuse_closed(root, fence, looked_at(root).log.txns.get(fence.app_id))
        return Attempt(base, task.count, commit, error, is_conflict(error), task.why, note)


def engine_on(live: Live) -> SparkEngine:
    """The engine on a session that is hosted elsewhere, as by ``actors.spark_host``."""
    return SparkEngine(live.session)


def _task(work: Work, signature: Signature) -> Task | Unneeded | None:
    """What is to run, checked; on a stand-in where Spark's own commit would not do."""
    operation, fence = signature.operation, signature.fence
    fenced = fence is not None
    # In a store Spark's own commit would be a put over whatever is there.
    aside = signature.alongside is not None or isinstance(work.root, StorePath)
    if isinstance(operation, Scd2):
        return scd2_task(work, operation, aside=aside or not fenced)
    if isinstance(operation, Restore):
        return restore_task(work, operation, fenced=fenced)
    if isinstance(operation, Alter | Rearrange):
        return upkeep_task(work, operation, fence)
    task = _on_rows(work, operation)
    return standing_in(task) if aside and task is not None else task


def _on_rows(work: Work, operation: Write) -> Task | None:
    if isinstance(operation, Append):
        return append_task(work, operation)
    if isinstance(operation, Overwrite):
        return overwrite_task(work, operation)
    if isinstance(operation, Upsert):
        return upsert_task(work, operation)
    if isinstance(operation, Delete):
        return delete_task(work, operation)
    if isinstance(operation, Update):
        return update_task(work, operation)
    if isinstance(operation, Advance):
        return None
    raise TypeError(f"{type(operation).__name__} is not an operation that writes")
