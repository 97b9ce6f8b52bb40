"""The actor that brings a pipeline's silver and gold tables up to date."""

from __future__ import annotations

import threading

import ray

from actors.begin import begin
from actors.process import ActorProcess
from actors.table_connection import on_cluster
from raylake.clock import SystemClock
from raylake.layers.build import build
from raylake.layers.transform_plan import TransformOutcome, TransformPlan
from raylake.layers.transforming import Transforming


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=4)
class Transformer:
    """Runs one pipeline's tables; named, so that a second one cannot start."""

    def __init__(self, plan: TransformPlan) -> None:
        begin(plan.run, "transformer")
        clock = SystemClock()
        tables = on_cluster(plan.run.config.spark)
        self._work = Transforming(plan, lambda told: build(plan, tables, clock, told), clock)
        self._thread = threading.Thread(target=self._work.main, name="transformer", daemon=True)
        self._thread.start()

    def process(self) -> ActorProcess:
        """Where it lives."""
        return ActorProcess.of_this()

    def wait(self, timeout_s: float) -> TransformOutcome | None:
        """See :meth:`raylake.layers.transforming.Transforming.wait`."""
        return self._work.wait(timeout_s)

    def finish(self) -> None:
        """See :meth:`raylake.layers.transforming.Transforming.finish`."""
        self._work.finish()

    def stop(self) -> None:
        """See :meth:`raylake.layers.transforming.Transforming.stop`."""
        self._work.stop()
