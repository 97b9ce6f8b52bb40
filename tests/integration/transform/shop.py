"""The example's bronze table with rows that a test writes one by one, and a clock it may move."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from raylake.cli.main import main
from raylake.clock import Clock, SystemClock
from raylake.config import load
from raylake.ingest.plan import RunPlan
from raylake.layers.build import build
from raylake.layers.transform_plan import TransformPlan
from raylake.layers.transform_run import TransformRun
from raylake.layers.transforming import Transforming
from raylake.tables.service import DirectTables
from tests.integration.transform.small_lake import BRONZE, SmallLake

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


class Shop(SmallLake):
    """Silver alone, without its rules unless a test gives some."""

    def __init__(self, folder: Path, table: Mapping[str, Any] | None = None) -> None:
        super().__init__(folder)
        del self.document["gold"], self.document["maintenance"]
        self.offset = 0
        self.table_is({"quality": [], **(table or {})})

    def table_is(self, changes: Mapping[str, Any]) -> None:
        """Lay keys over ``silver.orders``; None takes one away."""
        orders = self.document["silver"]["orders"]
        orders.update(changes)
        self.document["silver"]["orders"] = {k: v for k, v in orders.items() if v is not None}
        self.change()

    def put(self, *rows: Mapping[str, Any]) -> None:
        """One version of bronze; what a row does not say is as it usually is."""
        made = []
        for row in rows:
            usual = {
                "order_id": f"o{self.offset}",
                "customer_id": "c",
                "country": "DE",
                "segment": "consumer",
                "amount": "1.00",
                "ordered_at": NOON,
                "updated_at": NOON + dt.timedelta(seconds=self.offset),
                "_topic": "orders.eu",
                "_partition": 0,
                "_offset": self.offset,
                "_timestamp": NOON,
                "_key": b"k",
                "_tombstone": False,
            }
            made.append({**usual, **row})
            self.offset += 1
        path = self.lake / "bronze" / "orders"
        write_deltalake(path, pa.Table.from_pylist(made, BRONZE), mode="append")

    def plan(self, *, continuous: bool = False) -> TransformPlan:
        loaded = load(self.file)
        run = RunPlan(loaded.config, loaded.sha256, str(self.file), "r")
        return TransformPlan(run, continuous=continuous)

    def tables(self, clock: Clock | None = None) -> TransformRun:
        """The tables of a process, before it does anything."""
        return build(self.plan(), DirectTables(), clock or SystemClock())

    def running(self, clock: Clock | None = None) -> Transforming:
        """The loop of a run: that goes on until it is told to stop, or ends (with a clock)."""
        plan, time = self.plan(continuous=clock is None), clock or SystemClock()
        return Transforming(plan, lambda told: build(plan, DirectTables(), time, told), time)

    def done(self) -> None:
        """Bring all up to date; nothing fails."""
        assert self.run().failure is None

    def amounts(self) -> dict[str, str]:
        """Silver: order to amount."""
        rows = self.table("silver.orders").select("order_id", "amount").iter_rows()
        return {order: str(amount) for order, amount in rows}

    def lines(self, rule: str) -> pl.DataFrame:
        """The history of one rule, oldest first."""
        found = self.table("_quality.orders")
        return found.filter(pl.col("rule") == rule).sort("at")

    def said(self, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
        """What a command says; as JSON where it is asked for that."""
        capsys.readouterr()
        ended = main([*words[:2], str(self.file), *words[2:]])
        caught = capsys.readouterr()
        assert ended == code, caught.err
        as_json = "json" in words
        return (
            json.loads(caught.err if as_json and code else caught.out)
            if as_json
            else (caught.out + caught.err)
        )
