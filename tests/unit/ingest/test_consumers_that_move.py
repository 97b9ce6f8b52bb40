"""Consumers whose node is to go hand over what they have; others read on in their places."""

from __future__ import annotations

import pytest

from raylake.ingest.fleet import News
from tests.harness.simulated_pipeline import SimulatedFleet, World
from tests.harness.simulated_runs import audit
from tests.unit.ingest.pieces import produce
from tests.unit.ingest.test_supervisor_loop import Run, ends, running


class Going(SimulatedFleet):
    """A fleet some of whose consumers are on nodes that are to go."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.going: set[str] = set()
        self.owners_going: set[str] = set()

    def news(self) -> News:
        news = super().news()
        news.going = self.going & self._world.consumers.keys()
        for name in self.owners_going & self._world.owners.keys():
            owner = self._world.owners.pop(name)
            owner.loop.close(0.0)
            while owner.alive:
                owner.step()
            news.left_owners.add(name)
        self.owners_going.clear()
        return news


def going(consumers: int) -> tuple[Run, Going]:
    run = running(consumers=consumers)
    fleet = Going(run.world)
    run.fleet = fleet
    run.loop._fleet = run.loop.tables._fleet = run.loop.crew._fleet = fleet
    run.until(lambda: ends(run) == [6, 6])
    return run, fleet


@pytest.mark.parametrize("consumers", [1, 2])
def test_failure_40_a_consumer_whose_node_is_to_go_hands_over_and_another_one_reads_on(
    consumers: int,
) -> None:
    run, fleet = going(consumers)
    produce(run.world, 3)
    run.round()
    fleet.going = {"consumer-0"}
    run.until(lambda: "consumer-0" not in run.world.consumers)
    run.until(lambda: run.loop.crew.settled and len(run.loop.crew.names) == consumers)
    assert f"consumer-{consumers}" in run.loop.crew.names
    assert run.loop.restarts["consumer"] == 0, "it was lost"
    produce(run.world, 3, 1)
    run.until(lambda: ends(run) == [9, 9])
    audit(run.world)


def test_one_that_is_lost_while_it_leaves_has_its_successor_already() -> None:
    run, fleet = going(2)
    produce(run.world, 3)
    fleet.going = {"consumer-0"}
    run.loop.tick()
    victim = run.world.consumers["consumer-0"]
    victim.alive, victim.report = False, None
    run.until(lambda: ends(run) == [9, 6])
    assert run.loop.crew.everyone == {"consumer-1", "consumer-2"}
    audit(run.world)


def test_while_a_run_drains_its_consumers_stay() -> None:
    run, fleet = going(2)
    produce(run.world, 3)
    run.loop.stop()
    run.loop.tick()
    fleet.going = {"consumer-0", "consumer-1"}
    assert run.end().state == "stopped"
    assert run.loop.restarts["consumer"] == 0
    assert run.loop.crew.everyone == {"consumer-0", "consumer-1"}
    audit(run.world)


def test_failure_40_an_owner_that_left_its_node_is_followed_by_another_and_counts_as_no_loss() -> (
    None
):
    run, fleet = going(1)
    (table,) = run.world.owners
    first = run.world.owners[table]
    produce(run.world, 3)
    run.round()
    fleet.owners_going = {table}
    run.until(lambda: ends(run) == [9, 6])
    assert run.world.owners[table] is not first
    assert run.loop.restarts.get("owner", 0) == 0, "it was lost"
    assert run.loop.restarts.get("consumer", 0) == 0
    audit(run.world)
