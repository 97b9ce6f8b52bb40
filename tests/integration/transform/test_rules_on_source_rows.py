"""Rules on the source's rows hold wherever rows of the source are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from tests.integration.transform.small_lake import SmallLake

RULE: dict[str, Any] = {
    "rule": "in_set",
    "column": "country",
    "values": ["DE", "NO", "US"],
    "when": "before",
    "on_failure": "quarantine",
}


def _expected(lake: SmallLake) -> dict[str, str]:
    """Of each order its newest record in bronze with one of the countries."""
    bronze = lake.table("bronze.orders").filter(pl.col("country").is_in(RULE["values"]))
    keyed = bronze.filter(pl.col("order_id").is_not_null())
    order = ["updated_at", "_timestamp", "_topic", "_partition", "_offset"]
    newest = keyed.sort(order, nulls_last=False).group_by("order_id").last()
    return dict(newest.select("order_id", "country").iter_rows())


@pytest.mark.spec("D1", "E1")
@pytest.mark.parametrize("columns", [{}, {"columns": ["order_id", "country"]}])
def test_rows_that_were_turned_away_do_not_come_back(
    tmp_path: Path, columns: dict[str, Any]
) -> None:
    changed = {"quality": [RULE], "types": {}, **columns}
    lake = SmallLake(tmp_path, silver={"orders": changed})
    del lake.document["gold"]
    lake.change()
    lake.feed(150)
    assert lake.run().failure is None
    assert dict(lake.table("silver.orders").select("order_id", "country").iter_rows()) == _expected(
        lake
    )
    # Rows leave bronze: what is left of their orders is read from it anew.
    bronze = DeltaTable(str(lake.lake / "bronze" / "orders"))
    bronze.delete("_offset % 3 = 0")
    assert lake.run().failure is None
    assert dict(lake.table("silver.orders").select("order_id", "country").iter_rows()) == _expected(
        lake
    )


@pytest.mark.spec("D1", "E1")
def test_a_rule_may_be_about_a_column_that_the_table_does_not_have(tmp_path: Path) -> None:
    rules = [RULE, {**RULE, "rule": "sql", "condition": "segment <> 'nothing'"}]
    del rules[1]["column"], rules[1]["values"]
    changed = {"quality": rules, "types": {}, "columns": ["order_id"]}
    lake = SmallLake(tmp_path, silver={"orders": changed})
    del lake.document["gold"]
    lake.change()
    lake.feed(60)
    assert lake.run().failure is None
    assert set(lake.table("silver.orders")["order_id"]) == set(_expected(lake))
