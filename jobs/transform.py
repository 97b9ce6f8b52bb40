"""``python -m jobs.transform --config FILE``: brings silver and gold tables up to date.

Once, with what is there (the default), or until it is told to stop. A pipeline that runs does it by
itself; this is for tables that somebody else's run feeds, for schedules, and to make a table anew.
"""

from __future__ import annotations

import argparse

import ray

from jobs.alone import run_alone
from jobs.running import end, parser_of
from jobs.transformers import Transformers
from raylake.client.cluster import ClusterHandle
from raylake.ingest.plan import RunPlan
from raylake.layers.transform_plan import TransformPlan


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code of DESIGN §10."""
    options = _options(arguments)

    def begin(run: RunPlan, _cluster: ClusterHandle) -> Transformers:
        tables, anew = tuple(options.table), tuple(options.full_refresh)
        return Transformers(TransformPlan(run, tables, anew, options.continuous))

    return run_alone(options, begin)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = parser_of("transform", __doc__)
    parser.add_argument("--table", action="append", default=[], help="this table, and its sources")
    parser.add_argument(
        "--full-refresh", action="append", default=[], metavar="TABLE", help="make it anew"
    )
    parser.add_argument("--continuous", action="store_true", help="go on until told to stop")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    code = main()
    if ray.is_initialized():
        ray.shutdown()
    end(code)
