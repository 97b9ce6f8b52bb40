"""A whole run in one thread: supervisor, consumers, owners, queue, each stepped by a seed.

The product's own classes run here (``SupervisorLoop``, ``ConsumerLoop``, ``TableFeed``, ``Outbox``,
``OwnerLoop``, ``FollowUp``, the ledger's fold); Kafka, the lake and the calls between processes are
simulated, and so is what kills, freezes and loses them.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, TypeVar

import pyarrow as pa

from raylake.clock import Deadline, ManualClock
from raylake.config import Pipeline, load_bytes
from raylake.delta.pending import Withdrawal
from raylake.errors import Fenced, LogDamaged, RayLakeError, UnknownTopic
from raylake.ingest.backpressure import ByteBudget
from raylake.ingest.batcher import BatchPolicy
from raylake.ingest.breaker import Breaker, BreakerPolicy
from raylake.ingest.consumer import ConsumerLoop
from raylake.ingest.feed import FeedNames, TableFeed
from raylake.ingest.fleet import Left, News, Seen
from raylake.ingest.intake import TooManyDeadLetters
from raylake.ingest.moments import Moments
from raylake.ingest.owner_loop import OwnerLoop
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.plan import TablePlan
from raylake.ingest.poison import PoisonGate, PoisonPolicy
from raylake.ingest.ports import Answer, OwnerLost, TableView
from raylake.ingest.reports import ConsumerReport, Granted
from raylake.ingest.retry import Dependency, Pace, RetryCounters, RetryPolicy
from raylake.ingest.setups import OwnerSetup
from raylake.ingest.switches import Switches
from raylake.ingest.unit import PartitionState, SourcePartition, Unit
from raylake.ingest.watermark import Watermark, WatermarkPolicy
from tests.harness.simulated_kafka import SimulatedFetcher, SimulatedKafka
from tests.harness.simulated_lake import (
    PIPELINE,
    Crash,
    Lake,
    SimulatedMaker,
    SimulatedQueue,
    SimulatedTable,
    letter_of,
)

T = TypeVar("T")

BUDGET_BYTES = 4000
BREAKERS = BreakerPolicy(calls=4, window_s=5.0, open_s=1.0, half_open_calls=2)
PACE = RetryPolicy("fixed", initial_s=0.2, max_s=0.2)
ALL_POISON_PASSES = PoisonPolicy(stop_above=1.0, open_s=1.0)
HALF_IS_TOO_MUCH = PoisonPolicy(stop_above=0.5, window_records=30, min_records=8, open_s=1.0)
_FILE = f"""
pipeline: {PIPELINE}
lake: /simulated
kafka: {{bootstrap: 'localhost:9092'}}
bronze:
  a: {{topics: [x], on_data_loss: record, on_topic_recreated: start}}
  b: {{topics: [x, y], on_data_loss: record, on_topic_recreated: start}}
""".encode()
TOPICS = {"bronze.a": ("x",), "bronze.b": ("x", "y")}


@cache
def configured() -> Pipeline:
    """The pipeline file of every simulation."""
    return load_bytes(_FILE, path="sim.yaml", environ={}).config


def stores(clock: ManualClock) -> dict[str, Dependency]:
    """The breakers and paces of one process."""
    return {name: dependency(name, clock) for name in ("store", "dead_letters")}


def dependency(name: str, clock: ManualClock) -> Dependency:
    return Dependency(Breaker(name, BREAKERS, clock), Pace(PACE, clock))


class _NoCheckpoints:
    """Remembers from where log files must be kept."""

    def __init__(self) -> None:
        self.keep_from = 0
        self.error = ""

    def committed(self, version: int, *, keep_from: int) -> None:
        assert self.keep_from <= keep_from <= version + 1, "clean-up would go back or too far"
        self.keep_from = keep_from

    def close(self) -> None:
        """Nothing is under way."""


class OwnerProcess:
    """One owner: the real loop over a simulated table; may be killed, or live on as a zombie."""

    def __init__(self, world: World, name: str) -> None:
        self.alive = True
        self.name = name
        self.world = world
        self.table = SimulatedTable(world.lake, name)
        watermark = Watermark(WatermarkPolicy(lateness_s=1.0), world.clock)
        maxima = {s: state.max_event_ms for s, state in self.table.states().items()}
        watermark.restore(self.table.watermark_ms, maxima)
        self.loop = OwnerLoop(
            self.table,
            world.queue_port,
            watermark,
            _NoCheckpoints(),
            stores=stores(world.clock),
            clock=world.clock,
            moments=Moments(name, world.owner_interval_s),
        )
        self.loop.redo(world.lake.stored_version(self.table.table_id))

    def step(self) -> None:
        if self.alive:
            try:
                self.alive = self.loop.step()
            except Crash:
                self.world.lake.count("owner crashed")
                self.alive = False

    def call(self, operation: Callable[[], T]) -> T:
        """Run an operation as a remote caller does, who waits for it."""
        self._answering()
        future = self.loop.call(operation)
        while self.alive and not future.done():
            self.step()
        if not future.done():
            raise OwnerLost("the owner died in a call")
        return future.result()

    def report(self) -> SimpleNamespace:
        """What the actor tells the supervisor."""
        table = self.table
        return SimpleNamespace(pid=1, epoch=1, state=self.loop.state(), ends=table.states())

    def submit(self, unit: Unit) -> SimulatedHandover:
        self._answering()
        return SimulatedHandover(self, self.loop.submit(unit), unit.consumer)

    def _answering(self) -> None:
        if not self.alive:
            raise OwnerLost(f"the owner of {self.name} is gone")


class SimulatedHandover:
    """A unit on its way; its answer may be lost although the owner lives."""

    def __init__(self, owner: OwnerProcess, future: Future[Answer], consumer: str) -> None:
        self._owner = owner
        self._consumer = consumer
        self._future = future

    def poll(self) -> Answer | None:
        world = self._owner.world
        if not self._future.done():
            if not self._owner.alive:
                raise OwnerLost("the owner died with the unit")
            return None
        if not world.calm and world.rng.random() < 0.08:
            world.lake.count("answer lost")
            raise OwnerLost("the answer was lost")
        answer = self._future.result()
        world.answered((self._owner.name, self._consumer), answer)
        return answer


class OwnerCalls:
    """``OwnerPort`` and ``OwnerControl``: the owner of a table, whoever that is now."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    def view(self) -> TableView:
        return self._call(lambda owner: owner.table.view)

    def ends(self, sources: Any) -> Mapping[SourcePartition, PartitionState]:
        return self._call(lambda owner: owner.table.ends(sources))

    def evolve(self, additions: pa.Schema) -> TableView:
        return self._call(lambda owner: owner.table.evolve(additions))

    def submit(self, unit: Unit) -> SimulatedHandover:
        return self._owner().submit(unit)

    def admit(
        self, origins: Mapping[SourcePartition, int]
    ) -> Mapping[SourcePartition, PartitionState]:
        def admit(owner: OwnerProcess) -> Mapping[SourcePartition, PartitionState]:
            states = owner.table.admit(origins)
            owner.loop.watch(states)
            return states

        return self._call(admit)

    def admitted(self) -> list[SourcePartition]:
        return self._call(lambda owner: sorted(owner.table.states()))

    def generation(self) -> int:
        return self._call(lambda owner: owner.table.generation)

    def set_generation(self, sources: list[SourcePartition], generation: int) -> None:
        self._call(lambda owner: owner.table.set_generation(sources, generation))

    def state(self) -> OwnerState:
        return self._owner().loop.state()

    def hurry(self, for_s: float = math.inf) -> None:
        self._owner().loop.hurry(for_s)

    def _owner(self) -> OwnerProcess:
        owner = self._world.owners.get(self._name)
        if owner is None:
            raise OwnerLost(f"{self._name} has no owner")
        return owner

    def _call(self, operation: Callable[[OwnerProcess], T]) -> T:
        owner = self._owner()
        return owner.call(lambda: operation(owner))


class QueuePort:
    """The dead-letter queue as owners find it by its name."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ready(self) -> bool:
        return self._world.queue.started

    def add(self, table_id: str, version: int, files: Any) -> None:
        self._world.queue.add(table_id, version, files)

    def withdraw(self, table_id: str, version: int, withdrawal: Withdrawal) -> None:
        raise AssertionError(f"the simulation moves no position: {table_id} {version} {withdrawal}")


class ConsumerProcess:
    """One consumer: the real loop, its commands, and the newest report it sent."""

    def __init__(self, world: World, name: str, tables: tuple[TablePlan, ...]) -> None:
        self.name = name
        self.alive = True
        self.commands: list[Callable[[], None]] = []
        self.report: ConsumerReport | None = None
        self._world = world
        self.budget = ByteBudget(BUDGET_BYTES, world.clock)
        self.loop = ConsumerLoop(
            name,
            SimulatedFetcher(world.kafka, world.rng),
            {plan.name: self.feed(plan) for plan in tables},
            budget=self.budget,
            broker=dependency("broker", world.clock),
            clock=world.clock,
            lost_letter={plan.name: letter_of if world.record_loss else None for plan in tables},
        )

    def feed(self, plan: TablePlan) -> TableFeed:
        world = self._world
        return TableFeed(
            FeedNames(PIPELINE, self.name, plan.name),
            OwnerCalls(world, plan.name),
            SimulatedMaker(world.lake, plan.name, "extra", late=not world.calm),
            BatchPolicy(max_batch_bytes=1500, commit_interval_s=0.4, idle_commit_interval_s=1.0),
            PoisonGate(world.poison, world.clock, table=plan.name),
            stores(world.clock),
            world.clock,
        )

    def step(self) -> None:
        if not self.alive:
            return
        try:
            for command in self.commands:
                command()
            self.commands.clear()
            self.loop.step()
            report = self.loop.report()
            if any(isinstance(one, TooManyDeadLetters) for one in report.stopped.values()):
                self._world.lake.count("stopped by poison")
        except RayLakeError as error:
            self.alive = False
            report = ConsumerReport(self.name, state="failed", failure=error)
            self._world.lake.count("consumer failed")
        if self.report is not None:
            report.released = (*self.report.released, *report.released)
        self.report = report


class SimulatedFleet:
    """``Fleet``: processes of the world; owners and the queue outlive the supervisor."""

    def __init__(self, world: World, held: Mapping[str, Any] | None = None) -> None:
        self._world = world
        self._switches = Switches.of(held or {})

    def prepare(self, consumers: Sequence[str]) -> None:
        """Processes take no time here."""

    def start_queue(self) -> None:
        self._world.kept_waiting()
        if not self._world.queue.alive:
            self._world.queue = SimulatedQueue(self._world.lake)
        self._world.queue.started = True

    def start_owner(self, setup: Any) -> TableView:
        world, name = self._world, setup.table.name
        world.kept_waiting()
        owner = world.owners.get(name)
        if owner is None or not owner.alive:
            owner = world.owners[name] = OwnerProcess(world, name)
        self._switches.apply_to_stores(name, owner.loop.stores)
        return owner.call(lambda: owner.table.view)

    def owner(self, table: str) -> OwnerCalls:
        return OwnerCalls(self._world, table)

    def start_consumer(self, setup: Any, table_ids: Mapping[str, str]) -> None:
        world = self._world
        made = ConsumerProcess(world, setup.name, setup.tables)
        made.loop.switch(self._switches)
        world.consumers[setup.name] = made

    def discard(self, consumer: str) -> None:
        gone = self._world.consumers.pop(consumer, None)
        if gone is not None and gone.alive:
            self._world.zombies.append(gone)

    def add_table(self, consumer: str, plan: TablePlan, table_id: str) -> None:
        there = self._world.consumers[consumer]
        there.commands.append(lambda: there.loop.add_table(plan.name, there.feed(plan), letter_of))

    def grant(self, consumer: str, granted: Granted) -> None:
        loop = self._world.consumers[consumer].loop
        self._world.consumers[consumer].commands.append(lambda: loop.grant(granted))

    def revoke(self, consumer: str, sources: set[SourcePartition]) -> None:
        loop = self._world.consumers[consumer].loop
        self._world.consumers[consumer].commands.append(lambda: loop.revoke(sources))

    def drain(self, consumer: str, *, on: bool) -> None:
        loop = self._world.consumers[consumer].loop
        self._world.consumers[consumer].commands.append(loop.drain if on else loop.resume)

    def switch(self, switches: Switches) -> None:
        self._switches = Switches(switches.held)
        for there in self._world.consumers.values():
            loop = there.loop
            there.commands.append(partial(loop.switch, switches))
        for name, owner in self._world.owners.items():
            switches.apply_to_stores(name, owner.loop.stores)

    def news(self) -> News:
        world, news = self._world, News()
        for name, consumer in world.consumers.items():
            if consumer.report is not None:
                news.consumers[name], consumer.report = consumer.report, None
            elif not consumer.alive or name in world.believed_dead:
                news.lost_consumers.add(name)
        for name, owner in world.owners.items():
            if not owner.alive or name in world.believed_dead:
                if owner.loop.failure is not None:
                    raise owner.loop.failure
                if owner.alive:
                    world.frozen.append(owner)
                    del world.owners[name]
                    world.believed_dead.discard(name)
                    news.lost_owners.add(name)
                    break
                news.lost_owners.add(name)
            else:
                news.owners[name] = owner.report()
        news.queue_lost = world.queue.started and not world.queue.alive
        return news

    def leave(self, deadline: Deadline) -> Left:
        world, left = self._world, Left()
        world.consumers.clear()
        for name, owner in world.owners.items():
            owner.loop.close(deadline.left_s())
            while owner.alive:
                if not world.queue.started and owner.loop.state().needs_queue:
                    self.start_queue()
                owner.step()
                world.clock.sleep(0.1)
            left.owners[name] = owner.report()
            if isinstance(owner.loop.failure, Fenced | LogDamaged):
                left.error = owner.loop.failure
        world.owners.clear()
        world.queue = SimulatedQueue(world.lake)
        return left


class SimulatedDiscovery:
    """``Discovery`` over the simulated Kafka."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.retries = RetryCounters()

    def tables(self) -> list[TablePlan]:
        self._world.kafka.reachable()
        kafka, config = self._world.kafka, configured()
        return [
            TablePlan(
                name,
                f"/simulated/{name}",
                config.bronze[name.removeprefix("bronze.")],
                tuple(s for topic in topics for s in kafka.sources(topic)),
            )
            for name, topics in self._world.tables.items()
        ]

    def look(self) -> Seen:
        plans, missing = self.tables(), self._world.missing
        there = [
            replace(p, sources=tuple(s for s in p.sources if s.topic not in missing)) for p in plans
        ]
        return Seen(there, {topic: UnknownTopic(f"{topic} is gone") for topic in missing})

    def setup(self, table: TablePlan) -> Any:
        return OwnerSetup(None, table, None)  # type: ignore[arg-type]

    def origins(self, table: TablePlan, missing: list[Any], admitted: list[Any]) -> dict[Any, int]:
        self._world.kafka.reachable()
        return {s: self._world.kafka.logs[s].start for s in missing}

    def stable_ends(self, sources: list[SourcePartition]) -> dict[SourcePartition, int]:
        self._world.kafka.reachable()
        return {s: self._world.kafka.logs[s].stable for s in sources}

    def high_ends(self, sources: list[SourcePartition]) -> dict[SourcePartition, int]:
        self._world.kafka.reachable()
        return {s: self._world.kafka.logs[s].stable for s in sources}

    def publish(self, offsets: Mapping[SourcePartition, int]) -> None:
        """Lag tools look away."""


@dataclass
class World:
    """All processes around one Kafka and one lake.

    Attributes:
        believed_dead: Names of consumers and tables that will be reported as lost though alive.
        frozen: Owners written off that live on.
        zombies: Consumers written off that take a few more steps.
        calm: No more faults.
        missing: Topics that were deleted.
        owner_interval_s: How far the owners' moments are from each other; 0: they commit at once.
    """

    rng: random.Random
    tables: dict[str, tuple[str, ...]]
    consumer_count: int = 2
    clock: ManualClock = field(default_factory=ManualClock)
    kafka: SimulatedKafka = field(default_factory=SimulatedKafka)
    lake: Lake = field(default_factory=Lake)
    owners: dict[str, OwnerProcess] = field(default_factory=dict)
    consumers: dict[str, ConsumerProcess] = field(default_factory=dict)
    believed_dead: set[str] = field(default_factory=set)
    frozen: list[OwnerProcess] = field(default_factory=list)
    zombies: list[ConsumerProcess] = field(default_factory=list)
    watermarks: dict[tuple[str, str], int] = field(default_factory=dict)
    calm: bool = False
    poison: PoisonPolicy = ALL_POISON_PASSES
    record_loss: bool = True
    missing: set[str] = field(default_factory=set)
    owner_interval_s: float = 0.5
    runs: int = 0
    supervisor: Any = None

    def __post_init__(self) -> None:
        self.queue = SimulatedQueue(self.lake)
        self.queue_port = QueuePort(self)

    def answered(self, pair: tuple[str, str], answer: Answer) -> None:
        """The watermark of a table that a consumer hears never moves back."""
        if answer.watermark_ms is not None:
            before = self.watermarks.get(pair, answer.watermark_ms)
            assert answer.watermark_ms >= before, f"{pair}: the watermark moved back"
            self.watermarks[pair] = answer.watermark_ms

    def kept_waiting(self) -> None:
        """Starting a process takes its time."""
        self.clock.sleep(0.3)


@contextmanager
def quiet() -> Iterator[None]:
    """Hundreds of thousands of warnings are of no use."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
