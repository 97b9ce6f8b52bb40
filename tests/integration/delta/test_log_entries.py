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

from raylake.delta import log_files
from raylake.delta.log_table import LogTable

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
