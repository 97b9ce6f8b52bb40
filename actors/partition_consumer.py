"""The actor that reads partitions: the loop of ``raylake.ingest.consumer`` in a thread."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import ray

from actors.begin import begin
from actors.calls import RayOwner
from actors.process import ActorProcess
from raylake.clock import SystemClock
from raylake.errors import RayLakeError, Terminal
from raylake.ingest.build_consumer import build_consumer, build_feed, load_kernels, lost_letters
from raylake.ingest.consumer import ConsumerLoop
from raylake.ingest.in_order import InOrder
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.setups import ConsumerSetup
from raylake.processes import Usage
from raylake.telemetry import tracing

log = logging.getLogger("raylake.consumer")

Method = TypeVar("Method", bound=Callable[..., Any])


def _command(method: Method) -> Method:
    """Run such calls in a thread of their own, one after the other."""
    marked: Method = ray.method(concurrency_group="commands")(method)
    return marked


@ray.remote(
    max_restarts=0, max_task_retries=0, max_concurrency=4, concurrency_groups={"commands": 1}
)
class PartitionConsumer:
    """Reads the partitions that it was granted and feeds the tables that want them."""

    def __init__(self, run: RunPlan, name: str) -> None:
        begin(run, name)
        self._name = name
        self._process = ActorProcess.of_this()
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._in_order: InOrder[tuple[str, tuple[Any, ...]]] = InOrder()
        self._failure: RayLakeError | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)
        # Meanwhile the tables are opened.
        threading.Thread(target=load_kernels, args=(run.config,), daemon=True).start()

    @_command
    def start(self, setup: ConsumerSetup, table_ids: Mapping[str, str]) -> ActorProcess:
        """Feed these tables; says where it lives once it can, whatever its loop does then.

        What stands in its way is in its reports.
        """
        owners = {table: RayOwner(table_id) for table, table_id in table_ids.items()}
        self._setup = setup
        with self._failing():
            self._loop = build_consumer(setup, owners, SystemClock())
            self._thread.start()
        if self._failure is None:
            # A command that fails is told by reports, too.
            with suppress(RayLakeError):
                self._do(self._in_order.begin())
        return self._process

    @_command
    def command(self, number: int, name: str, *arguments: Any) -> None:
        """Do what the supervisor says, in the order of its numbers, which begin with 0.

        Ray does not keep the order of calls to an actor with several threads: those that are on
        their way together may overtake each other, such as a drain and what takes it back, or a
        grant and its revoke.

        Args:
            number: Its place among the commands to this consumer.
            name: ``add_table``, or a method of the loop: ``grant``, ``revoke``, ``switch``,
                ``drain``, ``resume``.
            *arguments: Its arguments.
        """
        self._do(self._in_order.take(number, (name, arguments)))

    def _do(self, commands: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        for name, arguments in commands:
            own = {"add_table": self._add_table}
            method = own.get(name) or getattr(self._loop, name)
            self._tell(partial(method, *arguments))

    def _add_table(self, plan: TablePlan, table_id: str) -> None:
        """Feed a table that appeared later."""
        clock = SystemClock()
        feed = build_feed(self._setup, plan, RayOwner(table_id), clock)
        self._loop.add_table(plan.name, feed, lost_letters(self._setup.run, plan, clock))

    def report(self, after_s: float) -> ConsumerReport:
        """What the supervisor wants to know, as of ``after_s`` from now."""
        time.sleep(after_s)
        if self._failure is not None:
            return ConsumerReport(self._name, state="failed", failure=self._failure)
        try:
            report: ConsumerReport = self._tell(self._loop.report)
        except RayLakeError as error:
            return ConsumerReport(self._name, state="failed", failure=error)
        report.pid, report.host = self._process.pid, self._process.host
        report.pid_created_s, report.usage = self._process.created_s, Usage.of_this()
        return report

    def close(self) -> None:
        """End the loop and the connection to Kafka."""
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        tracing.end()

    def _tell(self, command: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()
        self._commands.put((command, done))
        if self._failure is not None:
            raise self._failure
        return done.result(timeout=60)

    def _run(self) -> None:
        loop: ConsumerLoop = self._loop
        try:
            with self._failing():
                while not self._stopping:
                    self._obey()
                    loop.step()
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

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What is raised is this consumer's failure."""
        try:
            yield
        except RayLakeError as error:
            self._fail(error)
        except Exception as error:
            log.exception("the consumer failed")
            self._fail(Terminal(f"{self._name} failed: {type(error).__name__}: {error}"))

    def _fail(self, error: RayLakeError) -> None:
        log.error("%s stops: %s", self._name, error)
        self._failure = error
        while not self._commands.empty():
            self._commands.get()[1].set_exception(error)
