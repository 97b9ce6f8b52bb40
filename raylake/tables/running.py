"""One operation under a slot of the table's owner: asked for, run elsewhere, settled by the log.

Plain Python over ports, so that every way to fail is tried without a cluster. The actors implement
the ports (``actors/table_service.py``).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from raylake.delta import log_files
from raylake.delta.ledger import OWNER_APP
from raylake.delta.owner_slots import Grant, Verdict
from raylake.errors import LogDamaged, RayLakeError
from raylake.ingest.ports import OwnerLost
from raylake.storage.place import place
from raylake.tables.alongside import Alongside
from raylake.tables.errors import OutcomeUnread, OutOfMemory, TableError, WriteFailed
from raylake.tables.landing import counted_files
from raylake.tables.port import Fence
from raylake.tables.requests import Write
from raylake.tables.results import OperationResult, RowCounts

_ROWS: Final = {
    "inserted": ("num_target_rows_inserted", "numTargetRowsInserted", "num_added_rows"),
    "updated": ("num_target_rows_updated", "numTargetRowsUpdated", "num_updated_rows"),
    "deleted": ("num_target_rows_deleted", "numTargetRowsDeleted", "num_deleted_rows"),
    "copied": ("num_target_rows_copied", "numTargetRowsCopied", "num_copied_rows"),
}


class RunnerLost(TableError):
    """The process that ran an operation is gone; what became of it is for the log to say."""

    code = "runner_lost"
    table_changed = None


class MemoryExceeded(RunnerLost):
    """The process was ended because it took more memory than it may."""

    code = "memory_exceeded"


@dataclass(frozen=True, slots=True)
class Order:
    """An operation on its way to the process that runs it.

    Attributes:
        table: The table's address.
        operation: What to do.
        why: Why this engine.
        fence: The slot's number; None where the table has no owner.
        stores: How object stores are reached, references instead of secrets.
        request: Whose turn it is on a table that a pipeline feeds: what is done is written and not
            committed. Empty elsewhere.
        alongside: What its commit carries beside its rows.
    """

    table: str
    operation: Write
    why: str
    fence: Fence | None = None
    stores: Mapping[str, Any] = field(default_factory=dict)
    request: str = ""
    alongside: Alongside | None = None

    @property
    def name(self) -> str:
        """The operation's name."""
        return type(self.operation).__name__.lower()


class Runner(Protocol):
    """Runs an order in a process of its own."""

    def run(self, order: Order) -> OperationResult:
        """Run it.

        Raises:
            RunnerLost: Its process is gone, or did not answer.
            RayLakeError: As :meth:`raylake.tables.port.TableEngine.execute`.
        """
        ...


class Slots(Protocol):
    """The slots of one table's owner."""

    def take(self, request: str) -> Grant:
        """Wait for a slot.

        Raises:
            OwnerLost: The owner is gone; nothing was begun.
            Fenced, LogDamaged: It stopped for good; nothing was begun.
            SlotsTaken: Too many wait.
        """
        ...

    def ended(self, request: str, *, for_sure: bool) -> Verdict:
        """Say that the runner is done, and hear what the log says of it.

        Args:
            request: Whose slot.
            for_sure: Whether the runner certainly writes nothing any more.

        Raises:
            OwnerLost: The owner is gone.
            RayLakeError: It could not settle the slot.
        """
        ...

    def settled_by_epoch(self, grant: Grant) -> Verdict:
        """What became of a slot whose owner is gone: a new one's epoch is committed first."""
        ...


def under_slot(slots: Slots, runner: Runner, order: Order) -> OperationResult:
    """Run an order under a slot; the answer is what the log holds.

    Raises:
        OutcomeUnread: The log could not be asked.
        TableError: The operation was refused or failed; the table is as it was.
        RayLakeError: The owner was lost before anything was begun.
    """
    request = uuid.uuid4().hex
    result: OperationResult | None = None
    failure: RayLakeError | None = None
    with ExitStack() as interrupted:
        # Also where somebody presses Ctrl-C: nobody else would end the request.
        interrupted.callback(_give_back, slots, request)
        grant = slots.take(request)
        try:
            result = runner.run(replace(order, fence=Fence(OWNER_APP, grant.number)))
        except RayLakeError as error:
            failure = error
        interrupted.pop_all()
    # Only who ran it knows that it has stopped; not of a process that went away.
    for_sure = failure is None or _unchanged(failure)
    try:
        verdict = _verdict(slots, grant, for_sure=for_sure)
    except RayLakeError as error:
        if result is not None:
            return result
        raise OutcomeUnread(
            f"{order.table}: {order.name}: what became of it cannot be told: {error.message}",
            hint=f"look for the txn {OWNER_APP} = {grant.number} in the versions after "
            f"{grant.base_version} before the operation is repeated",
            number=grant.number,
            after_version=grant.base_version,
        ) from (failure or error)
    if result is not None:
        return result
    if verdict.version is not None:
        return from_log(order, verdict.version)
    raise lost_for_good(order, failure) from failure


def lost_for_good(order: Order, failure: RayLakeError | None) -> RayLakeError:
    """What a failure means once the log says that nothing landed."""
    if isinstance(failure, MemoryExceeded):
        return OutOfMemory(
            f"{failure.message}; the table is unchanged, its log has no commit of it",
            hint="give it more memory, put fewer rows in one operation, or use engine: spark",
        )
    if failure is not None and (not isinstance(failure, TableError) or _unchanged(failure)):
        return failure
    what = failure.message if failure is not None else "it ended without a word"
    return WriteFailed(
        f"{order.table}: {order.name} was not done: {what}",
        hint="the log shows that nothing was changed; run it again",
    )


def from_log(order: Order, version: int) -> OperationResult:
    """The result of an operation whose runner could not tell it, from its commit.

    Raises:
        OutcomeUnread: The commit is there and cannot be read.
    """
    root = place(order.table)
    try:
        actions = log_files.read_commit(root, version)
    except (OSError, LogDamaged) as error:
        raise OutcomeUnread(
            f"{order.table}: {order.name} made version {version}, which cannot be read: {error}",
            hint="it is done: do not repeat it",
        ) from error
    info = log_files.commit_info(actions or [])
    metrics = info.get("operationMetrics")
    engine = str(info.get("engineInfo", ""))
    return OperationResult(
        operation=order.name,
        table=order.table,
        engine="spark" if "spark" in engine.lower() else "delta-rs",
        why=f"{order.why}; its process was lost after the commit",
        version_before=version - 1,
        version_after=version,
        rows=_rows(metrics if isinstance(metrics, dict) else {}, order),
        files=counted_files(actions or []),
        duration_s=0.0,
    )


def _give_back(slots: Slots, request: str) -> None:
    with suppress(RayLakeError):
        slots.ended(request, for_sure=False)


def _unchanged(failure: RayLakeError) -> bool:
    return isinstance(failure, TableError) and failure.table_changed is False


def _verdict(slots: Slots, grant: Grant, *, for_sure: bool) -> Verdict:
    try:
        return slots.ended(grant.request, for_sure=for_sure)
    except OwnerLost:
        return slots.settled_by_epoch(grant)


def _rows(metrics: Mapping[str, Any], order: Order) -> RowCounts:
    found = {
        name: int(next((metrics[key] for key in keys if metrics.get(key) is not None), 0))
        for name, keys in _ROWS.items()
    }
    rows = getattr(order.operation, "rows", None)
    return RowCounts(source=rows.num_rows if rows is not None else 0, **found)
