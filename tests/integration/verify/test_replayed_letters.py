"""A replay's commit: each offset is counted once before, between and after its two commits (I5)."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from raylake.client.dead_letters import Letters, Selection
from raylake.client.replay_work import Attempt, marked
from raylake.delta.dead_letters import DEAD_LETTER_PARTITION_BY, REPLAYED_SCHEMA
from raylake.delta.files import write_data_files
from raylake.delta.replaying import Replay
from raylake.delta.verify_letters import REPLAYED
from raylake.errors import Refused, ReplayOvertaken
from tests.integration.verify.lake import (
    PIPELINE,
    TABLE,
    Lake,
    Span,
    actions,
    rows_of_spans,
    write_actions,
)
from tests.integration.verify.test_deliberate_moves import P0, balanced, offsets, rewind

ROOT = Path(__file__).resolve().parents[3]
DEAD = frozenset({7, 8, 9, 40})
AT = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
AGAIN = ("decode", "still not JSON", "NotJson")


def made(folder: Path) -> Lake:
    lake = Lake(folder, properties={"delta.appendOnly": "true"})
    lake.admit(Span(0, 0, 0), Span(1, 0, 0))
    lake.ingest(Span(0, 0, 100, DEAD, frozenset({99})), Span(1, 0, 20, frozenset({3})))
    return lake


def prepared(lake: Lake, *become: int, again: tuple[int, ...] = (), name: str = "r-1") -> Replay:
    """A replay of partition 0: ``become`` are rows now, ``again`` have failed once more."""
    letters = Letters(str(lake.letters), PIPELINE, Selection(('"partition" = 0',)))
    found = pa.concat_tables(letters.parts(REPLAYED_SCHEMA.names))
    wanted = {*become, *again}
    found = found.filter(pa.array([one in wanted for one in found["offset"].to_pylist()]))
    fates = [None if one in become else AGAIN for one in found["offset"].to_pylist()]
    marks = marked(found, fates, Attempt(name, AT, "fixes.py:mend"))
    span = Span(0, 0, 100, frozenset(range(100)) - set(become))
    files = write_data_files(lake.table, rows_of_spans([span]), lake.owner.schema)
    letter_files = write_data_files(lake.letters, marks, REPLAYED_SCHEMA, DEAD_LETTER_PARTITION_BY)
    stored = letters.stored_version(lake.owner.table_id)
    counts = {P0: len(become)}
    return Replay(
        name, PIPELINE, TABLE, stored, lake.owner.fingerprint, counts, files, letter_files
    )


def open_letters(lake: Lake) -> list[int]:
    frame = pl.scan_delta(str(lake.letters)).collect()
    mine = frame.filter((pl.col("partition") == 0) & (pl.col("stage") != REPLAYED))
    return sorted(mine["offset"].to_list())


def kinds(lake: Lake) -> set[str]:
    report = lake.verify("data")
    assert report.ok, report.findings
    return {one.kind for one in report.findings}


@pytest.mark.spec("B4", "A4")
def test_a_replayed_letter_is_counted_once_at_every_moment(tmp_path: Path) -> None:
    lake = made(tmp_path)
    order = prepared(lake, 7, 8, again=(40,))
    version = lake.owner.replay(order)
    assert lake.owner.states()[P0].totals.dead == len(DEAD) - 2
    assert kinds(lake) == {"dead_letters_leaving", "dead_letters_pending"}
    account = lake.verify("log").dead_letters
    assert account is not None
    assert (account.stored, account.leaving, account.pending) == (5, 3, 1)
    assert lake.owner.replay(order) == version, "handed over again it changes nothing"
    lake.settle()
    assert kinds(lake) == set()
    assert open_letters(lake) == [9, 40]
    assert offsets(lake.table, 0) == sorted((set(range(99)) - DEAD) | {7, 8})
    frame = pl.scan_delta(str(lake.letters)).collect().filter(pl.col("partition") == 0)
    rows = {one["offset"]: one for one in frame.to_dicts()}
    assert sorted(rows) == sorted(DEAD)
    became, failed = rows[7], rows[40]
    assert (became["stage"], became["failed_stage"], became["attempts"]) == (REPLAYED, "decode", 1)
    assert (became["replay_id"], became["replayed_at"], became["fix"]) == (
        "r-1",
        AT,
        "fixes.py:mend",
    )
    assert (became["reason"], became["value"]) == ("not JSON", b"{")
    assert (failed["stage"], failed["reason"], failed["attempts"]) == (*AGAIN[:2], 1)
    assert (rows[9]["attempts"], rows[9]["reason"]) == (None, "not JSON")
    # A letter that fails again and again is one letter.
    lake.owner.replay(prepared(lake, 9, again=(40,), name="r-2"))
    lake.settle()
    assert open_letters(lake) == [40]
    again = pl.scan_delta(str(lake.letters)).filter(pl.col("offset") == 40).collect().to_dicts()
    assert [(one["attempts"], one["replay_id"]) for one in again] == [(2, "r-2")]
    # Letters and rows come as before, and the account is the same after all upkeep.
    lake.ingest(Span(0, 100, 130, frozenset({101})))
    balanced(lake)


@pytest.mark.spec("B4")
def test_letters_that_somebody_else_has_touched_are_not_replayed_twice(tmp_path: Path) -> None:
    lake = made(tmp_path)
    first, second = prepared(lake, 7, 8), prepared(lake, 8, 9, name="r-2")
    lake.owner.replay(first)
    with pytest.raises(ReplayOvertaken, match="came while the letters were looked at"):
        lake.owner.replay(second)
    lake.settle()
    with pytest.raises(ReplayOvertaken):
        lake.owner.replay(second)
    third = prepared(lake, 9, name="r-3")
    rewind(lake, {P0: 50})
    with pytest.raises(ReplayOvertaken):
        lake.owner.replay(third)
    balanced(lake)


@pytest.mark.spec("B4")
def test_a_replay_that_does_not_fit_the_account_changes_nothing(tmp_path: Path) -> None:
    lake = made(tmp_path)
    good = prepared(lake, 7, 8)
    version = lake.owner.version
    for order, said in [
        (dataclasses.replace(good, rows={P0: 5}), "counts 4 dead letters"),
        (dataclasses.replace(good, rows={P0: 1}), "2 rows in the files, 1 letters"),
        (dataclasses.replace(good, pipeline="other"), "for 'other'"),
        (dataclasses.replace(good, fingerprint="old"), "columns changed"),
    ]:
        with pytest.raises(Refused, match=said):
            lake.owner.replay(order)
    for file in good.files:
        (lake.table / file.path).unlink()
    with pytest.raises(Refused, match="does not exist"):
        lake.owner.replay(good)
    assert lake.owner.version == version
    balanced(lake)


@pytest.mark.spec("B4", "A4")
def test_offsets_that_were_replayed_can_be_read_again(tmp_path: Path) -> None:
    lake = made(tmp_path)
    lake.owner.replay(prepared(lake, 7, 40))
    lake.settle()
    rewind(lake, {P0: 20})
    assert offsets(lake.table, 0)[-1] == 19
    balanced(lake)
    lake.ingest(Span(0, 20, 100, frozenset({40})))
    assert open_letters(lake) == [8, 9, 40]
    lake.owner.replay(prepared(lake, 40, name="r-2"))
    lake.settle()
    assert open_letters(lake) == [8, 9]
    balanced(lake)


@pytest.mark.parametrize("damage", ["count", "rows"])
def test_a_replay_whose_words_are_wrong_is_found(tmp_path: Path, damage: str) -> None:
    lake = made(tmp_path)
    version = lake.owner.replay(prepared(lake, 7, 8))
    lake.settle()
    commit = lake.log(version)
    found = actions(commit)
    for action in found:
        if damage == "count" and action.get("txn", {}).get("appId", "").endswith("/dead"):
            action["txn"]["version"] += 1
        if damage == "rows" and "commitInfo" in action:
            action["commitInfo"]["raylake"]["replay"]["partitions"][0]["rows"] = 3
    write_actions(commit, found)
    report = lake.verify("log")
    assert not report.ok
    assert {"chain"} <= {one.kind for one in report.findings}
