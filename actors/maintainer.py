"""The actor that looks after a pipeline's tables."""

from __future__ import annotations

import threading

import ray

from actors.aside_writers import RayWriters
from actors.begin import begin
from actors.metrics import RayMetrics
from actors.process import ActorProcess
from actors.table_connection import on_cluster
from raylake.client.quarantine import Service
from raylake.client.retaining import Retaining
from raylake.client.upkeep import of_pipeline
from raylake.clock import SystemClock
from raylake.config.window import Window
from raylake.maintenance.budget import BesideIngestion, CpuShare, StatusOf
from raylake.maintenance.figures import Figures
from raylake.maintenance.round import Means
from raylake.maintenance.round_parts import spark_takes
from raylake.maintenance.tending import Tending
from raylake.maintenance.tending_plan import TendingOutcome, TendingPlan


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=4)
class Maintainer:
    """Looks after one pipeline's tables; named, so that a second one cannot start."""

    def __init__(self, plan: TendingPlan) -> None:
        begin(plan.run, "maintainer")
        clock, config = SystemClock(), plan.run.config
        tables = on_cluster(config.spark)
        budget, window = config.maintenance.budget, config.maintenance.window
        cpus = budget.cpu * float(ray.cluster_resources().get("CPU", 1.0))
        gate = BesideIngestion(
            CpuShare(cpus, clock),
            StatusOf(plan.run.status_file, clock),
            budget.yield_above_lag_s,
            None if window is None or plan.once else Window.of(window),
            clock,
        )
        means = Means(
            lambda _table: tables,
            RayWriters(max(1, int(cpus)), plan.run.environment),
            gate,
            clock,
            f"the maintainer of {config.pipeline}, run {plan.run.run_id}",
            by_spark=spark_takes(config.engine, tables),
        )
        figures = Figures(RayMetrics(), config.pipeline)
        retention = Retaining(config, Service(tables=tables), clock)
        self._work = Tending(plan, lambda: of_pipeline(config), means, figures, retention)
        self._thread = threading.Thread(target=self._work.main, name="maintainer", daemon=True)
        self._thread.start()

    def process(self) -> ActorProcess:
        """Where it lives."""
        return ActorProcess.of_this()

    def wait(self, timeout_s: float) -> TendingOutcome | None:
        """See :meth:`raylake.maintenance.tending.Tending.wait`."""
        return self._work.wait(timeout_s)

    def stop(self) -> None:
        """See :meth:`raylake.maintenance.tending.Tending.stop`."""
        self._work.stop()

    def finish(self) -> None:
        """The same as :meth:`stop`: nothing has to be brought in."""
        self._work.stop()
