"""What an owner's loop needs: a table, its watermark, and what writes its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from raylake.delta.pending import PendingDeadLetters
from raylake.ingest.retry import RetryCounters
from raylake.ingest.unit import SourcePartition, Unit, UnitOutcome


class CommittingTable(Protocol):
    """What the loop needs of :class:`raylake.delta.owned_table.OwnedTable`."""

    @property
    def table_id(self) -> str:
        """The table's id."""
        ...

    @property
    def version(self) -> int:
        """The newest version that the owner knows."""
        ...

    @property
    def watermark_ms(self) -> int | None:
        """The watermark of the newest commit."""
        ...

    @property
    def retries(self) -> RetryCounters:
        """Counts what its owner tries again."""
        ...

    def commit(
        self,
        units: Sequence[Unit],
        *,
        watermark: Callable[[Sequence[Unit]], int | None] | None = None,
    ) -> list[UnitOutcome]:
        """Commit what may be committed and answer each unit."""
        ...

    def set_watermark(self, value_ms: int) -> None:
        """Move the watermark in a commit of its own; ms since the epoch."""
        ...

    def pending_dead_letters(self, after_version: int) -> PendingDeadLetters:
        """What the log names for the dead-letter table after a version (I5)."""
        ...

    def release(self) -> None:
        """Say in the log that this owner leaves."""
        ...


class Watermark(Protocol):
    """The table's watermark, fed by what is about to be committed."""

    def add(self, source: SourcePartition, /) -> None:
        """Count a partition in."""
        ...

    def preview(self, units: Sequence[Unit]) -> int | None:
        """The watermark after these units; ms since the epoch."""
        ...

    def committed(self, units: Sequence[Unit]) -> int | None:
        """The units are in the table: move the watermark."""
        ...

    def set(self, value_ms: int) -> None:
        """The deliberate repair: move it, back as well as forward."""
        ...


class Checkpointer(Protocol):
    """Writes checkpoints off the commit path."""

    @property
    def error(self) -> str:
        """Why the last checkpoint was not written; empty after one that was."""
        ...

    def committed(self, version: int, *, keep_from: int) -> None:
        """A commit landed; log files from ``keep_from`` on are still needed by a redo."""
        ...

    def close(self) -> None:
        """Wait for a checkpoint under way."""
        ...
