"""A merge of our own that is killed, or that the disk stops, changes nothing or everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.delta.log_table import ENGINE as OURS
from raylake.faults import arm, fired
from raylake.tables import errors
from raylake.tables.child import LimitedRunner
from raylake.tables.cow_upsert import WHY
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import TableEngine
from raylake.tables.requests import Append, Create, Read, Upsert
from raylake.tables.running import Order
from raylake.tables.upkeep_requests import Vacuum
from tests.harness.disk import SmallDisk, small_disk
from tests.harness.spark import SPARK_IN_LONG
from tests.harness.tables import FEED, SCHEMA, Table, orders

__all__ = ["small_disk"]

RUN = """
import json, os, resource, sys
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import TableError
from raylake.tables.requests import Upsert
from tests.harness.tables import orders
path, ids, limit = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    result = DeltaRsEngine().execute(path, Upsert(orders(ids, 2), ("id",)))
    print(json.dumps([result.changed, result.why]))
except TableError as error:
    print(json.dumps([type(error).__name__, error.table_changed, error.message]))
sys.stdout.flush()
os._exit(0)
"""
CHANGED = range(5, 45)
MERGED = {n: 2 if n >= 5 else 1 for n in range(45)}
BEFORE = dict.fromkeys(range(40), 1)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Forty rows in two files."""
    made = Table(DeltaRsEngine(), tmp_path / "t")
    made.do(Create(SCHEMA))
    for start in (0, 20):
        made.do(Append(orders(range(start, start + 20))))
    return made


def merge_elsewhere(
    table: Table, faults: Path, ids: Sequence[int] = CHANGED, limit_bytes: int = 0
) -> tuple[int, str]:
    """A merge in a process of its own, its files limited: status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(table.path), json.dumps(list(ids)), str(limit_bytes)],
        env={**os.environ, "RAYLAKE_FAULTS": str(faults)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def data_files(path: Path) -> set[str]:
    return {str(one.relative_to(path)) for one in path.rglob("*.parquet") if "_log" not in str(one)}


def named(path: Path) -> set[str]:
    """The files that a version names, also of one that is not the newest."""
    versions = range(DeltaTable(path).version() + 1)
    found = (DeltaTable(path, version=one).get_add_actions() for one in versions)
    return {name for adds in found for name in pa.table(adds)["path"].to_pylist()}


def merges(table: Table) -> int:
    lines = table.engine.history(str(table.path))
    return sum(line.operation == "MERGE" and line.engine == OURS for line in lines)


@pytest.mark.spec("C2", "C6")
def test_killed_with_its_files_written_it_changed_nothing_and_vacuum_finds_them(
    table: Table, tmp_path: Path
) -> None:
    arm(tmp_path / "faults", "merge.written")
    status, _ = merge_elsewhere(table, tmp_path / "faults")
    assert (status, len(fired(tmp_path / "faults"))) == (-9, 1)
    assert (table.version, table.amounts()) == (2, BEFORE)
    left = data_files(table.path) - named(table.path)
    assert len(left) == 3
    look = Vacuum(retention_hours=0, allow_short_retention=True, orphans=True, dry_run=True)
    assert set(table.do(look).paths) == left
    # A younger file may be one that a writer is about to commit.
    assert table.do(Vacuum(orphans=True, dry_run=True)).paths == ()
    again = table.do(Upsert(orders(range(5, 45), 2), ("id",)))
    assert (again.rows.updated, again.rows.inserted) == (35, 5)
    taken = table.do(
        Vacuum(retention_hours=0, allow_short_retention=True, orphans=True, keep_versions=(2,))
    )
    assert set(taken.paths) == left
    assert data_files(table.path) == named(table.path)
    assert (merges(table), table.amounts(), table.amounts(version=2)) == (1, MERGED, BEFORE)


@pytest.mark.spec("C2", "C3", "C6")
def test_killed_with_its_change_feed_written_it_recorded_nothing_and_vacuum_finds_it(
    tmp_path: Path,
) -> None:
    table = Table(DeltaRsEngine(), tmp_path / "t")
    table.do(Create(SCHEMA, partition_by=("region",), properties=FEED))
    table.do(Append(orders(range(40))))
    before = data_files(table.path)
    arm(tmp_path / "faults", "merge.written")
    status, _ = merge_elsewhere(table, tmp_path / "faults")
    assert (status, len(fired(tmp_path / "faults"))) == (-9, 1)
    assert (table.version, table.amounts()) == (1, BEFORE)
    left = data_files(table.path) - before
    # Ten partitions are written anew, and new rows come to five of them.
    assert len([one for one in left if one.startswith("_change_data/")]) == 15
    assert len(left) == 30
    tidy = Vacuum(retention_hours=0, allow_short_retention=True, orphans=True)
    assert set(table.do(tidy).paths) == left
    assert merge_elsewhere(table, tmp_path / "faults")[0] == 0
    kinds = [kind for _, kind, _, _ in table.changes(from_version=2)]
    assert kinds == ["insert"] * 5 + ["update_postimage"] * 35 + ["update_preimage"] * 35
    # What a version within the retention recorded is needed; what none does is not.
    assert table.do(Vacuum(orphans=True)).paths == ()
    assert len(table.changes(from_version=2)) == 75
    gone = set(table.do(tidy).paths)
    assert gone == before | {one for one in gone if one.startswith("_change_data/")}
    assert not list(table.path.glob("_change_data/**/*.parquet"))
    assert table.amounts() == MERGED


@pytest.mark.spec("C2", "C6")
def test_failure_24_killed_between_commit_and_report_it_is_done_once(
    table: Table, tmp_path: Path
) -> None:
    arm(tmp_path / "faults", "merge.committed")
    status, _ = merge_elsewhere(table, tmp_path / "faults")
    assert (status, len(fired(tmp_path / "faults"))) == (-9, 1)
    assert (table.version, table.amounts()) == (3, MERGED)
    assert data_files(table.path) == named(table.path)
    # Whoever does not know that makes the same rows of it again.
    assert merge_elsewhere(table, tmp_path / "faults")[0] == 0
    assert (table.amounts(), len(table.ids())) == (MERGED, len(MERGED))


@pytest.mark.spec("C6")
@pytest.mark.parametrize(("point", "done"), [("merge.written", False), ("merge.committed", True)])
def test_an_error_is_told_by_what_the_log_has(
    table: Table, tmp_path: Path, point: str, done: bool
) -> None:
    arm(tmp_path / "faults", point, action="error")
    status, said = merge_elsewhere(table, tmp_path / "faults")
    assert (status, len(fired(tmp_path / "faults"))) == (0, 1)
    assert table.amounts() == (MERGED if done else BEFORE)
    assert said.startswith('[true, "' if done else '["WriteFailed", false, ')
    assert data_files(table.path) == named(table.path)


@pytest.mark.spec("C6")
def test_a_file_that_the_disk_does_not_take_leaves_nothing_behind(
    table: Table, tmp_path: Path
) -> None:
    table.do(Append(orders(range(1000, 9000))))
    before = data_files(table.path)
    small = 2 * min(one.stat().st_size for one in table.path.glob("*.parquet"))
    ids = [5, 25, 5000]
    # The files of twenty rows are written; the one of eight thousand is not.
    status, said = merge_elsewhere(table, tmp_path / "none", ids, limit_bytes=small)
    assert (status, said[:25]) == (0, '["NotEnoughSpace", false,')
    assert "a data file could not be written" in said
    assert "File too large" in said
    assert data_files(table.path) == before
    assert (table.version, len(table.ids(where="amount = 2"))) == (3, 0)
    assert merge_elsewhere(table, tmp_path / "none", ids)[0] == 0
    assert table.amounts(where="amount = 2") == dict.fromkeys(ids, 2)


@pytest.mark.spec("C6")
def test_a_log_entry_that_the_disk_does_not_take_leaves_nothing_behind(tmp_path: Path) -> None:
    table = Table(DeltaRsEngine(), tmp_path / "t")
    table.do(Create(SCHEMA, partition_by=("region",)))
    table.do(Append(orders(range(40))))
    before = data_files(table.path)
    log = table.path / "_delta_log"
    # Twenty small files are named by one entry that is larger than each of them.
    largest = max(one.stat().st_size for one in table.path.glob("*/*.parquet"))
    status, said = merge_elsewhere(table, tmp_path / "none", limit_bytes=2 * largest)
    assert (status, said[:25]) == (0, '["NotEnoughSpace", false,')
    assert "a data file" not in said
    assert data_files(table.path) == before
    assert len(list(log.iterdir())) == 2
    assert (table.version, table.amounts()) == (1, BEFORE)
    assert merge_elsewhere(table, tmp_path / "none")[0] == 0
    assert (table.version, table.amounts()) == (2, MERGED)


# -- disks


NOISY = pa.schema([("id", pa.int64()), ("noise", pa.binary())])


def noisy(ids: range, size: int = 0) -> pa.Table:
    return pa.table({"id": list(ids), "noise": [os.urandom(size) for _ in ids]}, schema=NOISY)


@pytest.mark.spec("C6")
def test_a_rewrite_without_room_is_refused_before_anything_is_written(
    small_disk: Callable[[str], SmallDisk],
) -> None:
    disk = small_disk("small")
    table = Table(DeltaRsEngine(), disk.place / "t")
    table.do(Create(NOISY))
    for start in (0, 500):
        table.do(Append(noisy(range(start, start + 500), 10_000)))
    before = data_files(table.path)
    with pytest.raises(
        errors.NotEnoughSpace, match=r"upsert needs [\d,]+ bytes and .* has [\d,]+"
    ) as told:
        table.do(Upsert(noisy(range(490, 510)), ("id",)))
    assert told.value.table_changed is False
    assert "nothing was written" in told.value.hint
    needed, free = (told.value.context[one] for one in ("needed_bytes", "free_bytes"))
    assert 11_000_000 <= needed < 12_000_000
    assert free < 7_000_000
    assert (data_files(table.path), table.version) == (before, 2)
    # One file alone fits, as long as the other is not to be written anew.
    done = table.do(Upsert(noisy(range(490, 500)), ("id",)))
    assert done.why.endswith(WHY)
    assert (done.rows.updated, done.files.removed) == (10, 1)


@SPARK_IN_LONG
@pytest.mark.spec("C6")
def test_a_disk_that_is_full_in_the_middle_is_told_and_nothing_is_half_done(
    engine: TableEngine, small_disk: Callable[[str], SmallDisk]
) -> None:
    disk = small_disk("small")
    table = Table(engine, disk.place / "t")
    table.do(Create(NOISY))
    # What compresses to nothing becomes what does not compress: that shows only when it is written.
    for start in (0, 1000):
        table.do(Append(noisy(range(start, start + 1000))))
    before = data_files(table.path)
    for operation in (
        Upsert(noisy(range(2000), 10_000), ("id",)),
        Append(noisy(range(2000), 10_000)),
    ):
        with pytest.raises(errors.NotEnoughSpace, match="No space left on device") as told:
            table.do(operation)
        assert told.value.table_changed is False
        assert "the table is unchanged" in told.value.hint
        assert table.version == 2
        if engine.name == "delta-rs":
            assert data_files(table.path) == before
    rows = engine.read(str(table.path), Read()).read_all()
    assert (rows.num_rows, set(rows.column("noise").to_pylist())) == (2000, {b""})
    # What Spark's tasks leave of files belongs to no version.
    tidy = Vacuum(retention_hours=0, allow_short_retention=True, orphans=True)
    DeltaRsEngine().execute(str(table.path), tidy)
    assert data_files(table.path) == before
    assert table.do(Append(noisy(range(2000, 2100), 10_000))).changed


@pytest.mark.spec("C6")
def test_an_order_that_the_scratch_folder_has_no_room_for_is_not_begun(
    table: Table, small_disk: Callable[[str], SmallDisk], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(disk.place))
    order = Order(str(table.path), Append(noisy(range(2000), 10_000)), "tried")
    started: list[int] = []
    runner = LimitedRunner(2**30, started.append)
    with pytest.raises(
        errors.NotEnoughSpace, match="the scratch folder of its process needs"
    ) as told:
        runner.run(order)
    assert told.value.context["needed_bytes"] > 20_000_000
    disk.fill()
    with pytest.raises(errors.NotEnoughSpace) as told:
        runner.run(Order(str(table.path), Append(orders([1])), "tried"))
    assert told.value.table_changed is False
    assert "TMPDIR" in told.value.hint
    assert (started, table.version) == ([], 2)
