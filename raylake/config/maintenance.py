"""The ``maintenance`` section: when upkeep of a table is due, and what it may take.

``raylake maintain plan`` goes by it; nothing runs by itself in this version, and the pipeline says
so (``Pipeline.not_yet``). Keys that only a service beside ingestion would need come with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, model_validator

from raylake.config.base import Columns, Model, TableRef
from raylake.config.cron import Schedule
from raylake.config.findings import Finding, Invalid
from raylake.config.units import Count, DurationOrZeroS, DurationS, Ratio, SizeBytes

LEAST_KEPT_S: Final = 7 * 86_400.0
_LATER: Final = ("enabled", "window")


def _refuse_later(data: Any) -> Any:
    """Refuse by name what only a service beside ingestion could go by."""
    if isinstance(data, Mapping) and (found := [key for key in _LATER if key in data]):
        message = "nothing goes by it in this version: upkeep does not run by itself yet"
        raise Invalid(
            "", findings=[Finding((key,), message, "leave it out", on_key=True) for key in found]
        )
    return data


def _long_enough(keep_s: float) -> float:
    if keep_s < LEAST_KEPT_S:
        raise Invalid(
            "removed files are kept for 7d at least: readers, and writers that have not committed "
            "yet, could lose theirs",
            "write 7d or more",
        )
    return keep_s


class Compact(Model):
    """Small files become larger ones.

    Attributes:
        target_file_bytes: The size of new files; left out: the table's ``delta.targetFileSize``,
            or 128 MiB.
        small_files: So many small files are let be in a partition.
        small_share: A file below this share of the target size is small.
    """

    target_file_bytes: SizeBytes = Field(default=128 * 2**20, alias="target_file_size")
    small_files: Count = 32
    small_share: Ratio = 0.25


class Vacuum(Model):
    """Files that no readable version needs are removed.

    Attributes:
        keep_s: How long they are kept after they were removed from the table.
        schedule: When it comes, in UTC.
    """

    keep_s: Annotated[DurationS, AfterValidator(_long_enough)] = Field(
        default=LEAST_KEPT_S, alias="keep"
    )
    schedule: Schedule = "0 3 * * *"


class Checkpoint(Model):
    """A checkpoint spares readers the commits before it.

    Attributes:
        commits: It is due after so many commits.
        after_s: Or once the first of ten commits or more is so old.
    """

    commits: Count = 100
    after_s: DurationS = Field(default=60.0, alias="after")


class Budget(Model):
    """What upkeep may take.

    Attributes:
        cpu: Part of the CPUs, 0 to 1.
        max_job_bytes: A job reads at most so much.
        yield_above_lag_s: Upkeep waits while ingestion is further behind than this; said of upkeep
            beside ingestion, which does not run yet.
    """

    cpu: Ratio = 0.25
    max_job_bytes: SizeBytes = Field(default=8 * 2**30, alias="max_job_size")
    yield_above_lag_s: DurationOrZeroS = Field(default=60.0, alias="yield_above_lag")


class Maintenance(Model):
    """Upkeep of the tables.

    Attributes:
        zorder: Columns that tables are Z-ordered by; of other tables no Z-order is looked after.
        zorder_depth: A region of a table in whose points more files lie than this has decayed.
    """

    _later = model_validator(mode="before")(_refuse_later)

    compact: Compact = Compact()
    zorder: dict[TableRef, Columns] = Field(default_factory=dict)
    zorder_depth: Annotated[float, Field(gt=1)] = 4.0
    vacuum: Vacuum = Vacuum()
    checkpoint: Checkpoint = Checkpoint()
    budget: Budget = Budget()
