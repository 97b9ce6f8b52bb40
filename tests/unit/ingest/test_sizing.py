"""A run whose consumers come with the lag and go with it, over the simulated fleet."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from raylake.config import Pipeline, Scaled
from raylake.ingest import sizing
from raylake.ingest.fleet import News
from raylake.ingest.plan import RunPlan
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.status_document import document
from raylake.ingest.supervisor import SupervisorLoop
from raylake.ingest.unstarted import TOLD_AFTER_S
from tests.harness.simulated_pipeline import SimulatedDiscovery, SimulatedFleet, configured
from tests.harness.simulated_runs import audit
from tests.unit.ingest.pieces import TABLE, calm_world, produce
from tests.unit.ingest.test_supervisor_loop import Run, ends

PARTITIONS = 4
MANY = 600


def _configured(**more: Any) -> Pipeline:
    scaled = Scaled(**{"min": 1, "max": 3, "lag_s": 2.0, "down_after_s": 10.0, **more})
    whole = configured()
    return whole.model_copy(
        update={"ingest": whole.ingest.model_copy(update={"consumers": scaled})}
    )


class Slow(SimulatedFleet):
    """Names in ``away`` have no process yet, those in ``mute`` release nothing."""

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.away: set[str] = set()
        self.asked_s: dict[str, float] = {}
        self.mute: set[str] = set()
        self.ended: list[str] = []

    def news(self) -> News:
        news = super().news()
        now_s = self._world.clock.monotonic()
        for name in self.away & self._world.consumers.keys():
            news.consumers.pop(name, None)
            news.waiting[name] = now_s - self.asked_s.setdefault(name, now_s)
        return news

    def revoke(self, consumer: str, sources: Any) -> None:
        if consumer not in self.mute:
            super().revoke(consumer, sources)

    def discard(self, consumer: str) -> None:
        self.ended.append(consumer)
        super().discard(consumer)


class ScaledRun(Run):
    """A run with one consumer at first and four partitions."""

    def __init__(self, **more: Any) -> None:
        self.world = calm_world(PARTITIONS, owner_interval_s=0.5)
        plan = RunPlan(_configured(**more), "sha", "sim.yaml", "run-1")
        self.slow = self.fleet = Slow(self.world)
        self.discovery = SimulatedDiscovery(self.world)
        self.loop = SupervisorLoop(plan, self.fleet, self.discovery, self.world.clock, 1)
        self.produced = 0
        self.fill(3)
        self.loop.start()

    def fill(self, count: int) -> None:
        for partition in range(PARTITIONS):
            produce(self.world, count, partition)
        self.produced += count

    @property
    def holders(self) -> dict[str, int]:
        crew = self.loop.crew
        return {name: len(crew.reports[name].sources) for name in sorted(crew.reports)}

    def everything_read(self) -> bool:
        return ends(self) == [self.produced] * PARTITIONS

    def drained(self) -> None:
        self.loop.stop()
        assert self.end().state == "stopped"
        audit(self.world)


def scaled(**more: Any) -> ScaledRun:
    return ScaledRun(**more)


def test_a_lag_adds_consumers_and_its_end_takes_them_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = scaled()
    caplog.set_level(logging.INFO)
    run.until(run.everything_read)
    assert run.holders == {"consumer-0": 4}
    run.fill(MANY)
    run.until(lambda: len(run.holders) >= 2 and run.loop.crew.settled)
    shown = document(run.loop, {}, 0.0)["scaling"]
    assert shown["why"].startswith("lag ")
    assert shown["changes"] >= 1
    assert shown["why"] in caplog.text
    assert "consumer-0 is to release x[" in caplog.text
    run.until(run.everything_read, 900)
    run.until(lambda: run.holders == {"consumer-0": 4}, 900)
    assert run.loop.sizing.counts() == {"running": 1, "wanted": 1}
    assert "suffice" in document(run.loop, {}, 0.0)["scaling"]["why"]
    refused = run.world.owners[TABLE].loop.state().units_refused
    assert refused == 0, "nothing was read again"
    run.drained()


def test_partitions_stay_until_the_further_consumer_is_up() -> None:
    run = scaled()
    run.slow.away = {"consumer-1", "consumer-2"}
    run.fill(MANY)
    run.until(lambda: run.loop.sizing.status()["wanted"] > 1)  # type: ignore[index]
    wanted = run.loop.sizing.status()["wanted"]  # type: ignore[index]
    asked = set(run.world.consumers)
    run.until(run.everything_read, 900)
    assert run.holders == {"consumer-0": 4}
    assert len(asked) == wanted, "asked for once"
    run.world.clock.sleep(TOLD_AFTER_S)
    run.round()
    assert any("no free CPU for consumer-1" in e["message"] for e in run.loop.troubles.errors)
    run.until(lambda: set(run.world.consumers) == {"consumer-0"}, 900)
    assert run.slow.ended, "what never started is no longer asked for"
    run.drained()


def test_one_that_dies_before_it_started_is_asked_for_again() -> None:
    run = scaled(max=2)
    run.slow.away = {"consumer-1", "consumer-2"}
    run.fill(MANY)
    run.until(lambda: "consumer-1" in run.world.consumers)
    run.loop.crew.replace("consumer-1")
    assert run.loop.crew.names == {"consumer-0"}, "no partition waits for it"
    assert "consumer-2" in run.world.consumers


def test_one_that_dies_while_it_leaves_is_not_replaced() -> None:
    run = scaled()
    run.fill(MANY)
    run.until(lambda: len(run.holders) >= 2 and run.loop.crew.settled)
    run.loop.crew.retire()
    (leaving,) = run.loop.crew.everyone - run.loop.crew.staying
    run.loop.crew.apply()
    run.world.consumers[leaving].alive = False
    run.world.consumers[leaving].report = None
    run.until(lambda: leaving not in run.loop.crew.everyone)
    run.until(run.everything_read, 900)
    run.drained()


def test_one_that_does_not_release_is_written_off() -> None:
    """It answers, and hands nothing over: after a while its partitions are taken all the same."""
    run = scaled(max=2)
    run.slow.mute = {"consumer-0"}
    run.fill(MANY)
    run.until(lambda: "consumer-0" in run.loop.crew.releasing)
    began_s = run.world.clock.monotonic()
    run.until(lambda: "consumer-0" in run.slow.ended, 900)
    assert run.world.clock.monotonic() - began_s >= sizing.LATE_S
    assert run.loop.restarts["consumer"] == 1
    run.until(run.everything_read, 900)
    run.drained()


def test_one_that_waits_for_a_store_is_not_late() -> None:
    run = scaled(max=2)
    run.slow.mute = {"consumer-0"}
    run.fill(MANY)
    run.until(lambda: "consumer-0" in run.loop.crew.releasing)
    run.loop.crew.reports["consumer-0"] = ConsumerReport("consumer-0", state="waiting")
    assert run.loop.sizing.late() == set()
    run.world.clock.sleep(2 * sizing.LATE_S)
    assert run.loop.sizing.late() == set()


def test_nothing_is_measured_while_a_breaker_is_open() -> None:
    run = scaled()
    run.fill(MANY)
    for _ in range(100):
        run.round()
        for report in run.loop.crew.reports.values():
            report.state = "waiting"
        run.loop.sizing.step()
    assert run.loop.sizing.status()["wanted"] == 1  # type: ignore[index]


def test_a_fixed_number_says_nothing_of_scaling() -> None:
    world = calm_world(PARTITIONS)
    run = Run(world, consumers=2)
    run.loop.start()
    run.round()
    assert run.loop.sizing.status() is None
    assert run.loop.topics.every_s > sizing.SAMPLE_S


def test_a_drain_in_the_middle_of_a_hand_over_leaves_nothing() -> None:
    run = scaled()
    run.fill(MANY)
    run.until(lambda: bool(run.loop.crew.releasing))
    run.drained()
