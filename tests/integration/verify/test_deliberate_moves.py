"""Deliberate moves of positions on a real table: the account balances before and after (I12)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from raylake.delta import prepared
from raylake.delta.log_reader import LogReader
from raylake.delta.moves import Adopt, Skip
from raylake.delta.rewinding import Rewind, Survey, survey
from raylake.delta.verify_letters import LettersTable, read_letters
from raylake.errors import ConfigError, Fenced, LogDamaged, Refused
from raylake.ingest.unit import Counts, SourcePartition
from tests.integration.verify.lake import (
    PIPELINE,
    TABLE,
    TOPIC,
    TOPIC_ID,
    Lake,
    Span,
    actions,
    add,
    write_actions,
)

P0, P1 = (SourcePartition(TOPIC, TOPIC_ID, n) for n in range(2))
EACH_LEVEL = pytest.mark.parametrize("level", ["log", "data"])


def order(lake: Lake, ends: Mapping[SourcePartition, int], *, replace: bool = True) -> Rewind:
    return Rewind(PIPELINE, ends, replace, str(lake.letters), TABLE)


def rewind(lake: Lake, ends: Mapping[SourcePartition, int]) -> None:
    """Both halves, as the command does them."""
    assert lake.owner.move(order(lake, ends)) == ()
    lake.settle()


def offsets(path: Path, partition: int, prefix: str = "_") -> list[int]:
    frame = pl.scan_delta(str(path)).filter(pl.col(f"{prefix}partition") == partition)
    return sorted(frame.collect()[f"{prefix}offset"].to_list())


def rows_below(end: int) -> list[int]:
    """What the fixture's partition 0 has as rows."""
    return [o for o in range(end) if o % 100 not in (7, 8, 99)]


def balanced(lake: Lake, level: str = "data") -> None:
    report = lake.verify(level)
    assert report.ok, report.findings


@pytest.mark.spec("A13")
@EACH_LEVEL
def test_an_adopted_partition_is_accounted_for_from_where_it_was_taken_over(
    tmp_path: Path, level: str
) -> None:
    lake = Lake(tmp_path)
    lake.owner.move(Adopt(PIPELINE, {P0: 1200}, {"from": "group", "group": "etl"}))
    lake.ingest(Span(0, 1200, 1300, frozenset({1207})))
    balanced(lake, level)
    (account,) = lake.verify(level).partitions
    assert (account.origin, account.next) == (1200, 1300)
    said = [LogReader(str(lake.table)).commit(v).raylake or {} for v in range(4)]
    assert [one["kind"] for one in said] == ["create", "epoch", "adopt", "data"]
    assert said[2]["adopted"] == {"from": "group", "group": "etl"}


@pytest.mark.spec("A13")
@EACH_LEVEL
def test_skipped_offsets_are_dropped_in_the_account_and_the_next_range_follows(
    lake: Lake, level: str
) -> None:
    lake.owner.move(Skip(PIPELINE, {P0: 550}, {P0: 3}, "poisoned"))
    assert lake.owner.states()[P0].leader_epoch == 3
    lake.ingest(Span(0, 550, 560))
    balanced(lake, level)
    account = next(one for one in lake.verify().partitions if one.source == P0)
    assert account.counts == Counts(rows=485 + 10, dead=10, absent=5, dropped=50)


@pytest.mark.parametrize("end", [499, 500, 0])
def test_a_skip_over_committed_offsets_changes_nothing(lake: Lake, end: int) -> None:
    version = lake.owner.version
    with pytest.raises(Refused, match="are committed"):
        lake.owner.move(Skip(PIPELINE, {P0: end}))
    assert DeltaTable(lake.table).version() == version
    balanced(lake)


@pytest.mark.parametrize("partition_by", [(), ("country",)])
@pytest.mark.parametrize("end", [499, 437, 208, 100, 0])
def test_a_rewind_takes_back_what_lies_beyond_and_the_account_balances(
    tmp_path: Path, end: int, partition_by: tuple[str, ...]
) -> None:
    lake = Lake(tmp_path, partition_by=partition_by, properties={"delta.appendOnly": "true"})
    lake.admit(Span(0, 0, 0), Span(1, 0, 0))
    for first in range(0, 500, 100):
        dead, absent = frozenset({first + 7, first + 8}), frozenset({first + 99})
        lake.ingest(Span(0, first, first + 100, dead, absent), Span(1, first, first + 100, dead))
    other = (offsets(lake.table, 1), offsets(lake.letters, 1, ""))
    rewind(lake, {P0: end})
    assert offsets(lake.table, 0) == rows_below(end)
    letters = [o for o in range(end) if o % 100 in (7, 8)]
    assert offsets(lake.letters, 0, "") == letters
    assert (offsets(lake.table, 1), offsets(lake.letters, 1, "")) == other
    state = lake.owner.states()[P0]
    absent_left = end // 100
    assert (state.origin, state.next) == (0, end)
    assert state.totals == Counts(end - len(letters) - absent_left, len(letters), absent_left)
    balanced(lake)
    # What was taken back comes again, other than before, and the account still balances.
    lake.ingest(Span(0, end, 500))
    assert len(offsets(lake.table, 0)) == 500 - len(letters) - absent_left
    balanced(lake)
    assert DeltaTable(lake.table).metadata().configuration["delta.appendOnly"] == "true"


@pytest.mark.spec("A13")
def test_the_next_owner_goes_on_from_where_a_rewind_went_and_verify_stays_the_same(
    lake: Lake,
) -> None:
    rewind(lake, {P0: 150, P1: 500})
    lake.owner = lake.attach()
    assert {s: one.next for s, one in lake.owner.states().items()} == {P0: 150, P1: 500}
    lake.ingest(Span(0, 150, 170), Span(1, 500, 501))
    before = lake.verify("data")
    lake.maintain()
    after = lake.verify("data")
    assert before.ok, before.findings
    assert after.ok, after.findings
    assert before.partitions == after.partitions


def test_a_rewind_below_the_origin_moves_the_origin(lake: Lake) -> None:
    rewind(lake, {P1: 450})
    state = lake.owner.states()[P1]
    assert (state.origin, state.next, state.totals) == (450, 450, Counts())
    lake.ingest(Span(1, 450, 520))
    balanced(lake)


def test_without_replace_only_what_left_nothing_is_read_again(lake: Lake) -> None:
    lake.owner.move(Skip(PIPELINE, {P0: 600}))
    lake.owner.move(order(lake, {P0: 540}, replace=False))
    assert lake.owner.states()[P0].totals.dropped == 40
    lake.ingest(Span(0, 540, 620))
    balanced(lake)
    version = lake.owner.version
    with pytest.raises(Refused, match="would double them") as caught:
        lake.owner.move(order(lake, {P0: 530}, replace=False))
    assert caught.value.context["rows"] == 80
    assert DeltaTable(lake.table).version() == version


def test_a_rewind_over_absent_and_dropped_offsets_tells_them_apart(lake: Lake) -> None:
    lake.owner.move(Skip(PIPELINE, {P0: 520}))
    lake.ingest(Span(0, 520, 600, frozenset(), frozenset({599})))
    rewind(lake, {P0: 510})
    totals = lake.owner.states()[P0].totals
    assert (totals.absent, totals.dropped) == (5, 10)
    balanced(lake)


def test_what_cannot_be_told_apart_any_more_is_refused(lake: Lake) -> None:
    lake.owner.move(Skip(PIPELINE, {P0: 520}))
    lake.ingest(Span(0, 520, 530, frozenset({521})))
    lake.owner.release()
    lake.maintain()
    lake.owner = lake.attach()
    with pytest.raises(Refused, match="cannot be told any more"):
        rewind(lake, {P0: 430})
    balanced(lake)


@pytest.mark.spec("A13")
def test_dead_letters_of_an_interrupted_rewind_are_named_and_leave_before_new_ones_come(
    lake: Lake,
) -> None:
    """It ended right after its commit; the next owner has committed the same offsets again."""
    lake.owner.move(order(lake, {P0: 150}))
    report = lake.verify("data")
    assert report.ok, report.findings
    (named,) = report.findings
    assert (named.kind, named.severity) == ("dead_letters_leaving", "notice")
    assert f"{P0} from 150 on" in named.where
    assert report.dead_letters is not None
    assert (report.dead_letters.leaving, report.dead_letters.pending) == (6, 0)
    lake.owner = lake.attach()
    lake.ingest(Span(0, 150, 260, frozenset({207, 209})), settle=False)
    report = lake.verify("data")
    assert report.ok, report.findings
    assert report.dead_letters is not None
    assert (report.dead_letters.leaving, report.dead_letters.pending) == (6, 2)
    lake.settle()
    assert offsets(lake.letters, 0, "") == [7, 8, 107, 108, 207, 209]
    balanced(lake)
    assert lake.verify("data").findings == ()
    # Whoever does it again, with what was read before, changes nothing.
    letters, pending = lake.letters_owner(), lake.owner.pending_dead_letters(-1)
    assert letters.redo(lake.owner.table_id, pending) == 0
    balanced(lake)


@pytest.mark.parametrize("end", [300, 150, 40])
def test_after_an_interrupted_rewind_another_one_waits_for_its_letters(
    lake: Lake, end: int
) -> None:
    lake.owner.move(order(lake, {P0: 350}))
    with pytest.raises(Refused, match="have not left it"):
        lake.owner.move(order(lake, {P0: end}))
    lake.settle()
    rewind(lake, {P0: end})
    assert offsets(lake.letters, 0, "") == [o for o in range(end) if o % 100 in (7, 8)]
    balanced(lake)


def test_two_rewinds_and_the_letters_between_them_are_settled_in_their_order(lake: Lake) -> None:
    """No process lived long enough to touch the dead letters."""
    lake.ingest(Span(0, 500, 520, frozenset({505, 506})))
    lake.owner.move(order(lake, {P0: 500}))
    lake.ingest(Span(0, 500, 530, frozenset({505, 511, 512})), settle=False)
    account = next(one for one in lake.verify("data").partitions if one.source == P0)
    assert account.counts.dead == 10 + 3
    balanced(lake)
    lake.settle()
    rewind(lake, {P0: 512})
    assert offsets(lake.letters, 0, "")[-2:] == [505, 511]
    balanced(lake)


@pytest.mark.spec("A13")
@pytest.mark.parametrize(("end", "kept"), [(500, []), (506, [505]), (300, [])])
def test_a_run_and_a_rewind_that_end_while_it_is_read_make_no_difference(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, end: int, kept: list[int]
) -> None:
    """The dead-letter table is read first; what both do to it afterwards is pending."""

    def meanwhile(*arguments: Any) -> LettersTable:
        found = read_letters(*arguments)
        lake.ingest(Span(0, 500, 520, frozenset({505, 506})))
        lake.owner.move(order(lake, {P0: end}))
        lake.ingest(Span(0, end, 530, frozenset({511, 512})), settle=False)
        return found

    with monkeypatch.context() as patched:
        patched.setattr("raylake.delta.verify.read_letters", meanwhile)
        report = lake.verify("data")
    assert report.ok, report.findings
    assert {f.kind for f in report.findings} == {"dead_letters_pending", "dead_letters_leaving"}
    balanced(lake)
    lake.settle()
    after = [o for o in offsets(lake.letters, 0, "") if o >= 500]
    assert after == [*kept, 511, 512]
    balanced(lake)


def test_our_clean_up_keeps_a_rewind_until_its_letters_have_left(lake: Lake) -> None:
    stored = lake.letters_owner().stored_version(lake.owner.table_id)
    lake.owner.move(order(lake, {P0: 150}))
    version = next(
        c.version
        for c in LogReader(str(lake.table)).commits()
        if (c.raylake or {}).get("kind") == "rewind"
    )
    checkpointer = lake.owner.checkpointer(interval_commits=1)
    for _ in range(5):
        lake.owner.set_watermark(1)
        checkpointer.committed(lake.owner.version, keep_from=stored + 1)
    checkpointer.close()
    assert lake.log(version).exists()
    lake.owner = lake.attach()
    lake.settle()
    balanced(lake)


def test_a_rewind_whose_commit_somebody_cleaned_up_too_early_is_named(lake: Lake) -> None:
    lake.owner.move(order(lake, {P0: 150}))
    lake.owner.release()
    lake.maintain()
    lake.owner = lake.attach()
    with pytest.raises(LogDamaged, match="dead letters were not added"):
        lake.settle()
    assert "dead_letters" in {f.kind for f in lake.verify().findings}


def test_pending_dead_letters_come_first(lake: Lake) -> None:
    lake.ingest(Span(0, 500, 510, frozenset({505})), settle=False)
    with pytest.raises(Refused, match="not in the dead-letter table yet"):
        rewind(lake, {P0: 100})
    lake.settle()
    rewind(lake, {P0: 100})
    balanced(lake)


@pytest.mark.parametrize(
    ("ends", "error", "said"),
    [
        ({P0: 500}, Refused, "does not lie before it"),
        ({P0: 501}, Refused, "does not lie before it"),
        ({SourcePartition(TOPIC, TOPIC_ID, 7): 0}, ConfigError, "is not admitted"),
    ],
)
def test_a_rewind_to_nowhere_is_refused(
    lake: Lake, ends: Mapping[SourcePartition, int], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        rewind(lake, ends)
    balanced(lake)


def test_rows_of_a_topic_created_again_are_not_taken_for_the_old_ones(lake: Lake) -> None:
    again = dataclasses.replace(P0, topic_id="another-id")
    lake.owner.move(Adopt(PIPELINE, {again: 0}))
    with pytest.raises(Refused, match="was created again"):
        rewind(lake, {P0: 100})


def test_a_table_with_fewer_rows_than_its_ledger_is_not_rewound(lake: Lake) -> None:
    commit = lake.log(4)
    found = actions(commit)
    write_actions(commit, [a for a in found if "add" not in a])
    with pytest.raises(Refused, match="the ledger counts"):
        survey(order(lake, {P0: 50}), lake.owner.states(), LogReader(str(lake.table)))


def test_a_rewind_repairs_a_table_that_somebody_else_restored(lake: Lake) -> None:
    DeltaTable(lake.table).restore(4)
    assert not lake.verify().ok
    lake.owner = lake.attach()
    rewind(lake, {P0: 200, P1: 580})
    assert offsets(lake.table, 0) == rows_below(200)
    balanced(lake)
    lake.ingest(Span(0, 200, 210), Span(1, 580, 581))
    balanced(lake)


@pytest.mark.parametrize("name", ["rows", "to", "from", "dropped", "rows_found"])
def test_verify_finds_a_rewind_that_says_something_else_than_it_did(lake: Lake, name: str) -> None:
    rewind(lake, {P0: 150})
    reader = LogReader(str(lake.table))
    (version,) = (c.version for c in reader.commits() if (c.raylake or {}).get("kind") == "rewind")
    commit = lake.log(version)
    found = actions(commit)
    info = next(a["commitInfo"] for a in found if "commitInfo" in a)
    info["raylake"]["rewound"][0][name] += 1
    write_actions(commit, found)
    assert not lake.verify().ok


def test_other_engines_read_a_rewound_table_as_it_is(lake: Lake) -> None:
    rewind(lake, {P0: 150})
    frame = DeltaTable(lake.table).to_pyarrow_table(columns=["_partition", "_offset"])
    assert frame.num_rows == len(rows_below(150)) + len(offsets(lake.table, 1))


def test_a_rewind_starts_again_when_somebody_commits_in_between(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def disturbed(*given: Any) -> Survey:
        found = survey(*given)
        seen.append(found.version)
        if len(seen) == 1:
            add(lake.table, [], {"somebody": 1})
        return found

    wanted = order(lake, {P0: 150})
    monkeypatch.setattr(prepared, "survey", disturbed)
    lake.owner.move(wanted)
    lake.settle()
    assert seen == [seen[0], seen[0] + 1]
    assert offsets(lake.table, 0) == rows_below(150)
    balanced(lake)


def test_an_owner_from_before_a_move_stops_for_good(lake: Lake) -> None:
    before = lake.owner
    lake.owner = lake.attach()
    lake.owner.move(Skip(PIPELINE, {P0: 510}))
    with pytest.raises(Fenced):
        before.move(Skip(PIPELINE, {P0: 520}))
    balanced(lake)


def test_a_dry_run_survey_changes_nothing(lake: Lake) -> None:
    files = sorted(lake.root.rglob("*"))
    found = survey(order(lake, {P0: 150}), lake.owner.states(), LogReader(str(lake.table)))
    assert found.partitions[P0].now.next == 150
    assert sorted(lake.root.rglob("*")) == files
