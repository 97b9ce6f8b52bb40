"""Where delta-rs 1.6 loses, doubles or changes values in silence, it is refused by name."""

from __future__ import annotations

import decimal
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import FeatureUnsupported
from raylake.tables.requests import Append, Create, Delete, Overwrite, Read, Restore, Update, Upsert
from raylake.tables.upkeep_requests import Convert, ZOrder

pytestmark = pytest.mark.spec("C1", "C6")
ENGINE = DeltaRsEngine()
ROWS = pa.table({"id": [1, 2], "p": ["ü", "ü"]})


def rows(path: Path | str) -> list[int]:
    return sorted(ENGINE.read(str(path), Read()).read_all().column("id").to_pylist())


def as_spark_spells(path: Path) -> str:
    """A table whose log leaves ``ü`` as it is, as Spark's does."""
    write_deltalake(path, ROWS, partition_by=["p"])
    (path / "p=%C3%BC").rename(path / "p=ü")
    entry = path / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in entry.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            action["add"]["path"] = action["add"]["path"].replace("%25C3%25BC", "ü")
            assert "ü" in action["add"]["path"]
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in actions)
    entry.write_text(text, encoding="utf-8")
    return str(path)


REMOVING = {
    "delete": Delete("id = 1"),
    "update": Update({"id": "id + 10"}, where="id = 1"),
    "overwrite": Overwrite(ROWS),
    "replace a part": Overwrite(ROWS, where="p = 'ü'"),
}


@pytest.mark.parametrize("operation", REMOVING.values(), ids=REMOVING)
def test_files_in_another_spelling_are_not_left_live(tmp_path: Path, operation: object) -> None:
    table = as_spark_spells(tmp_path / "t")
    with pytest.raises(FeatureUnsupported, match="spelling"):
        ENGINE.execute(table, operation)
    assert (DeltaTable(table).version(), rows(table)) == (0, [1, 2])


def test_upserts_by_delta_rs_and_restores_are_refused_too(tmp_path: Path) -> None:
    table = as_spark_spells(tmp_path / "t")
    with pytest.raises(FeatureUnsupported, match="spelling"):
        DeltaRsEngine(merge_by="delta-rs").execute(table, Upsert(ROWS, ("id",)))
    ENGINE.execute(table, Append(ROWS.slice(0, 1)))
    with pytest.raises(FeatureUnsupported, match="spelling"):
        ENGINE.execute(table, Restore(version=0))
    assert rows(table) == [1, 1, 2]


def test_a_z_order_brings_the_spelling_into_order(tmp_path: Path) -> None:
    table = as_spark_spells(tmp_path / "t")
    ENGINE.execute(table, ZOrder(("id",)))
    assert ENGINE.execute(table, Delete("id = 1")).rows.deleted == 1
    assert rows(table) == [2]


def test_our_own_merge_removes_what_the_log_names(tmp_path: Path) -> None:
    table = as_spark_spells(tmp_path / "t")
    ENGINE.execute(table, Upsert(pa.table({"id": [2, 3], "p": ["ü", "ü"]}), ("id",)))
    assert rows(table) == [1, 2, 3]


@pytest.mark.parametrize("value", ["a b", "x&y+z@(w);,!$~", "ü", "50%", "é日"])
def test_folders_that_are_converted_are_removed_by_delta_rs(tmp_path: Path, value: str) -> None:
    folder = tmp_path / "t"
    pq.write_to_dataset(pa.table({"id": [1, 2], "p": [value] * 2}), folder, partition_cols=["p"])
    ENGINE.execute(str(folder), Convert(partition_by=pa.schema([("p", pa.string())])))
    assert ENGINE.execute(str(folder), Delete("id = 1")).rows.deleted == 1
    assert rows(folder) == [2]


def test_a_converted_folder_with_a_colon_is_refused_or_right(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    (folder / "p=10:30").mkdir(parents=True)
    pq.write_table(pa.table({"id": [1, 2]}), folder / "p=10:30" / "x.parquet")
    ENGINE.execute(str(folder), Convert(partition_by=pa.schema([("p", pa.string())])))
    with pytest.raises(FeatureUnsupported, match="spelling"):
        ENGINE.execute(str(folder), Delete("id = 1"))
    assert rows(folder) == [1, 2]


CENTS = pa.decimal128(9, 2)


def prices(*values: str) -> pa.Table:
    return pa.table({"id": [1], "p": pa.array([decimal.Decimal(v) for v in values], CENTS)})


def test_negative_decimals_with_a_fraction_are_no_partition_values(tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    ENGINE.execute(table, Create(prices("1").schema, partition_by=("p",)))
    for operation in (
        Append(prices("-12.34")),
        Overwrite(prices("-0.05")),
        Upsert(prices("-0.05"), ("id",)),
        Update({"p": "-0.5"}),
    ):
        with pytest.raises(FeatureUnsupported, match="'p'"):
            ENGINE.execute(table, operation)
    for value in ("-12.00", "0.05", "12.34"):
        ENGINE.execute(table, Append(prices(value)))
    found = ENGINE.read(table, Read()).read_all().column("p").to_pylist()
    assert sorted(found) == [decimal.Decimal(v) for v in ("-12.00", "0.05", "12.34")]


def test_bytes_are_no_partition_values(tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    pair = pa.table({"id": [1], "p": pa.array([b"ab"])})
    ENGINE.execute(table, Create(pair.schema, partition_by=("p",)))
    for operation in (Append(pair), Overwrite(pair), Upsert(pair, ("id",))):
        with pytest.raises(FeatureUnsupported, match="bytes"):
            ENGINE.execute(table, operation)
    assert rows(table) == []
