"""A consumer's loop with its feeds, outboxes and intake: what it does when something changes."""

from __future__ import annotations

from typing import Any, NoReturn

import pyarrow as pa
import pytest

from raylake.errors import (
    DependencyUnreachable,
    Fenced,
    OffsetsLost,
    OutcomeUnknown,
    SchemaConflict,
    TopicRecreated,
)
from raylake.ingest.breaker import BreakerState
from raylake.ingest.intake import TooManyDeadLetters
from raylake.ingest.poison import PoisonPolicy
from raylake.ingest.ports import OwnerLost
from raylake.ingest.reports import Granted
from tests.harness.simulated_kafka import ABSENT, DEAD, GOOD, WIDER
from tests.harness.simulated_pipeline import BUDGET_BYTES, ConsumerProcess, World
from tests.unit.ingest.pieces import (
    TABLE,
    calm_world,
    consumer,
    grant_of,
    owned,
    plans,
    produce,
    source,
    turn,
)


def end(world: World, partition: int = 0, table: str = TABLE) -> int:
    return world.lake.logs[table][-1].states[source(world, partition)].next


def totals(world: World, partition: int = 0) -> Any:
    return world.lake.logs[TABLE][-1].states[source(world, partition)].totals


def start(partitions: int = 1, **more: Any) -> tuple[World, ConsumerProcess]:
    world = calm_world(partitions, **more)
    for name in world.tables:
        owned(world, name)
    return world, consumer(world)


def force_reset(world: World, made: ConsumerProcess) -> None:
    """The next unit is refused and the feed has to begin again."""
    for feed in made.loop._feeds.values():
        table = world.owners[feed.names.table].table
        table.set_generation(world.kafka.sources("x"), 99)


def feed_of(made: ConsumerProcess, table: str = TABLE) -> Any:
    return made.loop._feeds[table]


def test_records_reach_the_table_and_dead_ones_the_dead_letters() -> None:
    world, made = start()
    world.kafka.produce(source(world), [GOOD, DEAD, ABSENT, GOOD])
    turn(world, made, 10)
    assert (totals(world).rows, totals(world).dead, totals(world).absent) == (2, 1, 1)
    report = made.loop.report()
    assert report.state == "running"
    assert report.positions == {source(world): 4}
    assert report.tables[TABLE]["records"] == 3
    assert (report.error, report.breakers, report.tables[TABLE]["held_bytes"]) == ("", {}, 0)


def test_offsets_without_records_are_handed_over_seldom() -> None:
    world, made = start()
    world.kafka.produce(source(world), [ABSENT] * 5)
    turn(world, made, 6)
    assert end(world) == 0
    turn(world, made, 6)
    assert (end(world), totals(world).absent) == (5, 5)


def test_a_drain_hands_everything_over_and_may_be_taken_back() -> None:
    world, made = start()
    produce(world, 4)
    made.loop.step()
    made.loop.drain()
    made.loop.drain()
    turn(world, made, 4)
    assert made.loop.drained
    assert made.loop.report().state == "drained"
    assert end(world) == 4
    produce(world, 3)
    turn(world, made, 5)
    assert end(world) == 4, "nothing is fetched while it drains"
    made.loop.resume()
    made.loop.resume()
    turn(world, made, 10)
    assert end(world) == 7


def test_a_drain_while_a_reset_is_pending_ends_at_the_tables_end() -> None:
    world, made = start()
    produce(world, 4)
    made.loop.step()
    force_reset(world, made)
    world.clock.sleep(0.5)
    made.loop.step()
    owner = world.owners.pop(TABLE)
    owner.step()
    made.loop.step()
    assert feed_of(made).holds([]), "the refusal is known, the owner is not there"
    made.loop.drain()
    made.loop.step()
    assert not made.loop.drained
    assert made.loop.report().error
    world.owners[TABLE] = owner
    world.clock.sleep(1)
    turn(world, made, 5)
    assert made.loop.drained
    assert (end(world), made.loop.report().positions) == (0, {source(world): 0})
    made.loop.grant(grant_of(world, [source(world)], 100))
    made.loop.resume()
    turn(world, made, 10)
    assert end(world) == 4


def test_failure_11_what_is_held_of_a_topic_created_again_is_dropped_in_a_drain() -> None:
    world, made = start(partitions=1, tables=("bronze.b",))
    other = world.kafka.sources("y")[0]
    made.loop.grant(grant_of(world, [other], 2))
    world.kafka.produce(other, [GOOD])
    turn(world, made, 6)
    produce(world, 3)
    world.kafka.produce(other, [GOOD] * 2)
    made.loop.step()
    made.loop.step()
    gone = source(world)
    world.kafka.ids["x"] = "another"
    # The fetcher finds it, before a hand-over asks.
    made.loop._intake._stop_topic(TopicRecreated("created again", topic="x"))
    made.loop.drain()
    turn(world, made, 6)
    assert made.loop.drained
    states = world.lake.logs["bronze.b"][-1].states
    assert (states[gone].next, states[other].next) == (0, 3)
    stopped = made.loop.report().stopped
    assert isinstance(stopped[gone], TopicRecreated)
    assert list(stopped) == [gone]


def test_what_is_held_of_a_partition_whose_later_offsets_are_lost_is_kept() -> None:
    world, made = start(record_loss=False)
    produce(world, 3)
    made.loop.step()
    produce(world, 10)
    world.kafka.logs[source(world)].start = 8
    made.loop.step()
    world.kafka.down = True
    world.clock.sleep(1)
    made.loop.step()
    world.kafka.down = False
    turn(world, made, 40)
    held = made.loop.report().stopped[source(world)]
    assert isinstance(held, OffsetsLost)
    assert end(world) == 3, "they cannot be read again"


def test_lost_offsets_are_recorded_where_that_is_asked_for() -> None:
    world, made = start()
    produce(world, 10)
    world.kafka.logs[source(world)].start = 6
    turn(world, made, 10)
    assert (totals(world).lost, totals(world).rows) == (6, 4)


def test_a_loss_that_cannot_be_recorded_now_is_recorded_later() -> None:
    world, made = start()
    produce(world, 10)
    world.kafka.logs[source(world)].start = 6
    owner = world.owners.pop(TABLE)
    made.loop.step()
    assert made.loop.report().error
    assert made.loop.report().stopped == {}
    world.owners[TABLE] = owner
    turn(world, made, 10)
    assert (totals(world).lost, totals(world).rows) == (6, 4)


def test_a_loss_beyond_the_end_stops_the_partition() -> None:
    world, made = start()
    produce(world, 4)
    turn(world, made, 8)
    world.kafka.logs[source(world)].kinds.clear()
    world.kafka.logs[source(world)].stable = 0
    turn(world, made, 3)
    assert isinstance(made.loop.report().stopped[source(world)], OffsetsLost)
    made.loop.grant(grant_of(world, [source(world)], 2))
    assert made.loop.report().stopped == {}


def test_a_revoked_partition_is_released_when_its_unit_is_answered() -> None:
    world, made = start(partitions=2)
    produce(world, 3)
    produce(world, 3, partition=1)
    made.loop.step()
    first = source(world)
    made.loop.revoke({first})
    made.loop.step()
    assert made.loop.report().released == ()
    turn(world, made, 3)
    report = made.loop.report()
    assert report.released == (first,)
    assert report.sources == (source(world, 1),)
    assert made.loop.report().released == (), "told once"
    assert end(world) == 3
    turn(world, made, 8)
    assert end(world, 1) == 3


def test_a_partition_that_it_never_had_is_released_at_once() -> None:
    world, made = start(partitions=2)
    made.loop.revoke({source(world, 1)})
    turn(world, made, 1)
    made.loop.revoke({source(world, 1)})
    assert made.loop.report().released == (source(world, 1),)


def test_a_revoke_while_the_broker_is_silent_drops_what_is_held() -> None:
    world, made = start()
    produce(world, 3)
    made.loop.step()
    world.kafka.down = True
    made.loop.revoke({source(world)})
    turn(world, made, 2)
    assert made.loop.report().released == (source(world),)
    assert end(world) == 0


def test_a_revoke_while_resetting_waits_for_the_reset() -> None:
    world, made = start(partitions=2)
    produce(world, 3)
    produce(world, 3, partition=1)
    made.loop.step()
    force_reset(world, made)
    world.clock.sleep(0.5)
    made.loop.step()
    owner = world.owners.pop(TABLE)
    owner.step()
    made.loop.step()
    made.loop.revoke({source(world)})
    made.loop.step()
    assert made.loop.report().released == ()
    world.owners[TABLE] = owner
    world.clock.sleep(1)
    turn(world, made, 4)
    assert made.loop.report().released == (source(world),)
    made.loop.grant(grant_of(world, [source(world, 1)], 100))
    turn(world, made, 10)
    assert (end(world), end(world, 1)) == (0, 3)


def test_a_grant_during_a_drain_reads_nothing_until_it_is_taken_back() -> None:
    world, made = start(partitions=2)
    made.loop.drain()
    turn(world, made, 2)
    produce(world, 3, partition=1)
    made.loop.grant(grant_of(world, [source(world, 1)], 2))
    turn(world, made, 6)
    assert made.loop.drained
    assert end(world, 1) == 0
    made.loop.resume()
    turn(world, made, 8)
    assert end(world, 1) == 3


def test_a_refused_unit_after_an_accepted_one_with_other_partitions() -> None:
    world, made = start(partitions=2)
    produce(world, 3)
    made.loop.step()
    world.clock.sleep(0.5)
    made.loop.step()
    # Handed over, not committed yet; the second partition's unit is of an old generation.
    produce(world, 3, partition=1)
    made.loop.step()
    world.owners[TABLE].table.set_generation([source(world, 1)], 99)
    world.clock.sleep(0.5)
    turn(world, made, 4)
    assert (end(world), end(world, 1)) == (3, 0)
    assert made.loop.report().tables[TABLE]["resets"] >= 1
    made.loop.grant(grant_of(world, [source(world, 1)], 100))
    turn(world, made, 10)
    assert (end(world), end(world, 1)) == (3, 3)


def test_the_budget_is_given_back_by_a_reset() -> None:
    world, made = start()
    produce(world, 5)
    made.loop.step()
    held = made.loop.report().budget["used_bytes"]
    made.loop.step()
    assert made.loop.report().budget["used_bytes"] > held == 0
    force_reset(world, made)
    world.kafka.logs[source(world)].stable = 0
    turn(world, made, 10)
    assert made.loop.report().tables[TABLE]["resets"] >= 1
    assert made.loop.report().budget["used_bytes"] == 0


def test_fetching_pauses_at_the_budget_and_goes_on_below_it() -> None:
    world, made = start()
    world.lake.failing.add("store")
    produce(world, 400)
    states = set()
    for _ in range(120):
        turn(world, made)
        states.add((made.loop._paused, made.budget.used_bytes > BUDGET_BYTES + 1000))
    assert (True, False) in states
    assert not any(beyond for _, beyond in states)
    assert made.loop.report().state in ("waiting", "paused")
    made.loop.drain()
    made.loop.resume()
    world.lake.failing.clear()
    turn(world, made, 400)
    assert end(world) == 400
    assert made.loop.report().state == "running"


def test_rows_in_files_that_wait_for_a_commit_do_not_fill_the_budget() -> None:
    world, made = start()
    produce(world, 150)
    for _ in range(120):
        made.loop.step()
        world.clock.sleep(0.1)
    report = made.loop.report()
    assert (report.positions, end(world)) == ({source(world): 150}, 0)
    files = [file for path, file in world.lake.files.items() if path.startswith("store")]
    assert sum(len(file) for file in files) == 150
    assert report.budget["used_bytes"] == report.tables[TABLE]["held_bytes"] == 16 * 150
    turn(world, made, 2)
    assert (end(world), made.loop.report().budget["used_bytes"]) == (150, 0)


def test_poison_stops_a_partition_which_is_tried_again_and_goes_on() -> None:
    poison = PoisonPolicy(stop_above=0.5, window_records=10, min_records=2, open_s=5.0)
    world, made = start(partitions=2, poison=poison)
    world.kafka.produce(source(world), [DEAD] * 8)
    produce(world, 4, partition=1)
    turn(world, made, 6)
    report = made.loop.report()
    assert isinstance(report.stopped[source(world)], TooManyDeadLetters)
    assert report.state == "waiting"
    assert end(world, 1) == 4, "the others go on"
    assert end(world) == 0
    tries = feed_of(made).gate.breaker(source(world)).opened_total
    world.clock.sleep(6)
    turn(world, made, 3)
    assert feed_of(made).gate.breaker(source(world)).opened_total == tries + 1
    feed_of(made).gate.accept(source(world))
    turn(world, made, 10)
    assert made.loop.report().stopped == {}
    assert (end(world), totals(world).dead) == (8, 8)


def test_a_poisoned_partition_stays_paused_when_others_are_granted() -> None:
    poison = PoisonPolicy(stop_above=0.5, window_records=10, min_records=2, open_s=50.0)
    world, made = start(partitions=3, poison=poison)
    made.loop.revoke({source(world, 2)})
    world.kafka.produce(source(world), [DEAD] * 8)
    turn(world, made, 3)
    made.loop.grant(grant_of(world, [source(world, 2)], 2))
    assert source(world) in made.loop._intake._fetcher._paused
    made.loop.revoke({source(world)})
    turn(world, made, 3)
    assert made.loop.report().released
    assert made.loop.report().stopped == {}


def test_an_earlier_runs_poison_is_judged_from_the_first_record_on() -> None:
    poison = PoisonPolicy(stop_above=0.5, window_records=10, min_records=8, open_s=5.0)
    world, made = start(poison=poison)
    at = source(world)
    name = f"poison/{TABLE}/{at.topic}/{at.topic_id}/{at.partition}"
    feed_of(made).earlier = {name: {"state": "open", "reason": "poison"}}
    made.loop.grant(grant_of(world, [at], 2))
    world.kafka.produce(at, [DEAD] * 2)
    turn(world, made, 3)
    assert isinstance(made.loop.report().stopped[at], TooManyDeadLetters)


def test_a_new_column_is_added_once_and_the_batch_made_again() -> None:
    world, made = start()
    world.kafka.produce(source(world), [GOOD, WIDER, GOOD])
    turn(world, made, 10)
    assert end(world) == 3
    assert made.loop.report().tables[TABLE]["evolved"] == 1
    assert world.owners[TABLE].table.view.schema.names == ["offset", "extra"]


@pytest.mark.parametrize(
    "error",
    [OwnerLost("gone"), DependencyUnreachable("disk full"), OutcomeUnknown("unknown")],
    ids=lambda error: type(error).__name__,
)
def test_a_column_that_cannot_be_added_now_is_added_later(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, made = start()

    def fail(_additions: pa.Schema) -> NoReturn:
        raise error

    world.kafka.produce(source(world), [GOOD, WIDER, GOOD])
    monkeypatch.setattr(world.owners[TABLE].table, "evolve", fail)
    turn(world, made, 2)
    assert made.loop.report().error == str(error)
    fetches = made.loop._fetch_again_s
    assert fetches > world.clock.monotonic() - 1
    monkeypatch.undo()
    turn(world, made, 12)
    assert (end(world), totals(world).rows) == (3, 3)
    assert made.loop.report().error == ""


def test_a_column_that_nobody_can_add_ends_the_consumer() -> None:
    world, made = start()
    feed_of(made)._fitting._maker._column = "bad"
    world.kafka.produce(source(world), [WIDER])
    with pytest.raises(SchemaConflict, match="cannot be added"):
        turn(world, made, 3)


def test_a_unit_of_an_old_schema_is_made_again() -> None:
    world, made = start()
    produce(world, 3)
    made.loop.step()
    world.clock.sleep(0.5)
    made.loop.step()
    owner = world.owners[TABLE]
    owner.table.evolve(pa.schema([("extra", pa.int64())]))
    turn(world, made, 12)
    assert end(world) == 3
    counters = made.loop.report().tables[TABLE]
    assert (counters["refused"], counters["resets"]) == (1, 1)


def test_an_owner_that_died_gets_its_successors_the_same_units() -> None:
    world, made = start()
    world.kafka.produce(source(world), [GOOD, DEAD, GOOD])
    made.loop.step()
    world.clock.sleep(0.5)
    made.loop.step()
    world.owners[TABLE].alive = False
    made.loop.step()
    assert "died" in made.loop.report().error
    files = len(world.lake.files)
    owned(world)
    turn(world, made, 10)
    assert (end(world), len(world.lake.files)) == (3, files), "files are written once"
    assert made.loop.report().error == ""


def test_an_answer_is_taken_though_the_next_one_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    world, made = start()
    produce(world, 3)
    made.loop.step()
    force_reset(world, made)
    world.clock.sleep(0.5)
    made.loop.step()
    produce(world, 3)
    made.loop.step()
    world.clock.sleep(0.5)
    made.loop.step()
    first, second = feed_of(made)._outbox._outgoing
    world.owners[TABLE].step()
    assert first.handover.poll().outcome.status == "refused"

    def lost() -> NoReturn:
        raise OwnerLost("the answer was lost")

    monkeypatch.setattr(second.handover, "poll", lost)
    made.loop.step()
    counters = made.loop.report().tables[TABLE]
    assert counters["refused"] == 1, "the first answer was not forgotten"


def test_a_fenced_owner_ends_the_consumer() -> None:
    world, made = start()
    produce(world, 3)
    made.loop.step()
    world.clock.sleep(0.5)
    made.loop.step()
    old = world.owners[TABLE]
    owned(world)
    old.step()
    with pytest.raises(Fenced):
        made.loop.step()


@pytest.mark.parametrize("store", ["store", "dead_letters"])
def test_files_that_cannot_be_written_are_tried_again_under_a_breaker(store: str) -> None:
    world, made = start()
    world.kafka.produce(source(world), [GOOD, DEAD, GOOD])
    world.lake.failing.add(store)
    turn(world, made, 20)
    report = made.loop.report()
    assert report.state == "waiting"
    assert f"{TABLE}/{store}" in report.breakers
    assert "no space left" in report.error
    assert end(world) == 0
    world.lake.failing.clear()
    turn(world, made, 40)
    assert end(world) == 3
    written = [path for path in world.lake.files if path.startswith("store")]
    assert len(written) == 1, "rows are written once"


def test_failure_13_the_brokers_breaker_opens_and_closes_again() -> None:
    world, made = start()
    world.kafka.down = True
    turn(world, made, 20)
    assert made.loop.report().breakers["broker"]["state"] == BreakerState.OPEN
    assert made.loop.report().error == "no broker answers"
    world.kafka.down = False
    produce(world, 3)
    turn(world, made, 40)
    assert end(world) == 3
    assert made.loop.report().breakers == {}


def test_a_drain_with_nothing_held_needs_no_broker() -> None:
    world, made = start()
    world.kafka.down = True
    made.loop.drain()
    turn(world, made, 2)
    assert made.loop.drained


def test_two_tables_take_each_its_own_part() -> None:
    world, made = start(tables=(TABLE, "bronze.b"))
    produce(world, 6)
    turn(world, made, 12)
    assert (end(world), end(world, table="bronze.b")) == (6, 6)
    owned(world)
    behind = Granted(2, {TABLE: {source(world): 6}, "bronze.b": {source(world): 6}})
    made.loop.grant(behind)
    produce(world, 2)
    turn(world, made, 12)
    assert (end(world), end(world, table="bronze.b")) == (8, 8)


def test_a_table_that_comes_later_gets_what_it_lacks_and_others_nothing_twice() -> None:
    world, made = start(tables=("bronze.b",))
    produce(world, 6)
    turn(world, made, 12)
    world.tables[TABLE] = ("x",)
    owned(world)
    plan = next(plan for plan in plans(world) if plan.name == TABLE)
    made.loop.add_table(TABLE, made.feed(plan), None)
    made.loop.add_table(TABLE, made.feed(plan), None)
    made.loop.grant(Granted(1, {TABLE: {source(world): 0}}))
    turn(world, made, 12)
    assert (end(world), end(world, table="bronze.b")) == (6, 6)


def test_closing_closes_the_fetcher() -> None:
    _, made = start()
    made.loop.close()
    assert made.loop._intake._fetcher.closed


def test_an_error_about_a_partition_that_is_not_read_is_not_hidden() -> None:
    _, made = start()
    intake = made.loop._intake
    with pytest.raises(TopicRecreated):
        intake._stop_topic(TopicRecreated("created again", topics=["other"]))
    with pytest.raises(OffsetsLost):
        intake._offsets_lost(OffsetsLost("gone", topic="other", partition=0))


def test_failure_11_a_topic_created_again_is_found_before_the_hand_over() -> None:
    world, made = start()
    produce(world, 3)
    made.loop.step()
    world.kafka.ids["x"] = "another"
    world.clock.sleep(0.5)
    turn(world, made, 4)
    (stopped,) = made.loop.report().stopped.values()
    assert isinstance(stopped, TopicRecreated)
    assert [version.kind for version in world.lake.logs[TABLE]] == ["epoch", "admit"]
    assert made.loop._intake.fetch(0.1) == [], "nothing is left to read"


def test_failure_11_a_topic_created_again_is_read_while_the_old_one_is_not_yet_taken_back() -> None:
    world, made = start()
    produce(world, 3)
    made.loop.step()
    gone = source(world)
    world.kafka.create("x", 1)
    now = source(world)
    world.kafka.produce(now, [GOOD] * 2)
    world.owners[TABLE].table.admit({now: 0})
    made.loop.grant(grant_of(world, [now], 2))
    world.clock.sleep(0.5)
    turn(world, made, 10)
    assert list(made.loop.report().stopped) == [gone]
    states = world.lake.logs[TABLE][-1].states
    assert (states[gone].next, states[now].next) == (0, 2)


@pytest.mark.parametrize("error", [TopicRecreated, DependencyUnreachable])
def test_a_fetch_that_fails_stops_or_counts(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world, made = start()
    intake = made.loop._intake

    def fail(_timeout_s: float) -> NoReturn:
        raise error("it failed", topic="x")

    monkeypatch.setattr(intake._fetcher, "fetch", fail)
    made.loop.step()
    report = made.loop.report()
    if error is TopicRecreated:
        assert list(report.stopped) == [source(world)]
    else:
        assert report.error == "it failed"
        monkeypatch.undo()
        produce(world, 3)
        turn(world, made, 10)
        assert (end(world), made.loop.report().error) == (3, "")


def test_rows_without_dead_letters_do_not_wait_for_the_dead_letters_store() -> None:
    world, made = start()
    letters = feed_of(made).stores["dead_letters"]
    letters.breaker.trip("broken")
    world.kafka.produce(source(world), [GOOD] * 3)
    turn(world, made, 6)
    assert end(world) == 3
    assert letters.breaker.state is BreakerState.OPEN, "nothing was learnt of it"
