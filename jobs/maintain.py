"""``python -m jobs.maintain --config FILE``: looks after a pipeline's tables.

Once, with what is due now (``--once``), or until it is told to stop. A pipeline that runs does it
by itself; this is for schedules, and for tables of pipelines that do not run.
"""

from __future__ import annotations

import argparse

import ray

from jobs.alone import run_alone
from jobs.maintainers import Maintainers
from jobs.running import end, job_of, parser_of
from raylake.client.cluster import ClusterHandle
from raylake.ingest.plan import RunPlan
from raylake.maintenance.tending_plan import TendingPlan


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code of DESIGN §10."""
    options = _options(arguments)

    def begin(run: RunPlan, cluster: ClusterHandle) -> Maintainers:
        plan = TendingPlan(run, options.once, tuple(options.table), job_of(cluster))
        return Maintainers(plan)

    return run_alone(options, begin)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = parser_of("maintain", __doc__)
    parser.add_argument("--table", action="append", default=[], help="this table; layer.name")
    parser.add_argument("--once", action="store_true", help="do what is due now, and end")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    code = main()
    if ray.is_initialized():
        ray.shutdown()
    end(code)
