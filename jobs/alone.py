"""A job of one watched actor: a pipeline's upkeep, or its transformations, without ingestion."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Protocol, TypeVar

import ray

from jobs.fitting import check_cluster, refuse_other_client
from jobs.ingest import INHERITED
from jobs.running import Signals, failed
from jobs.watched import WAIT_S, Watched
from raylake.client.cluster import ClusterHandle, connect, session_dir
from raylake.client.overrides import overrides_of
from raylake.clock import Deadline, SystemClock
from raylake.config import Loaded, load
from raylake.config.addresses import written_addresses
from raylake.errors import EXIT_DONE, RayLakeError
from raylake.ingest.plan import RunPlan, new_run_id
from raylake.storage.access import use_stores
from raylake.storage.reach import require_stores


class Ended(Protocol):
    """How an actor's work ended."""

    @property
    def error(self) -> RayLakeError | None:
        """What it failed with."""


T = TypeVar("T", bound=Ended)


def run_alone(
    options: argparse.Namespace, begin: Callable[[RunPlan, ClusterHandle], Watched[T]]
) -> int:
    """Run one actor until it ends or the job is told to stop; returns the exit code of DESIGN §10.

    Args:
        options: ``config``, ``set`` and ``run_id``, as the jobs' parser has them.
        begin: Starts the actor of a run, once Ray is there.
    """
    signals = Signals()
    loaded: Loaded | None = None
    try:
        refuse_other_client(os.environ)
        loaded = load(options.config, overrides=overrides_of(options.set))
        use_stores(loaded.config.stores)
        require_stores(written_addresses(loaded.config))
        run = RunPlan(
            loaded.config,
            loaded.sha256,
            str(loaded.path),
            options.run_id or new_run_id(),
            environment={name: os.environ[name] for name in INHERITED if name in os.environ},
        )
        cluster = connect(num_cpus=os.cpu_count() or 1, session_dir=session_dir())
        signals.install()
        check_cluster(loaded.config, 0)
        outcome = _watch(begin(run, cluster), signals, loaded.config.ingest.drain_timeout_s)
    except RayLakeError as error:
        return failed(error, loaded)
    if outcome is not None and outcome.error is not None:
        return failed(outcome.error, loaded)
    ray.shutdown()
    cluster.forget()
    return EXIT_DONE


def _watch(watched: Watched[T], signals: Signals, drain_timeout_s: float) -> T | None:
    while not signals.asked:
        outcome = watched.look(WAIT_S)
        if outcome is not None:
            return outcome
    return watched.stop(Deadline.after(drain_timeout_s, SystemClock()))
