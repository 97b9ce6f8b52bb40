"""Clones, conversions and migrations, from Python and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raylake
from raylake.cli.main import main
from raylake.client.lake_table import Table
from raylake.tables import errors
from tests.integration.tables_api.conftest import ids, rows

pytestmark = pytest.mark.spec("C4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of Parquet files, partitioned by day."""
    for day in (1, 2):
        part = tmp_path / "old" / f"day=2026-01-0{day}"
        part.mkdir(parents=True)
        pq.write_table(pa.table({"id": [day * 10, day * 10 + 1]}), part / "a.parquet")
    return tmp_path / "old"


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main(["table", *words, "-o", "json"])
    said = capsys.readouterr()
    return code, json.loads(said.out or said.err)


@pytest.mark.parametrize("deep", [True, False])
def test_a_clone_is_a_table_of_its_own(hundred: Table, lake: raylake.Lake, deep: bool) -> None:
    copy = lake.table("silver.copy")
    hundred.clone(copy, version=1, deep=deep)
    assert ids(copy.read().to_arrow()) == list(range(100))
    copy.append(rows(range(500, 501)))
    assert ids(copy.read("id >= 99").to_arrow()) == [99, 500]
    assert hundred.version == 2
    with pytest.raises(errors.TableExists):
        hundred.clone(copy.address)
    with pytest.raises(errors.BadRequest, match="is no address"):
        hundred.clone("silver.other")


def test_a_folder_is_converted_and_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = typed(capsys, "convert", str(folder), "--partition-by", "day:date")
    assert (code, said["result"]["operation"]) == (0, "convert")
    code, said = typed(capsys, "read", str(folder), "--where", "day = date '2026-01-02'")
    assert sorted(row["id"] for row in said["rows"]) == [20, 21]
    code, said = typed(capsys, "convert", str(folder))
    assert (code, said["error"]["code"]) == (5, "table_exists")
    assert typed(capsys, "convert", str(folder), "--rollback")[0] == 0
    assert not (folder / "_delta_log").exists()


def test_a_migration_step_by_step_and_back(
    folder: Path, lake: raylake.Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = str(tmp_path / "journal")
    where = ("--journal", journal, "--lake", lake.where)
    pair = f"{folder}=silver.moved"
    code, said = typed(capsys, "migrate", pair, *where, "--validate-only")
    assert (code, said["tables"][0]["state"]) == (0, "validated")
    assert typed(capsys, "read", "silver.moved", "--lake", lake.where)[0] == 5
    code, said = typed(capsys, "migrate", *where)
    assert (code, said["tables"][0]["state"], said["tables"][0]["rows"]) == (0, "switched", 4)
    assert ids(lake.table("silver.moved").read().to_arrow()) == [10, 11, 20, 21]
    assert typed(capsys, "migrate", "--status", *where)[1]["tables"][0]["state"] == "switched"
    code, said = typed(capsys, "migrate", "--rollback", *where)
    assert (code, said["tables"][0]["state"]) == (0, "rolled_back")
    assert list(lake.tables()) == []
    code, said = typed(capsys, "migrate", "--rollback", "--status", *where)
    assert (code, said["error"]["exit_code"]) == (2, 2)
    assert typed(capsys, "migrate", "nothing", *where)[0] == 2
