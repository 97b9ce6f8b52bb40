"""An operation on a table that a pipeline feeds: carried out, and handed to its owner to commit.

The owner goes on with ingestion meanwhile, and commits the files between two of its own commits
(:mod:`raylake.delta.rewritten`). So rows may change and leave, never come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from deltalake import DeltaTable

from raylake import faults
from raylake.clock import Clock, SystemClock
from raylake.delta import log_files
from raylake.delta.coordinates import RowsAdded, rows_taken
from raylake.delta.ledger import states_of
from raylake.delta.live_rows import SourceFile, source_files
from raylake.delta.log_reader import LogReader
from raylake.delta.rewritten import FilesChanged, Rewritten, RowsOfBoth
from raylake.delta.verify_data import LiveFile
from raylake.errors import RayLakeError
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, place
from raylake.tables.alongside import Alongside
from raylake.tables.checkpoints import write_checkpoint
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.delta_rs_open import ENGINE, opened, refuse_unknown
from raylake.tables.delta_rs_tasks import Unneeded
from raylake.tables.delta_rs_upkeep import upkeep_task
from raylake.tables.errors import (
    FeatureUnsupported,
    OwnerOnly,
    TableError,
    TopicRecreated,
    WriteFailed,
)
from raylake.tables.feeds import CHANGE_FEED
from raylake.tables.requests import Delete, Restore, Update, Upsert, Write
from raylake.tables.results import FileCounts, OperationResult, RowCounts
from raylake.tables.rewind_instead import refuse_restore
from raylake.tables.running import Order
from raylake.tables.touched import surely_untouched
from raylake.tables.upkeep_requests import (
    MIN_RETENTION_HOURS,
    Checkpoint,
    Rearrange,
    Vacuum,
)
from raylake.tables.vacuum import vacuum
from raylake.tables.workplace import workplace

Proposable = Delete | Update | Upsert | Rearrange | Vacuum | Checkpoint
"""What may be done to a table that a pipeline feeds."""
_COORDINATES: Final = ("_topic", "_partition", "_offset")


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an operation came to, before its owner has committed anything.

    Attributes:
        result: What it did; its version is the one that was read.
        rewritten: What is to be committed; None: nothing.
    """

    result: OperationResult
    rewritten: Rewritten | None = None


def carry_out(engine: DeltaRsEngine, order: Order) -> OperationResult | Proposal:
    """Run an order, or, where it is one of a turn, write what is to be committed.

    Raises:
        RayLakeError: As :meth:`raylake.tables.port.TableEngine.execute`.
    """
    if order.request:
        return propose(engine, order, SystemClock())
    return engine.execute(
        order.table,
        order.operation,
        why=order.why,
        fence=order.fence,
        alongside=order.alongside,
    )


def propose(engine: DeltaRsEngine, order: Order, clock: Clock) -> Proposal:
    """Carry an operation out on the newest version, without committing it.

    Raises:
        OwnerOnly: It would break the account that the table's log keeps.
        FilesChanged: What was written is gone; nothing was changed.
        TopicRecreated: Whose account rows are of cannot be told.
        RayLakeError: As :meth:`raylake.tables.port.TableEngine.execute`; nothing was changed.
    """
    root, operation = place(order.table), order.operation
    refuse_unproposable(root, operation, order.alongside)
    began_s = clock.monotonic()
    handle = opened(root)
    refuse_unknown(handle, str(root))
    if isinstance(operation, Vacuum):
        found = Proposal(_vacuumed(root, handle, order, clock.now()))
    elif isinstance(operation, Checkpoint):
        found = Proposal(_checkpointed(root, order))
    elif isinstance(operation, Rearrange):
        found = _rearranged(root, handle, order)
    else:
        found = _worked(root, handle, order, engine)
    faults.reach("rewrite.proposed", table=order.table)
    return replace(found, result=replace(found.result, duration_s=clock.monotonic() - began_s))


def refuse_unproposable(root: Place, operation: Write, alongside: Alongside | None = None) -> None:
    """Refuse what cannot be done to a table that a pipeline feeds.

    Raises:
        OwnerOnly: Saying why, and what can.
    """
    what = type(operation).__name__.lower()
    if alongside is not None:
        raise OwnerOnly(
            f"{root}: {what}: the commits of a table that a pipeline feeds carry the pipeline's "
            "progress alone",
            hint="nothing was changed; keep other progress in a table of its own",
        )
    if isinstance(operation, Restore):
        raise refuse_restore(root, operation, "what its pipeline brings")
    if isinstance(operation, Checkpoint) and operation.repair:
        raise OwnerOnly(
            f"{root}: checkpoints of a table that a pipeline feeds are put aside by hand, while "
            "nothing runs",
            hint="nothing was changed; a checkpoint without repair=True can be written",
        )
    if isinstance(operation, Vacuum) and operation.orphans and _is_short(operation):
        raise OwnerOnly(
            f"{root}: vacuum: with orphans and a retention of {operation.retention_hours:g} hours "
            "it would take files that the pipeline has written and not committed yet",
            hint="nothing was changed; leave orphans away, or give at least "
            f"{MIN_RETENTION_HOURS:g} hours",
        )
    if isinstance(operation, Upsert) and (operation.schema != "strict" or operation.insert_only):
        raise OwnerOnly(
            f"{root}: {what}: rows and columns of a table that a pipeline feeds come from Kafka "
            "alone",
            hint="nothing was changed; change rows that are there with insert_when='false'",
        )
    if found := sorted(_set_by(operation) & set(_COORDINATES)):
        raise OwnerOnly(
            f"{root}: {what}: {found[0]} says where in Kafka a row is from, and is counted by that",
            hint="nothing was changed; set other columns",
            column=found[0],
        )
    if not isinstance(operation, Proposable):
        raise OwnerOnly(
            f"{root}: {what}: the table's log counts what its pipeline brings: rows that come or "
            "leave otherwise would break the account",
            hint="nothing was changed; delete, update, upsert with insert_when='false', compact, "
            "zorder, vacuum and checkpoint can be done, and `raylake rewind` goes back",
        )


def _is_short(request: Vacuum) -> bool:
    hours = request.retention_hours
    return hours is not None and hours < MIN_RETENTION_HOURS


def _set_by(operation: Write) -> set[str]:
    """The columns that an operation names for new values."""
    if isinstance(operation, Update):
        return set(operation.set)
    return set(operation.columns or ()) if isinstance(operation, Upsert) else set()


def _vacuumed(root: Place, handle: DeltaTable, order: Order, now_s: float) -> OperationResult:
    request = order.operation
    if not isinstance(request, Vacuum):
        raise TypeError("no vacuum")
    found = vacuum(root, handle, request, now_s)
    note = found.note(dry_run=request.dry_run)
    files = FileCounts(removed=len(found.paths), removed_bytes=found.size_bytes)
    done = _result(order, int(handle.version()), files=files, note=note)
    return replace(done, paths=found.paths)


def _checkpointed(root: Place, order: Order) -> OperationResult:
    found = write_checkpoint(root)
    note = "" if found.created else f"version {found.version} has a checkpoint already"
    return _result(order, found.version, note=note)


def _rearranged(root: Place, handle: DeltaTable, order: Order) -> Proposal:
    request, version = order.operation, int(handle.version())
    if not isinstance(request, Rearrange):
        raise TypeError(f"{order.name} does not write files anew")
    task = upkeep_task(root, handle, request)
    if isinstance(task, Unneeded):
        return Proposal(_result(order, version, note=task.note))
    if task.written is None:
        raise TypeError(f"{order.name} does not write files anew")
    groups, commit = task.written()
    removed = tuple(one for group in groups for one in group.removed)
    added = tuple(one for group in groups for one in group.added)
    copied = sum(group.rows for group in groups)
    rewritten = Rewritten(
        order.request,
        commit.operation,
        version,
        removed,
        added,
        data_change=False,
        parameters=commit.parameters,
        metrics={"numCopiedRows": copied, **_file_metrics(removed, added)},
    )
    files = _counted(removed, added)
    return Proposal(_result(order, version, RowCounts(copied=copied), files), rewritten)


def _worked(root: Place, handle: DeltaTable, order: Order, engine: DeltaRsEngine) -> Proposal:
    """Rows change or leave: an engine does it on a table of this worker's own."""
    version, operation = int(handle.version()), order.operation
    _refuse_features(root, handle)
    live = source_files(LogReader(str(root)).snapshot(version))
    spared = surely_untouched(handle, operation)
    files = [one for one in live if one.path not in spared]
    if any(one.vector is not None for one in files):
        raise FeatureUnsupported(
            f"{root}: files have deletion vectors",
            hint="nothing was changed; compact the table first, which takes them away",
            feature="deletionVectors",
        )
    with workplace(root, handle, files, order.request) as work:
        try:
            result = engine.execute(str(work.at), operation, why=order.why)
        except RayLakeError as error:
            # Where it was worked on is nobody's business.
            told = error.message.replace(str(work.at), str(root))
            kind = type(error)
            if isinstance(error, TableError) and error.table_changed is not False:
                # Of what was done there nothing is of the table.
                kind = WriteFailed
            raise kind(told, hint=error.hint, **error.context) from error
        worked = result.changed
        result = replace(result, table=order.table, version_before=version, version_after=version)
        actions = log_files.read_commit(work.at, 1)
        if not actions:
            if worked:
                raise _taken_away(root, order)
            return Proposal(replace(result, note=result.note or "no row is concerned"))
        removed, added = work.done(actions)
        try:
            taken = rows_taken(
                LogReader(str(work.at)),
                map(_of_source, removed),
                map(_of_data, added),
                recreated=_recreated(root, version),
            )
        except (RowsAdded, RowsOfBoth) as error:
            told = error.message.replace(str(work.at), str(root))
            refusal = OwnerOnly if isinstance(error, RowsAdded) else TopicRecreated
            raise refusal(told, hint=error.hint, **error.context) from error
        work.bring(added)
    info = log_files.commit_info(actions)
    parameters = {k: str(v) for k, v in (info.get("operationParameters") or {}).items()}
    rewritten = Rewritten(
        order.request,
        str(info.get("operation", "UPDATE")),
        version,
        removed,
        added,
        taken,
        parameters=parameters,
        metrics=_whole_numbers(info.get("operationMetrics") or {}),
    )
    return Proposal(result, rewritten)


def _taken_away(root: Place, order: Order) -> FilesChanged:
    return FilesChanged(
        f"{root}: {order.name}: what was written for it is gone: a worker of an earlier turn "
        "tidied it away",
        hint="nothing was changed; run it again",
    )


def _recreated(root: Place, version: int) -> set[tuple[str, int]]:
    """Partitions of which the account knows more than one incarnation."""
    states = states_of(LogReader(str(root)).snapshot(version).txns)
    found = Counter((source.topic, source.partition) for _, source in states)
    return {key for key, many in found.items() if many > 1}


def _refuse_features(root: Place, handle: DeltaTable) -> None:
    there = {one.name for one in handle.schema().fields}
    if missing := sorted(set(_COORDINATES) - there):
        raise FeatureUnsupported(
            f"{root}: the table has no column {missing[0]!r}: its rows cannot be counted by where "
            "they are from",
            hint="nothing was changed",
            feature=missing[0],
        )
    if handle.metadata().configuration.get(CHANGE_FEED, "").lower() == "true":
        raise FeatureUnsupported(
            f"{root}: the table records a change feed ({CHANGE_FEED}), which rewrites beside a "
            "pipeline do not write",
            hint="nothing was changed",
            feature="changeDataFeed",
        )


def _result(
    order: Order,
    version: int,
    rows: RowCounts | None = None,
    files: FileCounts | None = None,
    note: str = "",
) -> OperationResult:
    return OperationResult(
        operation=order.name,
        table=order.table,
        engine=ENGINE,
        why=order.why,
        version_before=version,
        version_after=version,
        rows=rows or RowCounts(),
        files=files or FileCounts(),
        duration_s=0.0,
        note=note,
    )


def _counted(removed: Sequence[SourceFile], added: Sequence[DataFile]) -> FileCounts:
    return FileCounts(
        added=len(added),
        removed=len(removed),
        added_bytes=sum(one.size_bytes for one in added),
        removed_bytes=sum(one.size_bytes for one in removed),
    )


def _file_metrics(removed: Sequence[SourceFile], added: Sequence[DataFile]) -> dict[str, int]:
    counts = _counted(removed, added)
    return {
        "numRemovedFiles": counts.removed,
        "numAddedFiles": counts.added,
        "numRemovedBytes": counts.removed_bytes,
        "numAddedBytes": counts.added_bytes,
    }


def _whole_numbers(metrics: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in metrics.items() if str(value).isdecimal()}


def _of_source(one: SourceFile) -> LiveFile:
    return LiveFile(one.path, one.size_bytes, one.rows, one.values)


def _of_data(one: DataFile) -> LiveFile:
    return LiveFile(one.path, one.size_bytes, one.rows, one.partition_values)
