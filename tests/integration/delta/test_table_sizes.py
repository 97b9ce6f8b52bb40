"""A table's sizes are what lies in its folder, with and without a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.delta.table_sizes import TableSizes, table_sizes
from raylake.errors import NotOurTable


def rows(first: int) -> pa.Table:
    return pa.table({"n": list(range(first, first + 50))})


def in_folder(table: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Data files and log files with their sizes, as the disk has them."""
    data = {one.name: one.stat().st_size for one in table.glob("*.parquet")}
    log = {one.name: one.stat().st_size for one in (table / "_delta_log").iterdir()}
    return data, log


def check(table: Path) -> TableSizes:
    """What is measured is what lies there."""
    found, handle = table_sizes(str(table)), DeltaTable(str(table))
    data, log = in_folder(table)
    live = {uri.rpartition("/")[2] for uri in handle.file_uris()}
    gone = data.keys() - live
    assert found.version == handle.version()
    assert (found.live_files, found.live_bytes) == (len(live), sum(data[one] for one in live))
    assert (found.tombstoned_files, found.tombstoned_bytes) == (
        len(gone),
        sum(data[one] for one in gone),
    )
    assert (found.log_files, found.log_bytes) == (len(log), sum(log.values()))
    (newest,) = handle.history(1)
    assert found.committed_at_s == newest["timestamp"] / 1000
    return found


def test_live_tombstoned_and_log(tmp_path: Path) -> None:
    table = tmp_path / "t"
    for first in (0, 50, 100):
        write_deltalake(str(table), rows(first), mode="append")
    assert check(table).live_files == 3
    handle = DeltaTable(str(table))
    handle.delete("n >= 40 and n < 60")
    removed = check(table).tombstoned_files
    assert removed == 2
    DeltaTable(str(table)).create_checkpoint()
    assert check(table).tombstoned_files == removed
    write_deltalake(str(table), rows(200), mode="append")
    check(table)
    DeltaTable(str(table)).delete("n = 120")
    before = check(table)
    assert before.tombstoned_files == removed + 1
    write_deltalake(str(table), rows(0), mode="overwrite")
    found = check(table)
    assert found.live_files == 1
    assert found.tombstoned_files == before.tombstoned_files + before.live_files


def test_a_log_that_was_cleaned_up_below_its_checkpoint(tmp_path: Path) -> None:
    table = tmp_path / "t"
    for first in range(0, 500, 50):
        write_deltalake(str(table), rows(first), mode="append")
    DeltaTable(str(table)).create_checkpoint()
    for version in range(9):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    assert check(table).live_files == 10


def test_a_checkpoint_without_its_own_log_entry_says_no_time(tmp_path: Path) -> None:
    table = tmp_path / "t"
    write_deltalake(str(table), rows(0))
    DeltaTable(str(table)).create_checkpoint()
    (table / "_delta_log" / f"{0:020d}.json").unlink()
    found = table_sizes(str(table))
    assert (found.version, found.live_files, found.committed_at_s) == (0, 1, None)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotOurTable):
        table_sizes(str(tmp_path))
