"""Seeded schedules of a simulated pipeline, and the account at their end."""

from __future__ import annotations

import random
from collections import Counter

from raylake.errors import RayLakeError
from raylake.ingest.plan import RunPlan
from raylake.ingest.supervisor import SupervisorLoop
from raylake.ingest.unit import Counts, SourcePartition
from tests.harness.simulated_kafka import ABSENT, DEAD, GOOD, WIDER
from tests.harness.simulated_lake import LOST
from tests.harness.simulated_pipeline import (
    ALL_POISON_PASSES,
    BUDGET_BYTES,
    HALF_IS_TOO_MUCH,
    TOPICS,
    SimulatedDiscovery,
    SimulatedFleet,
    World,
    configured,
    quiet,
)

MAX_CALM_ROUNDS = 600
COMMIT_FAULTS = ("crash before", "crash after", "contended", "outcome unknown")
QUEUE_FAULTS = ("killed before", "killed after")


class Schedule:
    """Things that happen, drawn from a random source."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.actions = {
            self.step_consumer: 40,
            self.step_owner: 25,
            self.tick: 18,
            self.produce: 8,
            self.pass_time: 8,
            self.plant_commit_fault: 3,
            self.plant_queue_fault: 2,
            self.kill_consumer: 1,
            self.kill_owner: 1,
            self.kill_queue: 0.5,
            self.kill_supervisor: 0.5,
            self.write_off: 1,
            self.step_zombies: 4,
            self.toggle_store: 1.5,
            self.toggle_broker: 1,
            self.lose_offsets: 0.5,
            self.grow: 0.3,
            self.recreate: 0.2,
            self.poison: 1 if world.poison is HALF_IS_TOO_MUCH else 0,
            self.stop_and_start: 0.3,
        }

    def step(self) -> None:
        """One thing happens."""
        action = self.rng.choices(list(self.actions), weights=list(self.actions.values()))[0]
        action()

    def step_consumer(self) -> None:
        if self.world.consumers:
            self.world.consumers[self.rng.choice(sorted(self.world.consumers))].step()

    def step_owner(self) -> None:
        if self.world.owners:
            self.world.owners[self.rng.choice(sorted(self.world.owners))].step()

    def step_zombies(self) -> None:
        for zombie in [*self.world.zombies, *self.world.frozen]:
            zombie.step()
        if self.rng.random() < 0.3:
            self.world.zombies.clear()

    def tick(self) -> None:
        """The supervisor's turn; one that ended or failed is started again, as people do."""
        world = self.world
        if world.supervisor is None:
            self.start()
            return
        try:
            world.supervisor.tick()
        except RayLakeError:
            self.world.lake.count("run failed")
            self.kill_supervisor()
        else:
            if world.supervisor.outcome is not None:
                world.supervisor = None

    def start(self) -> None:
        world = self.world
        world.runs += 1
        run = RunPlan(configured(), "", "sim.yaml", f"run-{world.runs}")
        fleet, discovery = SimulatedFleet(world), SimulatedDiscovery(world)
        supervisor = SupervisorLoop(run, fleet, discovery, world.clock, world.consumer_count)
        try:
            supervisor.start()
        except RayLakeError:
            world.consumers.clear()
            return
        world.supervisor = supervisor

    def produce(self) -> None:
        source = self.rng.choice(self._sources())
        kinds = self.rng.choices(
            [GOOD, WIDER, DEAD, ABSENT], weights=[6, 1, 1, 2], k=self.rng.randint(1, 12)
        )
        self.world.kafka.produce(source, kinds, commit=self.rng.random() < 0.8)

    def pass_time(self) -> None:
        self.world.clock.sleep(self.rng.choice([0.05, 0.5, 3.0]))

    def plant_commit_fault(self) -> None:
        self.world.lake.plants["commit"] = [self.rng.choice(COMMIT_FAULTS)]

    def plant_queue_fault(self) -> None:
        self.world.lake.plants["queue"] = [self.rng.choice(QUEUE_FAULTS)]

    def kill_consumer(self) -> None:
        if self.world.consumers:
            victim = self.world.consumers[self.rng.choice(sorted(self.world.consumers))]
            victim.alive, victim.report = False, None
            self.world.lake.count("consumer killed")

    def kill_owner(self) -> None:
        if self.world.owners:
            self.world.owners[self.rng.choice(sorted(self.world.owners))].alive = False
            self.world.lake.count("owner killed")

    def kill_queue(self) -> None:
        if self.world.queue.started:
            self.world.queue.alive = False
            self.world.lake.count("queue killed")

    def kill_supervisor(self) -> None:
        """Its consumers go with it; owners and the queue are detached and stay."""
        self.world.supervisor = None
        self.world.consumers.clear()
        self.world.lake.count("supervisor killed")

    def write_off(self) -> None:
        """Somebody alive is believed dead."""
        names = [*sorted(self.world.consumers), *sorted(self.world.owners)]
        if names:
            self.world.believed_dead.add(self.rng.choice(names))
            self.world.lake.count("written off alive")

    def toggle_store(self) -> None:
        store = self.rng.choice(["store", "dead_letters"])
        self.world.lake.failing ^= {store}

    def toggle_broker(self) -> None:
        self.world.kafka.down = not self.world.kafka.down
        self.world.lake.count("broker down")

    def lose_offsets(self) -> None:
        """Retention moves on, perhaps past what was not read yet."""
        source = self.rng.choice(self._sources())
        log = self.world.kafka.logs[source]
        log.start = self.rng.randint(log.start, log.stable)
        self.world.lake.count("retention")

    def grow(self) -> None:
        topic = self.rng.choice(sorted(self.world.kafka.ids))
        if len(self.world.kafka.sources(topic)) < 5:
            self.world.kafka.grow(topic, 1)
            self.world.lake.count("partition added")

    def recreate(self) -> None:
        """A topic is deleted and created again under its name; what was not read is gone."""
        kafka = self.world.kafka
        topic = self.rng.choice(sorted(kafka.ids))
        kafka.create(topic, len(kafka.sources(topic)))
        for source in kafka.sources(topic):
            # Long enough that offsets of the old one may be read in it.
            kafka.produce(source, [GOOD] * self.rng.randint(0, 30))
        self.world.lake.count("topic created again")

    def poison(self) -> None:
        """Nothing but poison for a while."""
        source = self.rng.choice(self._sources())
        self.world.kafka.produce(source, [DEAD] * self.rng.randint(8, 30))

    def _sources(self) -> list[SourcePartition]:
        kafka = self.world.kafka
        return [source for topic in sorted(kafka.ids) for source in kafka.sources(topic)]

    def stop_and_start(self) -> None:
        if self.world.supervisor is not None:
            self.world.supervisor.stop()
            self.world.lake.count("stopped")

    def heal(self) -> None:
        """All faults are over."""
        world = self.world
        world.calm = True
        world.kafka.down = False
        world.lake.failing.clear()
        world.lake.plants.clear()
        world.believed_dead.clear()
        # Whoever was written off is killed in the end.
        for owner in world.frozen:
            owner.alive = False
        world.zombies.clear()
        for log in world.kafka.logs.values():
            log.stable = len(log.kinds)
        if world.poison is not ALL_POISON_PASSES:
            # People look at it, raise the limit and start again.
            world.poison = ALL_POISON_PASSES
            self.kill_supervisor()

    def calm_round(self) -> None:
        """Everybody gets a turn, and a moment passes."""
        self.tick()
        for consumer in list(self.world.consumers.values()):
            consumer.step()
        for owner in list(self.world.owners.values()):
            owner.step()
        self.world.clock.sleep(0.1)


def run_schedule(seed: int, steps: int = 130) -> World:
    """Run one schedule, let everything calm down, drain it, and audit.

    Args:
        seed: The seed of all choices.
        steps: Things that happen before the calm.

    Raises:
        AssertionError: The account does not balance, or nothing moves any more; names the seed.
    """
    rng = random.Random(seed)
    # What is drawn elsewhere, as the jitter of retries is.
    random.seed(seed)
    names = ("bronze.a",) if rng.random() < 0.5 else ("bronze.a", "bronze.b")
    world = World(rng, {name: TOPICS[name] for name in names}, consumer_count=rng.randint(1, 3))
    if rng.random() < 0.25:
        world.poison = HALF_IS_TOO_MUCH
    world.kafka.create("x", rng.randint(1, 3))
    if "bronze.b" in names:
        world.kafka.create("y", 1)
    schedule = Schedule(world)
    with quiet():
        try:
            for _ in range(steps):
                schedule.step()
                check_always(world)
            schedule.heal()
            drain(schedule)
            audit(world)
        except (AssertionError, ValueError, KeyError) as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return world


def drain(schedule: Schedule) -> None:
    """Go on until every table has everything, then stop; both within a bounded number of turns."""
    world = schedule.world
    for _ in range(MAX_CALM_ROUNDS):
        schedule.calm_round()
        check_always(world)
        if not behind(world):
            break
    else:
        raise AssertionError(f"nothing moves any more: {behind(world)}")
    if world.supervisor is None:
        schedule.start()
    supervisor = world.supervisor
    assert supervisor is not None, "a run cannot start although all is well"
    supervisor.stop()
    for _ in range(MAX_CALM_ROUNDS):
        schedule.calm_round()
        if supervisor.outcome is not None:
            assert supervisor.outcome.state == "stopped", supervisor.outcome
            return
    raise AssertionError("the drain never ends")


def behind(world: World) -> list[str]:
    """What the tables lack."""
    found = []
    for name, topics in world.tables.items():
        states = world.lake.logs[name][-1].states if world.lake.logs.get(name) else {}
        for topic in topics:
            for source in world.kafka.sources(topic):
                end, state = len(world.kafka.logs[source].kinds), states.get(source)
                if state is None or state.next < end:
                    found.append(f"{name} {source} {state} of {end}")
    return found


def check_always(world: World) -> None:
    """What holds at every moment."""
    for consumer in world.consumers.values():
        # One fetch may pass the limit: of every partition, for both tables.
        assert consumer.budget.peak_bytes <= BUDGET_BYTES + 6000, "the byte budget is not kept"


def audit(world: World) -> None:
    """Every offset is exactly once a row or a dead letter, as its kind says, or lost.

    Raises:
        AssertionError: It is not.
    """
    for name in world.tables:
        log, files = world.lake.logs[name], world.lake.files
        named = [file for version in log for unit in version.units for file in unit.files]
        rows = Counter(at[:2] for file in named for at in files[file.path])
        letters = Counter(
            at for f in world.lake.letters.get(f"id-{name}", []) for at in files[f.path]
        )
        assert max(rows.values(), default=1) == 1, f"{name}: a row is doubled"
        assert max(letters.values(), default=1) == 1, f"{name}: a dead letter is doubled"
        states = log[-1].states
        assert len(rows) == sum(state.totals.rows for state in states.values())
        for source, state in states.items():
            kinds = world.kafka.logs[source].kinds
            found: Counter[str] = Counter()
            for offset in range(state.origin, state.next):
                lost = letters[source, offset, LOST]
                kind = LOST if lost else kinds[offset]
                found[kind] += 1
                fate = (rows[source, offset], letters[source, offset, DEAD])
                wanted = (kind in (GOOD, WIDER), kind == DEAD)
                assert fate == wanted, f"{name} {source} {offset}: a {kind} one is {fate}"
            counts = Counts(found[GOOD] + found[WIDER], found[DEAD], found[ABSENT], found[LOST])
            assert state.totals == counts, f"{name} {source}: {state}, found {counts}"
            assert state.next - state.origin == counts.total, f"{name} {source}: {state}"
        marks = [version.watermark_ms for version in log if version.watermark_ms is not None]
        assert marks == sorted(marks), f"{name}: the watermark moved back"
        epochs = [version.epoch for version in log]
        assert epochs == sorted(epochs), f"{name}: an old owner wrote after a newer one"
