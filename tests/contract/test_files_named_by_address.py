"""Logs that name a file of their own table by its address, as other writers may."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from raylake.delta.live_rows import path_below
from raylake.storage.place import place
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.lifetimes import readable_versions
from raylake.tables.requests import Append, Create, Delete
from raylake.tables.upkeep_requests import Vacuum

ENGINE = DeltaRsEngine()
SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string())])
NOW = Vacuum(retention_hours=0, allow_short_retention=True, orphans=True)


def made(folder: Path) -> Path:
    ENGINE.execute(str(folder), Create(SCHEMA, ("part",)))
    ENGINE.execute(str(folder), Append(pa.table({"id": [1, 2], "part": ["a b", "c"]})))
    return folder


def named(folder: Path, version: int, kind: str, name: Callable[[str], str]) -> None:
    """Write a commit anew, with other names for the files of its actions."""
    log = folder / "_delta_log" / f"{version:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if kind in action:
            action[kind]["path"] = name(action[kind]["path"])
    log.write_text("\n".join(json.dumps(action) for action in actions))


@pytest.mark.spec("C3", "C4")
@pytest.mark.parametrize("begins", ["file://", "file:", ""])
@pytest.mark.parametrize("through", ["folder", "link"])
def test_live_files_named_by_address_are_no_orphans(
    tmp_path: Path, begins: str, through: str
) -> None:
    table = made(tmp_path / "folder")
    (tmp_path / "link").symlink_to(table)
    named(table, 1, "add", lambda path: f"{begins}{tmp_path}/{through}/{path}")
    for at in (table, tmp_path / "link"):
        result = ENGINE.execute(str(at), NOW)
        assert result.files.removed == 0
        assert len(list(table.glob("part=*/*.parquet"))) == 2


@pytest.mark.spec("C3")
def test_a_file_that_leaves_by_another_of_its_names_is_the_same_file(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    before = {one.version: one.taken_by for one in readable_versions(place(str(table)))}
    assert before == {1: "", 0: "log clean-up"}
    ENGINE.execute(str(table), Delete("part = 'c'"))
    wanted = [(one.version, one.taken_by) for one in readable_versions(place(str(table)))]
    assert wanted == [(2, ""), (1, "vacuum"), (0, "log clean-up")]
    named(table, 2, "remove", lambda path: f"file://{table}/{path}")
    found = [(one.version, one.taken_by) for one in readable_versions(place(str(table)))]
    assert found == wanted


def test_a_file_in_a_store_by_each_of_its_addresses() -> None:
    root = place("s3://lake/silver/t")
    for begins in ("", "s3://lake/silver/t/", "s3a://lake/silver/t/", "s3n://lake/silver/t/"):
        assert path_below(root, f"{begins}part=a%20b/1.parquet") == "part=a b/1.parquet"
    for elsewhere in ("s3://lake/silver/t2/1.parquet", "gs://lake/silver/t/1.parquet"):
        assert path_below(root, elsewhere) == elsewhere
    assert path_below(place("/lake/t"), "/lake/t2/1.parquet") == "/lake/t2/1.parquet"
