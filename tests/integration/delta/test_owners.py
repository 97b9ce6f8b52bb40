"""Owners of one real table: epochs, zombies, lost answers (FAILURES 2, 3, 4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raylake import faults
from raylake.delta import log_files, owner_core
from raylake.delta.identity import Claim
from raylake.errors import (
    AlreadyRunning,
    DependencyUnreachable,
    Fenced,
    OutcomeUnknown,
    Refused,
)
from tests.integration.delta.scope import ALIVE_ELSEWHERE, P0, Scope, source
from tests.integration.delta.turns import Handle


def other_run(scope: Scope) -> Any:
    return scope.attach("run-2", take_over=True)


@pytest.mark.spec("A3")
def test_units_of_two_partitions_land_in_one_commit_with_their_offsets(scope: Scope) -> None:
    owner = scope.owner()
    before = owner.version
    outcomes = owner.commit(
        [scope.unit(owner, 0, 5), scope.unit(owner, 0, 3, 1), scope.unit(owner, 5, 9)]
    )
    assert [o.status for o in outcomes] == ["committed"] * 3
    assert owner.version == before + 1
    assert scope.offsets(0) == list(range(9))
    assert scope.offsets(1) == list(range(3))
    again = other_run(scope).ends([P0, source(1)])
    assert {s.partition: state.next for s, state in again.items()} == {0: 9, 1: 3}


@pytest.mark.spec("A3")
def test_failure_03_a_zombie_is_fenced_whatever_its_handle_has_read(scope: Scope) -> None:
    zombie = scope.owner()
    zombie.commit([scope.unit(zombie, 0, 50)])
    held = scope.unit(zombie, 40, 50)
    ahead = scope.unit(zombie, 50, 60)
    newer = other_run(scope)
    assert newer.commit([scope.unit(newer, 50, 100)])[0].status == "committed"
    for unit in (held, ahead):
        with pytest.raises(Fenced, match="took the table over, owner epoch 2"):
            zombie.commit([unit])
    zombie._core.table.update_incremental()
    with pytest.raises(Fenced):
        zombie.commit([held])
    assert newer.commit([held, ahead])[1].status == "already"
    assert scope.offsets() == list(range(100))


@pytest.mark.spec("A3")
def test_failure_02_an_owner_frozen_between_check_and_write_loses(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = scope.owner()
    unit = scope.unit(frozen, 0, 10)
    successor: list[Any] = []
    reach = faults.reach

    def overtake(point: str, **in_flight: Any) -> None:
        if point == "owner.after_check" and not successor:
            successor.append(None)
            successor[0] = other_run(scope)
            successor[0].commit([unit])
        reach(point, **in_flight)

    monkeypatch.setattr(faults, "reach", overtake)
    with pytest.raises(Fenced):
        frozen.commit([unit])
    assert scope.offsets() == list(range(10))


@pytest.mark.spec("A3")
def test_failure_04_a_commit_whose_answer_was_lost_is_found_in_the_log(scope: Scope) -> None:
    owner = scope.owner()
    version = owner.version
    table = owner._core.table
    write = table.create_write_transaction

    def lose_the_answer(*args: Any, **kwargs: Any) -> None:
        write(*args, **kwargs)
        raise OSError("connection reset by peer")

    owner._core.table = Handle(table, create_write_transaction=lose_the_answer)
    unit = scope.unit(owner, 0, 10)
    (outcome,) = owner.commit([unit])
    owner._core.table = table
    assert (outcome.status, outcome.version) == ("committed", version + 1)
    assert owner.commit([unit])[0].status == "already"
    assert scope.offsets() == list(range(10))


@pytest.mark.spec("A3")
def test_failure_04_a_put_that_lands_after_it_was_given_up_is_no_damage(scope: Scope) -> None:
    owner = scope.owner()
    version = owner.version
    table = owner._core.table
    write = table.create_write_transaction
    late: list[Callable[[], None]] = []

    def time_out(*args: Any, **kwargs: Any) -> None:
        late.append(lambda: write(*args, **kwargs))
        raise OSError("timed out")

    owner._core.table = Handle(table, create_write_transaction=time_out)
    unit = scope.unit(owner, 0, 10)
    with pytest.raises(DependencyUnreachable):
        owner.commit([unit])
    late[0]()
    owner._core.table = table
    (outcome,) = owner.commit([unit])
    assert outcome.status == "already"
    assert owner.version == version + 1
    assert owner.commit([scope.unit(owner, 10, 20)])[0].status == "committed"
    assert scope.offsets() == list(range(20))


@pytest.mark.spec("A3")
def test_failure_04_an_answer_lost_with_the_log_unreadable_is_settled_by_the_next_call(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = scope.owner()
    table = owner._core.table
    write = table.create_write_transaction

    def lose_the_answer(*args: Any, **kwargs: Any) -> None:
        write(*args, **kwargs)
        raise OSError("connection reset by peer")

    def unreadable(*_args: Any) -> int:
        raise OSError("input/output error")

    unit = scope.unit(owner, 0, 10)
    with monkeypatch.context() as patch:
        owner._core.table = Handle(table, create_write_transaction=lose_the_answer)
        patch.setattr(log_files, "find_batch", unreadable)
        with pytest.raises(OutcomeUnknown):
            owner.commit([unit])
    owner._core.table = table
    (outcome,) = owner.commit([unit])
    assert outcome.status == "already"
    assert outcome.ends == {P0: 10}
    assert scope.offsets() == list(range(10))


def test_failure_04_a_failing_checkpoint_hook_does_not_undo_a_commit(scope: Scope) -> None:
    owner = scope.owner()
    hook = owner_core.PostCommitHookProperties(create_checkpoint=True)
    for version in range(owner.version, 130):
        (scope.path / "_delta_log" / f"{version:020d}.checkpoint.parquet").mkdir()
    table = owner._core.table
    write = table.create_write_transaction

    failures: list[str] = []

    def with_hook(*args: Any, **kwargs: Any) -> None:
        try:
            write(*args, **{**kwargs, "post_commithook_properties": hook})
        except Exception as error:
            failures.append(str(error))
            raise

    owner._core.table = Handle(table, create_write_transaction=with_hook)
    statuses = [owner.commit([scope.unit(owner, at, at + 1)])[0].status for at in range(110)]
    assert set(statuses) == {"committed"}
    assert failures, "no hook failed: the test shows nothing"
    assert scope.offsets() == list(range(110))


def test_a_second_run_is_refused_while_the_first_is_fresh(scope: Scope) -> None:
    scope.attach(identity=ALIVE_ELSEWHERE).admit({P0: 0})
    with pytest.raises(AlreadyRunning, match="another-run") as caught:
        scope.attach("run-2")
    assert "--take-over" in caught.value.hint
    assert scope.attach("run-2", take_over=True).epoch == 2


def test_a_second_run_may_start_after_silence_or_release_or_death(scope: Scope) -> None:
    scope.attach(identity=ALIVE_ELSEWHERE)
    assert scope.attach("run-2", claim=Claim(0.0)).epoch == 2
    gone = scope.me("run-3")
    dead = type(gone)(
        gone.pipeline, "run-3", gone.host, gone.pid, gone.pid_created_s - 100, gone.boot_id
    )
    scope.attach(identity=dead, take_over=True)
    assert scope.attach("run-4").epoch == 4
    left = scope.attach(identity=ALIVE_ELSEWHERE, take_over=True)
    left.release()
    assert scope.attach("run-5").epoch == 6


def test_the_same_run_may_replace_its_own_owner(scope: Scope) -> None:
    scope.attach(identity=ALIVE_ELSEWHERE)
    assert scope.attach(identity=ALIVE_ELSEWHERE).epoch == 2


@pytest.mark.parametrize("claim", [Claim(replaces="run-1"), Claim(None, "run-1")])
def test_who_replaces_an_owner_replaces_none_of_another_run_not_even_one_that_left(
    scope: Scope, claim: Claim
) -> None:
    scope.attach("run-1")
    assert scope.attach("run-1b", claim=claim).epoch == 2, "taken up by another job"
    assert scope.attach("run-1b", claim=claim).epoch == 3, "its own, of a start that was lost"
    foreign = scope.attach("run-2", take_over=True)
    with pytest.raises(Fenced, match="run run-2 of pipeline 'orders'"):
        scope.attach("run-1", claim=claim)
    foreign.release()
    with pytest.raises(Fenced, match="run-2"):
        scope.attach("run-1", claim=claim)
    assert foreign.epoch == 4
    assert scope.attach("run-3").epoch == 5, "a run that is started by a person may"


def test_another_pipelines_topic_is_refused(scope: Scope) -> None:
    owner = scope.owner()
    with pytest.raises(Refused, match="already ingested here by pipeline 'orders'"):
        owner.admit({P0: 0}, pipeline="copy")
    with pytest.raises(Refused):
        owner.ends([source(7)], pipeline="copy")


def test_admitting_again_keeps_the_state(scope: Scope) -> None:
    owner = scope.owner({P0: 7})
    owner.commit([scope.unit(owner, 7, 9)])
    states = owner.admit({P0: 0, source(5): 3})
    assert (states[P0].origin, states[P0].next) == (7, 9)
    assert (states[source(5)].origin, states[source(5)].next) == (3, 3)


def test_an_armed_fault_after_the_commit_is_an_unknown_outcome_that_resolves(
    scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = scope.owner()
    unit = scope.unit(owner, 0, 5)
    folder = tmp_path / "faults"
    faults.arm(folder, "owner.after_commit", action="error")
    monkeypatch.setenv(faults.ENV, str(folder))
    with pytest.raises(OSError, match="injected fault"):
        owner.commit([unit])
    assert len(faults.fired(folder)) == 1
    assert owner.commit([unit])[0].status == "already"
