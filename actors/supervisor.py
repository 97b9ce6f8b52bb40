"""The actor that runs a pipeline: the loop of ``raylake.ingest.supervisor`` in a thread."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import ray

from actors.begin import begin
from actors.fleet import RayFleet
from actors.metrics import RayMetrics
from actors.process import ActorProcess
from raylake.clock import SystemClock
from raylake.errors import (
    AlreadyRunning,
    DependencyUnreachable,
    Fenced,
    RayLakeError,
    Terminal,
)
from raylake.ingest.discovery import KafkaDiscovery
from raylake.ingest.earlier import EarlierBreakers
from raylake.ingest.operations import Operations
from raylake.ingest.orders import OrderBox, order_folder
from raylake.ingest.own_status import OwnStatus
from raylake.ingest.plan import RunPlan
from raylake.ingest.status_document import document
from raylake.ingest.supervisor import Outcome, SupervisorLoop
from raylake.processes import Usage
from raylake.telemetry.endpoints import Endpoints
from raylake.telemetry.export import MetricsExport, RunReports
from raylake.telemetry.health import Health, liveness, missing_processes, readiness
from raylake.telemetry.metrics import Both, MemoryMetrics
from raylake.telemetry.pushing import speaks_last
from raylake.telemetry.table_watch import TableWatch
from raylake.telemetry.targets import Outlets

log = logging.getLogger("raylake.supervisor")

TICK_S = 0.1
STATUS_INTERVAL_S = 2.0
LAST_SIZES_S = 2.0
DEAD_LETTERS = "dead_letters"


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=4)
class Supervisor:
    """Runs one pipeline; named ``raylake/<pipeline>``, so that a second one cannot start."""

    def __init__(self, run: RunPlan, consumers: int, job: dict[str, Any]) -> None:
        without = begin(run, "supervisor")
        # Read before the first document of this run takes its place.
        run = replace(run, earlier=EarlierBreakers.read(run.status_file))
        self._run = run
        self._own_status = OwnStatus(run.status_file)
        self._job = job
        self._clock = SystemClock()
        self._fleet = RayFleet(run)
        self._discovery = KafkaDiscovery(run, self._clock)
        # Its one thread alone asks Kafka, and may be kept waiting.
        self._kafka = ThreadPoolExecutor(1, thread_name_prefix="kafka")
        self._loop = SupervisorLoop(
            run, self._fleet, self._discovery, self._clock, consumers, self._kafka.submit
        )
        if without is not None:
            self._loop.troubles.note(without)
        self._metrics = MemoryMetrics()
        outlets = Outlets.of(run.config, self._clock)
        self._pushers = outlets.pushers
        self._table_watch = TableWatch(self._places)
        self._usage: dict[tuple[str, str], Usage] = {}
        sinks = Both(self._metrics, Both(RayMetrics(), outlets.metrics))
        self._export = MetricsExport(sinks, run.config.pipeline)
        self._exported: dict[str, float] = {}
        self._written_at = -STATUS_INTERVAL_S
        self._ticked_at = self._clock.monotonic()
        self._shown: dict[str, Any] = {}
        checks = {"/healthz": self._healthz, "/readyz": lambda: readiness(self._shown)}
        registry = outlets.served.registry
        self._endpoints = Endpoints(run.config.ingest.http, registry, checks)
        orders = OrderBox(order_folder(run.status_file), self._clock, f"run {run.run_id}")
        self._operations = Operations(
            self._loop, self._fleet, orders, self._clock, self._write_status
        )
        self._silent = False
        self._process = ActorProcess.of_this()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name="supervisor", daemon=True)
        self._thread.start()

    def process(self) -> ActorProcess:
        """Where it lives."""
        return self._process

    def wait(self, timeout_s: float) -> Outcome | None:
        """How the run ended; None while it goes on after ``timeout_s``."""
        self._ended.wait(timeout_s)
        if not self._ended.is_set():
            return None
        lost = Terminal("the supervisor ended without an outcome", hint="see `raylake logs`")
        return self._loop.outcome or Outcome("failed", lost)

    def status(self) -> dict[str, Any]:
        """The status document as of now."""
        loop = self._loop
        shown = document(loop, self._job, self._clock.now())
        heard = loop.owners.keys() - loop.tables.lost
        missing = missing_processes(loop.crew.names, loop.crew.reports, loop.tables.plans, heard)
        more = {"held": self._operations.held, "http": self._endpoints.url, "missing": missing}
        more |= {
            "processes": {name: asdict(usage) for (_, name), usage in self._usage.items()},
            "sizes": {name: asdict(size) for name, size in self._table_watch.sizes.items()},
            "pushes": self._pushers.snapshot(),
        }
        return {**shown, **more, "metrics": self._exported}

    def stop(self) -> None:
        """Drain and end."""
        self._loop.stop()

    def _main(self) -> None:
        loop = self._loop
        try:
            self._write_status()
            loop.start()
            self._pushers.start()
            self._table_watch.start()
            self._ticked_at = self._clock.monotonic()
            while loop.outcome is None:
                loop.tick()
                self._operations.step()
                self._ticked_at = self._clock.monotonic()
                if self._clock.monotonic() >= self._written_at + STATUS_INTERVAL_S:
                    self._write_status()
                self._clock.sleep(TICK_S)
        except RayLakeError as error:
            log.error("the run failed: %s", error)  # noqa: TRY400 - the message says it all
            loop.finish(error)
            # The document is the other run's.
            self._silent = isinstance(error, AlreadyRunning)
        except Exception as error:
            log.exception("the supervisor failed")
            loop.finish(Terminal(f"the supervisor failed: {type(error).__name__}: {error}"))
        finally:
            self._endpoints.close()
            self._table_watch.close()
            try:
                with contextlib.suppress(Fenced):  # the document is the run's that took over
                    self._write_last()
            finally:
                self._kafka.submit(self._discovery.close)
                self._kafka.shutdown(wait=False)
                self._ended.set()

    def _write_last(self) -> None:
        """Say how the run ended, also to the places that metrics are sent to."""
        mine = speaks_last(self._loop.outcome.error if self._loop.outcome else None)
        if mine and self._pushers:
            self._table_watch.look_soon(LAST_SIZES_S)
        try:
            self._write_status()
        except Fenced:
            mine = False
        self._pushers.close(last=mine)
        if mine and self._pushers:
            self._write_status()

    def _write_status(self) -> None:
        self._written_at = self._clock.monotonic()
        if self._silent:
            return
        loop = self._loop
        if loop.outcome is None:
            self._serve()
        for trouble in self._pushers.troubles():
            loop.troubles.note(trouble)
        self._usage = self._used()
        reports = RunReports(
            loop.crew.reports,
            loop.owners,
            loop.restarts,
            loop.topics.stable_ends,
            self._usage,
            self._table_watch.sizes,
            loop.outcome.state if loop.outcome else "",
            loop.sizing.counts(),
        )
        self._export.export(reports, self._clock.now())
        self._exported = self._metrics.snapshot()
        self._shown = self.status()
        try:
            self._own_status.write(self._shown)
        except OSError as error:
            log.warning("the status document cannot be written: %s", error)

    def _used(self) -> dict[tuple[str, str], Usage]:
        """What the processes take, by kind and name."""
        used = {("supervisor", "supervisor"): Usage.of_this(), **self._fleet.usage()}
        for name, report in self._loop.crew.reports.items():
            if report.usage is not None:
                used["consumer", name] = report.usage
        return used

    def _places(self) -> dict[str, str]:
        """The tables that are measured."""
        found = {name: plan.path for name, plan in dict(self._loop.tables.plans).items()}
        return {**found, DEAD_LETTERS: self._run.dead_letters}

    def _serve(self) -> None:
        try:
            self._endpoints.start()
        except OSError as error:
            address = self._run.config.ingest.http
            self._loop.troubles.note(
                DependencyUnreachable(
                    f"health and metrics cannot be served at {address}: {error}",
                    hint="`ingest: {http: …}` takes another port, 0 for a free one, or off",
                )
            )

    def _healthz(self) -> Health:
        age_s = self._clock.monotonic() - self._ticked_at
        return liveness(self._loop.state, age_s, self._run.config.ingest.drain_timeout_s)
