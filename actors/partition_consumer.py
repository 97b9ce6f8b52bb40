"""The actor that reads partitions: the loop of ``raylake.ingest.consumer`` in a thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import ray

from actors.begin import begin
from actors.calls import RayOwner
from actors.process import ActorProcess
from raylake.clock import SystemClock
from raylake.errors import RayLakeError, Terminal
from raylake.ingest.build import ConsumerSetup, build_consumer, build_feed, lost_letters
from raylake.ingest.consumer import ConsumerLoop
from raylake.ingest.plan import TablePlan
from raylake.ingest.reports import ConsumerReport, Granted
from raylake.ingest.switches import Switches
from raylake.ingest.unit import SourcePartition

log = logging.getLogger("raylake.consumer")


Method = TypeVar("Method", bound=Callable[..., Any])


def _command(method: Method) -> Method:
    """Run such calls one after the other, in the order in which they were sent.

    Ray keeps the order only within one thread, and a revoke that overtook its grant would release
    partitions that are then read twice.
    """
    marked: Method = ray.method(concurrency_group="commands")(method)
    return marked


@ray.remote(
    max_restarts=0, max_task_retries=0, max_concurrency=4, concurrency_groups={"commands": 1}
)
class PartitionConsumer:
    """Reads the partitions that it was granted and feeds the tables that want them."""

    def __init__(self, setup: ConsumerSetup, table_ids: Mapping[str, str]) -> None:
        run = setup.run
        begin(run, setup.name)
        owners = {table: RayOwner(table_id) for table, table_id in table_ids.items()}
        self._setup = setup
        self._name = setup.name
        self._process = ActorProcess.of_this()
        self._loop = build_consumer(setup, owners, SystemClock())
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._failure: RayLakeError | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)
        self._thread.start()

    def process(self) -> ActorProcess:
        """Where it lives; answers as soon as it has started, whatever its loop does."""
        return self._process

    @_command
    def grant(self, granted: Granted) -> None:
        """Read these partitions from now on."""
        self._tell(lambda: self._loop.grant(granted))

    @_command
    def revoke(self, sources: set[SourcePartition]) -> None:
        """Hand over what is held of them and read them no more."""
        self._tell(lambda: self._loop.revoke(sources))

    @_command
    def add_table(self, plan: TablePlan, table_id: str) -> None:
        """Feed a table that appeared later."""

        def add() -> None:
            clock = SystemClock()
            feed = build_feed(self._setup, plan, RayOwner(table_id), clock)
            self._loop.add_table(plan.name, feed, lost_letters(self._setup.run, plan, clock))

        self._tell(add)

    @_command
    def switch(self, switches: Switches) -> None:
        """Trip and close breakers by hand."""
        self._tell(lambda: self._loop.switch(switches))

    @_command
    def resume(self) -> None:
        """Take a drain back."""
        self._tell(self._loop.resume)

    @_command
    def drain(self) -> None:
        """Stop fetching and hand everything over."""
        self._tell(self._loop.drain)

    def report(self) -> ConsumerReport:
        """What the supervisor wants to know."""
        if self._failure is not None:
            return ConsumerReport(self._name, state="failed", failure=self._failure)
        try:
            report: ConsumerReport = self._tell(self._loop.report)
        except RayLakeError as error:
            return ConsumerReport(self._name, state="failed", failure=error)
        report.pid, report.host = self._process.pid, self._process.host
        report.pid_created_s = self._process.created_s
        return report

    def close(self) -> None:
        """End the loop and the connection to Kafka."""
        self._stopping = True
        self._thread.join(timeout=5)

    def _tell(self, command: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()
        self._commands.put((command, done))
        if self._failure is not None:
            raise self._failure
        return done.result(timeout=60)

    def _run(self) -> None:
        loop: ConsumerLoop = self._loop
        try:
            while not self._stopping:
                self._obey()
                loop.step()
        except RayLakeError as error:
            self._fail(error)
        except Exception as error:
            log.exception("the consumer failed")
            self._fail(Terminal(f"{self._name} failed: {type(error).__name__}: {error}"))
        finally:
            loop.close()

    def _obey(self) -> None:
        while not self._commands.empty():
            command, done = self._commands.get()
            try:
                done.set_result(command())
            except RayLakeError as error:
                # Nobody reads the answer to a grant: a consumer that could not obey is replaced.
                done.set_exception(error)
                raise

    def _fail(self, error: RayLakeError) -> None:
        log.error("%s stops: %s", self._name, error)
        self._failure = error
        while not self._commands.empty():
            self._commands.get()[1].set_exception(error)
