"""What is done to a table's log under its owner's feet (FAILURES 5, 27, 29, 41)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake

from raylake.delta.owned_table import OwnedTable
from raylake.errors import Fenced, LogDamaged
from tests.integration.delta.scope import NO_HOOKS, P0, SCHEMA, Scope


def ingested(scope: Scope) -> OwnedTable:
    owner = scope.owner()
    owner.commit([scope.unit(owner, 0, 5)])
    owner.commit([scope.unit(owner, 5, 10)])
    return owner


@pytest.mark.spec("A3")
def test_failure_05_a_commit_that_was_overwritten_stops_the_owner(scope: Scope) -> None:
    owner = ingested(scope)
    last = scope.log(owner.version)
    last.write_text(scope.log(owner.version - 1).read_text())
    with pytest.raises(LogDamaged, match="lost or overwritten") as caught:
        owner.commit([scope.unit(owner, 10, 15)])
    assert "raylake verify" in caught.value.hint
    assert not scope.log(caught.value.context["version"] + 1).exists()


def test_failure_05_it_is_noticed_also_after_the_handle_has_read_it(scope: Scope) -> None:
    owner = ingested(scope)
    owner._core.refresh()
    last = scope.log(owner.version)
    last.write_text(scope.log(owner.version - 1).read_text())
    with pytest.raises(LogDamaged, match="lost or overwritten"):
        owner.commit([scope.unit(owner, 10, 15)])


def test_a_rewritten_but_equal_log_file_is_no_damage(scope: Scope) -> None:
    owner = ingested(scope)
    last = scope.log(owner.version)
    copy = last.read_text()
    last.unlink()
    last.write_text(copy)
    assert owner.commit([scope.unit(owner, 10, 15)])[0].status == "committed"


def empty(path: Path) -> None:
    path.write_text("")


def tear(path: Path) -> None:
    path.write_text(path.read_text()[:-30])


def truncate(path: Path) -> None:
    path.write_text(path.read_text().split("\n", 1)[0][:40])


def binary(path: Path) -> None:
    path.write_bytes(b"\x00\xff\xfe" * 40)


@pytest.mark.parametrize("damage", [empty, tear, truncate, binary])
def test_failure_29_a_damaged_last_log_file_is_named(
    scope: Scope, damage: Callable[[Path], None]
) -> None:
    owner = ingested(scope)
    last = scope.log(owner.version)
    damage(last)
    with pytest.raises(LogDamaged) as live:
        owner.commit([scope.unit(owner, 10, 15)])
    with pytest.raises(LogDamaged) as started:
        scope.attach("run-1")
    for caught in (live, started):
        assert str(last) in str(caught.value)
        assert "move the file out" in caught.value.hint


@pytest.mark.spec("A3")
def test_failure_29_after_the_documented_repair_the_ledger_heals_itself(scope: Scope) -> None:
    owner = ingested(scope)
    last = scope.log(owner.version)
    tear(last)
    last.rename(scope.path / "torn.json.aside")
    again = scope.attach("run-1")
    assert again.ends([P0])[P0].next == 5
    assert again.commit([scope.unit(again, 5, 12)])[0].status == "committed"
    assert scope.offsets() == list(range(12))
    with pytest.raises((Fenced, LogDamaged)):
        owner.commit([scope.unit(owner, 10, 15)])


def test_failure_29_a_missing_log_file_is_named(scope: Scope) -> None:
    owner = ingested(scope)
    gap = scope.log(owner.version - 1)
    gap.unlink()
    with pytest.raises(LogDamaged, match=gap.name):
        scope.attach("run-1")


def test_failure_41_restore_is_noticed(scope: Scope) -> None:
    owner = ingested(scope)
    table = DeltaTable(scope.path)
    table.alter.set_table_properties({"delta.appendOnly": "false"})
    DeltaTable(scope.path).restore(owner.version - 1)
    with pytest.raises(LogDamaged, match="RESTORE"):
        owner.commit([scope.unit(owner, 10, 15)])


def test_failure_41_an_overwrite_by_somebody_else_is_noticed(scope: Scope) -> None:
    owner = ingested(scope)
    table = DeltaTable(scope.path)
    table.alter.set_table_properties({"delta.appendOnly": "false"})
    rows = pa.table({"v": ["x"], "_partition": [0], "_offset": [0]}).cast(SCHEMA)
    write_deltalake(scope.path, rows, mode="overwrite")
    with pytest.raises(LogDamaged, match="took data away"):
        owner.commit([scope.unit(owner, 10, 15)])


@pytest.mark.parametrize("commits", [0, 12])
def test_failure_41_drop_and_create_again_is_noticed(scope: Scope, commits: int) -> None:
    owner = ingested(scope)
    shutil.rmtree(scope.path)
    DeltaTable.create(scope.path, schema=Schema.from_arrow(SCHEMA))
    for _ in range(commits):
        scope.foreign_commit()
    before = DeltaTable(scope.path).version()
    with pytest.raises(LogDamaged):
        owner.commit([scope.unit(owner, 10, 15)])
    assert DeltaTable(scope.path).version() == before


def test_failure_41_a_dropped_table_is_noticed(scope: Scope) -> None:
    owner = ingested(scope)
    unit = scope.unit(owner, 10, 15)
    shutil.rmtree(scope.path)
    with pytest.raises(LogDamaged, match="dropped"):
        owner.commit([unit])
    assert not (scope.path / "_delta_log").exists()


def test_a_foreign_append_is_tolerated(scope: Scope) -> None:
    owner = ingested(scope)
    rows = pa.table({"v": ["x"], "_partition": [9], "_offset": [0]}).cast(SCHEMA)
    write_deltalake(scope.path, rows, mode="append")
    assert owner.commit([scope.unit(owner, 10, 15)])[0].status == "committed"
    assert scope.offsets() == list(range(15))


def test_a_foreign_new_column_refuses_old_files_and_takes_new_ones(scope: Scope) -> None:
    owner = ingested(scope)
    old = scope.unit(owner, 10, 12)
    fields = list(Schema.from_arrow(pa.schema([("extra", pa.int64())])).fields)
    DeltaTable(scope.path).alter.add_columns(
        fields,
        commit_properties=CommitProperties(max_commit_retries=0),
        post_commithook_properties=NO_HOOKS,
    )
    assert owner.commit([old])[0].reason == "schema"
    assert "extra" in owner.schema.names
    assert owner.commit([scope.unit(owner, 10, 12)])[0].status == "committed"


def test_failure_27_vacuum_within_retention_keeps_files_that_wait_for_their_commit(
    scope: Scope,
) -> None:
    owner = ingested(scope)
    waiting = scope.unit(owner, 10, 15)
    doomed = DeltaTable(scope.path).vacuum(dry_run=False, full=True)
    assert not {f.path for f in waiting.files} & set(doomed)
    assert owner.commit([waiting])[0].status == "committed"
    assert scope.offsets() == list(range(15))


def test_failure_27_a_unit_whose_files_vacuum_took_is_refused(scope: Scope) -> None:
    owner = ingested(scope)
    waiting = scope.unit(owner, 10, 15)
    DeltaTable(scope.path).vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True
    )
    (outcome,) = owner.commit([waiting])
    assert (outcome.status, outcome.ends) == ("refused", {P0: 10})
    assert "does not exist" in outcome.reason
    assert scope.offsets() == list(range(10))
