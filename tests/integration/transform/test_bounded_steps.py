"""A version with more rows than a step takes comes in parts, each of them once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from raylake import faults
from raylake.layers import derived_table
from raylake.layers.derived import SourceRows, part_apps
from tests.integration.transform.small_lake import SmallLake

LIMIT = 64
QUICK = ("transform.before_commit", "transform.after_commit", "transform.between_parts")
OTHERS = ("transform.before_files", "quality.written", "quality.after_commit")
POINTS = [*QUICK, *(pytest.param(one, marks=pytest.mark.long) for one in OTHERS)]


class Cut(BaseException):
    """A process that ends here; nobody catches it."""


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SourceRows]]:
    """What each step was handed of its source."""
    found: list[SourceRows] = []
    real = derived_table.read_for

    def kept(*args: Any) -> SourceRows:
        found.append(real(*args))
        return found[-1]

    monkeypatch.setattr(derived_table, "read_for", kept)
    return found


def bounded(folder: Path, **more: Any) -> SmallLake:
    limits = {"max_rows_per_trigger": LIMIT, **more}
    return SmallLake(folder, silver={"orders": limits})


@pytest.mark.spec("D1", "D2", "A3")
def test_memory_of_a_step_is_bounded_whatever_a_version_holds(
    tmp_path: Path, handed: list[SourceRows]
) -> None:
    lake = bounded(tmp_path)
    lake.feed(400)
    assert lake.run("silver.orders").failure is None
    lake.feed(150)
    assert lake.run("silver.orders").failure is None
    parts = [one for one in handed if one.span.source == "bronze.orders"]
    assert [one.came.num_rows for one in parts] == [64] * 6 + [16] + [64, 64, 22]
    assert {one.span.whole for one in parts} == {True, False}
    (tmp_path / "single").mkdir()
    single = SmallLake(tmp_path / "single")
    single.feed(400)
    single.run("silver.orders")
    whole = handed[len(parts)].came
    assert whole.num_rows == 400
    assert max(one.came.nbytes for one in parts) < whole.nbytes / 4
    # Each part's step is in the history; its source counts as processed with the last one alone.
    assert lake.run().failure is None
    assert lake.processed("silver.orders") == 1
    lake.check()


@pytest.mark.spec("D1", "D2", "E1", "A3")
@pytest.mark.parametrize("point", POINTS)
def test_property_08_a_run_cut_off_between_parts_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    lake = bounded(tmp_path)
    lake.feed(200)
    reached: list[str] = []

    def cut(name: str, **_: Any) -> None:
        if name == point:
            reached.append(name)
            if len(reached) == 2:
                raise Cut

    monkeypatch.setattr(faults, "reach", cut)
    with pytest.raises(Cut):
        lake.run("silver.orders")
    monkeypatch.undo()
    bronze = DeltaTable(str(lake.lake / "bronze" / "orders"))
    own = DeltaTable(str(lake.lake / "silver" / "orders"))
    version, rows = part_apps(str(bronze.metadata().id))
    assert own.transaction_version(version) == 0
    done = own.transaction_version(rows)
    assert done in (LIMIT, 2 * LIMIT)
    # Beside it more comes, and files are compacted: the pinned version is what is gone on with.
    lake.feed(60)
    DeltaTable(str(lake.lake / "bronze" / "orders")).optimize.compact()
    assert lake.run().failure is None
    lake.check()


@pytest.mark.spec("D1", "D4")
def test_where_the_order_of_steps_decides_a_version_is_one_step(
    tmp_path: Path, handed: list[SourceRows]
) -> None:
    lake = bounded(tmp_path, resolve="source")
    lake.feed(200)
    assert lake.run("silver.orders").failure is None
    assert [one.came.num_rows for one in handed] == [200]


@pytest.mark.spec("D2")
def test_an_aggregate_takes_what_is_too_much_as_a_stream(
    tmp_path: Path, handed: list[SourceRows]
) -> None:
    lake = SmallLake(tmp_path, gold={"daily_sales": {"max_rows_per_trigger": 20}})
    for _ in range(2):
        # Rows of the first version change with the second one, so that it is not begun with.
        lake.feed(100)
        assert lake.run("silver.orders").failure is None
    assert lake.run().failure is None
    first = [one for one in handed if one.span.source == "silver.orders" and one.unread]
    assert [one.came.num_rows for one in first] == [0]
    assert first[0].brought > 20
    lake.check()
    lake.feed(150)
    lake.feed(10)
    assert lake.run().failure is None
    lake.check()
    assert lake.run(refresh=("gold.daily_sales",)).failure is None
    lake.check()


@pytest.mark.spec("D1")
def test_a_table_is_made_anew_in_parts(tmp_path: Path, handed: list[SourceRows]) -> None:
    lake = bounded(tmp_path)
    lake.feed(150)
    assert lake.run().failure is None
    del handed[:]
    assert lake.run("silver.orders", refresh=("silver.orders",)).failure is None
    assert [one.came.num_rows for one in handed][:3] == [64, 64, 22]
    assert lake.run().failure is None
    lake.check(refreshed=True)
