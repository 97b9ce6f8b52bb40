"""The ``maintenance`` section: parsed and validated; nothing runs in this version."""

from __future__ import annotations

from pydantic import Field

from raylake.config.base import Columns, Model, TableRef
from raylake.config.cron import Schedule
from raylake.config.units import DurationOrZeroS, DurationS, Ratio, SizeBytes, Truth


class Compact(Model):
    """Small files become larger ones."""

    target_file_bytes: SizeBytes = Field(default=128 * 2**20, alias="target_file_size")


class Vacuum(Model):
    """Files that no readable version needs are removed."""

    keep_s: DurationS = Field(default=7 * 86_400.0, alias="keep")
    schedule: Schedule = "0 3 * * *"


class Budget(Model):
    """What upkeep may take.

    Attributes:
        cpu: Part of the cluster's CPUs, 0 to 1.
        yield_above_lag_s: Upkeep waits while ingestion is further behind than this.
    """

    cpu: Ratio = 0.25
    yield_above_lag_s: DurationOrZeroS = Field(default=60.0, alias="yield_above_lag")


class Maintenance(Model):
    """Upkeep of the tables."""

    enabled: Truth = True
    compact: Compact = Compact()
    zorder: dict[TableRef, Columns] = Field(default_factory=dict)
    vacuum: Vacuum = Vacuum()
    budget: Budget = Budget()
