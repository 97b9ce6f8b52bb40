"""What an operation did, read from the commit that it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows by outcome.

    Attributes:
        source: Rows that were handed over.
        duplicates: Of these, dropped in favour of a later row with the same key.
        inserted: New rows; of a restore, the rows of files that came back.
        updated: Rows that got new values.
        deleted: Rows that left; of a restore, the rows of files that left.
        copied: Rows that were written again as they are.
    """

    source: int = 0
    duplicates: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    copied: int = 0


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Data files that a commit added and removed, and their sizes."""

    added: int = 0
    removed: int = 0
    added_bytes: int = 0
    removed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What an operation did.

    Attributes:
        operation: Its name, such as ``upsert``.
        table: The table's address.
        engine: The engine that ran it.
        why: Why that engine.
        version_before: The version that it was applied to; -1 for a new table.
        version_after: The version that it made; the same when there was nothing to do.
        rows: Rows by outcome.
        files: Files and bytes.
        duration_s: Seconds, all attempts together.
        attempts: How often it was tried until no other writer came first.
        note: What else there is to say, such as why nothing was done.
        paths: Files that a vacuum deleted, or would, relative to the table.
    """

    operation: str
    table: str
    engine: str
    why: str
    version_before: int
    version_after: int
    rows: RowCounts
    files: FileCounts
    duration_s: float
    attempts: int = 1
    note: str = ""
    paths: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the table has a new version."""
        return self.version_after != self.version_before


@dataclass(frozen=True, slots=True)
class TableVersion:
    """One line of a table's history.

    Attributes:
        version: The version.
        at: When it was made, as its writer's clock had it.
        operation: What its writer called it.
        engine: Who wrote it.
        parameters: The operation's parameters.
        metrics: What the writer counted.
    """

    version: int
    at: datetime
    operation: str
    engine: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
