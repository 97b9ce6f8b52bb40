"""Checkpoints beside the commits, and a log folder that stays bounded."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.clock import ManualClock
from raylake.delta import checkpoint as checkpoint_module
from raylake.delta import log_files
from raylake.delta.checkpoint import LOCK, CheckpointResult, checkpoint
from raylake.delta.checkpoint_proof import prove
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

    def late(root: Path, version: int) -> None:
        owner.commit([scope.unit(owner, owner.states()[P0].next, owner.states()[P0].next + 1)])
        prove(root, version)

    monkeypatch.setattr(checkpoint_module, "prove", late)
    assert checkpoint(scope.path).version == seen
    assert owner.commit([scope.unit(owner, 4, 5)])[0].status == "committed"


def rewritten(scope: Scope, version: int, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Write a checkpoint anew with other rows."""
    path = scope.path / "_delta_log" / f"{version:020d}.checkpoint.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def row_with(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if (row[name] or {}).get(KEYS[name]) is not None)


def again(row: dict[str, Any], name: str, **other: Any) -> dict[str, Any]:
    return {**row, name: {**row[name], **other}}


KEYS = {"add": "path", "txn": "appId", "metaData": "id", "protocol": "minReaderVersion"}
WRONG = {
    "an offset too high": (
        lambda rows: row_with(rows, "txn")["txn"].update(version=10**6),
        "lacks 1 transactions, such as .*; it holds too much: 1 transactions",
    ),
    "a transaction too many": (
        lambda rows: rows.append(again(row_with(rows, "txn"), "txn", appId="raylake/else")),
        r"holds too much: 1 transactions, such as raylake/else",
    ),
    "a transaction twice": (
        lambda rows: rows.append(row_with(rows, "txn")),
        "holds too much: 1 transactions",
    ),
    "a transaction lost": (
        lambda rows: rows.remove(row_with(rows, "txn")),
        "lacks 1 transactions",
    ),
    "a file too many": (
        lambda rows: rows.append(again(row_with(rows, "add"), "add", path="x.parquet")),
        r"holds too much: 1 live files, such as x.parquet",
    ),
    "a file twice": (lambda rows: rows.append(row_with(rows, "add")), "too much: 1 live files"),
    "a file lost": (lambda rows: rows.remove(row_with(rows, "add")), "lacks 1 live files"),
    "another table's metadata": (
        lambda rows: row_with(rows, "metaData")["metaData"].update(id="else"),
        "its metadata is not the log's",
    ),
    "two protocols": (
        lambda rows: rows.append(row_with(rows, "protocol")),
        "holds 2 protocol instead of 1",
    ),
}


@pytest.mark.spec("A3")
@pytest.mark.parametrize("what", WRONG)
def test_a_checkpoint_that_holds_anything_else_than_the_log_is_not_proven(
    scope: Scope, what: str
) -> None:
    owner = busy(scope, 3)
    change, said = WRONG[what]
    checkpoint(scope.path)
    prove(scope.path, owner.version)
    rewritten(scope, owner.version, change)
    with pytest.raises(LogDamaged, match=said):
        prove(scope.path, owner.version)


def test_a_checkpoint_that_is_written_with_too_much_in_it_stops_the_clean_up(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = busy(scope, 3)
    age(scope, 100_000)
    create = DeltaTable.create_checkpoint

    def wrongly(table: DeltaTable) -> None:
        create(table)
        rewritten(scope, owner.version, WRONG["an offset too high"][0])

    monkeypatch.setattr(DeltaTable, "create_checkpoint", wrongly)
    with pytest.raises(LogDamaged, match="holds too much: 1 transactions"):
        checkpoint(scope.path, keep_from=owner.version)
    assert log_files.commit_versions(scope.path) == list(range(owner.version + 1))


def test_file_names_of_any_partition_value_are_the_same_in_log_and_checkpoint(
    scope: Scope,
) -> None:
    table = pa.table({"p": ["a b", "c/d%e", "ü", "plain", None], "v": range(5)})
    write_deltalake(scope.path, table, partition_by=["p"])
    write_deltalake(scope.path, table, partition_by=["p"], mode="append")
    checkpoint(scope.path)
    prove(scope.path, 1)


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-4],
    "empty": lambda data: b"",
    "a page overwritten": lambda data: data[:40] + bytes(200) + data[240:],
}


@pytest.mark.spec("A3")
@pytest.mark.parametrize("damage", DAMAGE)
def test_failure_28_nothing_is_deleted_below_a_checkpoint_that_was_damaged_after_it_was_written(
    scope: Scope, damage: str
) -> None:
    owner = busy(scope, 5)
    checkpoint(scope.path)
    floor = owner.version
    for at in range(5, 8):
        owner.commit([scope.unit(owner, at, at + 1)])
    assert checkpoint(scope.path).created
    path = scope.path / "_delta_log" / f"{floor:020d}.checkpoint.parquet"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    age(scope, 100_000)
    with pytest.raises(LogDamaged, match=f"checkpoint of version {floor} is not what") as caught:
        checkpoint(scope.path, keep_from=floor)
    assert "No log file was deleted" in caught.value.hint
    assert log_files.commit_versions(scope.path) == list(range(owner.version + 1))
    assert log_files.cleaned_below(scope.path) == 0
    # A newer one that is whole lets them go, the damaged one with them.
    result = checkpoint(scope.path, keep_from=owner.version)
    assert not result.created
    assert log_files.commit_versions(scope.path) == [owner.version]
    assert log_files.checkpoint_versions(scope.path) == [owner.version]
    assert scope.attach("run-1").states()[P0].next == 8


def test_a_part_of_another_tools_checkpoint_is_not_what_the_log_begins_with(scope: Scope) -> None:
    owner = busy(scope, 5)
    checkpoint(scope.path)
    floor = owner.version
    owner.commit([scope.unit(owner, 5, 6)])
    part = f"{owner.version:020d}.checkpoint.0000000001.0000000002.parquet"
    (scope.path / "_delta_log" / part).write_bytes(b"one of two")
    age(scope, 100_000)
    checkpoint(scope.path, keep_from=owner.version)
    assert log_files.commit_versions(scope.path) == [floor, owner.version]


@pytest.mark.parametrize("left", [0, 3])
def test_a_clean_up_that_was_interrupted_is_finished_and_one_of_somebody_else_is_not(
    scope: Scope, left: int
) -> None:
    owner = busy(scope, 5)
    checkpoint(scope.path)
    floor = owner.version
    age(scope, 100_000)
    for version in range(left):
        scope.log(version).unlink()
    if left:
        with pytest.raises(LogDamaged, match="cannot be compared with the log"):
            checkpoint(scope.path, keep_from=floor)
        assert log_files.commit_versions(scope.path) == list(range(left, floor + 1))
        log_files.write_clean_up_mark(scope.path, floor)
    assert checkpoint(scope.path, keep_from=floor).removed_files == floor - left
    assert log_files.commit_versions(scope.path) == [floor]
