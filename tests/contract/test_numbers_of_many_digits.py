"""Decimal columns are compared to the last digit, whichever engine does it."""

from __future__ import annotations

import decimal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import BadExpression
from raylake.tables.requests import Delete, Read, Update, Upsert

SMALL, LARGE = "9999999999999999.98", "9999999999999999.99"
MONEY = pa.decimal128(18, 2)
pytestmark = pytest.mark.spec("C1", "C2")


def made(path: Path) -> str:
    values = [decimal.Decimal(one) for one in (SMALL, LARGE, f"-{LARGE}", "10.10")]
    write_deltalake(path, pa.table({"n": range(4), "money": pa.array(values, MONEY)}))
    return str(path)


def numbers(path: str) -> list[int]:
    return sorted(DeltaTable(path).to_pyarrow_table().column("n").to_pylist())


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (f"money > {SMALL}", [0, 2, 3]),
        (f"money = {LARGE}", [0, 2, 3]),
        (f"{SMALL} <> money", [0]),
        (f"money = -{LARGE}", [0, 1, 3]),
        (f"money IN ({LARGE}, 10.1)", [0, 2]),
        (f"money BETWEEN -{SMALL} AND {SMALL}", [1, 2]),
        ("money < 9999999999999999", [0, 1]),
        ("money IS NOT DISTINCT FROM 10.10000", [0, 1, 2]),
        ("money > 1e3", [2, 3]),
        ("money > 10.101", [2, 3]),
    ],
)
def test_a_delete_takes_the_rows_that_it_names(tmp_path: Path, where: str, left: list[int]) -> None:
    table = made(tmp_path / "t")
    read = DeltaRsEngine().read(table, Read(where=where)).read_all()
    assert sorted({0, 1, 2, 3} - set(left)) == sorted(read.column("n").to_pylist())
    DeltaRsEngine().execute(table, Delete(where))
    assert numbers(table) == left


@pytest.mark.parametrize("merge_by", ["auto", "delta-rs"])
def test_updates_and_merges_judge_alike(tmp_path: Path, merge_by: str) -> None:
    table = made(tmp_path / "t")
    engine = DeltaRsEngine(merge_by=merge_by)
    changed = engine.execute(table, Update({"n": "n + 10"}, where=f"money > {SMALL}"))
    assert (changed.rows.updated, numbers(table)) == (1, [0, 2, 3, 11])
    rows = pa.table({"n": [0, 2, 3, 11], "money": pa.array([decimal.Decimal(1)] * 4, MONEY)})
    merged = engine.execute(table, Upsert(rows, ("n",), update_when=f"target.money <= -{LARGE}"))
    assert merged.rows.updated == 1


def test_a_number_that_the_column_cannot_hold_is_refused_where_it_would_be_rounded(
    tmp_path: Path,
) -> None:
    table = made(tmp_path / "t")
    with pytest.raises(BadExpression, match=r"9999999999999999\.985, which it cannot hold"):
        DeltaRsEngine().execute(table, Delete("money > 9999999999999999.985"))
    assert numbers(table) == [0, 1, 2, 3]
