"""The supervisor's loop over the simulated fleet: starts, replacements, drains, ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from raylake.clock import ManualClock
from raylake.config.bronze import TopicPattern
from raylake.errors import (
    ConfigError,
    DependencyUnreachable,
    Fenced,
    OffsetsLost,
    RayLakeError,
    Refused,
    Terminal,
    TopicRecreated,
    UnknownTopic,
)
from raylake.ingest.consumer import DRAIN_PATIENCE_S
from raylake.ingest.earlier import EarlierBreakers
from raylake.ingest.ending import Behind, TakeBacks, kept_refusing
from raylake.ingest.fleet import News
from raylake.ingest.intake import TooManyDeadLetters
from raylake.ingest.plan import NothingToInfer, RunPlan, TablePlan
from raylake.ingest.ports import OwnerLost
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.status_document import document
from raylake.ingest.supervisor import SupervisorLoop
from raylake.ingest.topic_watch import Ask, answer_now
from raylake.ingest.troubles import MAX_REPLACEMENTS
from raylake.ingest.unit import SourcePartition
from raylake.ingest.unstarted import LEFT_OUT_AFTER_S
from tests.harness.simulated_kafka import DEAD, GOOD
from tests.harness.simulated_lake import SimulatedQueue, SimulatedTable
from tests.harness.simulated_pipeline import (
    SimulatedDiscovery,
    SimulatedFleet,
    World,
    configured,
)
from tests.harness.simulated_runs import audit
from tests.unit.ingest.pieces import (
    TABLE,
    calm_world,
    drain_timeout_s,
    owned,
    produce,
    source,
    unit,
)


class Run:
    """A supervisor and its world, everybody stepped in turn."""

    def __init__(
        self,
        world: World,
        *,
        available_now: bool = False,
        consumers: int = 2,
        ask: Ask = answer_now,
    ) -> None:
        self.world = world
        plan = RunPlan(configured(), "sha", "sim.yaml", "run-1", available_now)
        self.fleet = SimulatedFleet(world)
        self.discovery = SimulatedDiscovery(world)
        self.loop = SupervisorLoop(plan, self.fleet, self.discovery, world.clock, consumers, ask)

    def round(self) -> None:
        self.loop.tick()
        for process in [*self.world.consumers.values(), *self.world.owners.values()]:
            process.step()
        self.world.clock.sleep(0.1)

    def until(self, condition: Callable[[], bool], rounds: int = 300) -> None:
        for _ in range(rounds):
            if condition():
                return
            self.round()
        raise AssertionError(f"{condition} did not come in {rounds} rounds")

    def until_drain_begins(self) -> None:
        """Up to the tick that asks for it; no consumer knows of it yet."""
        for _ in range(300):
            self.loop.tick()
            if self.loop.state == "draining":
                return
            for process in [*self.world.consumers.values(), *self.world.owners.values()]:
                process.step()
        raise AssertionError("it never drains")

    def end(self, rounds: int = 900) -> Any:
        self.until(lambda: self.loop.outcome is not None, rounds)
        return self.loop.outcome


def running(partitions: int = 2, **more: Any) -> Run:
    world = calm_world(partitions, owner_interval_s=0.5)
    for partition in range(partitions):
        produce(world, 6, partition)
    run = Run(world, **more)
    run.loop.start()
    return run


def ends(run: Run, table: str = TABLE) -> list[int]:
    return [state.next for _, state in sorted(run.world.lake.logs[table][-1].states.items())]


def test_available_now_ends_at_what_was_there_at_the_start() -> None:
    run = running(available_now=True)
    produce(run.world, 3)
    outcome = run.end()
    assert (outcome.state, outcome.error, run.loop.state) == ("done", None, "done")
    assert min(ends(run)) >= 6
    audit(run.world)
    assert run.world.owners == {}


def test_a_run_goes_on_until_it_is_told_to_stop() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    assert run.loop.outcome is None
    produce(run.world, 3)
    run.until(lambda: ends(run) == [9, 6])
    run.loop.stop()
    assert run.end().state == "stopped"
    audit(run.world)


def test_failure_12_partitions_and_topics_that_come_later_are_read_from_their_first_offset() -> (
    None
):
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    run.world.kafka.grow("x", 1)
    produce(run.world, 4, 2)
    run.until(lambda: ends(run) == [6, 6, 4])
    run.world.tables["bronze.b"] = ("x", "y")
    run.world.kafka.produce(run.world.kafka.sources("y")[0], [GOOD] * 2)
    run.until(lambda: "bronze.b" in run.world.lake.logs and ends(run, "bronze.b") == [6, 6, 4, 2])
    assert ends(run) == [6, 6, 4], "the first table gets nothing twice"
    run.loop.stop()
    run.end()
    audit(run.world)


def test_an_admission_that_fails_is_made_again() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    run.world.kafka.grow("x", 1)
    produce(run.world, 4, 2)
    run.world.lake.failing.add("store")
    run.until(lambda: any("no space left" in e["message"] for e in run.loop.troubles.errors))
    run.world.lake.failing.clear()
    run.until(lambda: ends(run) == [6, 6, 4])


def test_a_deleted_topic_is_named_and_stops_nothing_else() -> None:
    run = running()
    run.world.tables[TABLE] = ("x", "y")
    run.until(lambda: len(ends(run)) == 3)
    run.world.missing.add("y")
    run.world.kafka.grow("x", 1)
    produce(run.world, 4, 2)
    run.until(lambda: ends(run) == [6, 6, 4, 0])
    gone = run.world.kafka.sources("y")[0]
    assert isinstance(run.loop.stopped[gone], UnknownTopic)
    assert gone in run.loop.tables.sources, "it keeps its place"
    assert gone not in run.loop.topics.stable_ends
    assert [e["code"] for e in run.loop.troubles.errors] == ["unknown_topic"], "told once"
    run.world.missing.clear()
    run.until(lambda: run.loop.stopped == {})


def test_a_topic_that_a_consumer_missed_for_a_moment_is_read_again() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    at = source(run.world)
    holder = next(c for c in run.world.consumers.values() if at in c.loop._intake.sources)
    holder.loop._intake.stop([at], UnknownTopic("x is unknown"))
    produce(run.world, 3)
    run.until(lambda: at in run.loop.stopped)
    run.loop._end_if_all_stopped()
    assert run.loop.state == "running"
    run.until(lambda: ends(run) == [9, 6])
    assert run.loop.stopped == {}


def test_a_run_whose_topics_are_all_gone_ends_and_says_why() -> None:
    run = running(1)
    run.until(lambda: ends(run) == [6])
    run.world.missing.add("x")
    for consumer in run.world.consumers.values():
        held = sorted(consumer.loop._intake.sources)
        consumer.loop._intake.stop(held, UnknownTopic("x is unknown"))
    outcome = run.end()
    assert (outcome.state, outcome.error.code) == ("failed", "unknown_topic")


def test_an_error_about_one_table_leaves_the_others_alone() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    ensure, refused = run.loop.tables.ensure, []

    def fails(plan: TablePlan) -> Any:
        if plan.name == TABLE and not refused:
            refused.append(plan)
            raise DependencyUnreachable("no space left")
        return ensure(plan)

    run.loop.tables.ensure = fails  # type: ignore[method-assign]
    run.world.kafka.grow("x", 1)
    run.world.tables["bronze.b"] = ("x", "y")
    run.until(lambda: len(refused) == 1)
    assert "bronze.b" in run.world.lake.logs
    run.until(lambda: len(ends(run)) == 3)


class Kept:
    """Questions on their way to a Kafka that does not answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Future[Any]]] = []
        self.silent = False

    def __call__(self, question: Callable[[], Any]) -> Future[Any]:
        if not self.silent:
            return answer_now(question)
        self.asked.append((question, Future()))
        return self.asked[-1][1]

    def answer(self) -> None:
        question, future = self.asked.pop(0)
        future.set_result(question())


def test_failure_13_while_kafka_keeps_a_question_the_run_is_looked_after_and_may_be_stopped() -> (
    None
):
    kafka = Kept()
    run = running(ask=kafka)
    run.until(lambda: ends(run) == [6, 6])
    kafka.silent = True
    run.until(lambda: bool(kafka.asked))
    run.world.kafka.grow("x", 1)
    run.world.consumers["consumer-0"].alive = False
    run.world.consumers["consumer-0"].report = None
    run.world.owners[TABLE].alive = False
    produce(run.world, 3)
    run.until(lambda: ends(run)[0] == 9)
    for _ in range(200):
        run.round()
    assert len(kafka.asked) == 1, "one question at a time"
    for _ in range(2):
        kafka.answer()
        run.until(lambda: len(kafka.asked) == 1)
    assert ends(run) == [9, 6, 0], "the answers were taken"
    run.loop.stop()
    run.loop.topics.publish_last = lambda: None  # type: ignore[method-assign]
    assert run.end().state == "stopped"


@pytest.mark.parametrize("found_by_pattern", [True, False])
def test_only_a_topic_found_by_a_pattern_may_wait_for_its_first_record(
    found_by_pattern: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = running()

    def nothing(_table: Any) -> NoReturn:
        raise NothingToInfer("no records yet")

    monkeypatch.setattr(run.discovery, "setup", nothing)
    topics = TopicPattern(pattern="x.*") if found_by_pattern else ("x",)
    config: Any = SimpleNamespace(fans_out=True, topics=topics, on_topic_recreated="stop")
    plan = TablePlan("bronze.c", "/simulated/c", config, (source(run.world),))
    if found_by_pattern:
        run.loop.topics.run(run.loop.tables.ensure(plan))
        shown = document(run.loop, {}, 1.0)
        assert shown["waiting"] == {"bronze.c": "no record to infer a schema from"}
        # The topic is gone again.
        run.until(lambda: not run.loop.tables.waiting.why)
    else:
        with pytest.raises(NothingToInfer):
            run.loop.topics.run(run.loop.tables.ensure(plan))
    assert "bronze.c" not in run.loop.tables.plans


def test_every_table_without_a_schema_is_named_before_one_is_created(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = calm_world(1)
    run = Run(world)
    (first,) = run.discovery.tables()
    plans = [first, replace(first, name="bronze.b"), replace(first, name="bronze.c")]
    monkeypatch.setattr(run.discovery, "tables", lambda: plans)
    setup = run.discovery.setup

    def of_first_alone(table: TablePlan) -> Any:
        if table.name != TABLE:
            raise NothingToInfer(f"{table.name}: no schema", hint="give one")
        return setup(table)

    monkeypatch.setattr(run.discovery, "setup", of_first_alone)
    with pytest.raises(NothingToInfer, match=r"bronze.b: no schema\nbronze.c: no schema") as told:
        run.loop.start()
    assert told.value.hint == "give one"
    assert run.loop.tables.plans == {}
    assert world.owners == {}


@pytest.mark.parametrize("topics", ["none", "empty ones"])
def test_a_run_that_ends_by_itself_is_not_done_without_a_table(
    topics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(calm_world(1), available_now=True)
    config: Any = SimpleNamespace(fans_out=True, topics=TopicPattern(pattern="x.*"))
    plans = [TablePlan("bronze.x", "/simulated/x", config, ())] if topics == "empty ones" else []

    def nothing(_table: Any) -> NoReturn:
        raise NothingToInfer("no records yet")

    monkeypatch.setattr(run.discovery, "tables", lambda: plans)
    monkeypatch.setattr(run.discovery, "setup", nothing)
    with pytest.raises(ConfigError, match="bronze.x: no record" if plans else "no topic matches"):
        run.loop.start()


def test_a_drain_that_is_late_ends_done_only_where_its_tables_reached_their_targets() -> None:
    run = running(1, available_now=True)
    run.until(lambda: run.loop.state == "draining")
    run.loop.targets = {source(run.world): 7}
    for _ in range(100):
        for process in [*run.world.consumers.values(), *run.world.owners.values()]:
            process.step()
        run.world.clock.sleep(0.1)
    run.world.clock.sleep(drain_timeout_s() + 1)
    run.loop.tick()
    assert run.loop.outcome is None, "it reads on what its table lacks"
    produce(run.world, 1)
    assert run.end().state == "done"
    assert ends(run) == [7]


@pytest.mark.parametrize("policy", ["stop", "start"])
def test_failure_11_a_topic_created_again_is_stopped_or_begun_as_configured(policy: str) -> None:
    run = running(1)
    run.until(lambda: ends(run) == [6])
    old = source(run.world)
    run.world.kafka.create("x", 1)
    produce(run.world, 2)
    (plan,) = run.discovery.tables()
    config: Any = SimpleNamespace(fans_out=False, on_topic_recreated=policy)
    run.loop.topics.run(run.loop.tables.ensure(replace(plan, config=config)))
    stopped = run.loop.tables.recreated
    states = run.world.lake.logs[TABLE][-1].states
    if policy == "stop":
        assert isinstance(stopped[source(run.world)], TopicRecreated)
        assert list(states) == [old]
    else:
        assert stopped == {}
        assert states[source(run.world)].origin == 0


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_consumer_that_is_gone_is_replaced_and_nothing_is_lost(how: str) -> None:
    run = running()
    run.round()
    victim = run.world.consumers["consumer-0"]
    victim.alive, victim.report = False, None
    if how == "failed":
        failure = Terminal("it broke")
        breakers = {"broker": {"state": "open", "reason": "silent"}}
        run.loop.crew.reports["consumer-0"] = ConsumerReport("consumer-0", breakers=breakers)
        victim.report = ConsumerReport("consumer-0", state="failed", failure=failure)
    run.until(lambda: ends(run) == [6, 6])
    assert run.loop.restarts == {"consumer": 1, "owner": 0, "dead_letters": 0}
    assert sorted(run.world.consumers) == ["consumer-1", "consumer-2"]
    if how == "failed":
        assert run.loop.troubles.errors[-1]["message"] == "it broke"
        assert "broker" in run.loop.crew._breakers, "its successor starts half-open"


class Waiting(SimulatedFleet):
    """A fleet in which some consumers wait for a CPU: nothing reaches them."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.no_cpu: dict[str, float] = {}

    def start_consumer(self, setup: Any, table_ids: Any) -> None:
        super().start_consumer(setup, table_ids)
        if setup.name in ("consumer-1", "consumer-3"):
            self.no_cpu[setup.name] = self._world.clock.monotonic()
            self._world.consumers[setup.name].alive = False

    def grant(self, consumer: str, granted: Any) -> None:
        assert consumer not in self.no_cpu, "what is sent now would be obeyed much later"
        super().grant(consumer, granted)

    def news(self) -> News:
        news, now_s = super().news(), self._world.clock.monotonic()
        news.lost_consumers -= self.no_cpu.keys()
        news.waiting = {name: now_s - since for name, since in self.no_cpu.items()}
        return news

    def cpu_for(self, consumer: str) -> None:
        del self.no_cpu[consumer]
        self._world.consumers[consumer].alive = True


def waiting(consumers: int = 2, *, available_now: bool = False) -> tuple[Run, Waiting]:
    world = calm_world(4)
    for partition in range(4):
        produce(world, 6, partition)
    run = Run(world, available_now=available_now, consumers=consumers)
    fleet = Waiting(world)
    run.fleet = fleet
    run.loop._fleet = run.loop.tables._fleet = run.loop.crew._fleet = fleet
    run.loop.start()
    return run, fleet


def test_the_partitions_of_a_consumer_without_a_cpu_are_read_by_the_others_until_it_starts() -> (
    None
):
    run, fleet = waiting()
    run.until(lambda: ends(run).count(6) == 2)
    assert run.loop.crew.names == {"consumer-0", "consumer-1"}
    shown = document(run.loop, {}, 1.0)["consumers"]
    assert shown["consumer-1"]["state"] == "not started"
    run.until(lambda: ends(run) == [6, 6, 6, 6])
    assert run.world.clock.monotonic() >= LEFT_OUT_AFTER_S
    assert run.loop.crew.names == {"consumer-0"}
    fleet.cpu_for("consumer-1")
    run.until(lambda: run.loop.crew.names == {"consumer-0", "consumer-1"})
    run.until(lambda: len(run.world.consumers["consumer-1"].loop._intake.sources) == 2)
    for partition in range(4):
        produce(run.world, 3, partition)
    run.until(lambda: ends(run) == [9, 9, 9, 9])
    assert [e["code"] for e in run.loop.troubles.errors] == []
    run.loop.stop()
    assert run.end().state == "stopped"
    audit(run.world)


@pytest.mark.parametrize("available_now", [True, False])
def test_a_drain_does_not_wait_for_a_consumer_that_never_started(available_now: bool) -> None:
    run, _ = waiting(available_now=available_now)
    if not available_now:
        run.until(lambda: ends(run) == [6, 6, 6, 6])
        run.loop.stop()
    outcome = run.end()
    assert outcome.error is None
    assert ends(run) == [6, 6, 6, 6]
    audit(run.world)


def test_a_consumer_that_is_left_out_may_be_lost_and_is_replaced() -> None:
    run, fleet = waiting()
    run.until(lambda: run.loop.crew.names == {"consumer-0"})
    del fleet.no_cpu["consumer-1"]
    run.until(lambda: len(run.loop.crew.names) == 2 and not run.loop.crew.unstarted)
    assert run.loop.restarts["consumer"] == 1
    run.until(lambda: ends(run) == [6, 6, 6, 6])
    audit(run.world)


def test_while_no_consumer_has_started_none_is_left_out() -> None:
    run, fleet = waiting(1)
    fleet.no_cpu["consumer-0"] = run.world.clock.monotonic()
    run.world.consumers["consumer-0"].alive = False
    for _ in range(300):
        run.round()
    assert run.loop.crew.names == {"consumer-0"}
    fleet.cpu_for("consumer-0")
    run.until(lambda: ends(run) == [6, 6, 6, 6])


def test_a_fenced_consumer_ends_the_run() -> None:
    run = running()
    run.world.consumers["consumer-0"].alive = False
    report = ConsumerReport("consumer-0", state="failed", failure=Fenced("a newer owner"))
    run.world.consumers["consumer-0"].report = report
    with pytest.raises(Fenced):
        run.loop.tick()


def test_news_of_a_consumer_that_is_no_more_is_no_news() -> None:
    run = running()
    run.loop._take(
        News({"consumer-9": ConsumerReport("consumer-9")}, lost_consumers={"consumer-9"})
    )
    assert run.loop.restarts["consumer"] == 0


def test_a_lost_owner_is_replaced_with_its_generations() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    before = dict(run.world.owners[TABLE].table.generations)
    run.world.owners[TABLE].alive = False
    produce(run.world, 3)
    run.until(lambda: ends(run) == [9, 6])
    assert run.loop.restarts["owner"] == 1
    assert run.world.owners[TABLE].table.generations == before
    assert run.loop.tables.lost == set()


def test_an_owner_that_cannot_be_replaced_now_is_one_loss_however_often_it_is_tried() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    run.world.lake.failing.add("store")
    run.world.owners[TABLE].alive = False
    for _ in range(400):
        run.round()
    assert run.loop.restarts["owner"] == 1
    run.world.lake.failing.clear()
    produce(run.world, 3)
    # The next try may be as far away as the longest backoff.
    run.until(lambda: ends(run) == [9, 6], 1500)


def test_a_lost_queue_is_replaced_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = running()
    world = run.world

    def refused() -> NoReturn:
        raise DependencyUnreachable("disk full")

    world.kafka.produce(source(world), [DEAD])
    run.until(lambda: bool(world.lake.letters))

    monkeypatch.setattr(run.fleet, "start_queue", refused)
    world.queue.alive = False
    world.kafka.produce(source(world), [DEAD])
    for _ in range(60):
        run.round()
    assert run.loop.restarts["dead_letters"] == 1
    monkeypatch.undo()
    run.until(lambda: len(world.lake.letters["id-bronze.a"]) == 2)


@pytest.mark.parametrize("kinds", [[GOOD] * 3, [GOOD, DEAD]])
def test_the_queue_is_started_for_the_first_dead_letter_and_not_before(kinds: list[str]) -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    assert not run.world.queue.started
    run.world.kafka.produce(source(run.world), kinds)
    run.until(lambda: ends(run)[0] == 6 + len(kinds))
    for _ in range(20):
        run.round()
    assert run.world.queue.started == (DEAD in kinds)
    assert run.loop.restarts["dead_letters"] == 0


def test_letters_that_an_earlier_run_left_start_the_queue_though_nothing_comes() -> None:
    world = calm_world(1)
    owner = owned(world)
    world.queue.alive = False
    owner.loop.submit(unit(owner, 0, 1, letters=1))
    owner.step()
    world.owners.clear()
    world.queue = SimulatedQueue(world.lake)
    world.kafka.produce(source(world), [GOOD])
    run = Run(world, available_now=True)
    run.loop.start()
    assert run.end().state == "done"
    assert len(world.lake.letters["id-bronze.a"]) == 1


def test_a_last_commit_that_is_the_first_with_letters_is_followed_by_them() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    owner = run.world.owners[TABLE]
    owner.loop.submit(unit(owner, 6, 7, letters=1))
    run.loop.finish(Terminal("the run failed"))
    assert ends(run)[0] == 7
    assert len(run.world.lake.letters["id-bronze.a"]) == 1


def test_a_grant_waits_for_an_owner() -> None:
    run = running()
    run.world.owners[TABLE].alive = False
    run.loop.crew.apply()
    assert not run.loop.crew.settled
    run.until(lambda: ends(run) == [6, 6])
    assert run.loop.crew.settled


def test_an_owner_lost_while_the_run_starts_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    world = calm_world(2)
    produce(world, 6)
    run = Run(world, available_now=True)
    admit, deaths = SimulatedTable.admit, []

    def dies(table: SimulatedTable, origins: Any) -> Any:
        if len(deaths) < 2:
            deaths.append(1)
            world.owners[TABLE].alive = False
            raise OwnerLost("it died in the call")
        return admit(table, origins)

    monkeypatch.setattr(SimulatedTable, "admit", dies)
    run.loop.start()
    assert run.loop.restarts["owner"] == 2
    assert run.end().state == "done"
    assert ends(run) == [6, 0]


def test_too_many_replacements_end_the_run() -> None:
    run = running()
    for _ in range(MAX_REPLACEMENTS):
        run.world.consumers[min(run.world.consumers)].alive = False
        run.loop.tick()
    run.world.consumers[min(run.world.consumers)].alive = False
    with pytest.raises(Terminal, match="gives up: see the logs"):
        run.loop.tick()
    assert run.loop.restarts["consumer"] == MAX_REPLACEMENTS + 1


def test_replacements_that_are_far_apart_do_not_end_it() -> None:
    run = running()
    for _ in range(3 * MAX_REPLACEMENTS):
        run.world.consumers[min(run.world.consumers)].alive = False
        run.loop.tick()
        run.world.clock.sleep(4)
    assert run.loop.outcome is None


def test_an_owner_lost_in_a_drain_is_replaced_in_a_hurry() -> None:
    run = running()
    run.until(lambda: bool(run.world.owners[TABLE].loop._units))
    run.loop.stop()
    run.world.owners[TABLE].alive = False
    assert run.end().state == "stopped"
    assert run.world.lake.logs[TABLE][-1].kind == "release"
    audit(run.world)


def test_a_consumer_lost_in_a_drain_drains_too() -> None:
    run = running(available_now=True)
    run.until(lambda: run.loop.state == "draining")
    run.world.consumers[min(run.world.consumers)].alive = False
    assert run.end().state == "done"
    assert ends(run) == [6, 6]


def test_a_drain_that_undid_something_is_taken_back_and_done_again() -> None:
    run = running(available_now=True)
    run.until_drain_begins()
    table = run.world.owners[TABLE].table
    table.set_generation(run.world.kafka.sources("x"), 99)
    states = ["draining"]
    while run.loop.outcome is None:
        run.round()
        states.append(run.loop.state)
        if "draining" in states and states[-1] == "running":
            table.generations.clear()
    assert run.loop.outcome.state == "done"
    assert "running" in states, "it was taken back"
    assert ends(run) == [6, 6]
    audit(run.world)


def test_a_table_that_refuses_for_ever_ends_the_run_within_drain_timeout_by_name() -> None:
    run = running(available_now=True)
    run.until_drain_begins()
    sources = run.world.kafka.sources("x")
    owner = run.world.owners[TABLE]
    owner.table.set_generation(sources, 99)
    began = run.world.clock.monotonic()
    run.until(lambda: bool(owner.loop.state().last_refusal))
    run.loop.owners[TABLE] = SimpleNamespace(state=owner.loop.state(), ends={})
    outcome = run.end(3000)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, Refused), "what was refused protects data: exit code 5"
    assert f"{TABLE} stands at 4 of 6 of {sources[0]}" in outcome.error.message
    assert "generation" in outcome.error.message, "the owner's reason"
    assert drain_timeout_s() <= run.world.clock.monotonic() - began < 1.5 * drain_timeout_s()
    audit(run.world)


def test_a_table_that_gets_on_may_refuse_for_longer() -> None:
    clock = ManualClock()
    backs = TakeBacks(60.0, clock)
    at = SourcePartition("x", "id", 0)
    for reached in range(5):
        assert not backs.exhausted([Behind(TABLE, at, reached, 9)])
        clock.sleep(59.0)
    still = [Behind(TABLE, at, 4, 9)]
    assert not backs.exhausted(still)
    clock.sleep(1.0)
    assert backs.exhausted(still)
    assert backs.exhausted([]), "nothing is behind: nothing to take back"
    assert kept_refusing([], {}) is None
    assert isinstance(kept_refusing(still, {}), Terminal)


def test_a_table_lost_to_another_run_is_found_out_at_the_end_too() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    SimulatedTable(run.world.lake, TABLE)
    run.loop.stop()
    outcome = run.end()
    assert outcome.state == "failed"
    assert isinstance(outcome.error, Fenced)
    assert run.loop.troubles.errors[-1]["code"] == "fenced"


def test_an_owner_lost_at_the_very_end_does_not_undo_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = running(available_now=True)
    behind, answers = run.loop.tables.behind, [OwnerLost("it died")]

    def dies_once(*given: Any) -> bool:
        if answers:
            raise answers.pop()
        return behind(*given)

    monkeypatch.setattr(run.loop.tables, "behind", dies_once)
    assert run.end().state == "done"
    assert answers == []
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    run.world.owners[TABLE].alive = False
    assert run.loop.finish().state == "done", "the last offsets are not published, no more"


def test_a_drain_has_its_time() -> None:
    run = running()
    run.world.lake.failing.add("store")
    run.round()
    run.until(lambda: any(c.loop._feeds[TABLE].holding for c in run.world.consumers.values()))
    run.loop.stop()
    began = run.world.clock.monotonic()
    outcome = run.end(3000)
    assert outcome.state == "failed"
    assert "drain_timeout" in outcome.error.message
    assert "bronze.a of x" in outcome.error.message
    assert "in consumer-" in outcome.error.message
    assert run.world.clock.monotonic() - began < 2.2 * drain_timeout_s()


def test_failure_13_40_a_drain_without_a_broker_ends_soon_and_says_what_is_read_again() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    produce(run.world, 3)
    feeds = [c.loop._feeds[TABLE] for c in run.world.consumers.values()]
    run.until(lambda: any(feed.holding for feed in feeds))
    held = sum(feed._batcher.held_rows for feed in feeds)
    run.world.kafka.down = True
    run.loop.stop()
    began = run.world.clock.monotonic()
    outcome = run.end()
    assert run.world.clock.monotonic() - began < 2 * DRAIN_PATIENCE_S < drain_timeout_s() / 2
    assert (outcome.state, outcome.error.exit_code, outcome.error.code) == (
        "stopped",
        4,
        "left_over",
    )
    assert f"{held} offsets that were read of x[0] were not handed over" in outcome.error.message
    assert "start the pipeline again" in outcome.error.hint
    assert run.loop.troubles.errors[-1]["code"] == "left_over"
    assert ends(run) == [6, 6]
    assert run.world.lake.logs[TABLE][-1].kind == "release"
    run.world.kafka.down = False
    again = Run(run.world, available_now=True)
    again.loop.start()
    assert again.end().state == "done"
    assert ends(run) == [9, 6]
    audit(run.world)


def test_a_drain_without_a_broker_that_leaves_nothing_is_a_drain() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    for _ in range(30):
        run.round()
    run.world.kafka.down = True
    run.loop.stop()
    outcome = run.end()
    assert (outcome.state, outcome.error) == ("stopped", None)


def silent(*_given: Any) -> NoReturn:
    raise DependencyUnreachable("the dead-letter queue does not answer")


def test_failure_17_dead_letters_that_are_not_stored_at_the_end_are_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = calm_world(1)
    world.kafka.produce(source(world), [GOOD, DEAD])
    run = Run(world, available_now=True)
    monkeypatch.setattr(SimulatedQueue, "add", silent)
    run.loop.start()
    outcome = run.end()
    assert (outcome.state, outcome.error.exit_code) == ("failed", 4)
    assert f"{TABLE} (1 commits)" in outcome.error.message
    assert ends(run) == [2]
    monkeypatch.undo()
    last = Run(world, available_now=True)
    last.loop.start()
    assert last.end().state == "done"
    audit(world)


def test_a_drain_waits_for_dead_letters_that_a_new_queue_can_still_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = running()
    world = run.world
    run.until(lambda: ends(run) == [6, 6])
    monkeypatch.setattr(world.queue, "add", silent)
    world.kafka.produce(source(world), [DEAD])
    run.until(lambda: ends(run) == [7, 6])
    run.loop.stop()
    run.until(lambda: run.loop.state == "draining" and run.loop.crew.drained)
    assert run.loop.tables.letters_coming()
    run.loop.tick()
    assert run.loop.outcome is None
    world.queue.alive = False
    outcome = run.end()
    assert (outcome.state, outcome.error) == ("stopped", None)
    assert world.lake.letters["id-bronze.a"]
    audit(world)


def test_failure_17_a_drain_waits_until_a_probe_tells_whether_dead_letters_can_be_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = calm_world(1)
    world.kafka.produce(source(world), [GOOD, DEAD])
    run = Run(world, available_now=True)
    monkeypatch.setattr(SimulatedQueue, "add", silent)
    run.loop.start()
    run.until(lambda: letters_breaker(run) == "open")
    assert run.loop.outcome is None
    monkeypatch.undo()
    outcome = run.end()
    assert (outcome.state, outcome.error) == ("done", None)
    audit(world)


def letters_breaker(run: Run) -> str:
    states = [run.fleet.owner(name).state() for name in run.loop.tables.plans]
    return states[0].breakers["dead_letters"]["state"] if states else ""


def test_a_run_whose_partitions_all_stopped_ends_and_says_why() -> None:
    world = calm_world(1, record_loss=False)
    produce(world, 6)
    world.kafka.logs[source(world)].kinds.clear()
    run = Run(world)
    run.loop.start()
    world.kafka.logs[source(world)].start = 5
    outcome = run.end()
    assert outcome.state == "failed"
    assert isinstance(outcome.error, OffsetsLost)


def test_poison_alone_does_not_end_a_run_but_abort_does(monkeypatch: pytest.MonkeyPatch) -> None:
    run = running()
    poisoned = TooManyDeadLetters("nearly all poison")
    all_of_them = dict.fromkeys(run.world.kafka.sources("x"), poisoned)
    run.loop.crew.reports["consumer-0"] = ConsumerReport("consumer-0", stopped=all_of_them)
    run.loop._end_if_all_stopped()
    assert run.loop.state == "running"
    monkeypatch.setattr(run.loop.tables, "aborts", lambda _source: True)
    run.loop._end_if_all_stopped()
    assert run.loop.state == "draining"
    run.loop.crew.reports["consumer-0"] = ConsumerReport(
        "consumer-0", stopped={source(run.world): poisoned}
    )
    assert run.loop.finish().error is poisoned


def test_a_run_that_failed_says_so_and_everything_is_ended() -> None:
    run = running()
    outcome = run.loop.finish(Refused("no"))
    assert (outcome.state, run.loop.state) == ("failed", "failed")
    said = run.loop.troubles.errors[-1]
    assert (said["code"], said["message"], said["exit_code"]) == ("refused", "no", 5)
    assert run.world.consumers == {}


def test_an_error_said_twice_is_kept_once_and_the_newest_are_kept() -> None:
    run = running()
    for number in range(30):
        for _ in range(2):
            run.loop.troubles.note(RayLakeError(f"error {number}"))
    messages = [entry["message"] for entry in run.loop.troubles.errors]
    assert messages == [f"error {number}" for number in range(10, 30)]


def test_a_supervisor_that_comes_after_another_goes_on_with_newer_generations() -> None:
    run = running()
    run.until(lambda: ends(run) == [6, 6])
    told = run.world.owners[TABLE].table.generation
    run.world.consumers.clear()
    produce(run.world, 3)
    again = Run(run.world)
    again.loop.start()
    again.until(lambda: ends(again) == [9, 6])
    assert run.world.owners[TABLE].table.generation > told
    audit(run.world)


def test_the_status_document_tells_the_run_as_plain_data() -> None:
    run = running()
    empty = document(run.loop, {"kind": "process"}, 1.0)
    assert empty["tables"][TABLE] == {
        "path": f"/simulated/{TABLE}",
        "table_id": f"id-{TABLE}",
        "topics": ["x"],
    }
    run.until(lambda: ends(run) == [6, 6])
    owner = run.world.owners[TABLE]
    run.round()
    run.loop.owners[TABLE] = owner.report()
    shown = document(run.loop, {"kind": "process"}, 2.0)
    table = shown["tables"][TABLE]
    assert table["totals"]["rows"] == 12
    assert [p["next"] for p in table["partitions"].values()] == [6, 6]
    assert shown["state"] == "running"
    assert set(shown["consumers"]) == {"consumer-0", "consumer-1"}
    assert shown["error"] is None
    run.loop.finish(Refused("no", hint="do"))
    ended = document(run.loop, {"kind": "process"}, 3.0)
    assert ended["error"] == {"code": "refused", "message": "no", "hint": "do", "exit_code": 5}
    json.dumps(ended, default=str)


def test_consumers_start_from_the_breakers_of_the_run_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = calm_world(1)
    run = Run(world, consumers=1)
    earlier = EarlierBreakers(consumers={"broker": {"state": "open"}})
    plan = RunPlan(configured(), "sha", "sim.yaml", "run-1", earlier=earlier)
    started: list[Any] = []
    monkeypatch.setattr(run.fleet, "start_consumer", lambda setup, _ids: started.append(setup))
    loop = SupervisorLoop(plan, run.fleet, run.discovery, world.clock, 1)
    loop.start()
    assert started[0].breakers == {"broker": {"state": "open"}}
