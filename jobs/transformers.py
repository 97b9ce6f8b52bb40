"""The transformer of a run, watched from the job."""

from __future__ import annotations

from actors.calls import transformer_name
from jobs.watched import WAIT_S, Kind, Watched
from raylake.layers.transform_plan import TransformOutcome, TransformPlan

__all__ = ["WAIT_S", "Transformers"]


class Transformers(Watched[TransformOutcome]):
    """The transformer actor of one run, and those that follow it when it is lost.

    Args:
        plan: What it does.

    Raises:
        AlreadyRunning: The pipeline's tables are being brought up to date on this cluster already.
    """

    def __init__(self, plan: TransformPlan) -> None:
        pipeline = plan.run.config.pipeline
        kind = Kind(
            "actors.transformer:Transformer",
            transformer_name(pipeline),
            "transformer",
            f"the silver and gold tables of pipeline {pipeline!r} are being brought up to date on "
            "this cluster already",
            "`raylake transform status` shows it; a pipeline that runs does it by itself",
        )
        super().__init__(kind, plan)
