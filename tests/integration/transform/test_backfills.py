"""Tables made anew beside live steps, and tables that somebody else put other rows into."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

import raylake
from raylake.layers.errors import TargetReplaced
from raylake.tables.requests import Delete
from raylake.tables.service import DirectTables
from tests.integration.transform.small_lake import SmallLake


@pytest.mark.spec("D1", "D2", "A3")
def test_failure_43_a_backfill_beside_live_steps_and_done_twice_makes_the_same_tables(
    tmp_path: Path,
) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(80)
    lake.run()
    failures = []

    def backfill() -> None:
        failures.append(lake.run(refresh=("silver.orders", "gold.daily_sales")).failure)

    beside = threading.Thread(target=backfill)
    beside.start()
    for _ in range(3):
        lake.feed(20)
        failures.append(lake.run().failure)
    beside.join()
    failures.append(lake.run().failure)
    assert failures == [None] * 5
    lake.check(refreshed=True)
    # What its source was between two steps a history over states does not see when made anew.
    anew = ("silver.orders", "gold.daily_sales", "gold.customers")
    seen = {name: _sorted(lake.table(name)) for name in anew[:2]}
    for _ in range(2):
        assert lake.run(refresh=anew).failure is None
        found = {name: _sorted(lake.table(name)) for name in anew}
        assert all(rows.equals(found[name]) for name, rows in seen.items())
        seen = found
    lake.check(refreshed=True)


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    keys = [n for n in ("order_id", "day", "country", "customer_id", "valid_from") if n in rows]
    return rows.select(sorted(n for n in rows.columns if n != "kept_changes")).sort(keys)


@pytest.mark.spec("D1", "A3")
@pytest.mark.parametrize("how", ["restore", "overwrite"])
def test_failure_41_a_table_that_was_put_back_is_refused_until_it_is_made_anew(
    tmp_path: Path, how: str
) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(60)
    lake.run()
    early = DeltaTable(str(lake.lake / "silver" / "orders")).version()
    lake.feed(60)
    lake.run()
    handle = DeltaTable(str(lake.lake / "silver" / "orders"))
    if how == "restore":
        table = raylake.connect(lake.lake).table("silver.orders")
        what_follows = "`raylake transform run FILE --full-refresh silver.orders`"
        assert what_follows in table.plan_restore(early).note
        assert what_follows in table.restore(early).note
    else:
        write_deltalake(handle, handle.to_pyarrow_table().slice(0, 5), mode="overwrite")
    lake.feed(20)
    refused = lake.run("silver.orders")
    assert isinstance(refused.failure, TargetReplaced)
    assert "--full-refresh silver.orders" in (refused.failure.hint or "")
    assert lake.run(refresh=("silver.orders",)).failure is None
    lake.feed(20)
    assert lake.run().failure is None
    lake.check(refreshed=True)


@pytest.mark.spec("D1", "C6")
def test_rows_that_somebody_deletes_stop_nothing(tmp_path: Path) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(60)
    lake.run()
    rows = lake.table("silver.orders")
    gone = rows["order_id"][0]
    DirectTables().execute(str(lake.lake / "silver" / "orders"), Delete(f"order_id = '{gone}'"))
    lake.feed(1)
    assert lake.run().failure is None
    assert gone not in lake.table("silver.orders")["order_id"]
