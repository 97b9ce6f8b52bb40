"""What a table is to be: its place, schema, partitioning and properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from raylake.storage.place import Place, place

Durability = Literal["sync", "none"]


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table as configured; it is created like this when it is not there.

    Attributes:
        path: The table's address: a folder of the local disk, or of an object store.
        schema: Columns, partition columns included.
        partition_by: Partition columns, in order.
        properties: Delta table properties for a new table, such as ``delta.appendOnly``.
        statistics: Columns that the table's own property is to name among those with statistics,
            as soon as the table has them; of a table without that property none.
    """

    path: str
    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    statistics: tuple[str, ...] = ()

    @property
    def root(self) -> Place:
        """Where the table lies."""
        return place(self.path)


def bronze_properties(
    *,
    stats_columns: tuple[str, ...],
    log_retention_s: float = 86_400.0,
    deleted_file_retention_s: float = 604_800.0,
    checkpoint_interval_commits: int = 100,
) -> dict[str, str]:
    """The properties of a new bronze table: append-only, and statistics on what is pruned by.

    Args:
        stats_columns: ``delta.dataSkippingStatsColumns``; empty for all.
        log_retention_s: How long log files are kept after a checkpoint.
        deleted_file_retention_s: How long vacuum keeps files that left the table.
        checkpoint_interval_commits: ``delta.checkpointInterval``, also for other engines.
    """
    properties = {
        "delta.appendOnly": "true",
        "delta.logRetentionDuration": f"interval {max(1, int(log_retention_s))} seconds",
        "delta.deletedFileRetentionDuration": f"interval {int(deleted_file_retention_s)} seconds",
        "delta.checkpointInterval": str(checkpoint_interval_commits),
    }
    if stats_columns:
        properties["delta.dataSkippingStatsColumns"] = ",".join(stats_columns)
    return properties
