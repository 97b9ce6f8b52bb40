"""``raylake maintain plan`` on real tables: what it says, what comes of it, and what it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

from raylake.cli.main import main
from raylake.delta.log_reader import LogReader
from raylake.errors import LogDamaged, UnsupportedTable
from raylake.maintenance.actions import Action
from raylake.maintenance.kept_state import kept_at
from raylake.maintenance.plan import Plan, look, plan
from raylake.maintenance.policy import Policy
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import BadRequest, UnknownColumn
from raylake.tables.requests import Append, Create
from raylake.tables.upkeep_requests import Checkpoint, Compact, Vacuum, ZOrder
from tests.harness.made_up_logs import MadeUpLog, added
from tests.harness.vectors import delete_by_vector

DAY_S = 86_400.0
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Type ``raylake maintain plan``: exit code, its JSON, stderr."""

    def typed(*words: str) -> tuple[int, Any, str]:
        code = main(["maintain", "plan", *words, "-o", "json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return typed


def many_files(path: Path, files: int = 40, **options: Any) -> str:
    """A table that delta-rs wrote, of small files whose ranges overlap."""
    for n in range(files):
        rows = pa.table({"id": [n, n + 1000], "day": ["a", "b" if n < 5 else "a"]})
        write_deltalake(path, rows, mode="append", partition_by=["day"], **options)
    return str(path)


def whole(root: Path) -> dict[str, bytes]:
    return {str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*.*")}


def only(found: Plan, kind: str) -> Action:
    (one,) = (one for one in found.actions if one.kind == kind)
    return one


@pytest.mark.spec("F1", "F2")
def test_a_plan_by_path_says_what_would_be_done_and_changes_nothing(
    tmp_path: Path, run: Run
) -> None:
    table = many_files(tmp_path / "t")
    before = whole(tmp_path)
    code, said, _ = run(table)
    assert (code, said["format"]) == (0, 1)
    (found,) = said["tables"]
    assert whole(tmp_path) == before
    assert (found["version"], found["files"], found["partitions"]) == (39, 45, 2)
    small = found["debt"][0]
    assert small["reason"] == "40 files under 32 MiB in 1 partitions"
    assert small["due"]
    (compact,) = (one for one in found["actions"] if one["action"] == "compact")
    assert compact["partition"] == {"day": "a"}
    live = {path for path in DeltaTable(table).file_uris() if "day=a" in path}
    assert {f"{table}/{path}" for path in compact["groups"][0]} == live
    assert compact["price"]["bytes_read"] == sum(Path(path).stat().st_size for path in live)
    assert (compact["price"]["files_before"], compact["price"]["files_after"]) == (40, 1)
    refused = {one["kind"]: one["reason"] for one in found["refused"]}
    assert refused["compact"] == "1 partitions have 5 small files or fewer; up to 32 are let be"
    assert refused["vacuum"] == "no removed file is beyond the retention"


@pytest.mark.spec("F1")
def test_a_compaction_does_what_the_plan_said(tmp_path: Path) -> None:
    table = many_files(tmp_path / "t")
    found = [one for one in plan(table, Policy(small_files=4)).actions if one.kind == "compact"]
    assert [one.partition for one in found] == [{"day": "a"}, {"day": "b"}]
    version = DeltaRsEngine().execute(table, Compact()).version_after
    commit = LogReader(table).commit(version)
    groups = [group for one in found for group in one.groups]
    assert {one["path"] for one in commit.removes()} == {path for one in groups for path in one}
    assert len(list(commit.adds())) == len(groups)
    again = plan(table, Policy(small_files=4))
    assert [one.kind for one in again.actions if one.kind == "compact"] == []


@pytest.mark.spec("F1")
def test_a_decayed_z_order_is_seen_and_only_wide_files_are_sorted_again(tmp_path: Path) -> None:
    table, engine = str(tmp_path / "t"), DeltaRsEngine()
    schema = pa.schema([("id", pa.int64())])
    engine.execute(table, Create(schema))
    for n in range(10):
        ids = list(range(n * 100, (n + 1) * 100))
        engine.execute(table, Append(pa.table({"id": ids}, schema=schema)))
    policy = Policy(zorder=("id",))
    sorted_once = look(table, policy)
    narrow = set(DeltaTable(table).file_uris())
    zorder = next(one for one in sorted_once.debt.parts if one.name == "zorder")
    assert not zorder.due
    assert zorder.measured == pytest.approx(1)
    for n in range(8):
        ids = list(range(n, 1000, 50))
        engine.execute(table, Append(pa.table({"id": ids}, schema=schema)))
    found = plan(table, policy)
    part = next(one for one in found.debt.parts if one.name == "zorder")
    assert part.measured == pytest.approx(9, abs=1)
    job = only(found, "zorder")
    (paths,) = job.groups
    assert not {f"{table}/{path}" for path in paths} & narrow
    assert len(paths) == 8
    assert job.gain.startswith("a value lies in about 2")
    engine.execute(table, ZOrder(("id",)))
    after = plan(table, policy)
    assert [one.kind for one in after.actions if one.kind == "zorder"] == []


def test_a_z_order_is_never_planned_by_itself(tmp_path: Path) -> None:
    found = plan(many_files(tmp_path / "t"), Policy())
    assert {one.name for one in found.debt.parts} >= {"small_files", "log"}
    assert "zorder" not in {one.name for one in found.debt.parts}
    assert "zorder" not in {one.kind for one in found.actions}


@pytest.mark.spec("F1")
def test_what_a_vacuum_would_take_is_told_from_the_log(tmp_path: Path) -> None:
    table = many_files(tmp_path / "t", 6)
    DeltaTable(table).delete("id >= 1000")
    gone = {one["path"]: one for one in LogReader(table).commit(6).removes()}
    now_s = time.time()
    early = plan(table, Policy(), now_s=now_s + 6.9 * DAY_S)
    assert "vacuum" not in {one.kind for one in early.actions}
    found = plan(table, Policy(vacuum_schedule="30 4 * * *"), now_s=now_s + 7.1 * DAY_S)
    job = only(found, "vacuum")
    assert job.price.files_before == len(gone)
    assert job.price.bytes_freed == sum(one["size"] for one in gone.values())
    assert job.when is not None
    assert time.strftime("%H:%M", time.gmtime(job.when)) == "04:30"
    took = DeltaRsEngine().execute(
        table, Vacuum(retention_hours=0, allow_short_retention=True, dry_run=True)
    )
    assert set(took.paths) == set(gone)


def test_deleted_rows_are_a_debt_and_their_files_are_written_anew(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": list(range(10))}))
    delete_by_vector(tmp_path / "t", [1, 2])
    found = plan(str(tmp_path / "t"), Policy())
    part = next(one for one in found.debt.parts if one.name == "deleted_rows")
    assert (part.due, part.measured) == (True, 0.2)
    job = only(found, "compact")
    assert job.price.bytes_written == int(job.price.bytes_read * 0.8)


def test_a_checkpoint_is_due_by_commits_or_by_age(tmp_path: Path) -> None:
    log = MadeUpLog(tmp_path / "t")
    for n in range(9):
        log.commit([added(f"{n}.parquet", 2**28)], at_ms=1_000)
    few = plan(str(log.root), Policy(), now_s=1_000.0)
    assert (
        only(few, "checkpoint").reason
        == "10 commits since the last checkpoint, the first 1,000 s ago"
    )
    DeltaTable(str(log.root)).create_checkpoint()
    for n in range(100):
        log.commit([added(f"x{n}.parquet", 2**28)], at_ms=1_000_000)
        due = plan(str(log.root), Policy(), now_s=1_000.0).actions
        assert [one.kind for one in due] == (["checkpoint"] if n == 99 else [])


def test_a_log_past_its_retention_is_planned_to_be_cleaned(tmp_path: Path) -> None:
    table = many_files(tmp_path / "t", 12)
    DeltaRsEngine().execute(table, Checkpoint())
    assert "clean_log" not in {one.kind for one in plan(table, Policy()).actions}
    found = plan(
        many_files(
            tmp_path / "short", 12, configuration={"delta.logRetentionDuration": "interval 0 days"}
        ),
        Policy(),
    )
    assert "clean_log" not in {one.kind for one in found.actions}
    DeltaTable(tmp_path / "short").create_checkpoint()
    found = plan(str(tmp_path / "short"), Policy())
    assert only(found, "clean_log").price.files_before == 11
    kept_for_ever = {"delta.enableExpiredLogCleanup": "false"}
    table = many_files(tmp_path / "kept", 2, configuration=kept_for_ever)
    refused = {one.kind: one.reason for one in plan(table, Policy()).refusals}
    assert "enableExpiredLogCleanup" in refused["clean_log"]


def test_statistics_that_only_a_checkpoint_has_as_columns_are_read(tmp_path: Path) -> None:
    log = MadeUpLog(tmp_path / "t")
    log.commit([added(f"{n}.parquet", n=(n, n + 1)) for n in range(6)])
    policy = Policy(zorder=("n",))
    told = look(str(log.root), policy)
    DeltaTable(str(log.root)).create_checkpoint()
    (file,) = log.root.glob("_delta_log/*.parquet")
    rows = pq.read_table(file)
    add = rows.column("add").combine_chunks()
    fields = {field.name: add.field(field.name) for field in add.type}
    parsed = [
        None if text is None else {**json.loads(text), "nullCount": {"n": 0}}
        for text in fields.pop("stats").to_pylist()
    ]
    kind = pa.struct([("n", pa.int64())])
    counted = [
        ("numRecords", pa.int64()),
        ("minValues", kind),
        ("maxValues", kind),
        ("nullCount", kind),
    ]
    fields["stats_parsed"] = pa.array(parsed, pa.struct(counted))
    made = pa.StructArray.from_arrays(
        list(fields.values()), names=list(fields), mask=pa.compute.is_null(add)
    )
    at = rows.schema.get_field_index("add")
    pq.write_table(rows.set_column(at, "add", made), file)
    found = look(str(log.root), policy)
    assert found.state.checkpoint == 1
    assert found.state.rows.sort_by("path").equals(told.state.rows.sort_by("path"))


@pytest.mark.spec("F1")
def test_a_lake_keeps_what_is_known_and_reads_only_the_commits_since(
    tmp_path: Path, run: Run
) -> None:
    lake = tmp_path / "lake"
    table = many_files(lake / "silver" / "orders", 3)
    (found,) = run(str(lake))[1]["tables"]
    assert found["table"] == "silver.orders"
    at = Path(str(kept_at(lake, "silver.orders")))
    assert at.is_file()
    write_deltalake(table, pa.table({"id": [1], "day": ["c"]}), mode="append")
    again = look(table, Policy(), at=at)
    assert (again.reading.from_version, again.reading.commits) == (2, 1)
    assert (again.debt.version, again.debt.partitions) == (3, 3)
    at.write_bytes(at.read_bytes()[:100])
    assert look(table, Policy(), at=at).reading.from_version is None


def test_a_table_made_again_is_not_mistaken_for_the_one_that_is_known(tmp_path: Path) -> None:
    at = tmp_path / "kept.arrow"
    old = MadeUpLog(tmp_path / "old", table_id="1")
    new = MadeUpLog(tmp_path / "new", table_id="2")
    for n in range(3):
        old.commit([added(f"old{n}.parquet")])
        new.commit([added(f"new{n}.parquet", 2)])
    new.commit([])
    assert look(str(old.root), Policy(), at=at).debt.nbytes == 3
    found = look(str(new.root), Policy(), at=at)
    assert (found.reading.from_version, found.debt.nbytes) == (None, 6)


def test_a_place_that_cannot_be_written_is_said_and_the_plan_is_there(tmp_path: Path) -> None:
    table = many_files(tmp_path / "t", 2)
    (tmp_path / "file").write_text("")
    found = plan(table, Policy(), at=tmp_path / "file" / "kept.arrow")
    assert found.debt.files == 4
    assert any("cannot be written" in one for one in found.notes)


@pytest.mark.spec("F1")
def test_a_damaged_checkpoint_is_named_and_planned_to_be_put_aside(tmp_path: Path) -> None:
    table = many_files(tmp_path / "t", 3)
    DeltaTable(table).create_checkpoint()
    (file,) = (tmp_path / "t" / "_delta_log").glob("*.checkpoint.parquet")
    sound = file.read_bytes()
    for broken in (sound[: len(sound) // 2], b"", b"PAR1" + bytes(40) + b"PAR1"):
        file.write_bytes(broken)
        found = plan(table, Policy())
        assert found.debt.files == 6
        assert any(one.startswith("checkpoint 2 is damaged: ") for one in found.notes)
        assert "repair=True" in only(found, "checkpoint").gain
    (tmp_path / "t" / "_delta_log" / f"{0:020d}.json").unlink()
    with pytest.raises(LogDamaged, match=r"no checkpoint leads to version 2"):
        plan(table, Policy())


def test_columns_that_cannot_be_judged_are_refused_by_name(tmp_path: Path, run: Run) -> None:
    rows = pa.table({"id": [1], "blob": [b"x"], "many": [[1]]})
    write_deltalake(tmp_path / "t", rows)
    table = str(tmp_path / "t")
    with pytest.raises(UnknownColumn, match="no column 'idd'"):
        plan(table, Policy(zorder=("idd",)))
    with pytest.raises(BadRequest, match=r"'blob' .* has no statistics"):
        plan(table, Policy(zorder=("blob",)))
    with pytest.raises(BadRequest, match=r"'many' .* no order"):
        plan(table, Policy(zorder=("many",)))
    code, _, err = run(table, "--zorder", "idd")
    assert (code, json.loads(err)["error"]["code"]) == (2, "unknown_column")
    plain = MadeUpLog(tmp_path / "plain")
    plain.commit([added(f"{n}.parquet", 2**28) for n in range(9)])
    found = plan(str(plain.root), Policy(zorder=("n",)))
    assert "9 files without statistics of n or of rows" in found.debt.reasons
    # A query opens each of them: to sort them gives them statistics, too.
    job = only(found, "zorder")
    assert (job.reason, len(job.groups[0])) == ("9 files have no statistics of n", 9)
    assert job.gain == "a value lies in about 1.0 files instead of 9.0"
    few = plan(str(plain.root), Policy(zorder=("n",), zorder_depth=9))
    assert "zorder" not in {one.kind for one in few.actions}
    said = "9 files have no statistics of n: a query of it opens them all"
    assert said in {one.reason for one in few.refusals}
    capped = plan(str(plain.root), Policy(zorder=("n",), max_job_bytes=4 * 2**28))
    job = only(capped, "zorder")
    assert job.reason == "9 files have no statistics of n; 5 of them are for another job"
    assert len(job.groups[0]) == 4


@pytest.mark.spec("F1")
def test_columns_that_a_pipelines_table_lacks_yet_are_refused_by_name_and_the_rest_is_done(
    tmp_path: Path, run: Run
) -> None:
    lake = tmp_path / "lake"
    table = many_files(lake / "bronze" / "t")
    file = tmp_path / "p.yaml"
    file.write_text(
        f"pipeline: p\nlake: {lake}\nkafka: {{bootstrap: 'k:9092'}}\n"
        "bronze: {t: {topics: [t]}}\nmaintenance: {zorder: {bronze.t: [idd]}}\n"
    )
    for _ in range(2):
        code, said, _ = run(str(file))
        (found,) = said["tables"]
        assert code == 0
        assert [one["action"] for one in found["actions"]] == ["compact"]
        (reason,) = (one["reason"] for one in found["refused"] if one["kind"] == "zorder")
        assert "there is no column 'idd' (did you mean 'id'?)" in reason
    DeltaTable(table).alter.add_columns([Field("idd", PrimitiveType("long"))])
    (found,) = run(str(file))[1]["tables"]
    reasons = [one["reason"] for one in found["actions"] if one["action"] == "zorder"]
    assert reasons == [f"{count} files have no statistics of idd" for count in (40, 5)]
    # What is named by hand is an error, as ever.
    assert run(str(file), "--zorder", "xx")[0] == 2


def test_what_is_no_table_or_has_a_feature_that_is_not_known_is_refused(
    tmp_path: Path, run: Run
) -> None:
    (tmp_path / "empty").mkdir()
    for where in ("empty", "nowhere"):
        code, _, err = run(str(tmp_path / where))
        assert (code, json.loads(err)["error"]["code"]) == (5, "table_missing")
    log = MadeUpLog(tmp_path / "t")
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["typeWidening"]}
    log.commit([{"protocol": {**protocol, "writerFeatures": ["typeWidening"]}}])
    with pytest.raises(UnsupportedTable, match="typeWidening"):
        plan(str(log.root), Policy())
    code, _, err = run(str(log.root))
    assert (code, "typeWidening" in err) == (5, True)
    mapped = MadeUpLog(tmp_path / "m", properties={"delta.columnMapping.mode": "name"})
    with pytest.raises(UnsupportedTable, match="columnMapping"):
        plan(str(mapped.root), Policy())
