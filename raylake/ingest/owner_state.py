"""What a table's owner says of itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raylake.ingest.unit import Unit, UnitOutcome

log = logging.getLogger(__name__)

KEPT_COMMIT_DURATIONS = 64
MAINTENANCE_DUE_FILES = 100_000


@dataclass(slots=True)
class OwnerState:
    """The loop's state for the status document."""

    version: int | None = None
    commits: int = 0
    units_committed: int = 0
    units_refused: int = 0
    files: int = 0
    watermark_ms: int | None = None
    last_commit_at: float | None = None
    waiting_units: int = 0
    pending_dead_letters: int = 0
    needs_queue: bool = False
    oldest_waiting_at: float | None = None
    breakers: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    retries: dict[str, dict[str, Any]] = field(default_factory=dict)
    commit_durations_s: tuple[float, ...] = ()
    live_files: int = 0
    checkpoint_error: str = ""
    last_refusal: str = ""

    def count(
        self,
        landed: Sequence[Unit],
        outcomes: Sequence[UnitOutcome],
        now_s: float,
        duration_s: float,
    ) -> None:
        """Take what one commit decided, and how long it took."""
        self.error = ""
        refusals = [outcome.reason for outcome in outcomes if outcome.status == "refused"]
        self.units_refused += len(refusals)
        self.last_refusal = refusals[-1] if refusals else self.last_refusal
        if landed:
            self.commits += 1
            kept = self.commit_durations_s[1 - KEPT_COMMIT_DURATIONS :]
            self.commit_durations_s = (*kept, duration_s)
            self.units_committed += len(landed)
            files = sum(len(unit.files) for unit in landed)
            self.files += files
            self.add_live_files(files)
            self.last_commit_at = now_s
            self.version = max(o.version for o in outcomes if o.version is not None)

    def add_live_files(self, count: int) -> None:
        """Count data files of the table; warns once when there are too many for quick commits."""
        few = self.live_files <= MAINTENANCE_DUE_FILES
        self.live_files += count
        if few and self.live_files > MAINTENANCE_DUE_FILES:
            log.warning(
                "the table has %d live files, more than %d: maintenance is due, every commit gets "
                "slower and takes more memory",
                self.live_files,
                MAINTENANCE_DUE_FILES,
            )
