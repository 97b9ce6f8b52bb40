"""What a replay makes of dead letters: selection, preview, fixes, refusals (B4, A4)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import raylake
from raylake.client import replays
from raylake.client.dead_letters import Selection
from raylake.client.replays import replay
from raylake.clock import SystemClock
from raylake.delta.log_files import commit_versions
from raylake.errors import AlreadyRunning, ConfigError, Refused
from raylake.tables.errors import BadExpression, TimeWithoutZone, UnknownColumn
from tests.integration.replay.small_pipeline import SmallPipeline

EVERY = Selection()
CLOCK = SystemClock()
COMMA = "    return letter.value.replace(b',}', b'}')"


@pytest.fixture
def small(tmp_path: Path) -> SmallPipeline:
    """Ten records, of which 2, 4 and 6 are dead letters."""
    made = SmallPipeline(tmp_path, keep_value=True)
    broken = {2: b'{"id": 2,}', 4: b'{"id": 4,}', 6: b"<six/>"}
    made.ingest([broken.get(n, b'{"id": %d}' % n) for n in range(10)])
    return made


@pytest.mark.spec("B4")
def test_a_preview_says_what_a_replay_does_and_changes_nothing(small: SmallPipeline) -> None:
    fix = small.fix(COMMA)
    before = sorted(small.lake.rglob("*"))
    shown = replay(small.loaded, EVERY, CLOCK, fix=fix, dry_run=True)
    assert sorted(small.lake.rglob("*")) == before
    done = replay(small.loaded, EVERY, CLOCK, fix=fix)
    (one,), (other,) = shown.tables, done.tables
    assert (shown.selected, one.rows, one.failed) == (3, 2, 1) == (3, other.rows, other.failed)
    assert [row["id"] for row in one.shown] == [2, 4]
    assert [row["_offset"] for row in other.shown] == [2, 4]
    assert [(f["offset"], f["stage"]) for f in one.failures] == [(6, "decode")]
    assert (one.replay_id, one.version) == ("", None)
    report = small.verify()
    (account,) = report.tables[0].partitions
    assert (account.counts.rows, account.counts.dead) == (9, 1)
    rows = small.rows()
    assert rows["_offset"].to_list() == [n for n in range(10) if n != 6]
    assert rows["_value"].to_list()[2] == b'{"id": 2}', "what was decoded; the letter has the rest"
    mended = small.letters()[2]
    assert (mended["value"], mended["key"]) == (b'{"id": 2,}', b"k2")
    assert (mended["stage"], mended["failed_stage"]) == ("replayed", "decode")
    assert (mended["replay_id"], mended["attempts"]) == (other.replay_id, 1)
    assert mended["fix"].startswith(fix)
    age = dt.datetime.now(dt.UTC) - mended["replayed_at"]
    assert dt.timedelta() <= age < dt.timedelta(minutes=5)


@pytest.mark.spec("B4")
def test_letters_are_chosen_by_conditions_on_their_columns(small: SmallPipeline) -> None:
    def offsets(*where: str, reason: str = "") -> list[int]:
        selection = Selection(where, reason)
        found = replay(small.loaded, selection, CLOCK, fix=small.fix(COMMA), dry_run=True)
        shown = [row["_offset"] for one in found.tables for row in one.shown]
        return sorted([*shown, *(f["offset"] for one in found.tables for f in one.failures)])

    assert offsets('"offset" > 2') == [4, 6]
    assert offsets('"offset" > 2', '"offset" < 6') == [4]
    assert offsets("topic = 't' and stage = 'decode' and \"hour\" >= 0") == [2, 4, 6]
    assert offsets("\"table\" = 'bronze.other'") == []
    assert offsets("reason like '%nothing of this%'") == []
    assert offsets(reason="NOTHING OF THIS") == []
    assert offsets("failed_at > timestamp '2020-01-01T00:00:00Z' and attempts is null") == [2, 4, 6]
    for wrong, kind in [
        ("nothing = 1", UnknownColumn),
        ("1; drop table x", BadExpression),
        ("reason in (select 1)", BadExpression),
        ('"offset"', BadExpression),
        ("failed_at > timestamp '2020-01-01'", TimeWithoutZone),
        ("cast(topic as int) = 1", ConfigError),
    ]:
        with pytest.raises(kind):
            offsets(wrong)


@pytest.mark.spec("B4", "A4")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    raise RuntimeError('no\\nidea')", "raised RuntimeError: no"),
        ("    return 5", "returned int, not bytes"),
        ("    return dataclasses.replace(letter, value='text')", "value is str"),
        ("    return dataclasses.replace(letter, headers=[1])", "headers are no pairs"),
        ("    return dataclasses.replace(letter, offset=1)", "other coordinates"),
    ],
)
def test_a_fix_that_cannot_be_used_leaves_the_letter_with_the_reason(
    small: SmallPipeline, body: str, reason: str
) -> None:
    done = replay(small.loaded, EVERY, CLOCK, fix=small.fix(body))
    assert (done.rows, done.failed) == (0, 3)
    letter = small.letters()[4]
    assert (letter["stage"], letter["attempts"], letter["value"]) == ("fix", 1, b'{"id": 4,}')
    assert letter["reason"].startswith("t[0] offset 4: the fix function ")
    assert reason in letter["reason"]
    small.verify()
    assert replay(small.loaded, EVERY, CLOCK, fix=small.fix(COMMA)).rows == 2
    small.verify()


@pytest.mark.spec("B4")
def test_a_fix_may_leave_letters_alone_and_make_tombstones(small: SmallPipeline) -> None:
    body = "    return None if letter.offset == 2 else dataclasses.replace(letter, value=None)"
    done = replay(small.loaded, EVERY, CLOCK, fix=small.fix(body))
    assert (done.rows, done.failed, done.tables[0].left) == (2, 0, 1)
    assert small.letters()[2]["attempts"] is None
    rows = small.rows().filter(small.rows()["_tombstone"])
    assert rows["_offset"].to_list() == [4, 6]
    small.verify()
    version = commit_versions(small.lake / "bronze" / "t")
    left = replay(small.loaded, EVERY, CLOCK, fix=small.fix("    return None"))
    assert (left.selected, left.tables[0].left, left.tables[0].version) == (1, 1, None)
    assert commit_versions(small.lake / "bronze" / "t") == version


def test_fixes_that_are_not_there_are_refused_before_anything(small: SmallPipeline) -> None:
    small.fix(COMMA)
    for fix in ("gone.py:mend", f"{small.folder}/fixes.py:gone", "fixes", "gone.module:f"):
        with pytest.raises(ConfigError, match="fix function"):
            replay(small.loaded, EVERY, CLOCK, fix=fix)


@pytest.mark.spec("B4", "A4")
def test_lost_ranges_and_tables_that_the_file_lacks_are_counted_and_left(
    tmp_path: Path,
) -> None:
    small = SmallPipeline(tmp_path, on_data_loss="record")
    small.ingest([b'{"id": 0}', b"x"], lost=5)
    done = replay(small.loaded, EVERY, CLOCK, fix=small.fix("    return b'{\"id\": 1}'"))
    assert (done.rows, done.lost, done.selected) == (1, 1, 2)
    only = replay(small.loaded, Selection(("stage = 'lost'",)), CLOCK)
    assert (only.selected, only.lost, only.tables) == (1, 1, ())
    small.verify()
    small.ingest([b"y"], start=7)
    small.write(key="other", topics=["t"])
    done = replay(small.loaded, EVERY, CLOCK)
    assert (dict(done.unknown), done.tables) == ({"bronze.t": 1}, ())


@pytest.mark.spec("B4")
def test_each_table_of_a_fan_out_gets_its_own(tmp_path: Path) -> None:
    small = SmallPipeline(tmp_path, topics=["a", "b"], table="of_{topic}")
    for topic in ("a", "b"):
        small.ingest([b"{", b'{"id": 1}'], name=f"bronze.of_{topic}", topic=topic)
    done = replay(small.loaded, EVERY, CLOCK, fix=small.fix("    return b'{\"id\": 7}'"))
    assert [(one.table, one.rows) for one in done.tables] == [
        ("bronze.of_a", 1),
        ("bronze.of_b", 1),
    ]
    assert small.rows("of_a")["id"].to_list() == [7, 1]
    small.verify()


@pytest.mark.spec("B4")
def test_new_columns_that_come_after_files_were_written_take_another_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SmallPipeline(tmp_path, unknown_fields="reject")
    small.ingest([b'{"id": %d, "a": 1}' % n for n in range(3)])
    small.ingest([b'{"id": %d, "b": 1}' % n for n in range(3, 6)], start=3)
    monkeypatch.setattr(replays, "_HELD_BYTES", 1)
    small.write(unknown_fields="evolve")
    done = replay(small.loaded, EVERY, CLOCK)
    assert (done.rows, done.failed) == (6, 0)
    assert small.rows().columns[:3] == ["id", "a", "b"] or {"a", "b"} <= set(small.rows().columns)
    small.verify()


@pytest.mark.spec("B4")
def test_late_records_are_judged_as_today(tmp_path: Path) -> None:
    rule = {"column": "at", "lateness": "1s", "late": "dead_letter"}
    columns = {"id": "long", "at": "timestamp"}
    small = SmallPipeline(tmp_path, schema=columns, event_time=rule)
    small.ingest([b'{"id": 0, "at": "2023-11-14T22:00:00Z"}'])
    small.ingest([b'{"id": 1, "at": "2023-11-14T20:00:00Z"}'], start=1)
    assert [one["stage"] for one in small.letters().values()] == ["late"]
    assert replay(small.loaded, EVERY, CLOCK).failed == 1
    small.write(schema=columns, event_time={**rule, "late": "keep"})
    assert replay(small.loaded, EVERY, CLOCK).rows == 1
    (letter,) = small.letters().values()
    assert (letter["stage"], letter["failed_stage"], letter["attempts"]) == ("replayed", "late", 2)
    small.verify()


@pytest.mark.spec("B4")
def test_a_living_owner_without_a_run_to_ask_is_left_alone(small: SmallPipeline) -> None:
    small.ingest([b"{"], start=10, release=False)
    with pytest.raises(AlreadyRunning):
        replay(small.loaded, EVERY, CLOCK, fix=small.fix(COMMA))
    assert replay(small.loaded, EVERY, CLOCK, dry_run=True).failed == 4
    small.verify()


def test_an_offset_with_two_letters_is_refused(small: SmallPipeline) -> None:
    folder = Path(small.loaded.config.lake) / "dead_letters" / "small"
    (file,) = folder.rglob("part-*.parquet")
    rows = pq.read_table(file, partitioning=None)
    pq.write_table(rows.take([0, 0, 2]), file)
    with pytest.raises(Refused, match="two dead letters, the first is 2"):
        replay(small.loaded, EVERY, CLOCK, fix=small.fix(COMMA))


@pytest.mark.spec("B4")
def test_the_same_from_a_notebook(small: SmallPipeline) -> None:
    lake = raylake.connect(lake=small.lake)
    letters = lake.dead_letters(small.file).where("stage = 'decode'")
    assert [(one.stage, one.count) for one in letters.stats()] == [("decode", 3)]
    assert "&lt;six" not in letters._repr_html_()
    assert letters.read(2).num_rows == 2
    fix = small.fix(COMMA)
    assert letters.where("reason is not null").of("bronze.t").preview(fix=fix).rows == 2
    assert letters.replay(fix=fix).rows == 2
    assert letters.replayed().where("stage = 'replayed'").read().num_rows == 0
    assert lake.dead_letters(small.file).replayed().read()["offset"].to_pylist() == [2, 4]
    with pytest.raises(ConfigError, match="have become rows"):
        letters.replayed().replay()
    with pytest.raises(ConfigError):
        lake.dead_letters("nobody")
    assert lake.table("bronze.t").read().to_arrow().num_rows == 9
