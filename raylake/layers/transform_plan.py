"""What a run of derived tables does, and how it ends: what a job tells its transformer and hears.

A job of a pipeline without derived tables imports nothing more of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylake.errors import RayLakeError
from raylake.ingest.plan import RunPlan


@dataclass(frozen=True, slots=True)
class TransformPlan:
    """What a run of derived tables does.

    Attributes:
        run: The pipeline, as for ingestion.
        tables: These and what they come from; empty: all.
        refresh: Tables that are made anew first.
        continuous: Go on until told to stop; else end when nothing is new.
    """

    run: RunPlan
    tables: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()
    continuous: bool = False


@dataclass(frozen=True, slots=True)
class TransformOutcome:
    """How a run ended.

    Attributes:
        error: The first failure that stood at the end, in the graph's order; None: all went well.
        tables: Each table as it stood, for people.
    """

    error: RayLakeError | None = None
    tables: dict[str, Any] = field(default_factory=dict)
