"""Handles of delta-rs, and its errors in the words of the port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
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
from raylake.delta.schema import arrow_schema
from raylake.errors import DependencyUnreachable, RayLakeError, UnsupportedTable
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, storage_options
from raylake.tables.errors import (
    BadExpression,
    FeatureUnsupported,
    OutcomeUnread,
    SchemaMismatch,
    ValuesRefused,
    WriteConflict,
    WriteFailed,
)
from raylake.tables.expressions import Expression, quoted
from raylake.tables.guards import refuse_write, rules
from raylake.tables.port import Fence
from raylake.tables.requests import Write
from raylake.tables.space import ran_out
from raylake.tables.subject import Subject
from raylake.tables.versions import missing

ENGINE: Final = "delta-rs"
_SPARK_WRITES: Final = "engine: spark reads and writes tables with more features"
_ELSEWHERE: Final = "outside table root"
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
        OwnerOnly, SlotClosed, AppendOnlyTable: As :func:`~raylake.tables.guards.refuse_write`.
        TableMissing, LogDamaged, DependencyUnreachable: As :func:`opened`.
    """
    handle = opened(root)
    refuse_unknown(handle, str(root))
    configuration = dict(handle.metadata().configuration)
    refuse_write(root, operation, configuration, handle.transaction_version, fence)
    return handle


def subject_of(root: Place, handle: DeltaTable) -> Subject:
    """The table as a handle has it."""

    def kind_of(expression: Expression, where: str) -> pa.DataType:
        query = f"SELECT {expression.sql()} AS {quoted('found')} FROM target LIMIT 0"  # noqa: S608
        try:
            reader = QueryBuilder().register("target", handle).execute(query)
        except DeltaError as error:
            raise BadExpression(
                f"{where}: the value cannot be computed: {_first(error)}"
            ) from error
        return pa.schema(reader.schema).field(0).type

    metadata = handle.metadata()
    return Subject(
        root,
        arrow_schema(handle.schema()),
        dict(metadata.configuration),
        tuple(metadata.partition_columns),
        kind_of,
    )


def translated(error: Exception, root: Place, what: str) -> RayLakeError:
    """What an error of delta-rs means; the log does not have the commit.

    Args:
        error: Whatever ended the write.
        root: The table.
        what: The operation.
    """
    if (full := ran_out(error, root, f"{root}: {what}")) is not None:
        return full
    if isinstance(error, RayLakeError):
        return error
    if isinstance(error, CommitFailedError):
        return WriteConflict(
            f"{root}: {what}: other writers came first each time: {_first(error)}",
            hint="nothing was changed; try again when the table is quieter",
        )
    if isinstance(error, SchemaMismatchError):
        return SchemaMismatch(f"{root}: {what}: {_first(error)}", hint="nothing was changed")
    if _ELSEWHERE in str(error):
        return FeatureUnsupported(
            f"{root}: {what}: delta-rs takes no rows out of files of another table, which this "
            "shallow clone names",
            hint="compact it, which brings them here, clone it deep, or use engine: spark",
            feature="shallow clone",
        )
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
    handle = opened(root)
    required = [field.name for field in handle.schema().fields if not field.nullable]
    return rules(handle.metadata().configuration, required)


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
