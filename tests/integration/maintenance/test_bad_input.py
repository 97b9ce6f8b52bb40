"""What upkeep by a table's path says to bad input: real disks, keys and checkpoints."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.cli.main import main
from raylake.client.lake import table_at
from raylake.client.upkeep import ByHand
from raylake.clock import SystemClock
from raylake.delta.log_store import files_of
from raylake.maintenance.lease import MaintenanceLease
from raylake.maintenance.policy import Policy
from raylake.maintenance.subjects import Subject
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import NotEnoughSpace
from raylake.tables.requests import Append, Create, Delete
from raylake.tables.upkeep_requests import ZOrder
from tests.harness.disk import SmallDisk, small_disk
from tests.harness.read_only_keys import Access, reader_keys
from tests.harness.store import store, store_lake

__all__ = ["reader_keys", "small_disk", "store", "store_lake"]

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
Typed = Callable[..., tuple[int, Any, Any]]
COMMANDS = (("maintain", "run"), ("table", "vacuum"), ("table", "repair"))


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command: exit code, its JSON, its error."""

    def run(*words: str) -> tuple[int, Any, Any]:
        code = main([*words, "-o", "json"])
        said = capsys.readouterr()
        return (
            code,
            json.loads(said.out) if said.out else None,
            json.loads(said.err)["error"] if said.err.startswith("{") else said.err,
        )

    return run


def table_of(where: str, files: int = 40, text: str = "") -> str:
    """A table of small files, which a compaction makes one of."""
    engine = DeltaRsEngine()
    engine.execute(where, Create(SCHEMA))
    for n in range(files):
        rows = pa.table({"id": [n], "text": [text or f"t{n}"]}, schema=SCHEMA)
        engine.execute(where, Append(rows))
    return where


def rows(where: str) -> int:
    return int(DeltaTable(where).to_pyarrow_table().num_rows)


def all_files(root: Path) -> set[str]:
    return {str(one) for one in root.rglob("*")}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_no_table_and_what_has_a_feature_nobody_knows(
    tmp_path: Path, typed: Typed, command: tuple[str, str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "parquet").mkdir()
    (tmp_path / "parquet" / "a.parquet").write_bytes(b"PAR1")
    for where in ("empty", "nowhere", "parquet"):
        code, _, error = typed(*command, str(tmp_path / where))
        assert (code, error["code"]) == (5, "table_missing"), where
    table = Path(table_of(str(tmp_path / "t"), 1))
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
    features = {"readerFeatures": ["icecreamTable"], "writerFeatures": ["icecreamTable"]}
    entry = table / "_delta_log" / f"{2:020d}.json"
    entry.write_text(json.dumps({"protocol": {**protocol, **features}}))
    before = all_files(tmp_path)
    code, _, error = typed(*command, str(table))
    assert (code, "icecreamTable" in str(error)) == (5, True)
    assert all_files(tmp_path) == before


def test_a_table_without_statistics_of_a_column_is_told(tmp_path: Path, typed: Typed) -> None:
    """The plan says which column has none; sorting the files gives them some."""
    table = str(tmp_path / "t")
    engine = DeltaRsEngine()
    engine.execute(table, Create(SCHEMA, properties={"delta.dataSkippingNumIndexedCols": "1"}))
    for n in range(40):
        some = pa.table({"id": [n], "text": ["t"]}, schema=SCHEMA)
        engine.execute(table, Append(some))
    code, said, _ = typed("maintain", "plan", table, "--zorder", "text")
    assert (code, "40 files have no statistics of text" in json.dumps(said)) == (0, True)
    code, said, _ = typed("maintain", "run", table, "--zorder", "text")
    assert code == 0
    assert [one["action"] for one in said["outcomes"]] == ["zorder"]
    adds = pa.table(DeltaTable(table).get_add_actions(flatten=True)).to_pylist()
    assert [(one["min.text"], one["max.text"]) for one in adds] == [("t", "t")]
    assert rows(table) == 40
    code, _, error = typed("maintain", "run", table, "--zorder", "txt")
    assert (code, error["code"], "text" in error["hint"]) == (2, "unknown_column", True)


@pytest.mark.spec("F1")
@pytest.mark.parametrize("left_bytes", [0, 2**19])
def test_a_disk_without_room_is_told_before_anything_is_written(
    small_disk: Callable[[str], SmallDisk], typed: Typed, left_bytes: int
) -> None:
    """Needs root: a file system of its own is mounted."""
    disk = small_disk("disk")
    table = table_of(str(disk.place / "t"), text=secrets.token_hex(20_000))
    disk.fill()
    disk.leave(left_bytes)
    files = all_files(disk.place / "t")
    code, _, error = typed("maintain", "run", table)
    assert (code, error["code"]) == (5, "not_enough_space"), error
    assert {one for one in all_files(disk.place / "t") if one.endswith("t")} <= files
    disk.free()
    assert typed("maintain", "run", table)[0] == 0
    assert (rows(table), len(DeltaTable(table).file_uris())) == (40, 1)


@pytest.mark.spec("F1")
def test_a_scratch_folder_without_room_is_told_before_anything_is_sorted(
    small_disk: Callable[[str], SmallDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needs root: a file system of its own is mounted."""
    disk = small_disk("disk")
    table = table_of(str(tmp_path / "t"), files=4, text=secrets.token_hex(20_000))
    monkeypatch.setattr("tempfile.tempdir", str(disk.place))
    monkeypatch.setattr("raylake.tables.z_sort.BUCKET_BYTES", 50_000)
    disk.fill()
    disk.leave(100_000)
    files = all_files(tmp_path / "t")
    with pytest.raises(NotEnoughSpace, match="the scratch folder of a Z-order needs") as told:
        DeltaRsEngine().execute(table, ZOrder(("id",)))
    assert told.value.context["needed_bytes"] > 160_000
    assert "TMPDIR" in told.value.hint
    assert all_files(tmp_path / "t") == files
    disk.free()
    DeltaRsEngine().execute(table, ZOrder(("id",)))
    assert rows(table) == 4


def refused_to_write(table: str, typed: Typed) -> None:
    """What says each command, and why."""
    done = ByHand().run([Subject("t", table, Policy(small_files=3), None)])
    (said,) = done.failures.values()
    assert (done.outcomes, said.exit_code) == ((), 5 if "://" not in table else 2)
    assert "may this user write" in said.hint or "put and delete" in said.hint
    code, _, error = typed("table", "vacuum", table, "--retention-hours", "0", "--force")
    assert (code, "nothing was deleted" in error["message"]) == (5, True)
    assert "delete in the table's folder" in error["hint"]
    code, _, error = typed("table", "repair", table)
    assert (code, "write into the table's folder" in error["hint"]) == (4, True)


def emptied(table: str) -> str:
    """The table after a delete: a vacuum has what to take, and files are small as before."""
    DeltaRsEngine().execute(table, Delete("id = 0"))
    return table


@pytest.mark.spec("F1")
def test_a_disk_that_may_only_be_read(small_disk: Callable[[str], SmallDisk], typed: Typed) -> None:
    """Needs root: a file system of its own is mounted."""
    disk = small_disk("disk")
    table = emptied(table_of(str(disk.place / "t")))
    files = all_files(disk.place)
    disk.writable(on=False)
    refused_to_write(table, typed)
    disk.writable(on=True)
    assert all_files(disk.place) == files
    assert typed("maintain", "run", table)[0] == 0
    assert rows(table) == 39


@pytest.mark.spec("F1", "C8")
def test_keys_that_may_only_read(
    store_lake: str, reader_keys: Callable[[], Access], typed: Typed
) -> None:
    table = emptied(table_of(f"{store_lake}/t", 5))
    before = files_of(table).tree("")
    reader_keys()
    refused_to_write(table, typed)
    assert files_of(table).tree("") == before


@pytest.mark.spec("F1")
def test_a_damaged_checkpoint_is_named_and_repaired_on_request(
    tmp_path: Path, typed: Typed
) -> None:
    table = emptied(table_of(str(tmp_path / "t")))
    DeltaTable(table).create_checkpoint()
    (file,) = (tmp_path / "t" / "_delta_log").glob("*.checkpoint.parquet")
    file.write_bytes(file.read_bytes()[:100])
    before = all_files(tmp_path / "t" / "_delta_log")
    code, _, error = typed("table", "vacuum", table)
    assert (code, error["code"]) == (5, "log_damaged")
    assert file.name in error["message"]
    assert "`raylake table repair` puts it aside" in error["hint"]
    code, said, error = typed("maintain", "run", table)
    assert (code, {one["outcome"] for one in said["outcomes"]}) == (1, {"failed"})
    assert "raylake table repair" in error["message"]
    assert all_files(tmp_path / "t" / "_delta_log") == before
    code, said, _ = typed("table", "repair", table)
    assert (code, said["result"]["note"]) == (0, f"put aside: {file.name}")
    assert typed("maintain", "run", table)[0] == 0
    assert (rows(table), len(DeltaTable(table).file_uris())) == (39, 1)


@pytest.mark.spec("F1")
def test_another_maintainer_at_work_is_named(tmp_path: Path, typed: Typed) -> None:
    table = table_of(str(tmp_path / "t"))
    MaintenanceLease(Path(table), "the night shift", SystemClock()).take()
    code, _, error = typed("maintain", "run", table)
    assert (code, error["code"]) == (5, "maintained_elsewhere")
    assert "the night shift looks after it already" in error["message"]
    assert DeltaTable(table).version() == 40


@pytest.mark.spec("F1")
def test_a_run_leaves_the_log_that_a_pin_needs(tmp_path: Path, typed: Typed) -> None:
    """Of two checkpoints past the retention the later one is above the pin."""
    table = str(tmp_path / "t")
    engine = DeltaRsEngine()
    properties = {"delta.logRetentionDuration": "interval 1 day"}
    engine.execute(table, Create(SCHEMA, properties=properties))
    for n in range(40):
        engine.execute(table, Append(pa.table({"id": [n], "text": ["t"]}, schema=SCHEMA)))
        if n in (9, 29):
            DeltaTable(table).create_checkpoint()
        if n == 19:
            table_at(table).pin("2999-01-01T00:00:00Z")
    log, old_s = Path(table) / "_delta_log", time.time() - 3 * 86_400
    for one in log.iterdir():
        os.utime(one, (old_s, old_s))
    assert typed("maintain", "run", table)[0] == 0
    versions = [int(one.stem) for one in log.glob("*.json") if one.stem.isdecimal()]
    assert min(versions) == 10
    assert table_at(table).read(version=20).to_arrow().num_rows == 20
