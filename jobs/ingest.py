"""``python -m jobs.ingest --config FILE``: runs a pipeline until it is done or told to stop.

What ``ray job submit`` and ``raylake run`` start. SIGTERM and Ctrl-C drain: what was fetched is
committed, tables are released, and the exit code is 0 (a second Ctrl-C ends at once, with 130).
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import time
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psutil
import ray

from actors.calls import SILENT_ENV, find, result, supervisor_name
from actors.process import ActorProcess
from jobs.again import Again
from jobs.beside import Beside
from jobs.fitting import check_cluster, refuse_other_client
from jobs.head import Head, WatchedHead
from jobs.maintainers import Upkeep
from jobs.running import Signals, end, job_of, parser_of
from raylake.client.cluster import connect, session_dir
from raylake.client.overrides import overrides_of
from raylake.client.runs import refuse_second_run
from raylake.clock import Deadline, SystemClock
from raylake.config import Loaded, Pipeline, load
from raylake.config.addresses import written_addresses
from raylake.config.scaled import fewest, most
from raylake.errors import EXIT_DONE, AlreadyRunning, RayLakeError, Terminal
from raylake.ingest.plan import RunPlan, new_run_id
from raylake.ingest.ports import OwnerLost
from raylake.kafka.hooks import refuse_other_versions
from raylake.storage.access import use_stores
from raylake.storage.reach import require_stores

if TYPE_CHECKING:
    from raylake.ingest.supervisor import Outcome

WAIT_S = 0.5
NAME_WAIT_S = 15.0
MAX_LOST = 5
START_TIMEOUT_S = 120.0
SILENT_S = 60.0
"""A supervisor that has not answered for this long is replaced."""
LOST_WINDOW_S = 60.0
INHERITED = ("RAYLAKE_FAULTS", "RAYLAKE_LOG_LEVEL", "RAYLAKE_IDLE_EXIT_S", SILENT_ENV)


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code of DESIGN §10."""
    options = _options(arguments)
    signals = Signals()
    again = Again(options.restarts, signals)
    loaded: Loaded | None = None
    run: RunPlan | None = None
    try:
        refuse_other_client(os.environ)
        loaded = load(options.config, overrides=overrides_of(options.set))
        use_stores(loaded.config.stores)
        run = RunPlan(
            loaded.config,
            loaded.sha256,
            str(loaded.path),
            again.run_id or options.run_id or new_run_id(),
            options.available_now or loaded.config.ingest.trigger == "available_now",
            options.take_over and again.run_id is None,
            {name: os.environ[name] for name in INHERITED if name in os.environ},
        )
        require_stores(written_addresses(loaded.config))
        refuse_other_versions()
        if not run.take_over and again.run_id is None:
            # An owner that was quiet for long could be taken over though its run lives.
            refuse_second_run(run.status_file, run.config.pipeline, SystemClock())
        # Importing all that actors are made of takes as long as Ray's start does.
        threading.Thread(target=import_module, args=("actors.supervisor",), daemon=True).start()
        cluster = connect(num_cpus=_cpus(loaded.config), session_dir=session_dir())
        signals.install()
        check_cluster(loaded.config, consumers(loaded.config))
        job = {**job_of(cluster), "restarts": again.restarts.to_dict()}
        head = Head(cluster.address, SystemClock())
        with (
            WatchedHead(head, lambda error: end(again.after(error, run, loaded, joined=False))),
            Upkeep(run, job) as upkeep,
            Beside(run, signals, upkeep.tend) as beside,
        ):
            outcome = _run(run, job, signals, beside)
            transformed = beside.ended(in_time=outcome.error is None)
    except RayLakeError as error:
        return again.after(error, run, loaded)
    failure = outcome.error or transformed
    if failure is not None:
        return again.after(failure, run, loaded)
    ray.shutdown()
    cluster.forget()
    return EXIT_DONE


def _run(run: RunPlan, job: dict[str, Any], signals: Signals, beside: Beside) -> Outcome:
    lost_at: list[float] = []
    while True:
        try:
            return _watch(_start(run, job), signals, beside)
        except OwnerLost as error:
            now_s = time.monotonic()
            lost_at = [at_s for at_s in lost_at if at_s > now_s - LOST_WINDOW_S] + [now_s]
            if len(lost_at) > MAX_LOST:
                raise Terminal(
                    f"the supervisor was lost {len(lost_at)} times within {LOST_WINDOW_S:.0f} s; "
                    f"the run gives up: {error.message}",
                    hint="`raylake logs` shows what it said last",
                ) from error
            sys.stderr.write(f"the supervisor is gone and is started again: {error.message}\n")
            # Asked for once, against the run of then: not against one that took over since.
            run = replace(run, take_over=False)
            time.sleep(WAIT_S)


def _start(run: RunPlan, job: dict[str, Any]) -> Any:
    name = supervisor_name(run.config.pipeline)
    actor_class: Any = import_module("actors.supervisor").Supervisor
    deadline = Deadline.after(NAME_WAIT_S, SystemClock())
    while True:
        try:
            return actor_class.options(name=name).remote(run, consumers(run.config), job)
        except ValueError as error:
            if deadline.expired() or not _leaving(name):
                raise AlreadyRunning(
                    f"pipeline {run.config.pipeline!r} is running on this cluster already",
                    hint="`raylake status` shows it; `raylake stop` drains it",
                ) from error
        time.sleep(WAIT_S)


def _leaving(name: str) -> bool:
    """Whether the supervisor that has the name is one that Ray has not buried yet."""
    try:
        job = result(find(name).status.remote(), WAIT_S * 10)["job"]
    except OwnerLost:
        return True
    return job["host"] == socket.gethostname() and not psutil.pid_exists(job["pid"])


def _watch(supervisor: Any, signals: Signals, beside: Beside) -> Outcome:
    told = False
    process: ActorProcess | None = None
    silent_s = float(os.environ.get(SILENT_ENV, SILENT_S))
    try:
        process = result(supervisor.process.remote(), START_TIMEOUT_S)
        while True:
            outcome: Outcome | None = result(supervisor.wait.remote(WAIT_S), silent_s)
            if outcome is not None:
                return outcome
            beside.tend()
            if signals.asked and not told:
                result(supervisor.stop.remote(), silent_s)
                told = True
    except OwnerLost:
        # It may be frozen, and would wake up as a second one.
        ray.kill(supervisor)
        if process is not None:
            process.kill()
        raise


def consumers(config: Pipeline) -> int:
    """With how many consumers it begins: as configured, or one a CPU (at most four by default)."""
    return fewest(config.ingest.consumers)


def _cpus(config: Pipeline) -> int:
    return max(os.cpu_count() or 1, most(config.ingest.consumers) + 1)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = parser_of("ingest", __doc__)
    parser.add_argument("--available-now", action="store_true", help="stop when caught up")
    parser.add_argument("--take-over", action="store_true", help="do not wait for an old owner")
    parser.add_argument(
        "--restarts", type=int, default=0, help="so often again after failures that may pass"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    code = main()
    if ray.is_initialized():
        ray.shutdown()
    end(code)
