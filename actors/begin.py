"""How each process of a run begins."""

from __future__ import annotations

import contextlib
import os

from raylake.errors import RayLakeError
from raylake.ingest.plan import RunPlan
from raylake.storage.access import use_stores
from raylake.telemetry import tracing
from raylake.telemetry.logs import log_folder, log_to_file


def begin(run: RunPlan, process: str) -> RayLakeError | None:
    """Take the run's variables, log to the run's folder, and make spans where that is wanted.

    Args:
        run: The run.
        process: ``supervisor``, ``consumer-0``, ``owner-bronze.orders`` …

    Returns:
        Why something that the run can do without is not there.
    """
    os.environ.update(run.environment)
    use_stores(run.config.stores)
    folder = log_folder(run.lake, run.config.pipeline)
    # A lake that cannot be written is told by whoever writes a table.
    with contextlib.suppress(OSError):
        log_to_file(folder, run.run_id, process, pipeline=run.config.pipeline)
    about = {"pipeline": run.config.pipeline, "run_id": run.run_id, "process": process}
    return tracing.begin(run.config.tracing, about)
