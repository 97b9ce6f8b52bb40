"""The data log decides which records are dead; the dead-letter table follows it (I5)."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from raylake.delta import log_files
from raylake.delta.checkpointer import Checkpointer, CheckpointFailure
from raylake.delta.dead_letters import DEAD_LETTER_SCHEMA
from raylake.errors import DependencyUnreachable, Fenced, LogDamaged, OutcomeUnknown
from tests.integration.delta.scope import P0, Scope


def letters(scope: Scope) -> list[int]:
    return sorted(pl.scan_delta(str(scope.letters_path)).collect()["offset"].to_list())


@pytest.mark.spec("A4", "B3")
def test_named_files_are_added_once(scope: Scope) -> None:
    table = scope.letters()
    owner = scope.owner()
    (outcome,) = owner.commit([scope.dead_unit(owner, 0, 3)])
    assert outcome.version is not None
    (named,) = owner.pending_dead_letters(table.stored_version(owner.table_id)).commits
    assert named.version == outcome.version
    assert table.add(owner.table_id, named.version, named.files)
    assert not table.add(owner.table_id, named.version, named.files)
    assert letters(scope) == [0, 1, 2]
    assert table.schema.names == DEAD_LETTER_SCHEMA.names
    assert DeltaTable(scope.letters_path).metadata().partition_columns == [
        "date",
        "hour",
        "pipeline",
        "stage",
    ]


def test_a_new_owner_redoes_what_the_data_log_names(scope: Scope) -> None:
    scope.letters().release()
    owner = scope.owner()
    owner.commit([scope.dead_unit(owner, 0, 3)])
    owner.commit([scope.unit(owner, 3, 6)])
    owner.commit([scope.dead_unit(owner, 6, 8)])
    again = scope.letters("run-1")
    pending = owner.pending_dead_letters(again.stored_version(owner.table_id))
    assert again.redo(owner.table_id, pending) == 2
    assert letters(scope) == [0, 1, 2, 6, 7]
    rest = owner.pending_dead_letters(again.stored_version(owner.table_id))
    assert (rest.commits, again.redo(owner.table_id, rest)) == ((), 0)


def test_the_position_moves_without_dead_letters_so_that_the_log_may_be_cleaned(
    scope: Scope,
) -> None:
    table = scope.letters()
    owner = scope.owner()
    for at in range(5):
        owner.commit([scope.unit(owner, at, at + 1)])
    pending = owner.pending_dead_letters(-1)
    assert table.redo(owner.table_id, pending, mark_every=5) == 0
    assert table.stored_version(owner.table_id) == owner.version


def test_an_older_owner_of_the_dead_letters_is_fenced(scope: Scope) -> None:
    old = scope.letters()
    scope.letters("run-1")
    with pytest.raises(Fenced):
        old.add("table", 3, ())


def test_failure_17_dead_letters_that_cannot_be_written_are_an_error_a_breaker_counts(
    scope: Scope,
) -> None:
    table = scope.letters()
    owner = scope.owner()
    owner.commit([scope.dead_unit(owner, 0, 3)])
    (named,) = owner.pending_dead_letters(-1).commits
    log = scope.letters_path / "_delta_log"
    aside = scope.letters_path / "aside"
    # The next version's name is taken by a folder: no commit can be written there.
    blocker = log / f"{table.version + 1:020d}.json"
    blocker.mkdir()
    with pytest.raises((DependencyUnreachable, OutcomeUnknown)):
        table.add(owner.table_id, named.version, named.files)
    blocker.rename(aside)
    assert table.add(owner.table_id, named.version, named.files)
    assert letters(scope) == [0, 1, 2]


def test_a_named_file_that_is_gone_is_not_passed_over(scope: Scope) -> None:
    table = scope.letters()
    owner = scope.owner()
    unit = scope.dead_unit(owner, 0, 3)
    owner.commit([unit])
    (named,) = owner.pending_dead_letters(-1).commits
    for path in scope.letters_path.rglob("part-*.parquet"):
        Path(path).unlink()
    with pytest.raises(LogDamaged, match="does not exist"):
        table.add(owner.table_id, named.version, named.files)


def test_a_unit_that_loses_a_dead_letter_is_refused(scope: Scope) -> None:
    owner = scope.owner()
    unit = scope.dead_unit(owner, 0, 3)
    (outcome,) = owner.commit([unit.replace(dead_letter_files=())])
    assert outcome.status == "refused"
    assert outcome.reason == "file: 0 rows in the dead-letter files, 3 in the ranges"
    assert owner.ends([P0])[P0].next == 0


def test_the_log_of_the_dead_letters_is_bounded_and_forgets_no_position(scope: Scope) -> None:
    most, interval, adds = 20, 10, 65
    table = scope.letters()
    checkpointer = table._checkpointer = Checkpointer(
        str(scope.letters_path), interval_commits=interval, max_log_files=most
    )
    owner = scope.owner()
    owner.commit([scope.dead_unit(owner, 0, 3)])
    (named,) = owner.pending_dead_letters(-1).commits
    table.add(owner.table_id, named.version, named.files)
    table.add("quiet-table", 7, ())
    for version in range(named.version + 1, named.version + adds):
        table.add(owner.table_id, version, ())
        if version % interval == 0:
            assert not isinstance(checkpointer.wait(60), CheckpointFailure)
    table.release()
    assert len(log_files.commit_versions(scope.letters_path)) <= most + 2 * interval
    assert log_files.commit_versions(scope.letters_path)[0] > interval
    again = scope.letters()
    assert again.stored_version(owner.table_id) == named.version + adds - 1
    assert again.stored_version("quiet-table") == 7
    assert letters(scope) == [0, 1, 2]
