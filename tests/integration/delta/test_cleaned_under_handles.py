"""Owners whose log was cleaned up to a checkpoint while they did not read it (ADR 51)."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.clock import SystemClock
from raylake.delta import log_files
from raylake.delta.attempts import Draft
from raylake.delta.checkpoint import checkpoint
from raylake.delta.identity import Claim, OwnerIdentity
from raylake.delta.opening import attach_core
from raylake.delta.owner_core import OwnerCore
from raylake.delta.owner_moves import restore_append_only_once
from raylake.delta.spec import TableSpec
from raylake.errors import LogDamaged

SCHEMA = pa.schema([("a", pa.int64())])
SHORT = {"delta.logRetentionDuration": "interval 1 seconds"}


def attached(path: Path, run: str = "r1") -> OwnerCore:
    return attach_core(
        TableSpec(str(path), SCHEMA, (), SHORT),
        OwnerIdentity.of_this_process("p", run),
        clock=SystemClock(),
        claim=Claim(after_s=None),
    )


def write(core: OwnerCore) -> int:
    core.refresh()
    return core.write(Draft("data"), lambda _version: None)


def clean_up(path: Path) -> None:
    """A checkpoint, and everything below it is gone."""
    time.sleep(1.1)
    assert checkpoint(str(path), keep_from=10**6).version == DeltaTable(path).version()
    newest = DeltaTable(path).version()
    for version in log_files.commit_versions(path):
        if version < newest:
            log_files.commit_path(path, version).unlink()


def test_the_newest_version_is_somebody_elses(tmp_path: Path) -> None:
    core = attached(tmp_path / "t")
    write(core)
    write_deltalake(tmp_path / "t", pa.table({"a": [1]}), mode="append")
    core.refresh()
    clean_up(tmp_path / "t")
    for _ in range(3):
        core.refresh()
    assert write(core) == DeltaTable(tmp_path / "t").version()


def test_a_txn_that_no_own_append_carries_is_asked_for(tmp_path: Path) -> None:
    core = attached(tmp_path / "t")
    for _ in range(4):
        write(core)
    clean_up(tmp_path / "t")
    restore_append_only_once(core)
    assert core.table.transaction_version("raylake/none") is None
    assert write(core) == DeltaTable(tmp_path / "t").version()


def test_a_frozen_owner_does_not_commit_into_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "t"
    frozen = attached(path)
    write(frozen)
    version = frozen.version
    successor = attached(path, "r2")
    write(successor)
    log_files.commit_path(path, version + 1).unlink()
    with pytest.raises(LogDamaged, match="is missing"):
        frozen.refresh()
    assert version + 1 not in log_files.commit_versions(path)
