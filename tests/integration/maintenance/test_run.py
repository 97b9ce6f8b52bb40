"""``raylake maintain run`` on real tables: rows stay, others go on, what fails is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.cli.main import main
from raylake.client.upkeep import ByHand, Result, of_target
from raylake.clock import SystemClock
from raylake.errors import RayLakeError
from raylake.faults import ENV, arm, fired
from raylake.maintenance.history import History
from raylake.maintenance.lease import MaintainedElsewhere, MaintenanceLease
from raylake.maintenance.policy import Policy
from raylake.maintenance.subjects import Subject
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Delete, Upsert
from raylake.tables.upkeep_requests import Vacuum
from tests.harness.vectors import delete_by_vector
from tests.harness.waiting import until

SCHEMA = pa.schema([("id", pa.int64()), ("day", pa.string()), ("text", pa.string())])
SMALL = Policy(small_files=3)
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Type ``raylake maintain run``: exit code, its JSON, stderr."""

    def typed(*words: str) -> tuple[int, Any, str]:
        code = main(["maintain", "run", *words, "-o", "json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return typed


def rows_of(ids: list[int]) -> pa.Table:
    days = [f"d{one % 2}" for one in ids]
    return pa.table({"id": ids, "day": days, "text": [f"t{one}" for one in ids]}, schema=SCHEMA)


def table_of(path: Path, appends: int = 8, partition_by: tuple[str, ...] = ("day",)) -> str:
    """A table of small files, each over the whole range of ids."""
    engine = DeltaRsEngine()
    engine.execute(str(path), Create(SCHEMA, partition_by))
    for n in range(appends):
        engine.execute(str(path), Append(rows_of(list(range(n, 400, appends)))))
    return str(path)


def checksum(table: str, version: int | None = None) -> Counter[str]:
    """The rows of a version as a multiset."""
    rows = DeltaTable(table, version=version).to_pyarrow_table().to_pylist()
    return Counter(json.dumps(one, sort_keys=True, default=str) for one in rows)


def subject(table: str, policy: Policy = SMALL) -> Subject:
    return Subject("silver.t", table, policy, None)


def did(table: str, policy: Policy = SMALL, **more: Any) -> Result:
    return ByHand(**more).run([subject(table, policy)])


def orphans(table: str) -> set[str]:
    """Files that no version names, as a vacuum finds them."""
    asked = Vacuum(retention_hours=0, allow_short_retention=True, orphans=True, dry_run=True)
    live = {Path(one).name for one in DeltaTable(table).file_uris()}
    named = {
        Path(action["add"]["path"]).name
        for entry in Path(table, "_delta_log").glob("*.json")
        for action in map(json.loads, entry.read_text().splitlines())
        if action.get("add")
    }
    found = DeltaRsEngine().execute(table, asked).paths
    assert not live & {Path(one).name for one in found}
    return {one for one in found if Path(one).name not in named}


@pytest.mark.spec("F1", "F2")
def test_a_run_does_what_the_plan_says_and_compares(tmp_path: Path, run: Run) -> None:
    lake = tmp_path / "lake"
    for n in range(40):
        rows = pa.table({"id": [n, n + 1000], "day": ["a", "b" if n < 5 else "a"]})
        write_deltalake(lake / "silver" / "t", rows, mode="append", partition_by=["day"])
    table = str(lake / "silver" / "t")
    before, files = checksum(table), set(DeltaTable(table).file_uris())
    assert run(str(lake), "--dry-run")[1]["tables"][0]["actions"][0]["action"] == "compact"
    assert DeltaTable(table).version() == 39
    code, said, _ = run(str(lake))
    assert code == 0
    (one,) = said["outcomes"]
    assert (one["action"], one["outcome"], one["version"]) == ("compact", "done", 40)
    assert one["partition"] == {"day": "a"}
    assert (one["real"]["files_before"], one["real"]["files_after"]) == (40, 1)
    assert one["real"]["bytes_read"] == one["planned"]["bytes_read"]
    assert one["real"]["cpu_s"] > 0
    assert checksum(table) == before
    # What lies in the other partition has no debt: not one file of it was touched.
    kept = {one for one in files if "day=b" in one}
    assert kept < set(DeltaTable(table).file_uris())
    (row,) = History(str(lake)).read().to_pylist()
    assert (row["run_id"], row["table"], row["outcome"]) == (said["run_id"], "silver.t", "done")
    assert row["planned_bytes_read"] == row["bytes_read"]
    # Each version within retention reads as it did (F2).
    assert checksum(table, 39) == before
    assert run(str(lake))[1]["outcomes"] == []
    assert DeltaTable(table).version() == 40


@pytest.mark.spec("F1")
def test_only_decayed_regions_are_sorted(tmp_path: Path) -> None:
    engine, table = DeltaRsEngine(), str(tmp_path / "t")
    engine.execute(table, Create(SCHEMA))
    for n in range(10):
        engine.execute(table, Append(rows_of(list(range(n * 100, n * 100 + 100)))))
    sound = set(DeltaTable(table).file_uris())
    for n in range(8):
        engine.execute(table, Append(rows_of(list(range(5000 + n, 6000, 8)))))
    before = checksum(table)
    found = did(table, Policy(zorder=("id",)))
    (one,) = found.outcomes
    assert (one.action.kind, one.ending) == ("zorder", "done")
    assert sound < set(DeltaTable(table).file_uris())
    assert checksum(table) == before
    entry = DeltaTable(table).history(1)[0]
    assert (entry["operation"], entry["operationParameters"]["zOrderBy"]) == ("OPTIMIZE", '["id"]')
    assert did(table, Policy(zorder=("id",))).outcomes == ()


WIDE = pa.schema([(f"c{n}", pa.int64()) for n in range(40)])


@pytest.mark.spec("F1")
@pytest.mark.parametrize("column", ["c39", "c1", "c0"])
def test_property_30_readers_leave_files_out_by_the_columns_of_the_z_order(
    tmp_path: Path, column: str
) -> None:
    """Whatever the table says it keeps statistics of: the first 32 columns, or ``c0`` alone."""
    engine, table = DeltaRsEngine(), str(tmp_path / "t")
    named = {} if column == "c39" else {"delta.dataSkippingStatsColumns": "c0"}
    engine.execute(table, Create(WIDE, properties=named))
    for n in range(12):
        numbers = list(range(n, 1200, 12))
        engine.execute(table, Append(pa.table([pa.array(numbers)] * 40, schema=WIDE)))
    before = Counter(DeltaTable(table).to_pyarrow_table().column(column).to_pylist())
    policy = Policy(zorder=(column,), small_files=100)
    found = did(table, policy)
    assert [(one.action.kind, one.ending) for one in found.outcomes] == [("zorder", "done")]
    names = pa.table(DeltaTable(table).get_add_actions(flatten=True)).to_pylist()
    ends = {(one[f"min.{column}"], one[f"max.{column}"]) for one in names}
    # Of files that had statistics, the last of twelve is let be: the depth is half way to one.
    assert ends == ({(0, 1198), (11, 1199)} if column == "c0" else {(0, 1199)})
    more = pa.table([pa.array(range(2000, 2100))] * 40, schema=WIDE)
    engine.execute(table, Append(more))
    spans = pa.table(DeltaTable(table).get_add_actions(flatten=True))
    reaches = [one for one in spans.column(f"max.{column}").to_pylist() if one >= 1500]
    assert reaches == [2099]
    after = DeltaTable(table).to_pyarrow_table().column(column).to_pylist()
    assert Counter(after) == before + Counter(range(2000, 2100))
    assert did(table, policy).outcomes == ()
    operations = [one["operation"] for one in DeltaTable(table).history()]
    assert operations.count("SET TBLPROPERTIES") == (column != "c0")


@pytest.mark.spec("F1")
def test_rows_deleted_by_vectors_leave_with_a_run(tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    options = {"delta.enableDeletionVectors": "true"}
    for n in range(3):
        rows = pa.table({"id": list(range(n * 100, n * 100 + 100))})
        write_deltalake(table, rows, mode="append", configuration=options)
    delete_by_vector(Path(table), {5, 6, 7, 8, 9, 10, 11})
    before = ids(table)
    assert len(before) < 300
    (one,) = did(table).outcomes
    assert (one.action.kind, one.ending) == ("compact", "done")
    assert ids(table) == before


def ids(table: str) -> list[int]:
    from raylake.tables.requests import Read

    return sorted(DeltaRsEngine().read(table, Read()).read_all().column("id").to_pylist())


@pytest.mark.spec("F1")
def test_vacuum_checkpoint_and_log_follow_the_policy(tmp_path: Path) -> None:
    table = table_of(tmp_path / "t")
    did(table)
    kept = {Path(one).name for one in DeltaTable(table).file_uris()}

    class Later(SystemClock):
        def now(self) -> float:
            return time.time() + 40 * 86_400

    policy = replace(SMALL, checkpoint_commits=5)
    found = did(table, policy, clock=Later())
    endings = {one.action.kind: one.ending for one in found.outcomes}
    # The files on the disk are young: their own age keeps them, whatever the log says.
    assert endings["checkpoint"] == "done"
    assert set(endings) >= {"checkpoint", "vacuum"}
    assert {Path(one).name for one in DeltaTable(table).file_uris()} == kept
    assert (Path(table) / "_delta_log" / "_last_checkpoint").exists()


@pytest.mark.spec("F3")
def test_property_29_rows_are_exact_while_others_append_merge_and_delete(tmp_path: Path) -> None:
    table = table_of(tmp_path / "t", appends=6)
    failures: list[BaseException] = []
    expected = {n: f"t{n}" for n in range(400)}
    changed = threading.Lock()

    def work(start: int) -> None:
        engine = DeltaRsEngine()
        try:
            for step in range(6):
                new = start + step
                engine.execute(table, Append(rows_of([new])))
                ours = pa.table({"id": [step * 7 + start % 10], "text": [f"m{new}"]})
                asked = Upsert(ours, ("id",), columns=("text",), insert_when="false")
                engine.execute(table, asked)
                gone = 200 + start % 100 + step
                engine.execute(table, Delete(f"id = {gone}"))
                with changed:
                    expected[new] = f"t{new}"
                    expected[step * 7 + start % 10] = f"m{new}"
                    expected.pop(gone, None)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(1000 * n + n,)) for n in (1, 2)]
    for one in threads:
        one.start()
    compacted = 0
    policy = Policy(small_files=1, zorder=("id",), zorder_depth=1.5)
    while any(one.is_alive() for one in threads):
        found = did(table, policy)
        assert found.failures == {}
        assert [one for one in found.outcomes if one.ending == "failed"] == []
        compacted += sum(one.ending == "done" for one in found.outcomes)
    for one in threads:
        one.join()
    assert failures == []
    assert compacted > 0
    did(table, policy)
    rows = DeltaTable(table).to_pyarrow_table().to_pylist()
    assert {row["id"]: row["text"] for row in rows} == expected
    assert len(rows) == len(expected)


CHILD = """
import os, sys
from raylake.client.upkeep import ByHand
from raylake.maintenance.policy import Policy
from raylake.maintenance.subjects import Subject
found = ByHand().run([Subject("silver.t", sys.argv[1], Policy(small_files=3), None)])
print([(one.ending, one.note) for one in found.outcomes], found.failures)
sys.stdout.flush(); os._exit(0)
"""


def child(table: str, faults: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, table],
        env={**os.environ, ENV: str(faults)},
        stdout=subprocess.PIPE,
        text=True,
    )


FRESH, STALE = "maintain.written", "rewrite.checked"
"""Before it looks whether what it read is still there, and after."""


@pytest.mark.spec("F3")
@pytest.mark.parametrize("point", [FRESH, STALE])
def test_failure_23_of_two_maintainers_one_is_frozen_before_its_commit(
    tmp_path: Path, point: str
) -> None:
    table, faults = table_of(tmp_path / "t", partition_by=()), tmp_path / "faults"
    before = checksum(table)
    arm(faults, point, action="stop")
    frozen = child(table, faults)
    until(lambda: fired(faults), "it is frozen")
    # It is alive: another one names it, and does nothing.
    (error,) = did(table).failures.values()
    assert isinstance(error, MaintainedElsewhere)
    assert str(frozen.pid) in error.message
    assert checksum(table) == before
    # One that takes the lease all the same does the work.
    (Path(table) / "_raylake" / "maintenance.json").unlink()
    (one,) = did(table).outcomes
    assert one.ending == "done"
    files = set(DeltaTable(table).file_uris())
    DeltaRsEngine().execute(table, Append(rows_of([5000])))
    frozen.send_signal(signal.SIGCONT)
    out, _ = frozen.communicate(timeout=60)
    assert "other commits took the files" in out
    assert checksum(table) == before + Counter(
        json.dumps(row, sort_keys=True) for row in rows_of([5000]).to_pylist()
    )
    assert files < set(DeltaTable(table).file_uris())
    for version in range(2, 9):
        assert sum(checksum(table, version).values()) == 50 * version
    # What it had written in vain it took away itself.
    assert orphans(table) == set()


COMMITTED = "maintain.committed"
KILLED_AT = (
    *("maintain.aside", "maintain.written", "tables.before_commit"),
    *("rewrite.written", "rewrite.checked", COMMITTED),
)
"""Each point that a run reaches."""


def test_a_run_reaches_each_point_at_which_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("raylake.faults.reach", lambda point, **_: seen.append(point))
    did(table_of(tmp_path / "t"))
    assert set(seen[seen.index("maintain.aside") :]) == set(KILLED_AT)


@pytest.mark.spec("F3")
@pytest.mark.parametrize("point", KILLED_AT)
def test_failure_22_a_killed_run_leaves_only_what_a_vacuum_takes(
    tmp_path: Path, point: str
) -> None:
    table, faults = table_of(tmp_path / "t"), tmp_path / "faults"
    before, version = checksum(table), DeltaTable(table).version()
    arm(faults, point)
    killed = child(table, faults)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert checksum(table) == before
    left = orphans(table)
    assert DeltaTable(table).version() == version + (point == COMMITTED)
    # After the first commit another partition's files may lie there, not yet committed.
    assert left or point == COMMITTED
    # Its lease died with it: the next run does the rest, and says nothing of another one.
    found = did(table)
    assert found.failures == {}
    assert {one.ending for one in found.outcomes} == {"done"}
    assert checksum(table) == before
    assert left <= orphans(table)
    # Each version reads as it did, and the next vacuum takes what was left, and that alone.
    asked = Vacuum(orphans=True)
    old = time.time() - 8 * 86_400
    for one in left:
        os.utime(Path(table) / one, (old, old))
    assert set(DeltaRsEngine().execute(table, asked).paths) == left
    assert orphans(table) == set()
    for at in range(1, version + 1):
        assert sum(checksum(table, at).values()) == 50 * at
    assert checksum(table, version) == checksum(table) == before


@pytest.mark.spec("F1")
def test_a_table_of_others_is_looked_after_by_its_path(tmp_path: Path, run: Run) -> None:
    table = tmp_path / "elsewhere"
    for n in range(40):
        write_deltalake(table, pa.table({"id": [n]}), mode="append")
    code, said, _ = run(str(table))
    assert (code, [one["outcome"] for one in said["outcomes"]]) == (0, ["done"])
    assert len(DeltaTable(table).file_uris()) == 1
    # No history, no state: nothing is left in the folder above it.
    assert [one.name for one in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.spec("F1")
def test_what_cannot_be_looked_after_is_told(tmp_path: Path, run: Run) -> None:
    code, _, said = run(str(tmp_path / "none"))
    assert (code, json.loads(said)["error"]["code"]) == (5, "table_missing")
    table = table_of(tmp_path / "t")
    code, _, said = run(table, "--zorder", "idd")
    assert "did you mean" in json.loads(said)["error"]["hint"]
    assert code != 0
    named = DeltaTable(table)
    log = Path(table) / "_delta_log" / f"{named.version() + 1:020d}.json"
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
    features = {"readerFeatures": ["typeWidening-x"], "writerFeatures": ["typeWidening-x"]}
    log.write_text(json.dumps({"protocol": {**protocol, **features}}))
    code, _, said = run(table)
    assert "typeWidening-x" in json.loads(said)["error"]["message"]
    assert code != 0


@pytest.mark.spec("F1")
def test_a_file_that_is_gone_fails_its_job_and_no_other(tmp_path: Path) -> None:
    table = table_of(tmp_path / "t")
    lost = next(one for one in DeltaTable(table).file_uris() if "day=d1" in one)
    Path(lost).unlink()
    found = did(table)
    endings = {str(one.action.partition): one.ending for one in found.outcomes}
    assert endings == {"{'day': 'd0'}": "done", "{'day': 'd1'}": "failed"}
    assert isinstance(found.failure, RayLakeError)
    assert "cannot be read" in found.failure.message
    assert orphans(table) == set()


@pytest.mark.spec("F1")
def test_another_maintainer_is_waited_for(tmp_path: Path) -> None:
    table = table_of(tmp_path / "t")
    other = MaintenanceLease(Path(table), "another", SystemClock())
    other.take()
    threading.Timer(0.5, other.release).start()
    (first, second) = did(table, wait_s=30.0).outcomes
    assert {first.ending, second.ending} == {"done"}


@pytest.mark.spec("F1")
def test_a_pipelines_file_says_what_is_due(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        f"pipeline: p\nlake: {tmp_path / 'lake'}\nkafka: {{bootstrap: 'k:9092'}}\n"
        "bronze: {raw: {topics: [t]}}\n"
        "silver: {t: {from: bronze.raw, mode: upsert, keys: [id], sequence_by: id}}\n"
        "maintenance: {compact: {small_files: 3}}\n"
    )
    table = table_of(tmp_path / "lake" / "silver" / "t")
    found = of_target(str(file))
    assert [(one.name, one.policy.small_files) for one in found] == [("silver.t", 3)]
    result = ByHand().run(found)
    assert {one.ending for one in result.outcomes} == {"done"}
    assert len(DeltaTable(table).file_uris()) == 2
