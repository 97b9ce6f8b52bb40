"""Breakers that people trip stay open in every process, new ones too, until people close them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from raylake.errors import ConfigError
from raylake.ingest.breaker import BreakerState
from raylake.ingest.earlier import EarlierBreakers
from raylake.ingest.intake import HeldByHand
from raylake.ingest.operations import Operations
from raylake.ingest.orders import OrderBox
from raylake.ingest.plan import RunPlan
from raylake.ingest.supervisor import SupervisorLoop
from raylake.ingest.switches import Selection, Switches, Target, breaker_names
from raylake.ingest.unit import SourcePartition
from tests.harness.simulated_pipeline import (
    SimulatedDiscovery,
    SimulatedFleet,
    World,
    configured,
)
from tests.harness.simulated_runs import audit
from tests.unit.ingest.pieces import TABLE, calm_world, produce, source

STORE = {"dependency": "store", "table": TABLE}


class Run:
    """A supervisor with its operations, everybody stepped in turn."""

    def __init__(self, world: World, folder: Path, held: Mapping[str, Any] | None = None) -> None:
        self.world = world
        earlier = EarlierBreakers(held=dict(held or {}))
        plan = RunPlan(configured(), "sha", "sim.yaml", "run-1", False, earlier=earlier)
        fleet = SimulatedFleet(world, held)
        self.loop = SupervisorLoop(plan, fleet, SimulatedDiscovery(world), world.clock, 2)
        self.published = 0
        self.operations = Operations(
            self.loop, fleet, OrderBox(folder, world.clock), world.clock, self._publish
        )
        self.loop.start()
        self.rounds(5)

    def _publish(self) -> None:
        self.published += 1

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.loop.tick()
            self.operations.step()
            for process in [*self.world.consumers.values(), *self.world.owners.values()]:
                process.step()
            self.world.clock.sleep(0.1)

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(300):
            if condition():
                return
            self.rounds(1)
        raise AssertionError(f"{condition} did not come")

    def end(self, partition: int = 0) -> int:
        states = self.world.owners[TABLE].table.states()
        return states[source(self.world, partition)].next


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(calm_world(partitions=2), tmp_path)


def test_a_tripped_store_takes_nothing_whoever_is_replaced_until_it_is_reset(run: Run) -> None:
    told = run.operations.perform("breaker.trip", {**STORE, "reason": "disk is moved"})
    assert told == {"breakers": [f"{TABLE}/store"]}
    assert run.published == 1
    produce(run.world, 5)
    run.rounds(60)
    assert run.end() == 0
    next(iter(run.world.consumers.values())).alive = False
    run.world.owners[TABLE].alive = False
    run.rounds(60)
    assert run.loop.restarts["owner"] == 1
    assert run.end() == 0
    breaker = run.world.owners[TABLE].loop.stores["store"].breaker
    assert (breaker.by_hand, breaker.reason) == (True, "by hand: disk is moved")
    run.operations.perform("breaker.reset", STORE)
    run.until(lambda: run.end() == 5)
    assert run.operations.held == {}
    audit(run.world)


def test_a_partition_that_is_held_stands_still_and_the_others_go_on(run: Run) -> None:
    held = source(run.world, 1)
    order = {"dependency": "poison", "table": TABLE, "partition": f"{held.topic}/1"}
    run.operations.perform("breaker.trip", {**order, "reason": "ask the producer"})
    for partition in (0, 1):
        produce(run.world, 5, partition)
    run.until(lambda: run.end(0) == 5 and bool(run.loop.stopped))
    run.rounds(40)
    assert run.end(1) == 0
    error = run.loop.stopped[held]
    assert isinstance(error, HeldByHand)
    assert "by hand: ask the producer" in error.message
    assert run.loop.state == "running"
    run.operations.perform("breaker.reset", order)
    run.until(lambda: run.end(1) == 5 and not run.loop.stopped)


def test_what_was_held_is_held_by_the_next_run(tmp_path: Path) -> None:
    world = calm_world()
    held = {"broker": {"reason": "moved", "since": 1.0}}
    run = Run(world, tmp_path, held)
    produce(world, 5)
    run.rounds(60)
    assert run.end() == 0
    assert run.operations.held == held
    run.operations.perform("breaker.reset", {"dependency": "broker"})
    run.until(lambda: run.end() == 5)


def test_reset_closes_what_opened_by_itself(run: Run) -> None:
    breaker = run.world.owners[TABLE].loop.stores["dead_letters"].breaker
    breaker.trip("full", for_s=1000)
    run.operations.perform("breaker.reset", {"dependency": "dead_letters"})
    assert breaker.state is BreakerState.CLOSED


def test_an_order_that_fits_nothing_says_what_there_is(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"dependency store, table bronze\.nowhere") as caught:
        run.operations.perform("breaker.trip", {**STORE, "table": "bronze.nowhere"})
    assert f"{TABLE}/store" in caught.value.hint
    with pytest.raises(ConfigError, match="knows no order"):
        run.operations.perform("drop.everything", {})
    with pytest.raises(ConfigError, match="lacks a table"):
        run.operations.perform("watermark.set", {"table": TABLE, "value_ms": "soon"})
    with pytest.raises(ConfigError, match="no table"):
        run.operations.perform("watermark.set", {"table": "bronze.nowhere", "value_ms": 1})
    assert (run.published, run.operations.held) == (0, {})


def test_names_say_what_they_stand_in_front_of() -> None:
    p0 = SourcePartition("orders.eu", "id", 0)
    names = breaker_names({"bronze.a": [p0], "bronze.b": [p0]})
    assert [Target.of(name) for name in names[:4]] == [
        Target("broker"),
        Target("store", "bronze.a"),
        Target("dead_letters", "bronze.a"),
        Target("poison", "bronze.a", "orders.eu/0"),
    ]
    assert Selection("poison", None, "orders.eu/0").of_names(names) == [
        "poison/bronze.a/orders.eu/id/0",
        "poison/bronze.b/orders.eu/id/0",
    ]
    assert Selection().of_names(names) == sorted(names)
    assert Switches.of({"broker": {"reason": "x"}}).held == {"broker": "x"}
