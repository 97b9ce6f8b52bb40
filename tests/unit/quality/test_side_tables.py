"""Files that commits of a table name get into the side table once, whatever happens between."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from raylake import faults
from raylake.clock import ManualClock
from raylake.delta.log_commit import LogCommit, commit_after
from raylake.errors import DependencyUnreachable, LogDamaged, NotOurTable
from raylake.layers.derived import Rejected, Span
from raylake.quality import history, quarantine, side_table
from raylake.quality.quarantine import Origin, letters
from raylake.quality.results import RuleResult, clipped
from raylake.quality.side_table import Target, metadata_of, position
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import WriteConflict
from raylake.tables.landing import KEY
from raylake.tables.requests import Read
from tests.harness.quality import NOW

CLOCK = ManualClock()


class Lake:
    """A target table, its quarantine and its history."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "silver" / "t"
        write_deltalake(self.path, pa.table({"x": [0]}))
        table_id = str(DeltaTable(self.path).metadata().id)
        self.target = Target("silver.t", str(self.path), table_id)
        self.quarantine = quarantine.quarantine_table(str(root / "quarantine" / "p"))
        self.history = history.history_table(str(root / "_quality" / "p"))
        self.engine = DeltaRsEngine()

    def written(self, *values: str) -> list[dict[str, Any]]:
        """Rejected rows in files that nothing names yet."""
        rows = pa.table({"x": list(values)})
        span = Span("bronze.t", "", "s", -1, 0)
        one = Rejected(rows, "r", "x", rows.column("x").combine_chunks(), "no")
        made = letters(Origin(self.target, span, NOW), [one])
        return quarantine.write(self.quarantine, [made], "none")

    def commit(self, **metadata: Any) -> None:
        version = DeltaTable(self.path).version()
        commit_after(self.path, version, LogCommit("WRITE", [], custom={KEY: metadata}))

    def follow(self, side: side_table.SideTable | None = None) -> int:
        module = history if side is self.history else quarantine
        return module.follow_up(side or self.quarantine, self.target, CLOCK)

    def values(self) -> list[str]:
        found = quarantine.select(self.reader(self.quarantine))
        return sorted(found.column("value").to_pylist())

    def rows(self, side: side_table.SideTable) -> list[dict[str, Any]]:
        return DeltaTable(side.path).to_pyarrow_table().to_pylist()  # type: ignore[no-any-return]

    def reader(self, side: side_table.SideTable) -> Callable[[Read], pa.RecordBatchReader]:
        return lambda request: self.engine.read(side.path, request)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_what_commits_name_is_added_once(lake: Lake) -> None:
    lake.commit(quarantine=lake.written("a", "b"))
    lake.commit()
    lake.commit(quarantine=lake.written("c"))
    assert lake.follow() == 2
    assert lake.follow() == 0
    assert lake.values() == ["a", "b", "c"]
    assert len(lake.rows(lake.quarantine)) == 3
    lake.commit(quarantine=lake.written("d"))
    assert lake.follow() == 1
    assert lake.values() == ["a", "b", "c", "d"]
    app = f"raylake/quarantine/{lake.target.table_id}"
    assert DeltaTable(lake.quarantine.path).transaction_version(app) == 4
    assert position(lake.quarantine, app) == (4, 2)
    assert sorted(DeltaTable(lake.quarantine.path).metadata().partition_columns) == [
        "date",
        "table",
    ]


def test_files_that_no_commit_names_stay_outside(lake: Lake) -> None:
    lake.written("lost")
    assert lake.follow() == 0
    assert not (Path(lake.quarantine.path) / "_delta_log").exists()
    lake.commit(quarantine=lake.written("a"))
    lake.follow()
    assert lake.values() == ["a"]
    assert len(list(Path(lake.quarantine.path).rglob("*.parquet"))) == 2


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.spec("E1")
@pytest.mark.parametrize(
    "point", ["quality.written", "quality.before_commit", "quality.after_commit"]
)
def test_a_kill_anywhere_leaves_each_row_exactly_once(
    lake: Lake, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is repeated whole where it had not committed, the follow-up where it had."""

    def reach(name: str, **_in_flight: Any) -> None:
        if name == point and alive:
            alive.clear()
            raise Killed

    alive = [True]
    monkeypatch.setattr(faults, "reach", reach)
    for _ in range(2):
        try:
            if DeltaTable(lake.path).version() == 0:
                files = lake.written("a", "b")
                results = history.entry(Span("bronze.t", "", "s", -1, 0), [], NOW)
                lake.commit(quarantine=files, quality=results)
            lake.follow()
        except Killed:
            continue
    assert not alive
    lake.follow()
    assert lake.values() == ["a", "b"]
    assert len(lake.rows(lake.quarantine)) == 2


def test_of_two_that_follow_up_at_once_one_adds(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.commit(quarantine=lake.written("a"))
    real = faults.reach

    def meanwhile(name: str, **in_flight: Any) -> None:
        if name == "quality.before_commit":
            monkeypatch.setattr(faults, "reach", real)
            assert lake.follow() == 1

    monkeypatch.setattr(faults, "reach", meanwhile)
    assert lake.follow() == 0
    assert len(lake.rows(lake.quarantine)) == 1


def test_of_two_that_make_the_table_at_once_one_does(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.commit(quarantine=lake.written("a"))
    real = side_table.commit_first

    def late(*given: Any) -> None:
        real(*given)
        real(*given)

    monkeypatch.setattr(side_table, "commit_first", late)
    assert lake.follow() == 1
    assert lake.values() == ["a"]


def test_two_tables_share_a_quarantine(lake: Lake, tmp_path: Path) -> None:
    other = Lake(tmp_path / "other")
    other.quarantine = lake.quarantine
    lake.commit(quarantine=lake.written("a"))
    other.commit(quarantine=other.written("b"))
    assert (lake.follow(), other.follow()) == (1, 1)
    assert lake.values() == ["a", "b"]


@pytest.mark.spec("E1")
def test_a_replay_closes_a_row_by_the_commit_that_writes_it(lake: Lake) -> None:
    source = pa.table({"x": ["1", "b"], "_offset": [7, 8], "amount": [1.5, None]})
    span = Span("bronze.t", "", "s", -1, 0)
    one = Rejected(source, "r", "x", source.column("x").combine_chunks(), "no")
    made = letters(Origin(lake.target, span, NOW), [one])
    lake.commit(quarantine=quarantine.write(lake.quarantine, [made], "none"))
    lake.follow()
    read = lake.reader(lake.quarantine)
    where = "\"table\" = 'silver.t' and \"column\" = 'x' and rule = 'r' and \"row\" is not null"
    taken = quarantine.select(read, where)
    came = quarantine.source_rows(taken, source.schema)
    assert sorted(came.to_pylist(), key=str) == sorted(source.to_pylist(), key=str)
    # Of the two one is refused again, by a step that is repeated after a failure.
    later = NOW + dt.timedelta(hours=1)
    again = came.filter(pc.equal(came.column("x"), "b"))
    refused = Rejected(again, "r", "x", again.column("x").combine_chunks(), "no")
    for _ in range(2):
        left = letters(Origin(lake.target, span, later), [refused])
        marks = quarantine.markers(quarantine.Taken(taken, 1), left, later)
        files = quarantine.write(lake.quarantine, [left, marks], "none")
    assert quarantine.select(read, where).num_rows == 2
    lake.commit(quarantine=files)
    lake.follow()
    assert quarantine.select(read, where).column("value").to_pylist() == ["b"]
    assert quarantine.select(read).column("quarantined_at").to_pylist() == [later]


def test_the_position_moves_without_anything_named(lake: Lake) -> None:
    for _ in range(side_table.MARK_EVERY_VERSIONS - 1):
        lake.commit()
    lake.follow()
    assert position(lake.quarantine, lake.quarantine.app(lake.target.table_id))[0] == 19
    lake.commit()
    lake.follow()
    assert position(lake.quarantine, lake.quarantine.app(lake.target.table_id))[0] == 19


def test_a_commit_that_is_gone_is_told(lake: Lake) -> None:
    lake.commit(quarantine=lake.written("a"))
    lake.commit()
    (lake.path / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(LogDamaged, match="version 1 is gone"):
        lake.follow()


def test_a_file_that_is_gone_is_told(lake: Lake) -> None:
    lake.commit(quarantine=lake.written("a"))
    for file in Path(lake.quarantine.path).rglob("*.parquet"):
        file.unlink()
    with pytest.raises(LogDamaged, match=r"silver\.t names cannot be added: .* does not exist"):
        lake.follow()


def test_another_table_in_its_place_is_let_be(lake: Lake) -> None:
    write_deltalake(lake.quarantine.path, pa.table({"x": [1]}))
    lake.commit(quarantine=[])
    with pytest.raises(NotOurTable, match="it is no quarantine table of ours"):
        lake.follow()


def _refused(kind: type[Exception]) -> Callable[..., None]:
    def refuse(*_given: Any) -> None:
        raise kind("no")

    return refuse


@pytest.mark.parametrize("name", ["commit_first", "commit_after"])
def test_a_disk_that_takes_nothing(lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.commit(quarantine=lake.written("a"))
    monkeypatch.setattr(side_table, name, _refused(OSError))
    with pytest.raises(DependencyUnreachable, match="cannot be written"):
        lake.follow()
    monkeypatch.undo()
    assert lake.follow() == 1


def test_others_that_always_come_first(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.commit(quarantine=lake.written("a"))
    monkeypatch.setattr(side_table, "commit_after", _refused(CommitFailedError))
    with pytest.raises(WriteConflict):
        lake.follow()
    with pytest.raises(WriteConflict):
        history.record(lake.history, lake.target, [told()], CLOCK)


def test_a_checkpoint_is_written_now_and_then(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_table, "CHECKPOINT_EVERY_VERSIONS", 2)
    for value in "ab":
        lake.commit(quarantine=lake.written(value))
        lake.follow()
    assert (Path(lake.quarantine.path) / "_delta_log" / f"{2:020d}.checkpoint.parquet").exists()
    monkeypatch.setattr(side_table, "write_checkpoint", _refused(WriteConflict))
    for value in "cd":
        lake.commit(quarantine=lake.written(value))
        lake.follow()
    assert lake.values() == ["a", "b", "c", "d"]


def test_metadata_of_any_engine() -> None:
    said = {"quality": [1]}

    def commit(**info: Any) -> list[dict[str, Any]]:
        return [{"commitInfo": info}]

    assert metadata_of(commit(**{KEY: said})) == said
    assert metadata_of(commit(userMetadata=json.dumps({KEY: said}))) == said
    for nothing in (commit(), commit(raylake=said), commit(userMetadata="{"), [{"add": {}}]):
        assert metadata_of(nothing) == {}


def result(rule: str = "range(x)", failed: int = 0, **given: Any) -> RuleResult:
    return RuleResult(
        rule, "accuracy", given.pop("severity", "error"), "continue", 4, failed, **given
    )


def told(*results: RuleResult, at: dt.datetime = NOW) -> dict[str, Any]:
    span = Span("bronze.t", "", "s", -1, 3)
    (entry,) = history.entry(span, results or (result(),), at)
    return entry


def test_results_of_commits_become_rows(lake: Lake) -> None:
    one = result(
        failed=1,
        values=("9",),
        message="m",
        recommendation="r",
        measures={"x": 1.5},
        figure=1.5,
        threshold=1.0,
    )
    lake.commit(quality=[told(one)])
    assert lake.follow(lake.history) == 1
    assert lake.follow(lake.history) == 0
    assert lake.rows(lake.history) == [
        {
            "table": "silver.t",
            "target_table_id": lake.target.table_id,
            "target_version": 1,
            "source": "bronze.t",
            "source_after": -1,
            "source_version": 3,
            "rule": "range(x)",
            "category": "accuracy",
            "severity": "error",
            "on_failure": "continue",
            "rows": 4,
            "failed": 1,
            "share": 0.25,
            "value_sample": ["9"],
            "passed": False,
            "message": "m",
            "recommendation": "r",
            "figure": 1.5,
            "threshold": 1.0,
            "measures": '{"x": 1.5}',
            "by_rule": True,
            "at": NOW,
            "date": NOW.date(),
        }
    ]


def test_steps_that_commit_nothing_are_recorded_once(lake: Lake) -> None:
    first = told(result(failed=1))
    assert history.record(lake.history, lake.target, [first], CLOCK)
    assert not history.record(lake.history, lake.target, [first], CLOCK)
    assert not history.record(lake.history, lake.target, [], CLOCK)
    later = told(at=NOW + dt.timedelta(seconds=1))
    assert history.record(lake.history, lake.target, [later], CLOCK)
    assert [row["target_version"] for row in lake.rows(lake.history)] == [None, None]


def test_a_report_shows_the_last_result_of_each(lake: Lake) -> None:
    later = NOW + dt.timedelta(minutes=1)
    lake.commit(quality=[told(result(failed=2, message="old"), result("b", failed=1))])
    lake.commit(
        quality=[
            told(
                result(failed=1, message="new", severity="warning"),
                result("b"),
                result("c", failed=1, severity="info", by_rule=False),
                at=later,
            )
        ]
    )
    lake.follow(lake.history)
    read = lake.reader(lake.history)
    lines = history.report(read, "silver.t")
    assert sorted((one.rule, one.state, one.failed, one.message) for one in lines) == [
        ("b", "passed", 0, ""),
        ("c", "info", 1, ""),
        ("range(x)", "warning", 1, "new"),
    ]
    assert lines[-1].state == "passed"
    assert lines[0].target_version == 2
    assert history.summary(lines) == "2 of 3 checks failed (1 warning, 1 info)"
    assert len(history.report(read, last=9)) == 5
    assert len(history.report(read, "silver.o'clock")) == 0
    assert "new" in history.listing(lines)._repr_html_()
    assert history.summary([]) == "nothing was checked yet"
    assert history.summary([one for one in lines if one.state == "passed"]) == "all 1 checks passed"


def test_results_survive_the_metadata() -> None:
    one = result(failed=1, values=("é", "b"), measures={"x": [1, 2.5]}, figure=0.1)
    again = RuleResult.from_json(json.loads(json.dumps({**one.to_json(), "newer": 1})))
    assert again == one
    assert clipped("x" * 300) == "x" * 200 + "…"
    assert clipped("a\x1b[0mé\n") == "a\\x1b[0mé\\n"
