"""What a commit of RayLake's own leaves to be done: a checkpoint where one is due, and clean-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from deltalake import DeltaTable

_CHECKPOINT_EACH: Final = 100
"""Delta's ``delta.checkpointInterval`` of delta-rs where none is set."""


def is_due(made: int, configuration: Mapping[str, str]) -> bool:
    """Whether a version is one that a checkpoint is written of.

    Args:
        made: The version.
        configuration: The table's properties.
    """
    each = int(configuration.get("delta.checkpointInterval") or _CHECKPOINT_EACH)
    return (made + 1) % each == 0


def tend(handle: DeltaTable, made: int, configuration: Mapping[str, str]) -> None:
    """Write a checkpoint when one is due, and clean the log up, as delta-rs does after a commit.

    Args:
        handle: A handle of the table, of any version.
        made: The version that was made.
        configuration: The table's properties.

    Raises:
        DeltaError, OSError: The checkpoint could not be written; the version is there all the same.
    """
    if not is_due(made, configuration):
        return
    handle.update_incremental()
    handle.create_checkpoint()
    if configuration.get("delta.enableExpiredLogCleanup", "true").lower() == "true":
        handle.cleanup_metadata()
