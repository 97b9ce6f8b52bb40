"""The ports between a consumer, its tables' owners and the dead-letter queue.

The actors implement them over Ray; the tests implement them in one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from raylake.delta.pending import Withdrawn
from raylake.errors import OutcomeUnknown
from raylake.ingest.unit import DataFile, PartitionState, SourcePartition, Unit, UnitOutcome


class OwnerLost(OutcomeUnknown):
    """The table's owner is gone; what it was given may or may not be in the table."""

    code = "owner_lost"


@dataclass(frozen=True, slots=True)
class TableView:
    """A table as its owner sees it.

    Attributes:
        table_id: The table's id (metaData).
        schema: The whole schema.
        fingerprint: Fingerprint of the schema; a unit written with another one is refused.
        watermark_ms: The watermark as last committed, ms since the epoch; None when unknown.
        owner_run: The run that started the owner; not always the one that asks.
    """

    table_id: str
    schema: pa.Schema
    fingerprint: str
    watermark_ms: int | None = None
    owner_run: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the owner answers to a hand-over.

    Attributes:
        outcome: What became of the unit.
        watermark_ms: The table's watermark after the commit, ms since the epoch; None when unknown.
    """

    outcome: UnitOutcome
    watermark_ms: int | None


class Handover(Protocol):
    """A unit on its way."""

    def poll(self) -> Answer | None:
        """The answer, or None while there is none.

        Raises:
            OwnerLost: The owner is gone and the outcome is unknown.
            RayLakeError: The owner stopped for good (fenced, log damaged).
        """
        ...


class OwnerPort(Protocol):
    """A table's owner, wherever it lives. Each call may raise ``OwnerLost``."""

    def view(self) -> TableView:
        """The table's id and schema."""
        ...

    def ends(self, sources: Sequence[SourcePartition]) -> Mapping[SourcePartition, PartitionState]:
        """Where the table stands in those of the partitions that are admitted."""
        ...

    def evolve(self, additions: pa.Schema) -> TableView:
        """Add columns; those that are there already are no error."""
        ...

    def submit(self, unit: Unit) -> Handover:
        """Hand a unit over; returns at once."""
        ...


class DeadLetterPort(Protocol):
    """The dead-letter queue as a table's owner sees it."""

    def ready(self) -> bool:
        """Whether it was started and has answered; never waits. What is lost later is still so."""
        ...

    def add(self, table_id: str, version: int, files: Sequence[DataFile]) -> None:
        """Add the files that a data commit named; repeating it changes nothing."""
        ...

    def withdraw(self, table_id: str, version: int, withdrawal: Withdrawn) -> None:
        """Take out what a rewind took back, or replace what a replay looked at; idempotent."""
        ...
