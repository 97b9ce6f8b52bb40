"""What can be asked of a table, as plain frozen data (SPEC C1 to C4).

Conditions and values are SQL text in one dialect for all engines (see
:mod:`raylake.tables.expressions`). Times carry a zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import pyarrow as pa

from raylake.tables.upkeep_requests import Upkeep

SchemaMode = Literal["strict", "merge"]
"""``strict``: the rows have columns of the table only. ``merge``: new columns are added to it."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make a new, empty table.

    Attributes:
        schema: Columns; a field's metadata ``comment`` is the column's comment.
        partition_by: Partition columns, in order.
        properties: Delta table properties.
        constraints: CHECK constraints, name to condition.
        description: The table's comment.
    """

    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    constraints: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Append:
    """Add rows."""

    rows: pa.Table
    schema: SchemaMode = "strict"


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Replace all rows, or those that a condition holds for.

    Attributes:
        rows: The new rows; with ``where`` each of them must fulfil it.
        where: The rows that are replaced; None: all.
        schema: As for :class:`Append`; ``overwrite``: the table gets the rows' schema. Properties,
            constraints, the table's comment and those of columns that stay are kept.
    """

    rows: pa.Table
    where: str | None = None
    schema: Literal["strict", "merge", "overwrite"] = "strict"


@dataclass(frozen=True, slots=True)
class DeleteUnmatched:
    """Rows of the table that no row of the source matches are deleted.

    Attributes:
        where: Only those; None: all of them.
    """

    where: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateUnmatched:
    """Rows of the table that no row of the source matches are updated.

    Attributes:
        set: Column to its new value.
        where: Only those; None: all of them.
    """

    set: Mapping[str, str]
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Upsert:
    """Update the rows whose keys are there, insert the others.

    Conditions name columns as ``source.x`` and ``target.x``; where only one side has ``x``, plain
    ``x`` will do. Columns of the source that the table lacks and that a condition or
    ``sequence_by`` names are read and not written.

    Attributes:
        rows: The source.
        keys: Columns of both sides by which rows match.
        update_when: Matching rows are updated only if this holds; else they stay.
        insert_when: Other rows are inserted only if this holds; columns of the source only.
        delete_when: Matching rows are deleted if this holds, before ``update_when`` is asked. A row
            without a match is not inserted where it holds for the source alone.
        columns: The columns that an update writes; None: all of the source. The keys stay.
        insert_columns: The columns that an insert writes beside the keys; None: as ``columns``.
        insert_only: Matching rows stay as they are.
        not_matched_by_source: What becomes of rows of the table without a match.
        sequence_by: Columns that order rows of one key: the last one counts, the others are
            dropped; no value is the least. Empty: two rows of one key are refused.
        schema: As for :class:`Append`.
    """

    rows: pa.Table
    keys: tuple[str, ...]
    update_when: str | None = None
    insert_when: str | None = None
    delete_when: str | None = None
    columns: tuple[str, ...] | None = None
    insert_columns: tuple[str, ...] | None = None
    insert_only: bool = False
    not_matched_by_source: DeleteUnmatched | UpdateUnmatched | None = None
    sequence_by: tuple[str, ...] = ()
    schema: SchemaMode = "strict"


@dataclass(frozen=True, slots=True)
class Scd2:
    """Bring changes into a table that holds each key's versions (SCD type 2).

    Each version of a key is a row with the half-open interval from ``valid_from`` to ``valid_to``
    (none: it is the current one). Any order and any repetition of the changes, cut into requests
    anywhere, makes the same table. :mod:`raylake.tables.scd2` states the rules, and what the table
    keeps for that; :func:`raylake.tables.scd2.table_for` makes one.

    Attributes:
        rows: The changes: keys, sequence, and every column of the table but those named below.
        keys: What a thing is known by.
        sequence_by: The time of a change, or whatever else grows with it; columns after the first
            one tell changes of one time apart.
        track: A change in these makes a version; None: in any but the keys and the sequence.
            The other columns have the value of the version's last change.
        delete_when: A condition on the changes: the key is deleted.
        valid_from: The column with a version's begin; of the type of the first sequence column.
        valid_to: The column with its end, of the same type.
        is_current: The column that is true where a version has no end.
        kept_changes: The column for changes that the intervals do not show.
    """

    rows: pa.Table
    keys: tuple[str, ...]
    sequence_by: tuple[str, ...]
    track: tuple[str, ...] | None = None
    delete_when: str | None = None
    valid_from: str = "valid_from"
    valid_to: str = "valid_to"
    is_current: str = "is_current"
    kept_changes: str = "_changes"


@dataclass(frozen=True, slots=True)
class Delete:
    """Take away the rows that a condition holds for; ``true`` is every row."""

    where: str


@dataclass(frozen=True, slots=True)
class Update:
    """Give columns new values.

    Attributes:
        set: Column to its new value.
        where: The rows; None: all.
    """

    set: Mapping[str, str]
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """Make a version that changes no row, for what it carries alone.

    It is run with an :class:`~raylake.tables.alongside.Alongside`, never without.
    """


@dataclass(frozen=True, slots=True)
class Restore:
    """Make the table again what it was, as a new version.

    Attributes:
        version: What it was at this version.
        at: What it was at this time; text is ISO 8601.
    """

    version: int | None = None
    at: datetime | str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """Rows of one version; the newest unless ``version`` or ``at`` says another.

    Attributes:
        where: Only rows that this holds for.
        columns: Only these columns, in this order.
        version: At this version.
        at: At this time; text is ISO 8601.
    """

    where: str | None = None
    columns: tuple[str, ...] | None = None
    version: int | None = None
    at: datetime | str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows as they were inserted, updated and deleted, both ends of the range included.

    Each row has ``_change_type`` (``insert``, ``update_preimage``, ``update_postimage``,
    ``delete``), ``_commit_version`` and ``_commit_timestamp`` beside the table's columns.

    Attributes:
        from_version: The first version; or ``from_time``, never both.
        to_version: The last version, the newest by default; or ``to_time``.
        from_time: From the first version made at this time or later.
        to_time: To the last version made at this time or earlier.
        ignore_deletes: Leave deleted rows out.
        ignore_changes: Leave updated and deleted rows out: inserts alone stay.
    """

    from_version: int | None = None
    to_version: int | None = None
    from_time: datetime | str | None = None
    to_time: datetime | str | None = None
    ignore_deletes: bool = False
    ignore_changes: bool = False


Write = Create | Append | Overwrite | Upsert | Scd2 | Delete | Update | Advance | Restore | Upkeep
"""An operation that writes."""
