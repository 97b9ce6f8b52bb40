"""``python -m jobs.maintain --config FILE``: looks after a pipeline's tables.

Once, with what is due now (``--once``), or until it is told to stop. A pipeline that runs does it
by itself where its file has a section ``maintenance``; this is for schedules, and for tables of
pipelines that do not run.
"""

from __future__ import annotations

import argparse
import os

import ray

from jobs.fitting import check_cluster, refuse_other_client
from jobs.ingest import INHERITED
from jobs.maintainers import Maintainers
from jobs.running import Signals, end, failed, job_of, parser_of
from jobs.watched import WAIT_S
from raylake.client.cluster import connect, session_dir
from raylake.client.overrides import overrides_of
from raylake.clock import Deadline, SystemClock
from raylake.config import Loaded, load
from raylake.config.addresses import written_addresses
from raylake.errors import EXIT_DONE, RayLakeError
from raylake.ingest.plan import RunPlan, new_run_id
from raylake.maintenance.tending import TendingOutcome, TendingPlan
from raylake.storage.access import use_stores
from raylake.storage.reach import require_stores


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code of DESIGN §10."""
    options = _options(arguments)
    signals = Signals()
    loaded: Loaded | None = None
    try:
        refuse_other_client(os.environ)
        loaded = load(options.config, overrides=overrides_of(options.set))
        use_stores(loaded.config.stores)
        require_stores(written_addresses(loaded.config))
        variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
        run = RunPlan(
            loaded.config,
            loaded.sha256,
            str(loaded.path),
            options.run_id or new_run_id(),
            environment=variables,
        )
        cluster = connect(num_cpus=os.cpu_count() or 1, session_dir=session_dir())
        signals.install()
        check_cluster(loaded.config, 0)
        plan = TendingPlan(run, options.once, tuple(options.table), job_of(cluster))
        outcome = _watch(Maintainers(plan), signals, loaded.config.ingest.drain_timeout_s)
    except RayLakeError as error:
        return failed(error, loaded)
    if outcome is not None and outcome.error is not None:
        return failed(outcome.error, loaded)
    ray.shutdown()
    cluster.forget()
    return EXIT_DONE


def _watch(
    maintainers: Maintainers, signals: Signals, drain_timeout_s: float
) -> TendingOutcome | None:
    while not signals.asked:
        outcome = maintainers.look(WAIT_S)
        if outcome is not None:
            return outcome
    return maintainers.stop(Deadline.after(drain_timeout_s, SystemClock()))


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
