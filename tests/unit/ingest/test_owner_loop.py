"""The owner's loop: groups, answers, follow-up of dead letters, failures, and its end."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, NoReturn

import pytest

from raylake.errors import Fenced, LogDamaged, Terminal
from raylake.ingest import owner_state
from raylake.ingest.breaker import BreakerState
from raylake.ingest.follow_up import MARK_EVERY_VERSIONS, MAX_PENDING_COMMITS
from raylake.ingest.ports import OwnerLost
from tests.unit.ingest.pieces import TABLE, calm_world, owned, source, unit


def answered(future: Future[Any]) -> str:
    return str(future.result(timeout=0).outcome.status)


def refused_with(future: Future[Any]) -> BaseException:
    error = future.exception(timeout=0)
    assert error is not None
    return error


def test_what_waits_is_committed_together_in_order() -> None:
    world = calm_world()
    owner = owned(world)
    futures = [owner.loop.submit(unit(owner, start, start + 5)) for start in (0, 5, 10)]
    owner.step()
    assert [answered(future) for future in futures] == ["committed"] * 3
    assert [len(v.units) for v in world.lake.logs[TABLE] if v.kind == "data"] == [3]
    state = owner.loop.state()
    assert (state.commits, state.units_committed, state.files, state.version) == (1, 3, 3, 2)


def test_an_owner_that_committed_nothing_says_which_version_the_table_has() -> None:
    world = calm_world()
    owner = owned(world)
    state = owner.loop.state()
    assert (state.commits, state.last_commit_at, state.version) == (0, None, 1)


def test_too_many_live_files_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(owner_state, "MAINTENANCE_DUE_FILES", 4)
    world = calm_world()
    owner = owned(world)
    owner.loop.count_files(3)
    owner.loop.redo(-1)
    said = []
    with caplog.at_level("WARNING", logger="raylake.ingest.owner_state"):
        for start in range(0, 20, 5):
            owner.loop.submit(unit(owner, start, start + 5))
            owner.loop.hurry()
            owner.step()
            said.append((owner.loop.state().live_files, caplog.text.count("maintenance is due")))
    assert said == [(4, 0), (5, 1), (6, 1), (7, 1)]


def test_the_next_commit_waits_for_the_next_moment_unless_there_is_a_hurry() -> None:
    world = calm_world(owner_interval_s=0.5)
    owner = owned(world)
    first = owner.loop.submit(unit(owner, 0, 5))
    owner.step()
    assert not first.done(), "another consumer's may follow"
    world.clock.sleep(0.1)
    owner.step()
    assert answered(first) == "committed"
    second = owner.loop.submit(unit(owner, 5, 10))
    owner.step()
    assert not second.done()
    assert owner.loop.state().waiting_units == 1
    assert owner.loop.state().oldest_waiting_at == world.clock.now()
    world.clock.sleep(0.55)
    owner.step()
    assert answered(second) == "committed"
    third = owner.loop.submit(unit(owner, 10, 15))
    owner.loop.hurry()
    owner.step()
    assert answered(third) == "committed"


def test_a_refused_unit_holds_up_nobody_and_hears_the_ends() -> None:
    world = calm_world(partitions=2)
    owner = owned(world)
    early = owner.loop.submit(unit(owner, 5, 10))
    good = owner.loop.submit(unit(owner, 0, 5, partition=1))
    owner.step()
    outcome = early.result(timeout=0).outcome
    assert (outcome.status, outcome.reason, outcome.ends) == ("refused", "gap", {source(world): 0})
    assert answered(good) == "committed"
    assert owner.loop.state().units_refused == 1


def test_a_unit_handed_over_twice_is_in_once_and_its_dead_letters_too() -> None:
    world = calm_world()
    owner = owned(world)
    twice = unit(owner, 0, 5, letters=2)
    first, second = owner.loop.submit(twice), owner.loop.submit(twice)
    owner.step()
    assert (answered(first), answered(second)) == ("committed", "already")
    assert [f.path for f in world.lake.letters[owner.table.table_id]] == ["dead-0"]


def test_failure_04_the_dead_letters_of_a_commit_that_landed_unseen_are_stored() -> None:
    world = calm_world()
    owner = owned(world)
    world.lake.plants["commit"] = ["outcome unknown"]
    future = owner.loop.submit(unit(owner, 0, 5, letters=2))
    owner.step()
    assert not future.done()
    assert "cannot be read" in owner.loop.state().error
    world.clock.sleep(1)
    owner.step()
    assert answered(future) == "already"
    assert [f.path for f in world.lake.letters[owner.table.table_id]] == ["dead-0"]
    assert owner.loop.state().error == ""


def test_a_log_that_cannot_be_read_for_the_letters_in_doubt_is_read_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = calm_world()
    owner = owned(world)
    read = owner.table.pending_dead_letters

    def unreadable(_after: int) -> NoReturn:
        raise OSError("input/output error")

    world.lake.plants["commit"] = ["outcome unknown"]
    owner.loop.submit(unit(owner, 0, 5, letters=2))
    owner.step()
    world.clock.sleep(1)
    monkeypatch.setattr(owner.table, "pending_dead_letters", unreadable)
    owner.step()
    assert owner.table.table_id not in world.lake.letters
    monkeypatch.setattr(owner.table, "pending_dead_letters", read)
    world.clock.sleep(1)
    owner.loop.submit(unit(owner, 5, 10, letters=1))
    owner.step()
    assert [f.path for f in world.lake.letters[owner.table.table_id]] == ["dead-0", "dead-5"]


def test_failure_17_ingestion_stops_while_too_many_dead_letters_wait() -> None:
    world = calm_world()
    owner = owned(world)
    world.queue.alive = False
    owner.loop.hurry()
    for start in range(MAX_PENDING_COMMITS):
        owner.loop.submit(unit(owner, start, start + 1, letters=1))
        owner.step()
        world.clock.sleep(0.3)
    last = owner.loop.submit(unit(owner, MAX_PENDING_COMMITS, MAX_PENDING_COMMITS + 1))
    owner.step()
    assert not last.done()
    state = owner.loop.state()
    assert state.pending_dead_letters == MAX_PENDING_COMMITS
    assert state.breakers["dead_letters"]["state"] == BreakerState.OPEN
    world.queue.alive = True
    for _ in range(20):
        world.clock.sleep(1)
        owner.step()
    assert answered(last) == "committed"
    assert len(world.lake.letters[owner.table.table_id]) == MAX_PENDING_COMMITS


def test_the_dead_letter_position_moves_without_files_so_that_the_log_may_be_cleaned() -> None:
    world = calm_world()
    owner = owned(world)
    owner.loop.hurry()
    marks = set()
    for start in range(2 * MARK_EVERY_VERSIONS + 10):
        owner.loop.submit(unit(owner, start, start + 1))
        owner.step()
        marks.add(world.lake.stored.get(owner.table.table_id, -1))
    assert sorted(marks) == [-1, MARK_EVERY_VERSIONS - 1, 2 * MARK_EVERY_VERSIONS - 1]
    checkpointer: Any = owner.loop._checkpointer
    assert checkpointer.keep_from == 2 * MARK_EVERY_VERSIONS
    assert owner.loop.state().pending_dead_letters == 0


def test_a_new_owner_adds_what_the_old_one_left() -> None:
    world = calm_world()
    owner = owned(world)
    world.queue.alive = False
    owner.loop.submit(unit(owner, 0, 5, letters=2))
    owner.step()
    owner.alive = False
    world.queue.alive = True
    owned(world).step()
    assert [f.path for f in world.lake.letters[owner.table.table_id]] == ["dead-0"]


def test_units_wait_while_the_store_refuses_and_its_breaker_opens_and_closes() -> None:
    world = calm_world()
    owner = owned(world)
    world.lake.failing.add("store")
    future = owner.loop.submit(unit(owner, 0, 5))
    for _ in range(6):
        owner.step()
        world.clock.sleep(0.3)
    assert owner.loop.state().breakers["store"]["state"] == BreakerState.OPEN
    assert not future.done()
    world.lake.failing.clear()
    world.clock.sleep(1)
    owner.step()
    assert answered(future) == "committed"
    # Both probes were answered by a commit each: nothing was let through and forgotten.
    world.clock.sleep(1)
    owner.loop.submit(unit(owner, 5, 10))
    owner.step()
    assert owner.loop.state().breakers["store"]["state"] == BreakerState.CLOSED


def test_a_fenced_owner_tells_everybody_and_takes_nothing_more() -> None:
    world = calm_world()
    owner = owned(world)
    waiting = owner.loop.submit(unit(owner, 0, 5))
    asked = owner.loop.call(lambda: owner.table.admit({source(world): 0}))
    owned(world)
    owner.step()
    assert not owner.alive
    for future in (waiting, asked, owner.loop.submit(unit(owner, 0, 5)), owner.loop.call(int)):
        assert isinstance(refused_with(future), Fenced)
    assert isinstance(owner.loop.failure, Fenced)


def test_a_call_that_fails_fails_alone() -> None:
    owner = owned(calm_world())

    def fail() -> NoReturn:
        raise Terminal("no")

    bad, good = owner.loop.call(fail), owner.loop.call(lambda: 7)
    owner.step()
    assert isinstance(refused_with(bad), Terminal)
    assert good.result(timeout=0) == 7
    assert owner.alive


@pytest.mark.parametrize("where", ["call", "commit"])
def test_whoever_waits_is_told_when_the_loop_breaks_unexpectedly(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = owned(calm_world())

    def broken(*_given: Any, **_more: Any) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(owner.table, "commit", broken)
    futures: list[Future[Any]] = [owner.loop.submit(unit(owner, 0, 5))]
    if where == "call":
        futures += [owner.loop.call(broken), owner.loop.call(int)]
    with pytest.raises(ZeroDivisionError):
        owner.loop.step()
    for future in futures:
        assert isinstance(refused_with(future), OwnerLost)
    assert isinstance(owner.loop.failure, OwnerLost)


def test_a_damaged_dead_letter_table_ends_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    world = calm_world()
    owner = owned(world)

    def damaged(*_given: Any) -> NoReturn:
        raise LogDamaged("a named file is gone")

    monkeypatch.setattr(world.queue_port, "add", damaged)
    future = owner.loop.submit(unit(owner, 0, 5, letters=1))
    owner.step()
    assert answered(future) == "committed"
    assert isinstance(owner.loop.failure, LogDamaged)


def test_closing_commits_what_waits_and_releases() -> None:
    world = calm_world()
    owner = owned(world)
    owner.loop.submit(unit(owner, 0, 5))
    owner.step()
    late = owner.loop.submit(unit(owner, 5, 10, letters=1))
    owner.loop.close(5.0)
    owner.step()
    assert answered(late) == "committed"
    assert not owner.alive
    assert world.lake.logs[TABLE][-1].kind == "release"
    assert isinstance(refused_with(owner.loop.submit(unit(owner, 10, 15))), OwnerLost)
    assert isinstance(refused_with(owner.loop.call(int)), OwnerLost)
    assert owner.loop.failure is None


@pytest.mark.parametrize("dead", ["queue", "store"])
def test_closing_ends_in_time_though_a_store_is_dead(dead: str) -> None:
    world = calm_world()
    owner = owned(world)
    world.queue.alive = dead != "queue"
    if dead == "store":
        world.lake.failing.add("store")
    future = owner.loop.submit(unit(owner, 0, 5, letters=2))
    owner.loop.close(5.0)
    began = world.clock.monotonic()
    while owner.alive and world.clock.monotonic() < began + 20:
        owner.step()
        world.clock.sleep(0.2)
    assert world.clock.monotonic() - began == pytest.approx(5.0, abs=0.5)
    kinds = [version.kind for version in world.lake.logs[TABLE]]
    if dead == "queue":
        assert answered(future) == "committed"
        assert kinds[-1] == "release"
        world.queue.alive = True
        owned(world).step()
        assert len(world.lake.letters[owner.table.table_id]) == 1
    else:
        assert isinstance(refused_with(future), OwnerLost)
        assert "data" not in kinds


def test_the_thread_wakes_for_what_comes_and_ends_when_closed() -> None:
    owner = owned(calm_world())
    thread = threading.Thread(target=owner.loop.run)
    thread.start()
    try:
        assert owner.loop.call(lambda: 7).result(timeout=10) == 7
        future = owner.loop.submit(unit(owner, 0, 5))
        assert future.result(timeout=10).outcome.status == "committed"
    finally:
        owner.loop.close(5.0)
        thread.join(timeout=10)
    assert not thread.is_alive()


def test_the_wait_is_as_long_as_there_is_nothing_to_do() -> None:
    world = calm_world()
    owner = owned(world)
    loop = owner.loop
    assert loop._wait_s() == 1.0
    future = loop.call(int)
    assert loop._wait_s() == 0.0
    owner.step()
    future.result(timeout=0)
    loop.submit(unit(owner, 0, 5, letters=1))
    assert loop._wait_s() == 0.0
    world.queue.alive = False
    owner.step()
    assert loop._wait_s() == pytest.approx(0.2), "dead letters are tried again soon"
    loop.submit(unit(owner, 5, 10))
    world.lake.failing.add("store")
    world.clock.sleep(0.5)
    owner.step()
    assert loop._wait_s() == pytest.approx(0.2), "so are units"
    loop.close(0.1)
    assert loop._wait_s() == pytest.approx(0.1)


def test_consumers_hear_the_watermark_of_the_log() -> None:
    world = calm_world()
    owner = owned(world)
    owner.loop.watch([source(world)])
    future = owner.loop.submit(unit(owner, 0, 5))
    owner.step()
    assert future.result(timeout=0).watermark_ms == 4000 == owner.table.watermark_ms
    assert owner.loop.state().watermark_ms == 4000
