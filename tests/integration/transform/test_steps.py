"""Steps of derived tables on real tables: cut off anywhere, twice at once, refused, made anew."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from raylake import faults
from raylake.layers.errors import DefinitionChanged, OwnedByAnother
from raylake.tables.requests import Write
from raylake.tables.results import OperationResult
from raylake.tables.service import DirectTables
from tests.integration.transform.small_lake import SmallLake

POINTS = (
    "transform.before_files",
    "transform.before_commit",
    "quality.written",
    "transform.after_commit",
    "quality.before_commit",
    "quality.after_commit",
)


class Cut(BaseException):
    """A process that ends here; nobody catches it."""


@pytest.mark.spec("D1", "D2", "E1", "A3")
@pytest.mark.parametrize("point", POINTS)
def test_a_step_that_is_cut_off_anywhere_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(120)
    lake.run()
    lake.feed(80)
    reached: list[str] = []

    def cut(name: str, **_: Any) -> None:
        if name == point and not reached:
            reached.append(name)
            raise Cut

    monkeypatch.setattr(faults, "reach", cut)
    with pytest.raises(Cut):
        lake.run()
    assert reached == [point]
    monkeypatch.undo()
    lake.feed(40)
    assert lake.run().failure is None
    lake.check()
    history = lake.table("_quality.orders")
    steps = history.filter(pl.col("table") == "silver.orders").group_by("target_version", "rule")
    assert set(steps.len()["len"]) == {1}


@pytest.mark.spec("A3", "C6", "D1")
def test_two_processes_at_once_bring_each_span_in_once(tmp_path: Path) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(60)
    lake.run()
    failures: list[Any] = []

    def work() -> None:
        failures.append(lake.run().failure)

    for _ in range(3):
        lake.feed(60)
        both = [threading.Thread(target=work) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
    assert failures == [None] * 6
    lake.check()


@pytest.mark.spec("D1")
def test_a_changed_definition_is_refused_until_the_table_is_made_anew(tmp_path: Path) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(150)
    assert lake.run().failure is None
    before = DeltaTable(str(lake.lake / "silver" / "orders")).version()
    rows = lake.table("silver.orders").height
    lake.change(silver={"orders": {"where": "segment = 'business'"}})
    refused = lake.run()
    assert isinstance(refused.failure, DefinitionChanged)
    assert refused.states["silver.orders"].state == "stopped"
    anew = lake.run(refresh=("silver.orders",))
    assert anew.failure is None
    found = lake.table("silver.orders")
    assert set(found["segment"]) == {"business"}
    assert 0 < found.height < rows
    # Its readers: the old version is there, and gold follows the new one.
    old = pl.read_delta(str(lake.lake / "silver" / "orders"), version=before)
    assert old.height == rows
    assert lake.table("gold.daily_sales")["orders"].sum() == found.height
    lake.feed(50)
    assert lake.run().failure is None
    assert set(lake.table("silver.orders")["segment"]) == {"business"}


@pytest.mark.spec("D1")
def test_a_table_of_another_pipeline_is_left_alone(tmp_path: Path) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(30)
    lake.run()
    version = DeltaTable(str(lake.lake / "silver" / "orders")).version()
    lake.document["pipeline"] = "others"
    lake.change()
    refused = lake.run("silver.orders")
    assert isinstance(refused.failure, OwnedByAnother)
    assert "orders" in refused.failure.message
    assert DeltaTable(str(lake.lake / "silver" / "orders")).version() == version


@pytest.mark.spec("E1", "B5")
def test_a_rule_that_aborts_stops_its_table_alone_and_changes_nothing(tmp_path: Path) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(100)
    assert lake.run().failure is None
    daily = lake.table("gold.daily_sales")
    strict = {"rule": "in_set", "column": "country", "values": ["XX"], "on_failure": "abort"}
    customers = {"quality": [strict]}
    lake.change(gold={"customers": customers})
    lake.feed(50)
    run = lake.run()
    assert run.failure is not None
    assert run.failure.code == "quality_abort"
    states = {name: one.state for name, one in run.states.items()}
    assert states["gold.customers"] in ("stopped", "failed")
    assert states["silver.orders"] == states["gold.daily_sales"] == "up_to_date"
    assert not lake.table("gold.daily_sales").equals(daily)
    lake.check()


class Meanwhile(DirectTables):
    """Each write of a derived table is followed by a version of bronze."""

    def __init__(self, lake: SmallLake, at_most: int) -> None:
        super().__init__()
        self.lake, self.left = lake, at_most

    def execute(self, table: str, operation: Write, **more: Any) -> OperationResult:
        done = super().execute(table, operation, **more)
        if self.left:
            self.left -= 1
            self.lake.feed(5)
        return done


@pytest.mark.spec("D1", "A3")
@pytest.mark.parametrize("refresh", [(), ("silver.orders",)])
def test_what_is_there_is_brought_in_once_though_its_source_goes_on(
    tmp_path: Path, refresh: tuple[str, ...]
) -> None:
    lake = SmallLake(tmp_path)
    lake.feed(40)
    if refresh:
        lake.run()
    lake.feed(40)
    version = DeltaTable(str(lake.lake / "bronze" / "orders")).version()
    by = Meanwhile(lake, 40)
    assert lake.run(refresh=refresh, by=by).failure is None
    assert by.left > 0
    found = lake.processed("silver.orders")
    assert found == version or (refresh and found > version)
    assert lake.run().failure is None
    lake.check(refreshed=bool(refresh))
