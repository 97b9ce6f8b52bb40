"""One consumer or one owner of the simulated pipeline, without a supervisor and without faults."""

from __future__ import annotations

import random

from raylake.ingest.plan import TablePlan
from raylake.ingest.poison import PoisonPolicy
from raylake.ingest.reports import Granted
from raylake.ingest.unit import Counts, DataFile, OffsetRange, SourcePartition, Unit
from tests.harness.simulated_kafka import GOOD
from tests.harness.simulated_lake import PIPELINE
from tests.harness.simulated_pipeline import (
    TOPICS,
    ConsumerProcess,
    OwnerProcess,
    SimulatedDiscovery,
    World,
    configured,
)

TABLE = "bronze.a"


def calm_world(
    partitions: int = 1,
    *,
    tables: tuple[str, ...] = (TABLE,),
    poison: PoisonPolicy | None = None,
    record_loss: bool = True,
    owner_interval_s: float = 0.0,
) -> World:
    """A world in which nothing goes wrong by itself; its owners commit what is there at once."""
    world = World(random.Random(0), {name: TOPICS[name] for name in tables}, calm=True)
    world.record_loss = record_loss
    world.owner_interval_s = owner_interval_s
    if poison is not None:
        world.poison = poison
    world.kafka.create("x", partitions)
    world.kafka.create("y", 1)
    return world


def source(world: World, partition: int = 0) -> SourcePartition:
    return world.kafka.sources("x")[partition]


def owned(world: World, name: str = TABLE) -> OwnerProcess:
    """A new owner of a table, all partitions admitted at 0, beside a queue."""
    world.queue.started = True
    owner = world.owners[name] = OwnerProcess(world, name)
    owner.table.admit({s: 0 for topic in TOPICS[name] for s in world.kafka.sources(topic)})
    return owner


def plans(world: World) -> tuple[TablePlan, ...]:
    return tuple(SimulatedDiscovery(world).tables())


def consumer(
    world: World, generation: int = 1, *, partitions: int | None = None
) -> ConsumerProcess:
    """A consumer that was granted the first partitions of topic x from the tables' ends."""
    made = ConsumerProcess(world, "consumer-0", plans(world))
    granted = grant_of(world, world.kafka.sources("x")[:partitions], generation)
    made.loop.grant(granted)
    return made


def grant_of(world: World, sources: list[SourcePartition], generation: int = 1) -> Granted:
    ends = {}
    for name in world.tables:
        table = world.owners[name].table
        table.set_generation(sources, generation)
        ends[name] = {s: state.next for s, state in table.ends(sources).items()}
    return Granted(generation, ends)


def turn(world: World, made: ConsumerProcess, times: int = 1) -> None:
    """The consumer and the owners each get a turn."""
    for _ in range(times):
        made.loop.step()
        for owner in list(world.owners.values()):
            owner.step()
        world.clock.sleep(0.1)


def unit(
    owner: OwnerProcess,
    start: int,
    end: int,
    *,
    partition: int = 0,
    letters: int = 0,
    generation: int = 1,
) -> Unit:
    """Rows for a range, and a file of dead letters where ``letters`` of the records are dead."""
    at = source(owner.world, partition)
    counts = Counts(rows=end - start - letters, dead=letters)
    dead = (DataFile(f"dead-{start}", 1, letters, {}, "{}"),) if letters else ()
    return Unit(
        PIPELINE,
        "consumer-0",
        generation,
        owner.table.view.fingerprint,
        (OffsetRange(at, start, end, counts, max_event_ms=end * 1000),),
        (DataFile(f"rows-{start}", 1, counts.rows, {}, "{}"),),
        dead,
    )


def produce(world: World, count: int, partition: int = 0, kind: str = GOOD) -> None:
    world.kafka.produce(source(world, partition), [kind] * count)


def drain_timeout_s() -> float:
    return configured().ingest.drain_timeout_s
