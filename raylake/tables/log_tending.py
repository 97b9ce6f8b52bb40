"""What a commit of RayLake's own leaves to be done: a checkpoint where one is due, and clean-up."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from deltalake import PostCommitHookProperties

from raylake.delta import log_files
from raylake.delta.checkpoint import clean_up, clean_up_floor
from raylake.delta.version_pins import needed_from
from raylake.storage.place import Place, delta_table
from raylake.tables.lifetimes import DEFAULT_LOG_RETENTION_S, LOG_RETENTION, retention_s

NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""What delta-rs does after a commit of its own: nothing; :func:`tend` does it."""
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


def tend(root: Place, made: int, configuration: Mapping[str, str]) -> None:
    """Write a checkpoint when one is due, and clean the log up, once a version has been made.

    delta-rs's own clean-up is never run: it knows of no reader's lease and no pin.

    Args:
        root: The table.
        made: The version that was made.
        configuration: The table's properties.

    Raises:
        RayLakeError, DeltaError, OSError: The checkpoint could not be written, or the log not
            cleaned up; the version is there all the same.
    """
    if not is_due(made, configuration):
        return
    handle = delta_table(root)
    version = int(handle.version())
    if version not in log_files.checkpoint_versions(root):
        handle.create_checkpoint()
    if configuration.get("delta.enableExpiredLogCleanup", "true").lower() != "true":
        return
    held = needed_from(root, str(handle.metadata().id))
    floor = clean_up_floor(
        root,
        keep_from=version if held is None else min(held, version),
        retention_s=retention_s(configuration, LOG_RETENTION, DEFAULT_LOG_RETENTION_S),
        max_log_files=sys.maxsize,
    )
    clean_up(root, floor)
