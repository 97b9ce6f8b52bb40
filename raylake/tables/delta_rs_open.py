"""Handles of delta-rs, and its errors in the words of the port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from deltalake import DeltaTable
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    SchemaMismatchError,
    TableNotFoundError,
)

from raylake.delta.features import (
    ALLOWED_FEATURES,
    refuse_columns,
    refuse_in_use,
    refuse_protocol,
)
from raylake.delta.log_guard import check_chain
from raylake.delta.log_reader import LogReader
from raylake.errors import DependencyUnreachable, RayLakeError, UnsupportedTable
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, storage_options
from raylake.tables.errors import (
    AppendOnlyTable,
    FeatureUnsupported,
    OutcomeUnread,
    SchemaMismatch,
    ValuesRefused,
    WriteConflict,
    WriteFailed,
)
from raylake.tables.fencing import check_fence
from raylake.tables.port import Fence
from raylake.tables.requests import Append, Create, Upsert, Write
from raylake.tables.versions import missing

ENGINE: Final = "delta-rs"
_SPARK_WRITES: Final = "engine: spark reads and writes tables with more features"
_INVALID: Final = "Invalid data found"


def opened(root: Place, version: int | None = None) -> DeltaTable:
    """delta-rs's handle of a table at a version, the newest by default.

    Raises:
        TableMissing: There is no table.
        FeatureUnsupported: delta-rs cannot read it; names the feature.
        LogDamaged: The log is torn.
        DependencyUnreachable: The log cannot be read now.
    """
    try:
        return DeltaTable(str(root), version=version, storage_options=storage_options(root))
    except TableNotFoundError as error:
        raise missing(str(root)) from error
    except (DeltaError, OSError) as error:
        check_chain(root)
        _name_feature(root, error)
        raise DependencyUnreachable(f"{root}: the log cannot be read: {_first(error)}") from error


def refuse_unknown(handle: DeltaTable, where: str) -> None:
    """Refuse a table that uses what delta-rs does not write.

    Raises:
        FeatureUnsupported: Names the feature.
    """
    try:
        refuse_protocol(handle, where)
        refuse_in_use(dict(handle.metadata().configuration), where)
        refuse_columns(handle, where)
    except UnsupportedTable as error:
        raise FeatureUnsupported(error.message, hint=_SPARK_WRITES, **error.context) from None


def opened_for(root: Place, operation: Write, fence: Fence | None = None) -> DeltaTable:
    """The handle that an operation may write with.

    Raises:
        FeatureUnsupported: delta-rs must not write this table; names the feature.
        OwnerOnly: The table has an owner and there is no slot, or only its owner may do this.
        SlotClosed: The slot is over.
        AppendOnlyTable: The operation changes rows, and the table lets nobody do that.
        TableMissing, LogDamaged, DependencyUnreachable: As :func:`opened`.
    """
    handle = opened(root)
    refuse_unknown(handle, str(root))
    check_fence(root, handle, operation, fence)
    if handle.metadata().configuration.get("delta.appendOnly") == "true" and not _only_adds(
        operation
    ):
        raise AppendOnlyTable(
            f"{root}: the table is append-only (delta.appendOnly): no row may be changed or leave",
            hint="append, or take the property off the table",
        )
    return handle


def translated(error: Exception, root: Place, what: str) -> RayLakeError:
    """What an error of delta-rs means; the log does not have the commit.

    Args:
        error: Whatever ended the write.
        root: The table.
        what: The operation.
    """
    if isinstance(error, RayLakeError):
        return error
    if isinstance(error, CommitFailedError):
        return WriteConflict(
            f"{root}: {what}: other writers came first each time: {_first(error)}",
            hint="nothing was changed; try again when the table is quieter",
        )
    if isinstance(error, SchemaMismatchError):
        return SchemaMismatch(f"{root}: {what}: {_first(error)}", hint="nothing was changed")
    if _INVALID in str(error):
        # Its text goes on with the rows themselves: they do not belong into a log.
        return ValuesRefused(
            f"{root}: {what}: rows break {_rules(root)}",
            hint="nothing was changed; look for such rows in the source",
        )
    if isinstance(root, StorePath):
        return OutcomeUnread(
            f"{root}: {what} failed: {_first(error)}; the log does not have it now, and the store "
            "may still apply a request that it has not answered",
            hint="look at the table's history before the operation is repeated",
        )
    return WriteFailed(
        f"{root}: {what} failed: {_first(error)}", hint="nothing was changed; see the engine's text"
    )


def _rules(root: Place) -> str:
    names = sorted(
        f"{key.removeprefix('delta.constraints.')} ({text})"
        for key, text in opened(root).metadata().configuration.items()
        if key.startswith("delta.constraints.")
    )
    required = [f"{f.name} NOT NULL" for f in opened(root).schema().fields if not f.nullable]
    return ", ".join((*names, *required, "or the condition that they replace"))


def _only_adds(operation: Write) -> bool:
    if isinstance(operation, Upsert):
        return operation.insert_only and operation.not_matched_by_source is None
    return isinstance(operation, Append | Create)


def _name_feature(root: Place, error: Exception) -> None:
    protocol = LogReader(str(root)).snapshot().protocol
    unknown = _unknown((*protocol.reader_features, *protocol.writer_features))
    if unknown:
        raise FeatureUnsupported(
            f"{root}: the table uses {unknown[0]}, which delta-rs does not read",
            hint=_SPARK_WRITES,
            feature=unknown[0],
        ) from error


def _unknown(features: Iterable[str]) -> list[str]:
    return sorted(set(features) - ALLOWED_FEATURES)


def _first(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
