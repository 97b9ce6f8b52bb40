"""The ``maintenance`` section: when upkeep of a table is due, and what it may take.

A pipeline that runs looks after its tables by itself, also where nothing is written here.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from raylake.config.base import Columns, Model, TableRef
from raylake.config.cron import Schedule, check_cron
from raylake.config.findings import Invalid
from raylake.config.units import Count, DurationOrZeroS, DurationS, Ratio, SizeBytes, Truth
from raylake.config.window import WindowText

LEAST_KEPT_S: Final = 7 * 86_400.0


def _long_enough(keep_s: float) -> float:
    if keep_s < LEAST_KEPT_S:
        raise Invalid(
            "removed files are kept for 7d at least: readers, and writers that have not committed "
            "yet, could lose theirs",
            "write 7d or more",
        )
    return keep_s


def _when(text: str) -> str:
    return text if text == "debt" else check_cron(text)


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


class Retain(Model):
    """Rows that are older than a table's ``retain`` leave it.

    Attributes:
        schedule: When, in UTC.
    """

    schedule: Schedule = "30 2 * * *"


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
        yield_above_lag_s: Upkeep waits while ingestion is further behind than this.
        spark_above_bytes: With ``engine: auto``, rewrites of one table that read more than this are
            Spark's, where there is one.
    """

    cpu: Ratio = 0.25
    max_job_bytes: SizeBytes = Field(default=8 * 2**30, alias="max_job_size")
    yield_above_lag_s: DurationOrZeroS = Field(default=60.0, alias="yield_above_lag")
    spark_above_bytes: SizeBytes = Field(default=32 * 2**30, alias="spark_above")


class Maintenance(Model):
    """Upkeep of the tables.

    Attributes:
        enabled: Whether a run of the pipeline looks after the tables by itself; one that stops
            when it has caught up does so only where this section is written.
        schedule: When files are written anew: ``debt``: once a threshold is passed; or a cron
            schedule in UTC.
        window: The part of the day, in UTC, in which work begins; left out: all of it.
        look_every_s: How often a run looks what is due, and how long it has to live before it
            begins.
        zorder: Columns that tables are Z-ordered by; of other tables no Z-order is looked after.
        zorder_depth: A region of a table in whose points more files lie than this has decayed.
    """

    enabled: Truth = True
    schedule: Annotated[str, AfterValidator(_when)] = "debt"
    window: WindowText | None = None
    look_every_s: DurationS = Field(default=60.0, alias="look_every")
    compact: Compact = Compact()
    zorder: dict[TableRef, Columns] = Field(default_factory=dict)
    zorder_depth: Annotated[float, Field(gt=1)] = 4.0
    vacuum: Vacuum = Vacuum()
    retain: Retain = Retain()
    checkpoint: Checkpoint = Checkpoint()
    budget: Budget = Budget()
