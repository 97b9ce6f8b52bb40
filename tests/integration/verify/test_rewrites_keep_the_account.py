"""Rows are deleted, changed and compacted between an owner's commits; ``verify`` says the same."""

from __future__ import annotations

import dataclasses
import os
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from raylake.clock import SystemClock
from raylake.delta import log_table
from raylake.delta.files import write_data_files
from raylake.delta.ledger import LIFTED_APP
from raylake.delta.log_reader import LogReader
from raylake.delta.metadata import count_data_commits
from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.owner_turns import RewriteTurns
from raylake.delta.rewinding import Rewind
from raylake.delta.rewritten import FilesChanged, Rewritten, RowsOfBoth, RowsTaken, RowsUnequal
from raylake.delta.verify_log import table_path
from raylake.errors import Fenced, Refused, Retryable
from raylake.ingest.unit import Counts, Unit
from raylake.storage.place import delete_tree, folders, sync_path
from raylake.tables import errors, workplace
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.proposals import Proposal, propose
from raylake.tables.requests import Append, Delete, Overwrite, Read, Restore, Update, Upsert, Write
from raylake.tables.results import OperationResult
from raylake.tables.running import Order
from raylake.tables.under_turn import under_turn
from raylake.tables.upkeep_requests import Checkpoint, Compact, Vacuum, ZOrder
from raylake.tables.workplace import FOLDER
from tests.integration.verify.lake import (
    PIPELINE,
    ROWS,
    TOPIC,
    Lake,
    Span,
    actions,
    rows_of_spans,
    write_actions,
)

APPEND_ONLY = {"delta.appendOnly": "true"}
OPEN = {"delta.appendOnly": "false"}


@pytest.fixture(params=[(), ("country",)], ids=["flat", "partitioned"])
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    """Three files of two partitions, of an append-only table."""
    lake = Lake(tmp_path / "lake", partition_by=request.param, properties=APPEND_ONLY)
    lake.admit(Span(0, 0, 0), Span(1, 100, 100))
    lake.ingest(Span(0, 0, 10), Span(1, 100, 105))
    lake.ingest(Span(0, 10, 20, dead=frozenset({12})))
    lake.ingest(Span(0, 20, 30, absent=frozenset({29})))
    return lake


def proposed(lake: Lake, operation: Write) -> Proposal:
    request = uuid.uuid4().hex
    order = Order(str(lake.table), operation, "asked for", request=request)
    return propose(DeltaRsEngine(), order, SystemClock())


def done(lake: Lake, operation: Write) -> tuple[int, Proposal]:
    found = proposed(lake, operation)
    assert found.rewritten is not None, found.result.note
    return lake.owner.rewrites().rewrite(found.rewritten), found


def offsets(lake: Lake, partition: int = 0) -> list[int]:
    found = DeltaRsEngine().read(str(lake.table), Read(where=f"_partition = {partition}"))
    return sorted(found.read_all().column("_offset").to_pylist())


def counts(lake: Lake, partition: int = 0) -> Counts:
    source = Span(partition, 0, 0).source
    (held,) = [s for s in (lake.owner.states().get(source),) if s is not None]
    (stored,) = [p.counts for p in lake.verify().partitions if p.source == source]
    assert stored == held.totals
    return stored


def sound(lake: Lake) -> None:
    for level in ("log", "data"):
        report = lake.verify(level)
        assert report.ok, report.findings
    assert DeltaTable(lake.table).metadata().configuration["delta.appendOnly"] == "true"
    assert not (lake.table / FOLDER).exists()


@pytest.mark.spec("C6")
def test_deleted_rows_are_counted_as_dropped_and_the_account_is_exact(lake: Lake) -> None:
    was = counts(lake)
    version, found = done(lake, Delete("_offset >= 5 AND _offset < 15 AND _partition = 0"))
    assert found.result.rows.deleted == 9
    assert version == lake.owner.version - 1  # the table is append-only again after it
    assert counts(lake) == dataclasses.replace(was, rows=was.rows - 9, dropped=9)
    assert counts(lake, 1) == Counts(rows=5)
    assert offsets(lake) == [*range(5), *range(15, 29)]
    sound(lake)
    # Ingestion goes on where it was.
    lake.ingest(Span(0, 30, 40))
    assert offsets(lake)[-10:] == list(range(30, 40))
    sound(lake)
    lake.maintain()
    sound(lake)


@pytest.mark.spec("C6")
def test_rows_that_are_ingested_while_it_runs_are_not_covered_and_stay(lake: Lake) -> None:
    found = proposed(lake, Delete("order_id IS NOT NULL"))
    assert found.rewritten is not None
    lake.ingest(Span(0, 30, 33))
    lake.owner.rewrites().rewrite(found.rewritten)
    assert offsets(lake) == [30, 31, 32]
    assert offsets(lake, 1) == []
    assert counts(lake) == Counts(rows=3, dead=1, absent=1, dropped=28)
    sound(lake)


@pytest.mark.spec("C6")
def test_values_change_and_every_row_stays(lake: Lake) -> None:
    was = counts(lake)
    _, found = done(lake, Update({"order_id": "'gone'"}, "_offset IN (3, 17)"))
    assert found.result.rows.updated == 2
    assert counts(lake) == was
    rows = DeltaRsEngine().read(str(lake.table), Read(where="order_id = 'gone'")).read_all()
    assert sorted(rows.column("_offset").to_pylist()) == [3, 17]
    sound(lake)


@pytest.mark.spec("C6")
def test_a_merge_changes_and_deletes_rows_and_inserts_none(lake: Lake) -> None:
    source = (
        DeltaRsEngine()
        .read(str(lake.table), Read(where="_partition = 0 AND _offset IN (1, 2, 3)"))
        .read_all()
        .select(["order_id"])
    )
    keep = Upsert(source, ("order_id",), delete_when="target._offset = 2", insert_when="false")
    _, found = done(lake, keep)
    assert found.result.rows.deleted == 1
    assert offsets(lake) == [o for o in range(29) if o not in (2, 12)]
    sound(lake)
    again = Upsert(source, ("order_id",), delete_when="target._offset = 2")
    # The row that has left would come again.
    with pytest.raises(errors.OwnerOnly) as caught:
        proposed(lake, again)
    assert caught.value.table_changed is False
    sound(lake)


@pytest.mark.spec("C6")
@pytest.mark.parametrize("operation", [Compact(), ZOrder(("_offset",))])
def test_files_are_written_anew_and_verify_says_the_same(
    lake: Lake, operation: Compact | ZOrder
) -> None:
    before = lake.verify("data")
    found = proposed(lake, operation)
    assert found.rewritten is not None
    lake.ingest(Span(0, 30, 33))
    lake.owner.rewrites().rewrite(found.rewritten)
    after = lake.verify("data")
    assert after.ok
    assert before.ok
    assert after.live_rows == (before.live_rows or 0) + 3
    assert after.live_files < before.live_files + 1
    assert after.totals == before.totals + Counts(rows=3)
    sound(lake)
    # The table stayed append-only, since no row left.
    assert DeltaTable(lake.table).transaction_version(LIFTED_APP) is None
    assert DeltaTable(lake.table).history(1)[0]["operation"] == "OPTIMIZE"


def test_what_was_read_must_still_be_there(lake: Lake) -> None:
    first = proposed(lake, Delete("_offset = 3"))
    second = proposed(lake, Compact())
    assert first.rewritten is not None
    assert second.rewritten is not None
    rewrites = lake.owner.rewrites()
    rewrites.rewrite(first.rewritten)
    with pytest.raises(FilesChanged, match="took or added"):
        rewrites.rewrite(second.rewritten)
    # And once more what is in already: it is there once.
    version = lake.owner.version
    assert rewrites.rewrite(first.rewritten) < version
    assert offsets(lake) == [o for o in range(29) if o not in (3, 12)]
    sound(lake)


def test_a_rewrite_that_does_not_add_up_is_refused(lake: Lake) -> None:
    found = proposed(lake, Delete("_offset = 3")).rewritten
    assert found is not None
    for wrong in (
        dataclasses.replace(found, taken={}),
        dataclasses.replace(found, added=()),
        dataclasses.replace(found, removed=found.removed * 2),
    ):
        with pytest.raises((RowsUnequal, FilesChanged)):
            lake.owner.rewrites().rewrite(wrong)
    # Not even the property was lifted for it.
    assert lake.owner.version == found.read_version
    for new in found.added:
        (lake.table / table_path(new.path)).unlink()
    with pytest.raises(FilesChanged, match="is gone"):
        lake.owner.rewrites().rewrite(found)
    sound(lake)


@pytest.mark.parametrize(
    "operation",
    [
        Append(ROWS.empty_table()),
        Overwrite(ROWS.empty_table()),
        Restore(1),
        Update({"_offset": "_offset + 1"}),
        Upsert(ROWS.empty_table(), ("order_id",), insert_only=True),
        Checkpoint(repair=True),
    ],
)
def test_what_would_break_the_account_is_refused(lake: Lake, operation: Write) -> None:
    with pytest.raises(errors.OwnerOnly):
        proposed(lake, operation)
    sound(lake)


def test_vacuum_and_checkpoint_take_a_turn_and_commit_nothing(lake: Lake) -> None:
    done(lake, Delete("_offset < 25"))
    version = lake.owner.version
    found = proposed(lake, Vacuum(retention_hours=0, allow_short_retention=True))
    assert found.rewritten is None
    assert found.result.paths
    assert proposed(lake, Checkpoint()).rewritten is None
    assert DeltaTable(lake.table).version() == version
    assert offsets(lake) == [25, 26, 27, 28]
    sound(lake)


def test_an_operation_that_concerns_no_row_makes_no_version(lake: Lake) -> None:
    found = proposed(lake, Delete("order_id = 'nobody'"))
    assert found.rewritten is None
    assert not found.result.changed
    sound(lake)


@pytest.mark.spec("C6")
def test_what_an_old_owners_worker_wrote_is_refused_and_is_of_no_table(lake: Lake) -> None:
    old = RewriteTurns(lake.owner.rewrites())
    found = proposed(lake, Delete("_offset < 25")).rewritten
    assert found is not None
    old.ask(found.request)
    lake.owner = lake.attach()
    with pytest.raises(Fenced):
        old.commit(found)
    assert offsets(lake) == [o for o in range(29) if o != 12]
    sound(lake)
    left = {table_path(one.path) for one in found.added}
    assert all((lake.table / path).exists() for path in left)
    for path in left:
        os.utime(lake.table / path, (1.0, 1.0))
    assert set(proposed(lake, Vacuum(orphans=True)).result.paths) == left


def test_a_vacuum_beside_a_pipeline_takes_no_file_that_waits_to_be_committed(lake: Lake) -> None:
    span = Span(0, 30, 33)
    files = write_data_files(
        lake.table, rows_of_spans([span]), lake.owner.schema, lake.partition_by
    )
    soon = Vacuum(retention_hours=0, allow_short_retention=True, orphans=True)
    for vacuum in (soon, dataclasses.replace(soon, retention_hours=167.9)):
        with pytest.raises(errors.OwnerOnly, match="not committed yet") as caught:
            proposed(lake, vacuum)
        assert caught.value.table_changed is False
    proposed(lake, Vacuum(orphans=True))
    proposed(lake, dataclasses.replace(soon, orphans=False))
    ranges = (span.range(),)
    unit = Unit(PIPELINE, "consumer-0", 1, lake.owner.fingerprint, ranges, files, ())
    assert lake.owner.commit([unit])[0].status == "committed"
    assert offsets(lake)[-3:] == [30, 31, 32]
    sound(lake)


def test_work_that_a_late_worker_tidied_away_is_not_told_as_done(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = DeltaRsEngine.execute

    def tidied(engine: DeltaRsEngine, *told: Any, **also: Any) -> OperationResult:
        found = execute(engine, *told, **also)
        # What a worker does first, be it one whose turn is over.
        for left in folders(lake.table / FOLDER):
            delete_tree(left)
        return found

    monkeypatch.setattr(DeltaRsEngine, "execute", tidied)
    with pytest.raises(FilesChanged, match="tidied it away"):
        proposed(lake, Delete("_offset < 4"))
    sound(lake)


def test_a_file_that_is_brought_to_a_new_folder_is_durable_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake", partition_by=("country",), properties=APPEND_ONLY)
    lake.admit(Span(0, 0, 0))
    lake.ingest(Span(0, 0, 10))
    synced: list[Path] = []

    def sync(path: Path) -> None:
        synced.append(path)
        sync_path(path)

    monkeypatch.setattr(workplace, "sync_path", sync)
    _, found = done(lake, Update({"country": "'NEW'"}, "_offset = 1"))
    assert found.rewritten is not None
    (new,) = [
        lake.table / table_path(one.path)
        for one in found.rewritten.added
        if one.partition_values == {"country": "NEW"}
    ]
    assert {new.parent, lake.table} <= set(synced)
    assert tmp_path not in synced
    sound(lake)


@dataclasses.dataclass
class Turns:
    """The owner's turns without actors between."""

    lake: Lake

    def __post_init__(self) -> None:
        self.turns = RewriteTurns(self.lake.owner.rewrites())
        self.comes: list[Span] = []

    def take(self, request: str) -> Grant:
        self.turns.ask(request)
        found = self.turns.ask(request)
        assert isinstance(found, Grant)
        return found

    def commit(self, rewritten: Rewritten) -> Verdict:
        for span in self.comes:
            self.lake.ingest(span)
        return self.turns.commit(rewritten)

    def ended(self, request: str) -> Verdict | None:
        return self.turns.ended(request)

    def settled_by_epoch(self, grant: Grant) -> Verdict:
        pytest.fail(f"the owner of {grant} is there")

    def data_commits(self, after_version: int, before_version: int) -> int:
        return count_data_commits(self.lake.table, after_version, before_version)


class Proposer:
    def propose(self, order: Order) -> Proposal:
        return propose(DeltaRsEngine(), order, SystemClock())


def test_the_note_counts_what_brought_rows_and_nothing_else(lake: Lake) -> None:
    turns, order = Turns(lake), Order(str(lake.table), Delete("_offset = 3"), "")
    # The table's property is lifted by a commit of its own: that is not news to anybody.
    quiet = under_turn(turns, Proposer(), order)
    assert quiet.version_after == quiet.version_before + 1
    assert quiet.note == ""
    turns.comes = [Span(0, 30, 31), Span(0, 31, 32)]
    busy = under_turn(turns, Proposer(), dataclasses.replace(order, operation=Delete("_offset=4")))
    assert "; 2 came with rows while it ran" in busy.note
    sound(lake)


@pytest.mark.spec("A13")
def test_deleted_rows_can_be_rewound_over_and_come_back(lake: Lake) -> None:
    done(lake, Delete("_offset >= 5 AND _offset < 8 AND _partition = 0"))
    source = Span(0, 0, 0).source
    lake.owner.move(Rewind(PIPELINE, {source: 6}, True, str(lake.letters), lake.name))
    lake.settle()
    assert counts(lake) == Counts(rows=5, dropped=1)
    sound(lake)
    lake.ingest(Span(0, 6, 20))
    assert offsets(lake) == [o for o in range(20) if o != 5]
    assert counts(lake) == Counts(rows=19, dropped=1)
    sound(lake)


def test_an_append_only_table_with_named_features_gets_no_further_ones(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", properties=APPEND_ONLY)
    lake.admit(Span(0, 0, 0))
    # A time without a zone is a feature by name: the protocol is 3 and 7 from then on.
    lake.ingest(Span(0, 0, 10))
    lake.owner.evolve(pa.schema([("at", pa.timestamp("us"))]))
    before = DeltaTable(lake.table).protocol()
    assert "timestampNtz" in (before.writer_features or [])
    done(lake, Delete("_offset < 4"))
    assert DeltaTable(lake.table).protocol() == before
    # It is a table of ours as before: another owner opens it.
    lake.owner = lake.attach()
    assert offsets(lake) == [4, 5, 6, 7, 8, 9]
    sound(lake)


def test_columns_that_come_while_it_runs_are_no_hindrance(lake: Lake) -> None:
    found = [proposed(lake, one).rewritten for one in (Compact(), Delete("_offset = 3"))]
    lake.owner.evolve(pa.schema([("more", pa.int64())]))
    assert found[0] is not None
    lake.owner.rewrites().rewrite(found[0])
    sound(lake)
    done(lake, Delete("_offset = 3"))
    assert offsets(lake) == [o for o in range(29) if o not in (3, 12)]
    sound(lake)


@pytest.mark.spec("A3")
def test_verify_finds_a_rewrite_whose_words_are_not_what_it_did(lake: Lake) -> None:
    version, _ = done(lake, Delete("_offset = 3"))
    sound(lake)
    text = lake.log(version).read_text()
    assert text.count('"rows":1}') == 1
    lake.log(version).write_text(text.replace('"rows":1}', '"rows":2}'))
    kinds = {one.kind for one in lake.verify().findings if one.is_difference}
    assert kinds == {"chain", "commit_rows"}


def back(lake: Lake, end: int) -> None:
    """A new owner, as the damage stopped the old one, and both halves of a rewind."""
    lake.owner = lake.attach()
    source = Span(0, 0, 0).source
    assert (
        lake.owner.move(Rewind(PIPELINE, {source: end}, True, str(lake.letters), lake.name)) == ()
    )
    lake.settle()


@pytest.mark.spec("A13")
@pytest.mark.parametrize("told", [True, False], ids=["offsets_told", "older_commit"])
@pytest.mark.parametrize("where", ["_offset IN (21, 23, 25)", "_offset IN (15, 21, 23)"])
def test_rows_that_are_lost_before_a_rewind_are_not_taken_for_deleted_ones(
    lake: Lake, where: str, told: bool
) -> None:
    version, _ = done(lake, Delete(f"_partition = 0 AND {where}"))
    if not told:
        forget_offsets(lake, version)
    # As many rows as were deleted, of those that a rewind keeps.
    DeltaTable(lake.table).alter.set_table_properties(OPEN)
    DeltaTable(lake.table).delete("_partition = 0 AND _offset IN (2, 3, 4)")
    for end in (20, 18):
        with pytest.raises(Refused, match="the tables hold"):
            back(lake, end)
    assert not lake.verify().ok
    # To before the damage, or to the origin, it can be gone back in any case.
    back(lake, 0)
    assert offsets(lake) == []
    whole(lake)
    lake.ingest(Span(0, 0, 30))
    whole(lake)


def whole(lake: Lake) -> None:
    for level in ("log", "data"):
        report = lake.verify(level)
        assert report.ok, report.findings


def forget_offsets(lake: Lake, version: int) -> None:
    """A commit as it was before it told between which offsets rows were."""
    found = actions(lake.log(version))
    (info,) = [one["commitInfo"] for one in found if "commitInfo" in one]
    for one in info["raylake"]["taken"]:
        del one["first"], one["last"]
    write_actions(lake.log(version), found)


@pytest.mark.spec("A13")
@pytest.mark.parametrize(
    ("where", "end"),
    [
        ("_offset = 25", 20),
        ("_offset = 25", 10),
        ("_offset IN (22, 25)", 20),
        # Without a gap it is known of each on which side it was.
        ("_offset BETWEEN 18 AND 21", 20),
        ("_offset IN (3, 5)", 20),
        ("_offset IN (3, 25)", 0),
    ],
)
def test_a_damaged_table_with_deleted_rows_can_be_rewound_to_before_the_damage(
    lake: Lake, where: str, end: int
) -> None:
    _, found = done(lake, Delete(f"_partition = 0 AND {where}"))
    assert found.rewritten is not None
    was = offsets(lake)
    DeltaTable(lake.table).alter.set_table_properties(OPEN)
    DeltaTable(lake.table).delete("_partition = 0 AND _offset IN (23, 24)")
    back(lake, end)
    assert offsets(lake) == [one for one in was if one < end]
    whole(lake)
    lake.ingest(Span(0, end, 40))
    assert offsets(lake) == [*(one for one in was if one < end), *range(end, 40)]
    whole(lake)


@pytest.mark.spec("A13")
def test_a_row_that_is_lost_and_one_that_came_twice_do_not_make_up_for_each_other(
    lake: Lake,
) -> None:
    done(lake, Delete("_partition = 0 AND _offset IN (22, 25)"))
    DeltaTable(lake.table).alter.set_table_properties(OPEN)
    twice = DeltaRsEngine().read(str(lake.table), Read(where="_offset = 27")).read_all()
    DeltaTable(lake.table).delete("_partition = 0 AND _offset = 3")
    write_deltalake(lake.table, twice, mode="append")
    with pytest.raises(Refused, match="the tables hold"):
        back(lake, 20)
    back(lake, 0)
    whole(lake)


def test_the_offsets_of_rows_that_leave_are_told_and_must_be_the_accounts(lake: Lake) -> None:
    found = proposed(lake, Delete("_offset IN (4, 7, 21)")).rewritten
    assert found is not None
    key = (TOPIC, 0)
    assert found.taken == {key: RowsTaken(3, 4, 21)}
    for wrong in (RowsTaken(3, 4, 5), RowsTaken(3, -1, 21), RowsTaken(3, 4, 30)):
        with pytest.raises(RowsUnequal, match="the ledger counts"):
            lake.owner.rewrites().rewrite(dataclasses.replace(found, taken={key: wrong}))
    unknown = dataclasses.replace(found, taken={(TOPIC, 9): RowsTaken(3, 4, 21)})
    with pytest.raises(RowsUnequal, match="not admitted"):
        lake.owner.rewrites().rewrite(unknown)
    version = lake.owner.rewrites().rewrite(found)
    (told,) = (LogReader(str(lake.table)).commit(version).raylake or {})["taken"]
    assert (told["rows"], told["first"], told["last"]) == (3, 4, 21)
    sound(lake)
    commit = lake.log(version)
    commit.write_text(commit.read_text().replace('"last":21', '"last":5'))
    assert {one.kind for one in lake.verify().findings if one.is_difference} == {"chain"}


@pytest.mark.spec("C6")
def test_a_lift_of_append_only_that_a_store_puts_late_finds_its_version_taken(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = proposed(lake, Delete("_offset = 3")).rewritten
    assert found is not None
    put, late, left = log_table.place_entry, list[Any](), 0

    def silent(*given: Any) -> None:
        nonlocal left
        if not left:
            put(*given)
            return
        left -= 1
        late.append(given)
        raise OSError("the store did not answer yet")

    rewrites = lake.owner.rewrites()
    for silent_for in (1, 2):
        # The second time it does not answer what is to take the version either.
        with monkeypatch.context() as patched:
            patched.setattr(log_table, "place_entry", silent)
            left = silent_for
            with pytest.raises(Retryable):
                rewrites.rewrite(found)
        assert rewrites.settle(found.request) is None
        with pytest.raises(CommitFailedError):
            put(*late[-silent_for])
        lake.owner.commit([])
        sound(lake)
    rewrites.rewrite(found)
    sound(lake)


@pytest.mark.spec("C6")
@pytest.mark.parametrize("where", ["_offset = 8", "_offset = 3", "_offset = 20"])
def test_rows_of_a_topic_that_was_created_again_are_refused_before_the_owner_is_asked(
    lake: Lake, where: str
) -> None:
    again = "1b3f9a4e-6a52-4d43-a7a5-0f5ad9f4b9a2"
    lake.admit(Span(0, 0, 0, topic_id=again))
    lake.ingest(Span(0, 0, 5, topic_id=again))
    with pytest.raises(errors.TopicRecreated, match="was created again") as caught:
        proposed(lake, Delete(f"_partition = 0 AND {where}"))
    assert caught.value.table_changed is False
    sound(lake)
    # Rows of other partitions leave as before.
    done(lake, Delete("_partition = 1 AND _offset = 104"))
    sound(lake)


def test_a_topic_that_is_created_again_while_rows_are_taken_is_told_as_such(lake: Lake) -> None:
    found = proposed(lake, Delete("_offset = 3")).rewritten
    assert found is not None
    lake.admit(Span(0, 0, 0, topic_id="1b3f9a4e-6a52-4d43-a7a5-0f5ad9f4b9a2"))
    # It is not one that is done again.
    with pytest.raises(RowsOfBoth, match="was created again"):
        lake.owner.rewrites().rewrite(found)
    sound(lake)
