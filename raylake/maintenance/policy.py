"""What upkeep goes by for one table: the pipeline file, the table's properties, or the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from raylake.config.maintenance import Maintenance
from raylake.delta.checkpoint import interval_s
from raylake.tables.rewrite_parts import target_size
from raylake.tables.vacuum import RETENTION

_DEFAULTS: Final = Maintenance()
_LOG_RETENTION: Final = "delta.logRetentionDuration"
_LOG_RETENTION_S: Final = 30 * 86_400.0
"""Delta's own default."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is due, and how much a job may take.

    Attributes:
        target_file_bytes: The size of new files; None: the table's property, or 128 MiB.
        small_files: So many small files in a partition are let be.
        small_share: A file below this share of the target is small.
        zorder: Columns of the Z-order; empty: none is looked after.
        zorder_depth: A region in whose points more files lie has decayed.
        keep_s: How long removed files are kept, in seconds; the table's own property if longer.
        vacuum_schedule: When a vacuum comes, five fields in UTC.
        checkpoint_commits: A checkpoint is due after so many commits.
        checkpoint_after_s: Or once the first of ten commits or more is so old, in seconds.
        max_job_bytes: A job reads at most so much.
        cpu: The part of the CPUs that a job may take.
        schedule: When files are written anew: ``debt``, or five fields in UTC.
        spark_above_bytes: Rewrites of the table that read more are Spark's, where that is left to
            choose.
        zorder_may_wait: Whether columns that the table cannot be Z-ordered by, or lacks yet, are
            told among what is let be, and the rest is done; else they are an error.
    """

    target_file_bytes: int | None = None
    small_files: int = _DEFAULTS.compact.small_files
    small_share: float = _DEFAULTS.compact.small_share
    zorder: tuple[str, ...] = ()
    zorder_depth: float = _DEFAULTS.zorder_depth
    keep_s: float = _DEFAULTS.vacuum.keep_s
    vacuum_schedule: str = _DEFAULTS.vacuum.schedule
    checkpoint_commits: int = _DEFAULTS.checkpoint.commits
    checkpoint_after_s: float = _DEFAULTS.checkpoint.after_s
    max_job_bytes: int = _DEFAULTS.budget.max_job_bytes
    cpu: float = _DEFAULTS.budget.cpu
    schedule: str = _DEFAULTS.schedule
    spark_above_bytes: int = _DEFAULTS.budget.spark_above_bytes
    zorder_may_wait: bool = False

    def target_bytes(self, configuration: Mapping[str, str], where: str) -> int:
        """The size of new files of a table with these properties."""
        return target_size(configuration, self.target_file_bytes, where)

    def retention_s(self, configuration: Mapping[str, str]) -> float:
        """How long files that were removed from a table with these properties are kept."""
        return max(self.keep_s, interval_s(configuration.get(RETENTION, "")) or 0.0)


def log_retention_s(configuration: Mapping[str, str]) -> float:
    """How long log entries of a table with these properties are kept."""
    found = interval_s(configuration.get(_LOG_RETENTION, ""))
    return _LOG_RETENTION_S if found is None else found


def policy_of(maintenance: Maintenance, table: str, zorder_by: tuple[str, ...] = ()) -> Policy:
    """The policy of a pipeline file for one of its tables.

    Args:
        maintenance: The file's section.
        table: ``layer.name``.
        zorder_by: Columns that a derived table is Z-ordered by from its first write on.
    """
    compact = maintenance.compact
    written = "target_file_bytes" in compact.model_fields_set
    columns = tuple(maintenance.zorder.get(table, zorder_by))
    found = Policy(
        target_file_bytes=compact.target_file_bytes if written else None,
        small_files=compact.small_files,
        small_share=compact.small_share,
        zorder=columns,
        zorder_may_wait=bool(columns),
    )
    return replace(
        found,
        zorder_depth=maintenance.zorder_depth,
        keep_s=maintenance.vacuum.keep_s,
        vacuum_schedule=maintenance.vacuum.schedule,
        checkpoint_commits=maintenance.checkpoint.commits,
        checkpoint_after_s=maintenance.checkpoint.after_s,
        max_job_bytes=maintenance.budget.max_job_bytes,
        cpu=maintenance.budget.cpu,
        schedule=maintenance.schedule,
        spark_above_bytes=maintenance.budget.spark_above_bytes,
    )
