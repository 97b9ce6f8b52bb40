"""What upkeep beside a pipeline does, and how it ends: what a job tells its maintainer and hears.

A job of a pipeline without upkeep imports nothing more of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylake.errors import RayLakeError
from raylake.ingest.plan import RunPlan


@dataclass(frozen=True, slots=True)
class TendingPlan:
    """What a run of upkeep does.

    Attributes:
        run: The pipeline.
        once: Do what is due now, whatever its schedule, and end.
        tables: Only these; empty: all.
        job: How it was started, for the status document; no secret.
        since_s: From when on schedules count for a table of which nothing is known, seconds since
            the epoch; None: from the start on.
    """

    run: RunPlan
    once: bool = False
    tables: tuple[str, ...] = ()
    job: dict[str, Any] = field(default_factory=dict)
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class TendingOutcome:
    """How it ended.

    Attributes:
        error: Why it failed; None: it did not.
    """

    error: RayLakeError | None = None
