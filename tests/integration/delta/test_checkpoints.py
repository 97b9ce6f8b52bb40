"""Checkpoints beside the commits, and a log folder that stays bounded."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from raylake.clock import ManualClock
from raylake.delta import checkpoint as checkpoint_module
from raylake.delta import log_files
from raylake.delta.checkpoint import LOCK, CheckpointResult, checkpoint
from raylake.delta.checkpointer import MAX_CHILD_S, Checkpointer, CheckpointFailure
from raylake.delta.owned_table import OwnedTable
from raylake.errors import AlreadyRunning, LogDamaged
from tests.integration.delta.scope import P0, Scope


def busy(scope: Scope, commits: int) -> OwnedTable:
    owner = scope.owner()
    for at in range(commits):
        owner.commit([scope.unit(owner, at, at + 1)])
    return owner


def age(scope: Scope, seconds: float) -> None:
    """Make every log file look as old as that."""
    then = time.time() - seconds
    for path in (scope.path / "_delta_log").iterdir():
        os.utime(path, (then, then))


@pytest.mark.spec("A3")
def test_offsets_survive_a_checkpoint_and_clean_up(scope: Scope) -> None:
    owner = busy(scope, 10)
    before = owner.states()
    age(scope, 100_000)
    result = checkpoint(scope.path, keep_from=owner.version)
    assert result.created
    assert result.removed_files >= 12
    assert log_files.commit_versions(scope.path) == [owner.version]
    assert owner.commit([scope.unit(owner, 10, 11)])[0].status == "committed"
    again = scope.attach("run-1")
    assert again.count_live_files() == 11
    assert again.states()[P0].next == 11
    assert again.states().keys() == before.keys()
    assert scope.offsets() == list(range(11))


def test_log_files_that_the_dead_letters_still_need_stay(scope: Scope) -> None:
    owner = busy(scope, 5)
    needed = owner.version - 2
    age(scope, 100_000)
    assert checkpoint(scope.path, keep_from=needed).removed_files == 0
    assert owner.pending_dead_letters(needed - 1).newest == owner.version
    owner.commit([scope.unit(owner, 5, 6)])
    age(scope, 100_000)
    assert checkpoint(scope.path, keep_from=owner.version).removed_files > 0
    assert owner.pending_dead_letters(-1).newest == owner.version


def test_young_log_files_stay_unless_there_are_too_many(scope: Scope) -> None:
    owner = busy(scope, 10)
    assert checkpoint(scope.path, keep_from=owner.version).removed_files == 0
    owner.commit([scope.unit(owner, 10, 11)])
    result = checkpoint(scope.path, keep_from=owner.version, max_log_files=5)
    assert result.log_files <= 5
    assert DeltaTable(scope.path).version() == owner.version


def test_clean_up_by_somebody_else_is_noticed_by_the_redo(scope: Scope) -> None:
    owner = busy(scope, 3)
    checkpoint(scope.path)
    for version in range(3):
        scope.log(version).unlink()
    with pytest.raises(LogDamaged, match="version 0 is gone"):
        owner.pending_dead_letters(-1)


def test_only_one_checkpointer_works_on_a_table(scope: Scope) -> None:
    busy(scope, 1)
    with (scope.path / "_delta_log" / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunning):
            checkpoint(scope.path)
    assert checkpoint(scope.path).created
    assert not checkpoint(scope.path).created


def test_a_child_process_writes_it_while_the_owner_commits(scope: Scope) -> None:
    owner = scope.owner()
    checkpointer = owner.checkpointer(5)
    for at in range(12):
        owner.commit([scope.unit(owner, at, at + 1)])
        checkpointer.committed(owner.version, keep_from=owner.version)
    result = checkpointer.wait(60)
    assert isinstance(result, CheckpointResult)
    assert log_files.checkpoint_versions(scope.path)
    assert scope.attach("run-1").states()[P0].next == 12


def test_a_child_that_fails_harms_nothing(scope: Scope) -> None:
    owner = busy(scope, 2)
    checkpointer = owner.checkpointer(1)
    with (scope.path / "_delta_log" / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        checkpointer.start(owner.version)
        result = checkpointer.wait(60)
    assert isinstance(result, CheckpointFailure)
    assert result.exit_code == AlreadyRunning.exit_code
    assert "another checkpointer" in result.message
    assert owner.commit([scope.unit(owner, 2, 3)])[0].status == "committed"


def test_a_child_that_hangs_is_killed_and_the_next_one_is_started(scope: Scope) -> None:
    owner = busy(scope, 2)
    clock = ManualClock()
    checkpointer = Checkpointer(str(scope.path), interval_commits=1, clock=clock)
    checkpointer.start(owner.version)
    child = checkpointer._child
    assert child is not None
    os.kill(child.process.pid, signal.SIGSTOP)
    checkpointer.committed(owner.version + 1, keep_from=0)
    assert checkpointer.error == ""
    clock.sleep(MAX_CHILD_S + 1)
    checkpointer.committed(owner.version + 2, keep_from=0)
    assert "killed" in checkpointer.error
    assert child.process.wait(60) == -signal.SIGKILL
    owner.commit([scope.unit(owner, 2, 3)])
    checkpointer.committed(owner.version + 3, keep_from=0)
    assert checkpointer._child is not None
    checkpointer.close()
    assert checkpointer.error == ""
    assert log_files.checkpoint_versions(scope.path) == [owner.version]


def test_a_child_that_cannot_be_started_harms_nothing(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = busy(scope, 1)
    checkpointer = Checkpointer(str(scope.path), interval_commits=1)
    monkeypatch.setattr(sys, "executable", str(scope.path / "none"))
    checkpointer.committed(owner.version, keep_from=0)
    checkpointer.committed(owner.version + 1, keep_from=0)
    assert "not started" in checkpointer.error
    checkpointer.close()


def test_failure_28_a_truncated_checkpoint_is_named_and_can_be_set_aside(scope: Scope) -> None:
    owner = busy(scope, 3)
    checkpoint(scope.path)
    path = scope.path / "_delta_log" / f"{owner.version:020d}.checkpoint.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LogDamaged, match="checkpoint") as caught:
        scope.attach("run-1")
    assert str(path) in str(caught.value)
    path.rename(scope.path / "bad-checkpoint")
    (scope.path / "_delta_log" / "_last_checkpoint").unlink()
    assert scope.attach("run-1").states()[P0].next == 3


def test_commits_that_land_while_a_checkpoint_is_written_do_not_disturb_it(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = busy(scope, 3)
    seen = owner.version
    list_txns = checkpoint_module.list_txns

    def late(root: Path, upto: int | None = None) -> dict[str, int]:
        owner.commit([scope.unit(owner, owner.states()[P0].next, owner.states()[P0].next + 1)])
        return list_txns(root, upto)

    monkeypatch.setattr(checkpoint_module, "list_txns", late)
    assert checkpoint(scope.path).version == seen
    assert owner.commit([scope.unit(owner, 4, 5)])[0].status == "committed"
