"""What is held within a limit, and what a lake without a cluster says to it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

import raylake
from raylake.client import held_rows
from raylake.clock import ManualClock
from raylake.errors import ConfigError
from raylake.tables.errors import HoldingNeedsCluster, TooLargeToHold
from raylake.tables.held_versions import HeldKey, HeldVersions
from raylake.tables.pins import Pin
from raylake.tables.requests import Read


def key(version: int, columns: str = "ab", table_id: str = "t") -> HeldKey:
    return HeldKey(table_id, version, tuple(columns))


@pytest.fixture
def held() -> HeldVersions[str]:
    return HeldVersions(100, ManualClock())


def versions(held: HeldVersions[str]) -> list[int]:
    return [one.version for one in held.listed()]


def test_the_least_recently_used_leaves_first(held: HeldVersions[str]) -> None:
    for one in (1, 2, 3):
        held.add("silver.t", key(one), (30, 1), f"v{one}")
    assert (held.use(key(1)) or ("", ""))[1] == "v1"
    held.add("silver.t", key(4), (60, 1), "v4")
    assert versions(held) == [1, 4]
    assert held.bytes == 90
    assert held.use(key(2)) is None


def test_what_is_larger_than_the_limit_is_refused_with_both_figures_and_nothing_leaves(
    held: HeldVersions[str],
) -> None:
    held.add("silver.t", key(1), (100, 1), "v1")
    with pytest.raises(
        TooLargeToHold, match=r"silver\.t: version 2 takes 101 bytes.* 100 "
    ) as told:
        held.add("silver.t", key(2), (101, 1), "v2")
    assert told.value.table_changed is False
    assert versions(held) == [1]


def test_a_version_answers_for_its_own_columns_alone(held: HeldVersions[str]) -> None:
    held.add("silver.t", key(1, "ab"), (10, 1), "ab")
    assert held.use(key(1, "b")) is not None
    assert held.use(key(1, "ba")) is not None
    assert held.use(key(1, "abc")) is None
    assert held.use(key(2, "a")) is None
    assert held.use(key(1, "a", "another")) is None


def test_more_columns_take_the_place_of_fewer(held: HeldVersions[str]) -> None:
    held.add("silver.t", key(1, "a"), (60, 1), "a")
    held.add("silver.t", key(2, "a"), (20, 1), "a2")
    held.add("silver.t", key(1, "abc"), (80, 1), "abc")
    assert [one.columns for one in held.listed()] == [("a",), ("a", "b", "c")]


def test_the_smallest_of_those_that_would_do_is_used(held: HeldVersions[str]) -> None:
    held.add("silver.t", key(1, "abc"), (80, 1), "abc")
    held.add("silver.t", key(1, "ad"), (10, 1), "ad")
    assert (held.use(key(1, "a")) or ("", ""))[1] == "ad"


def test_a_use_is_remembered_with_its_time() -> None:
    clock = ManualClock()
    held: HeldVersions[str] = HeldVersions(100, clock)
    made = held.add("silver.t", key(1), (10, 1), "v1")
    clock.sleep(60)
    held.use(key(1))
    (used,) = held.listed()
    assert used.held_at == made.held_at
    assert (used.last_used - made.last_used).total_seconds() == 60


def test_a_release_takes_one_version_or_all_of_the_table(held: HeldVersions[str]) -> None:
    for one in (1, 2, 3):
        held.add("silver.t", key(one), (10, 1), "")
    held.add("silver.u", key(1, table_id="u"), (10, 1), "")
    assert [one.version for one in held.release("t", 2)] == [2]
    assert versions(held) == [1, 3, 1]
    assert len(held.release("t")) == 2
    assert [one.table for one in held.listed()] == ["silver.u"]


def test_a_smaller_limit_counts_at_once(held: HeldVersions[str]) -> None:
    for one in (1, 2, 3):
        held.add("silver.t", key(one), (30, 1), "")
    held.limit(35)
    assert versions(held) == [3]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    made = raylake.connect(tmp_path).table("silver.t")
    made.create(pa.schema([("id", pa.int64())]))
    return tmp_path


def test_a_lake_without_a_cluster_says_that_holding_needs_one(table: Path) -> None:
    lake = raylake.connect(table)
    with pytest.raises(HoldingNeedsCluster, match=r"silver\.t.* Ray cluster") as told:
        lake.table("silver.t").hold()
    assert "address='auto'" in told.value.hint
    with pytest.raises(HoldingNeedsCluster):
        lake.table("silver.t").release()
    with pytest.raises(HoldingNeedsCluster):
        lake.held()


def test_reading_joins_no_cluster(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def joins(_address: str | None) -> None:
        raise AssertionError("a read joins the cluster")

    monkeypatch.setattr(held_rows, "join", joins)
    lake = raylake.connect(table, "nowhere:1")
    assert lake.table("silver.t").read().to_arrow().num_rows == 0


def test_a_limit_is_a_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hot_bytes"):
        raylake.connect(tmp_path, "auto", hot_bytes=0)


def test_while_another_thread_imports_ray_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    schema = pa.schema([("id", pa.int64())])
    pin = Pin(0, schema, Read(), "t", schema)
    assert held_rows.HeldRows("lake", "head:6379").stream(pin) is None
