"""Why an operation on a table was refused or failed, and whether the table changed (SPEC C6)."""

from __future__ import annotations

from typing import Any, ClassVar

from raylake.errors import (
    ConfigError,
    OutcomeUnknown,
    RayLakeError,
    Refused,
    Retryable,
    SchemaConflict,
    Terminal,
    UnsupportedTable,
)


class TableError(RayLakeError):
    """The root of every error of a table operation.

    Attributes:
        table_changed: False: the table is as it was. True: a part was done. None: the log could
            not be asked.
    """

    code = "table"
    table_changed: ClassVar[bool | None] = False

    def to_dict(self) -> dict[str, Any]:
        """As every error, with ``table_changed``."""
        return {**super().to_dict(), "table_changed": self.table_changed}


class BadRequest(TableError, ConfigError):
    """The request contradicts itself or the table."""

    code = "table_request"


class VersionAndTime(BadRequest):
    """Both a version and a timestamp are given."""

    code = "version_and_time"


class TimeWithoutZone(BadRequest):
    """A time without a zone: it means another instant on every machine."""

    code = "time_without_zone"


class VersionUnknown(BadRequest):
    """The table has not reached this version."""

    code = "version_unknown"


class BadExpression(BadRequest):
    """An expression does not parse, or holds more than a condition or a value may."""

    code = "table_expression"


class UnknownColumn(BadRequest):
    """A column that is named is not there."""

    code = "unknown_column"


class BadColumnName(BadRequest):
    """A column's name is reserved, cannot be a column's, or differs from another only in case."""

    code = "column_name"


class BadMergeKeys(BadRequest):
    """No merge keys are given, or they are not columns of both sides."""

    code = "merge_keys"


class NullMergeKeys(BadMergeKeys):
    """Rows of the source have no value in a merge key."""

    code = "null_merge_keys"


class DuplicateMergeKeys(BadMergeKeys):
    """Several rows of the source have one key, and nothing says which one counts."""

    code = "duplicate_merge_keys"


class TableMissing(TableError, Refused):
    """There is no Delta table at the address."""

    code = "table_missing"


class TableExists(TableError, Refused):
    """There is a table, or something else, where one was to be created."""

    code = "table_exists"


class SchemaMismatch(TableError, SchemaConflict):
    """The rows do not have the table's columns."""

    code = "schema_mismatch"


class SchemaNarrowed(SchemaMismatch):
    """Values would lose something in the table's narrower type."""

    code = "schema_narrowed"


class ValuesRefused(TableError, Refused):
    """Rows break a constraint of the table, NOT NULL, or the condition that they replace."""

    code = "values_refused"


class AppendOnlyTable(TableError, Refused):
    """Rows of this table may not be changed or taken away."""

    code = "append_only"


class OwnerOnly(TableError, Refused):
    """The table has a ledger: only its owner writes to it."""

    code = "owner_only"


class TopicRecreated(TableError, Refused):
    """Rows of a topic and of one created again under its name: which are concerned is unknown."""

    code = "topic_recreated"


class SlotClosed(TableError, Refused):
    """The owner's slot that an operation ran under is over: another number is in the log."""

    code = "slot_closed"


class ProgressMoved(TableError, Refused):
    """The table's log says another progress than the commit was made for."""

    code = "progress_moved"


class VersionGone(TableError, Refused):
    """A version that vacuum or the log's clean-up took."""

    code = "version_gone"


class ChangesUnavailable(TableError, Refused):
    """The table recorded no changes in that range."""

    code = "changes_unavailable"


class FeatureUnsupported(TableError, UnsupportedTable):
    """The table uses a feature that this engine does not read or write."""

    code = "feature_unsupported"


class TableReplaced(TableError, Refused):
    """Another table lies where the one was that was worked with."""

    code = "table_replaced"


class NoEngine(TableError, Refused):
    """No engine that could do it can be had."""

    code = "no_engine"


class OutOfMemory(TableError, Terminal):
    """The operation needed more memory than it was given; the log shows no commit of it."""

    code = "out_of_memory"


class FilesRefused(TableError, Refused):
    """A folder's files cannot be a table."""

    code = "files_refused"


class FolderTaken(TableError, Refused):
    """Another work fills the folder, or uses the journal; the message names it."""

    code = "folder_taken"


class MigrationDiffers(TableError, Refused):
    """A copy is not what its source is; it is not visible."""

    code = "migration_differs"


class HoldingNeedsCluster(BadRequest):
    """Versions are held in the object store of a Ray cluster, and this lake has none."""

    code = "holding_needs_cluster"


class TooLargeToHold(TableError, Refused):
    """A version is larger than the limit of what is held, or than the object store."""

    code = "too_large_to_hold"


class NotEnoughSpace(TableError, Refused):
    """The disk has no room for what would be written."""

    code = "not_enough_space"


class WriteConflict(TableError, Retryable):
    """Other writers came first each time, as often as it may be tried."""

    code = "write_conflict"


class WriteFailed(TableError, Terminal):
    """The engine failed, and the log shows that the table is as it was."""

    code = "write_failed"


class PartlyDone(TableError, Terminal):
    """A first step of the operation is in the log, and a later one failed."""

    code = "partly_done"
    table_changed = True


class OutcomeUnread(TableError, OutcomeUnknown):
    """The engine failed, and whether the commit landed cannot be told yet."""

    code = "outcome_unread"
    table_changed = None


class ReaderGap(VersionGone):
    """Versions that a named reader has not read yet are gone."""

    code = "reader_gap"


class ReaderMoved(TableError, Refused):
    """Another process has moved a named reader on meanwhile."""

    code = "reader_moved"


class ReaderLost(TableError, Refused):
    """A named reader's place is one of another table, or beyond this one's newest version."""

    code = "reader_lost"
