"""A table's id, asked again and again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raylake.delta.log_reader import LogReader
from raylake.errors import NotOurTable
from raylake.layers.table_ids import table_id
from raylake.tables.requests import Append, Create
from raylake.tables.upkeep_requests import Checkpoint
from tests.harness.derived_steps import ENGINE, forget
from tests.harness.tables import SCHEMA, orders

pytestmark = pytest.mark.spec("D1")


def made(path: Path) -> str:
    ENGINE.execute(str(path), Create(SCHEMA))
    return LogReader(str(path)).snapshot().metadata.id


def test_a_log_is_read_once_however_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "t"
    wanted = made(table)
    assert table_id(table) == wanted
    monkeypatch.setattr(LogReader, "snapshot", lambda *_: pytest.fail("the log was read again"))
    ENGINE.execute(str(table), Append(orders([1])))
    assert table_id(table) == wanted


def test_another_table_at_the_place_and_a_cleaned_log_are_noticed(tmp_path: Path) -> None:
    table = tmp_path / "t"
    first = made(table)
    assert table_id(table) == first
    shutil.rmtree(table)
    with pytest.raises(NotOurTable):
        table_id(table)
    second = made(table)
    assert table_id(table) == second != first
    for n in range(3):
        ENGINE.execute(str(table), Append(orders([n])))
    ENGINE.execute(str(table), Checkpoint())
    forget(table, 3)
    assert table_id(table) == second
