"""How each process of a run begins."""

from __future__ import annotations

import contextlib
import os

from raylake.ingest.plan import RunPlan
from raylake.storage.access import use_stores
from raylake.telemetry.logs import log_folder, log_to_file


def begin(run: RunPlan, process: str) -> None:
    """Take the run's variables and log to the run's folder.

    Args:
        run: The run.
        process: ``supervisor``, ``consumer-0``, ``owner-bronze.orders`` …
    """
    os.environ.update(run.environment)
    use_stores(run.config.stores)
    folder = log_folder(run.lake, run.config.pipeline)
    # A lake that cannot be written is told by whoever writes a table.
    with contextlib.suppress(OSError):
        log_to_file(folder, run.run_id, process, pipeline=run.config.pipeline)
