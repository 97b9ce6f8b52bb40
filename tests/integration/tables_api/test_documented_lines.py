"""What docs/tables.md shows, typed as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raylake
from raylake.cli.main import main
from tests.harness.cluster import ROOT
from tests.integration.tables_api.conftest import FEED

PAGE = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
SCHEMA = pa.schema([("order_id", pa.string()), ("country", pa.string()), ("amount", pa.int64())])


def blocks(language: str) -> list[str]:
    """The page's code of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a reader of the page stands in."""
    monkeypatch.chdir(tmp_path)
    orders = raylake.connect(tmp_path / "lake").table("silver.orders")
    orders.create(SCHEMA, properties=FEED)
    orders.append(
        [{"order_id": f"o{i}", "country": ("NO", "DE")[i % 2], "amount": i} for i in range(10)]
    )
    (tmp_path / "orders.yaml").write_text(
        "pipeline: orders\nlake: ./lake\nkafka: {bootstrap: 'localhost:9'}\n"
        "bronze: {orders: {topics: [orders]}}\n"
    )
    for name in ("clicks", "sales"):
        (tmp_path / "old" / name).mkdir(parents=True)
        pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "old" / name / "a.parquet")
    return tmp_path


@pytest.mark.spec("C3", "C4")
def test_the_python_of_the_page_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "docs/tables.md", "exec"), names)
    assert capsys.readouterr().out == "10\n"
    assert names["reading"].to_arrow().num_rows == 5
    customers = names["customers"].read().to_arrow().to_pylist()
    assert sorted((one["id"], one["country"]) for one in customers) == [
        (1, "NO"),
        (2, "US"),
        (3, "NO"),
    ]
    assert folder.joinpath("lake/_raylake/readers/silver.orders/mart").is_dir()


@pytest.mark.spec("C3", "C4")
def test_the_commands_of_the_page_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del folder
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    typed = [shlex.split(line, comments=True) for line in lines]
    commands = [words[2] for words in typed if words[:2] == ["raylake", "table"]]
    assert set(commands) == {
        "show",
        "history",
        "read",
        "changes",
        "restore",
        "convert",
        "migrate",
    }
    for words in filter(None, typed):
        assert main(words[1:]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out
