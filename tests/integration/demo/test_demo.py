"""The demo as a user starts it, small: real broker, Ray, SIGKILLs, the account of each layer."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from raylake.demo.auditor.__main__ import main as audit

COUNT, SEED = 80_000, 5


class Demo:
    """One run of it."""

    def __init__(self, lake: Path, kills: int, *options: str) -> None:
        self.lake = lake
        self.kills = kills
        command = [sys.executable, "-m", "raylake", "demo", "--count", str(COUNT)]
        command += ["--kills", str(kills), "--seed", str(SEED), "--lake", str(lake)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        done = subprocess.run(
            [*command, "--output", "json", *options],
            capture_output=True,
            text=True,
            env=environment,
            timeout=540,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        self.result: dict[str, Any] = json.loads(done.stdout)

    def log(self, table: str) -> list[dict[str, Any]]:
        """What a table's commits say of themselves, the newest first."""
        return list(DeltaTable(str(self.lake / table)).history())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("demo") / "lake", 6)


@pytest.mark.spec("K3", "A1", "A3", "A4", "A2", "A10")
def test_the_demo_balances_its_books_through_kills(demo: Demo) -> None:
    result, audited = demo.result, demo.result["audit"]
    assert result["verify"] == {"log": True, "data": True, "broker": True}
    assert len(result["kills"]) == demo.kills
    assert audited["balanced"]
    assert audited["produced"] == COUNT
    assert audited["rows"] + audited["dead_letters"] + audited["aborted"] == COUNT
    assert audited["dead_letters"] > 0
    assert audited["aborted"] > 0
    assert audited["tombstones"] > 0
    status = json.loads((demo.lake / "_raylake" / "status" / "demo.json").read_text())
    assert status["state"] == "done"
    assert sum(status["restarts"].values()) >= demo.kills - 2
    table = status["tables"]["bronze.orders"]
    assert table["watermark_ms"] is not None
    flagged = [c["tables"]["bronze.orders"]["flagged"] for c in status["consumers"].values()]
    assert any(one.get("ahead") for one in flagged)


@pytest.mark.spec("K3", "D1", "D2", "E1", "A3")
def test_silver_and_gold_are_what_bronze_makes_of_them(demo: Demo) -> None:
    derived = demo.result["derived"]
    assert derived["same"]
    killed = [one for one in demo.result["kills"] if one.startswith("the transformer")]
    assert len(killed) == 2
    # There was something to decide: updates, deletes, and rows to turn away of each kind.
    assert 0.7 * COUNT < derived["silver"]["rows"] < 0.95 * COUNT
    assert derived["silver"]["rows"] == derived["orders"]
    assert derived["by_rule"].keys() == {"type_conversion", "not_null", "range"}
    assert derived["quarantine"]["rows"] == sum(derived["by_rule"].values()) > 100
    gold = DeltaTable(str(demo.lake / "gold" / "daily_sales"))
    assert gold.metadata().partition_columns == ["day"]
    days = set(pl.read_delta(str(demo.lake / "gold" / "daily_sales"))["day"])
    today = dt.datetime.now(dt.UTC).date()
    assert min(days) < today - dt.timedelta(days=1)
    assert max(days) > today + dt.timedelta(days=365)


@pytest.mark.parametrize("table", ["silver/orders", "gold/daily_sales", "quarantine/demo"])
def test_a_row_that_is_altered_afterwards_is_found(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    changes: Mapping[str, tuple[str, dict[str, str]]] = {
        "silver/orders": ("order_id", {"segment": "'none of them'"}),
        "gold/daily_sales": ("country", {"orders": "orders + 1"}),
        "quarantine/demo": ("quarantine_id", {"value": "'7'"}),
    }
    key, updates = changes[table]
    copied = tmp_path / "copied"
    shutil.copytree(demo.lake / table, copied)
    one = pl.read_delta(str(copied)).sort(key).row(0, named=True)
    where = " AND ".join(f"{n} = '{one[n]}'" for n in {key, "day"} & one.keys())
    assert DeltaTable(str(copied)).update(updates, predicate=where)["num_updated_rows"] == 1
    record = sorted((demo.lake / "_raylake" / "demo").glob("record-*.parquet"))
    tables = [copied if table == name else demo.lake / name for name in changes]
    options = ["--table", str(demo.lake / "bronze" / "orders"), "--json"]
    options += ["--dead-letters", str(demo.lake / "dead_letters" / "demo")]
    options += ["--derived", *map(str, tables), "--record", *map(str, record)]
    assert audit(options) == 3
    found = json.loads(capsys.readouterr().out)["derived"]
    name = table.partition("/")[0]
    wrong = {n for n in ("silver", "gold", "quarantine") if found[n]["missing"]}
    assert wrong == {name}
    assert (found[name]["missing"], found[name]["unexpected"]) == (1, 1)


@pytest.mark.long
@pytest.mark.spec("K3", "C2", "D1", "D2")
def test_with_spark_on_the_same_ray_cluster_the_numbers_are_the_same(
    demo: Demo, tmp_path: Path
) -> None:
    by_spark = Demo(tmp_path / "lake", 3, "--engine", "spark")
    assert "the transformer, before a commit of silver.orders" in by_spark.result["kills"]
    mine, other = by_spark.result["derived"], demo.result["derived"]
    assert mine["same"]
    for name in ("digest", "orders", "revenue", "by_rule"):
        assert mine[name] == other[name], name
    assert mine["silver"]["rows"] == other["silver"]["rows"]
    # Every step of both tables was computed by Spark, and its progress is in the same commit.
    assert {name: set(one) for name, one in mine["engines"].items()} == {
        "silver": {"spark"},
        "gold": {"spark"},
    }
    merges = [one for one in by_spark.log("silver/orders") if one["operation"] == "MERGE"]
    # How many depends on how long Spark takes to start: the next step takes all that has come.
    assert merges
    assert all("Apache-Spark/3.5" in one["engineInfo"] for one in merges)
