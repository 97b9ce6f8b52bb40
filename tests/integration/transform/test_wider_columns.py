"""Columns of a source that become wider: derived tables follow, or say which command does it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake

from raylake.clock import SystemClock
from raylake.config import load
from raylake.delta.schema import arrow_schema
from raylake.ingest.plan import RunPlan
from raylake.layers.build import build
from raylake.layers.errors import TransformRefused
from raylake.layers.transform_plan import TransformPlan
from raylake.layers.transform_run import TransformRun
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append
from raylake.tables.service import DirectTables
from raylake.tables.upkeep_requests import WidenColumns
from tests.harness.derived_steps import BRONZE_METADATA, minute

ENGINE = DeltaRsEngine()
NARROW = {"id": pa.int32(), "n": pa.int32(), "price": pa.float32(), "sum": pa.decimal128(6, 2)}
WIDE = {"id": pa.int64(), "n": pa.int64(), "price": pa.float64(), "sum": pa.decimal128(9, 2)}
KEYED = {"from": "bronze.t", "keys": ["id"], "sequence_by": "at"}
TABLES: dict[str, dict[str, Any]] = {
    "append": {"from": "bronze.t", "mode": "append"},
    "upsert": {**KEYED, "mode": "upsert"},
    "scd2": {**KEYED, "mode": "scd2", "track": ["n", "price", "sum"]},
    "aggregate": {
        "mode": "aggregate",
        "sql": "SELECT id % 2 AS odd, max(n) AS n, max(price) AS price, max(sum) AS sum "
        "FROM bronze.t GROUP BY odd",
    },
}


class Lake:
    """A bronze table of some types, and one derived table that follows it."""

    def __init__(self, folder: Path, mode: str, **more: Any) -> None:
        self.lake, self.mode = folder / "lake", mode
        self.source = self.lake / "bronze" / "t"
        self.target = self.lake / "silver" / mode
        section = "gold" if mode == "aggregate" else "silver"
        self.target = self.lake / section / mode
        self.file = folder / "p.yaml"
        document = {
            "pipeline": "p",
            "lake": str(self.lake),
            "kafka": {"bootstrap": "localhost:1"},
            "bronze": {"t": {"topics": ["t"], "schema": {"id": "int"}}},
            section: {mode: {**TABLES[mode], **more}},
        }
        self.file.write_text(yaml.safe_dump(document))
        self.offset = 0

    def put(self, types: Mapping[str, pa.DataType], *rows: tuple[Any, ...], **new: Any) -> None:
        """Rows of id, n, price and sum; no n: a delete of the id."""
        made = []
        for one in rows:
            row = dict(zip(types, one, strict=True)) | new
            known: dict[str, Any] = {"at": minute(self.offset), "_timestamp": minute(self.offset)}
            known |= {"_topic": "t", "_partition": 0, "_offset": self.offset}
            dead = row["n"] is None
            key = str(row["id"]).encode()
            made.append(known | ({"_key": key} if dead else row) | {"_tombstone": dead})
            self.offset += 1
        schema = pa.schema([*types.items(), ("at", pa.timestamp("us", tz="UTC"))])
        schema = pa.schema([*schema, *BRONZE_METADATA, *((one, pa.string()) for one in new)])
        table = pa.Table.from_pylist(made, schema)
        if self.source.exists():
            ENGINE.execute(str(self.source), Append(table, schema="merge"))
        else:
            write_deltalake(self.source, table)

    def run(self) -> TransformRun:
        loaded = load(self.file)
        plan = TransformPlan(RunPlan(loaded.config, loaded.sha256, str(self.file), "r"))
        made = build(plan, DirectTables(), SystemClock())
        made.finish()
        return made

    def types(self) -> dict[str, pa.DataType]:
        schema = arrow_schema(DeltaTable(self.target).schema())
        return {one.name: one.type for one in schema if one.name in NARROW}

    def rows(self) -> list[tuple[Any, ...]]:
        found = DeltaTable(self.target).to_pyarrow_table().to_pylist()
        names = [one for one in NARROW if found and one in found[0]]
        return sorted(tuple(row[name] for name in names) for row in found)


OLD = (1, 5, 0.5, Decimal("1.25"))
NEW = (2, 2**40, 0.1, Decimal("1234567.25"))
LATER = (4, 1, 0.25, Decimal("0.00"))


@pytest.mark.spec("A6", "C7", "D1", "D2")
@pytest.mark.parametrize("mode", list(TABLES))
def test_a_derived_table_follows_columns_that_become_wider(tmp_path: Path, mode: str) -> None:
    lake = Lake(tmp_path, mode)
    lake.put(NARROW, OLD, (3, 1, 0.25, Decimal(0)))
    if mode in ("upsert", "scd2"):
        lake.put(NARROW, (3, None, None, None))
    assert lake.run().failure is None
    narrow = lake.types()
    ENGINE.execute(str(lake.source), WidenColumns(WIDE))
    lake.put(WIDE, NEW)
    if mode in ("upsert", "scd2"):
        lake.put(WIDE, LATER, (4, None, None, None))
    run = lake.run()
    assert run.failure is None
    wanted = {name: WIDE[name] for name in narrow}
    assert lake.types() == wanted != narrow
    rows = lake.rows()
    old, new = (one if mode != "aggregate" else one[1:] for one in (OLD, NEW))
    assert {old, new} <= set(rows)
    lake.put(WIDE, (6, 7, 0.5, Decimal("2.00")))
    assert lake.run().failure is None


@pytest.mark.spec("A6", "C7", "D2")
@pytest.mark.parametrize("mode", list(TABLES))
def test_above_its_limit_a_table_is_refused_with_the_command_that_makes_it_wider(
    tmp_path: Path, mode: str
) -> None:
    lake = Lake(tmp_path, mode, widen_limit="1B")
    lake.put(NARROW, OLD)
    assert lake.run().failure is None
    version, narrow = DeltaTable(lake.target).version(), lake.types()
    ENGINE.execute(str(lake.source), WidenColumns({"n": pa.int64()}))
    lake.put({**NARROW, "n": pa.int64()}, (2, 2**40, 0.5, Decimal("2.50")))
    refused = lake.run().failure
    assert isinstance(refused, TransformRefused)
    assert "'n' from int32 to int64" in refused.message
    assert "--full-refresh" in (refused.hint or "")
    assert DeltaTable(lake.target).version() == version
    assert lake.types() == narrow


@pytest.mark.spec("A6", "C7", "D1")
@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_new_columns_of_a_source_come_with_the_rows_that_bring_them(
    tmp_path: Path, mode: str
) -> None:
    lake = Lake(tmp_path, mode)
    lake.put(NARROW, OLD)
    assert lake.run().failure is None
    lake.put(NARROW, (2, 6, 0.5, Decimal("2.50")), note="new")
    assert lake.run().failure is None
    found = DeltaTable(lake.target).to_pyarrow_table().select(["id", "note"]).to_pylist()
    assert sorted(found, key=repr) == [{"id": 1, "note": None}, {"id": 2, "note": "new"}]
