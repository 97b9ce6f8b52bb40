"""The log entries that a handle puts into place itself: as delta-rs's own, and never two of one."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest
from deltalake import (
    CommitProperties,
    DeltaTable,
    Field,
    PostCommitHookProperties,
    Schema,
    Transaction,
)
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction

from raylake.delta import log_files, log_table
from raylake.delta.log_table import MOST_UNREAD, LogTable

NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
SCHEMA = Schema(
    [Field("v", PrimitiveType("string")), Field("day", PrimitiveType("string"))],
)
NAMES = ("plain", "a b%c", "ü/x=1", "quo'te\"\\", "..", "%41")


def append(
    table: DeltaTable, names: tuple[str, ...] = (), txns: tuple[tuple[str, int], ...] = ()
) -> None:
    actions = [
        AddAction(f"day={n}/part-{i}.parquet", 1, {"day": n or None}, 7, True, '{"numRecords":1}')
        for i, n in enumerate(names)
    ]
    table.create_write_transaction(
        actions,
        "append",
        table.schema(),
        partition_by=["day"],
        commit_properties=CommitProperties(
            custom_metadata={"raylake": {"kind": "data", "text": "ü\n\u2028"}},
            max_commit_retries=0,
            app_transactions=[Transaction(*txn) for txn in txns],
        ),
        post_commithook_properties=NO_HOOKS,
    )


def create(path: Path) -> Path:
    DeltaTable.create(path, SCHEMA, partition_by=["day"])
    return path


def left_over(path: Path) -> list[str]:
    return [p.name for p in (path / "_delta_log").iterdir() if p.suffix == ".tmp"]


def test_another_reader_finds_the_same_as_in_an_entry_of_delta_rs(tmp_path: Path) -> None:
    found = []
    for kind in (DeltaTable, LogTable):
        path = create(tmp_path / kind.__name__)
        append(kind(path), (*NAMES, ""), (("raylake/a", 1 << 40), ("raylake/b", 0)))
        read = DeltaTable(path)
        adds = pa.table(read.get_add_actions(flatten=True)).to_pylist()
        info = {k: v for k, v in read.history(1)[0].items() if k in ("operation", "raylake")}
        txns = [read.transaction_version(name) for name in ("raylake/a", "raylake/b")]
        for add in adds:
            add["path"] = unquote(add["path"])
        found.append(
            (
                sorted(adds, key=lambda a: a["path"]),
                sorted(map(unquote, read.file_uris())),
                info,
                txns,
            )
        )
        read.create_checkpoint()
        assert sorted(DeltaTable(path).file_uris()) == sorted(read.file_uris())
    theirs, ours = found
    assert ours[0] == theirs[0]
    assert [u.rsplit("LogTable/")[-1] for u in ours[1]] == [
        u.rsplit("DeltaTable/")[-1] for u in theirs[1]
    ]
    assert ours[2:] == theirs[2:]


def test_of_handles_at_one_version_one_commits(tmp_path: Path) -> None:
    path = create(tmp_path / "t")
    turns, writers = 20, 4
    barrier = threading.Barrier(writers)

    def run(number: int) -> int:
        won, handle = 0, (LogTable if number % 2 else DeltaTable)(path)
        for turn in range(turns):
            barrier.wait(timeout=60)
            handle.update_incremental()
            barrier.wait(timeout=60)
            try:
                append(handle, (f"{number}-{turn}",))
                won += 1
            except CommitFailedError:
                continue
        return won

    with ThreadPoolExecutor(writers) as pool:
        won = list(pool.map(run, range(writers)))
    assert sum(won) == turns
    assert log_files.commit_versions(path) == list(range(turns + 1))
    assert len(DeltaTable(path).file_uris()) == turns
    assert left_over(path) == []


def test_an_entry_below_the_cleaned_log_is_not_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = create(tmp_path / "t")
    frozen, other = LogTable(path), DeltaTable(path)
    link = os.link

    def clean_up_first(source: Any, target: Any) -> None:
        """What a successor and its checkpointer did while this process was frozen."""
        for _ in range(3):
            append(other)
            other.update_incremental()
        other.create_checkpoint()
        for version in range(3):
            log_files.commit_path(path, version).unlink()
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", clean_up_first)
        with pytest.raises(CommitFailedError, match="cleaned up"):
            append(frozen, ("lost",))
    assert log_files.commit_versions(path) == [3]
    assert DeltaTable(path).version() == 3
    assert DeltaTable(path).file_uris() == []
    assert left_over(path) == []
    with pytest.raises(DeltaError):
        append(frozen, ("lost",))
    frozen.update_incremental()
    append(frozen, ("kept",))
    assert len(DeltaTable(path).file_uris()) == 1


def test_a_table_with_another_protocol_is_left_to_delta_rs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = create(tmp_path / "t")
    table, other = LogTable(path), DeltaTable(path)
    other.alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    table.update_incremental()
    monkeypatch.setattr(os, "link", lambda *_: pytest.fail("written by ourselves"))
    append(table)
    assert DeltaTable(path).version() == 2


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Up to which versions handles let delta-rs read; None: to the end."""
    found: list[int | None] = []
    read = LogTable._read

    def noted(self: LogTable, version: int | None) -> None:
        found.append(version)
        read(self, version)

    monkeypatch.setattr(LogTable, "_read", noted)
    return found


def add_one(table: LogTable, number: int, app: str = "raylake/a") -> None:
    """Commit a file and a txn, and take note of it."""
    append(table, (f"{app}-{number}",), ((app, number),))
    table.update_incremental()


def test_a_handle_knows_its_own_appends_without_reading_them(
    tmp_path: Path, reads: list[int | None]
) -> None:
    table = LogTable(create(tmp_path / "t"))
    for number in (1, 2, 3):
        add_one(table, number)
    assert (table.version(), table.transaction_version("raylake/a")) == (3, 3)
    assert table.metadata().partition_columns == ["day"]
    assert reads == []
    assert len(table.file_uris()) == 3
    assert reads == [3]
    add_one(table, 4)
    assert table.transaction_version("raylake/b") is None
    assert len(table.get_add_actions()) == 4
    assert reads == [3, 4]
    table.update_incremental()
    assert reads == [3, 4, None], "nothing was put in place since"


def test_after_a_pause_a_handle_reads_all(
    tmp_path: Path, reads: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = LogTable(create(tmp_path / "t"))
    add_one(table, 1)
    monkeypatch.setattr(log_table, "PAUSE_S", -1.0)
    add_one(table, 2)
    assert reads == [None]


def test_an_append_is_this_handles_version_only_after_the_next_look(tmp_path: Path) -> None:
    table = LogTable(create(tmp_path / "t"))
    append(table, ("a",))
    assert table.version() == 0
    with pytest.raises(CommitFailedError):
        append(table, ("b",))
    table.update_incremental()
    append(table, ("b",))


def test_what_a_handle_reads_late_ends_where_it_has_looked(
    tmp_path: Path, reads: list[int | None]
) -> None:
    path = create(tmp_path / "t")
    table, other = LogTable(path), LogTable(path)
    add_one(table, 1)
    other.update_incremental()
    add_one(other, 5, "raylake/b")
    assert len(table.file_uris()) == 1
    assert (table.version(), table.transaction_version("raylake/b")) == (1, None)
    with pytest.raises(CommitFailedError):
        append(table, ("lost",))
    assert reads == [None, 1], "the other one's first look, and up to the own append"
    table.update_incremental()
    assert (table.version(), table.transaction_version("raylake/b")) == (2, 5)
    assert table.transaction_version("raylake/a") == 1
    assert len(table.file_uris()) == 2


def test_after_so_many_own_appends_they_are_read(tmp_path: Path, reads: list[int | None]) -> None:
    table = LogTable(create(tmp_path / "t"))
    for number in range(1, 2 * MOST_UNREAD + 10):
        add_one(table, number)
    assert reads == [MOST_UNREAD, 2 * MOST_UNREAD]
    assert len(table.file_uris()) == table.version() == 2 * MOST_UNREAD + 9


@pytest.mark.parametrize("others", [0, 2])
def test_own_appends_that_were_cleaned_up_meanwhile_are_read_from_the_checkpoint(
    tmp_path: Path, others: int
) -> None:
    path = create(tmp_path / "t")
    table = LogTable(path)
    for number in range(1, 6):
        add_one(table, number)
    DeltaTable(path).create_checkpoint()
    for version in range(5):
        log_files.commit_path(path, version).unlink()
    other = LogTable(path)
    for number in range(others):
        add_one(other, number, "raylake/b")
    assert len(table.file_uris()) == table.version() == 5
    table.update_incremental()
    assert len(table.file_uris()) == table.version() == 5 + others
    add_one(table, 6)
    assert len(DeltaTable(path).file_uris()) == 6 + others


def test_an_own_append_that_left_the_log_again_is_not_taken_for_the_newest(tmp_path: Path) -> None:
    path = create(tmp_path / "t")
    table = LogTable(path)
    add_one(table, 1)
    append(table, ("lost",), (("raylake/a", 2),))
    log_files.commit_path(path, 2).unlink()
    table.update_incremental()
    assert (table.version(), table.transaction_version("raylake/a")) == (1, 1)


def test_a_lost_entry_between_an_own_append_and_the_newest_is_not_built_on(tmp_path: Path) -> None:
    """What is lost may be the epoch of who took the table over (I3)."""
    path = create(tmp_path / "t")
    table, other = LogTable(path), LogTable(path)
    append(table, ("a",))
    other.update_incremental()
    for number in (1, 2):
        add_one(other, number, "raylake/b")
    log_files.commit_path(path, 2).unlink()
    with pytest.raises(DeltaError):
        table.update_incremental()
    with pytest.raises(CommitFailedError):
        append(table, ("b",))
    assert log_files.commit_versions(path) == [0, 1, 3]
