"""What is kept of a source's log is what the log says, whatever became of the table meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from raylake.delta import log_files
from raylake.layers import source_logs
from raylake.layers.source_logs import live_rows, schema_at, watermark_of
from raylake.tables import pins
from raylake.tables.alongside import Alongside
from raylake.tables.requests import Append, Create
from raylake.tables.upkeep_requests import AddColumns
from tests.harness.derived_steps import ENGINE
from tests.harness.tables import SCHEMA, orders

pytestmark = pytest.mark.spec("D1")


def said(table: Path, rows: pa.Table, watermark_ms: int) -> None:
    beside = Alongside(metadata={"watermark_ms": watermark_ms})
    ENGINE.execute(str(table), Append(rows), alongside=beside)


def test_each_version_has_its_own_columns_and_watermark(tmp_path: Path) -> None:
    table = tmp_path / "t"
    ENGINE.execute(str(table), Create(SCHEMA))
    assert watermark_of(table, 0) is None
    said(table, orders([1]), 7000)
    assert (watermark_of(table, 1), watermark_of(table, 0)) == (7000, None)
    ENGINE.execute(str(table), AddColumns(pa.schema([("note", pa.string())])))
    said(table, orders([2], note=["x"]), 9000)
    for version in (0, 3, 1, 2, 3):
        assert schema_at(table, version) == pins.schema_at(table, version)
    assert [watermark_of(table, version) for version in (3, 2, 1, 0)] == [9000, 7000, 7000, None]
    assert (live_rows(table, 3), live_rows(table, 0), live_rows(table, -1)) == (2, 0, None)


def test_only_new_commits_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "t"
    ENGINE.execute(str(table), Create(SCHEMA))
    for n in range(5):
        ENGINE.execute(str(table), Append(orders([n])))
    assert (watermark_of(table, 5), len(schema_at(table, 5))) == (None, len(SCHEMA))
    read: list[int] = []
    real = log_files.read_commit

    def counted(root: Path, version: int) -> object:
        read.append(version)
        return real(root, version)

    monkeypatch.setattr(source_logs.log_files, "read_commit", counted)
    ENGINE.execute(str(table), Append(orders([9])))
    del read[:]
    assert (watermark_of(table, 6), len(schema_at(table, 6))) == (None, len(SCHEMA))
    assert (watermark_of(table, 6), len(schema_at(table, 6))) == (None, len(SCHEMA))
    assert read == [6]


def test_a_table_that_was_made_again_is_another(tmp_path: Path) -> None:
    table = tmp_path / "t"
    ENGINE.execute(str(table), Create(SCHEMA))
    said(table, orders([1]), 5000)
    assert watermark_of(table, 1) == 5000
    shutil.rmtree(table)
    ENGINE.execute(str(table), Create(pa.schema([("other", pa.int64())])))
    ENGINE.execute(str(table), Append(pa.table({"other": [1]})))
    assert schema_at(table, 1).names == ["other"]
    assert watermark_of(table, 1) is None
