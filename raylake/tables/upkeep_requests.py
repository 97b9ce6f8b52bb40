"""What can be asked of a table beside its rows: properties, constraints, schema, files, copies.

None of it changes what a reader of the newest version gets, but for columns that are added, renamed
or dropped. Older versions stay readable as they were, until a vacuum takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from raylake.delta.rewriting import FileGroup

MIN_RETENTION_HOURS: Final = 168.0
"""What a vacuum keeps at least, unless less is allowed by name."""


@dataclass(frozen=True, slots=True)
class SetProperties:
    """Set and unset table properties.

    Attributes:
        properties: Key to value; a key of the user's own does not begin with ``delta.``.
        unset: Keys that are taken off.
    """

    properties: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddConstraint:
    """From now on each row fulfils a condition; rows that are there are checked first.

    Attributes:
        name: The constraint's name.
        condition: What must be true; a row for which it is unknown (null) breaks it too.
    """

    name: str
    condition: str


@dataclass(frozen=True, slots=True)
class DropConstraint:
    """Take a CHECK constraint off."""

    name: str


@dataclass(frozen=True, slots=True)
class SetNotNull:
    """A column has a value in each row from now on, or (``required=False``) need not any more.

    Attributes:
        column: A top-level column.
        required: Whether it must have a value; rows that are there are checked first.
    """

    column: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class AddColumns:
    """Add columns at the end; rows that are there have null in them.

    Attributes:
        columns: The new columns, nullable; a field's metadata ``comment`` is its comment.
    """

    columns: pa.Schema


@dataclass(frozen=True, slots=True)
class WidenColumns:
    """Give columns wider types, by writing every file anew in one commit.

    Attributes:
        types: Column to its new type, which must hold each value of the old one.
    """

    types: Mapping[str, pa.DataType]


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """Rename a column; needs column mapping."""

    column: str
    to: str


@dataclass(frozen=True, slots=True)
class DropColumn:
    """Drop a column; needs column mapping."""

    column: str


@dataclass(frozen=True, slots=True)
class Repartition:
    """Partition the table by other columns, by writing every file anew in one commit.

    Attributes:
        partition_by: The new partition columns, in order; empty: none.
    """

    partition_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compact:
    """Write small files, and files with many deleted rows, together into larger ones.

    Attributes:
        where: Only partitions that this holds for; it names partition columns alone.
        target_file_bytes: The size of the new files; None: the table's ``delta.targetFileSize``,
            or 128 MiB.
        files: Only these files, as the log names them; empty: all. One that is named loses its
            deleted rows, however few they are.
    """

    where: str | None = None
    target_file_bytes: int | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ZOrder:
    """Write files anew so that rows with similar values in some columns lie together.

    Attributes:
        columns: One to four columns that are not partition columns, and have statistics.
        where: As for :class:`Compact`.
        target_file_bytes: As for :class:`Compact`.
        files: As for :class:`Compact`.
    """

    columns: tuple[str, ...]
    where: str | None = None
    target_file_bytes: int | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PutInPlace:
    """Put files that were written aside in the place of those whose rows they hold.

    Groups of which another commit took a file are left out, and their files deleted.

    Attributes:
        groups: What :func:`raylake.tables.aside.write_aside` wrote.
        read_version: The version that was read for it.
        parameters: Of the operation, for the history.
    """

    groups: tuple[FileGroup, ...]
    read_version: int
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vacuum:
    """Delete files that no version within the retention needs.

    Files younger than the retention always stay: a writer may be about to commit them. So do files
    of versions that a reader's lease holds (:mod:`raylake.delta.leases`), and those of pinned
    versions (:mod:`raylake.delta.version_pins`).

    Attributes:
        retention_hours: How long versions stay readable; None: the table's
            ``delta.deletedFileRetentionDuration``, and at least 168.
        dry_run: Delete nothing, list what would be.
        orphans: Also files that no commit in the log names, once they are old enough.
        keep_versions: Versions whose files stay whatever their age.
        allow_short_retention: Lets the retention be below 168 hours; a reader, or a writer that
            takes longer, may then lose its files.
        break_holds: Takes files of versions that readers and pins hold too; the result names them.
    """

    retention_hours: float | None = None
    dry_run: bool = False
    orphans: bool = False
    keep_versions: tuple[int, ...] = ()
    allow_short_retention: bool = False
    break_holds: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Write a checkpoint of the newest version.

    Attributes:
        repair: First put damaged checkpoints aside, where the log is whole without them.
    """

    repair: bool = False


@dataclass(frozen=True, slots=True)
class Clone:
    """Make a table of its own from a version of another one.

    Properties, constraints, partitions and comments come along; history, and a ledger, do not.

    Attributes:
        source: The address of the table that is copied.
        version: Its version; the newest unless ``version`` or ``at`` says another.
        at: As of this time; text is ISO 8601.
        deep: Whether the data is copied; else the clone's log names the source's files, and a
            vacuum of the source takes them from the clone.
        take_over: Take the address from another clone or migration that fills it. Nobody else can
            tell whether one on another machine has ended; one of this machine's is looked for.
    """

    source: str
    version: int | None = None
    at: datetime | str | None = None
    deep: bool = True
    take_over: bool = False


@dataclass(frozen=True, slots=True)
class Convert:
    """Make a Delta table of a folder of Parquet files, where they are.

    Attributes:
        partition_by: Types of the columns that the folders' names hold (``day=2026-01-31``); None:
            found from the names.
        properties: Delta table properties.
    """

    partition_by: pa.Schema | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


Alter = (
    SetProperties
    | AddConstraint
    | DropConstraint
    | SetNotNull
    | AddColumns
    | WidenColumns
    | RenameColumn
    | DropColumn
    | Repartition
)
"""What changes a table's metadata."""
Rearrange = Compact | ZOrder | PutInPlace
"""What writes rows anew and changes none."""
Apart = Vacuum | Checkpoint | Clone | Convert
"""What makes no version of a table that is there."""
Upkeep = Alter | Rearrange | Apart
"""Everything here."""
