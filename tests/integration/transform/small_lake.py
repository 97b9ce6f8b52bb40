"""A lake on the disk with the example's bronze table, brought up to date in this process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import yaml
from deltalake import DeltaTable, write_deltalake

from raylake.clock import SystemClock
from raylake.config import load
from raylake.ingest.plan import RunPlan
from raylake.layers.build import build
from raylake.layers.derived import NEVER, progress_app
from raylake.layers.transform_plan import TransformPlan
from raylake.layers.transform_run import TransformRun
from raylake.tables.service import DirectTables
from tests.harness.cluster import ROOT
from tests.integration.transform.orders import Event, events, expected

TIME = pa.timestamp("us", tz="UTC")
TEXTS = ("order_id", "customer_id", "country", "segment", "amount")
BRONZE = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        ("ordered_at", TIME),
        ("updated_at", TIME),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_timestamp", TIME),
        ("_key", pa.binary()),
        ("_tombstone", pa.bool_()),
    ]
)


class SmallLake:
    """The example's tables, fed without Kafka and without Ray."""

    def __init__(self, folder: Path, **changes: Mapping[str, Any]) -> None:
        self.lake = folder / "lake"
        self.file = folder / "orders.yaml"
        text = (ROOT / "examples" / "orders.yaml").read_text()
        self.document: dict[str, Any] = yaml.load(text, yaml.BaseLoader)
        self.document["lake"] = str(self.lake)
        self.document["kafka"] = {"bootstrap": "localhost:1"}
        self.placed: list[tuple[Event, int]] = []
        self._next: dict[tuple[str, int], int] = {}
        self._made = 0
        self.change(**changes)

    def change(self, **changes: Mapping[str, Any]) -> None:
        """Write the file anew: ``silver={"orders": {...}}`` is laid over a section's tables."""
        for section, tables in changes.items():
            for name, keys in tables.items():
                self.document[section].setdefault(name, {}).update(keys)
        self.file.write_text(yaml.safe_dump(self.document, sort_keys=False))

    def feed(self, count: int, seed: int = 0) -> None:
        """One more version of bronze."""
        rows = []
        for one in events(count, seed or self._made + 1, first=self._made):
            assert one.value is not None
            source = (one.topic, one.partition)
            offset = self._next.get(source, 0)
            self._next[source] = offset + 1
            self.placed.append((one, offset))
            times = {n: dt.datetime.fromisoformat(one.value[n]) for n in BRONZE.names[5:7]}
            stamp = dt.datetime.fromtimestamp(one.timestamp_ms / 1000, dt.UTC)
            place = (*source, offset, stamp, one.key.encode(), False)
            names = BRONZE.names[7:]
            rows.append({**one.value, **times, **dict(zip(names, place, strict=True))})
        self._made += count
        at = self.lake / "bronze" / "orders"
        write_deltalake(at, pa.Table.from_pylist(rows, BRONZE), mode="append")

    def run(
        self, *tables: str, refresh: tuple[str, ...] = (), by: DirectTables | None = None
    ) -> TransformRun:
        """Bring tables up to date; what fails is in the run's states."""
        loaded = load(self.file)
        run = RunPlan(loaded.config, loaded.sha256, str(self.file), "r")
        made = build(TransformPlan(run, tables, refresh), by or DirectTables(), SystemClock())
        made.finish()
        return made

    def processed(self, name: str) -> int:
        """Up to which version of bronze a table that reads it has come."""
        source = DeltaTable(str(self.lake / "bronze" / "orders")).metadata().id
        own = DeltaTable(str(self.lake.joinpath(*name.split("."))))
        found = own.transaction_version(progress_app(str(source)))
        return NEVER if found is None else found

    def table(self, name: str) -> pl.DataFrame:
        """A table by polars."""
        return pl.read_delta(str(self.lake.joinpath(*name.split("."))))

    def check(self, *, refreshed: bool = False) -> None:
        """Silver, gold and quarantine hold what plain Python makes of the events, once each.

        Args:
            refreshed: A row may have been turned away again, under its id.
        """
        wanted = expected(self.placed)
        silver = self.table("silver.orders").to_dicts()
        assert len(silver) == len(wanted.silver)
        for row in silver:
            expected_row = wanted.silver[row["order_id"]]
            assert {name: row[name] for name in expected_row} == expected_row
        daily = self.table("gold.daily_sales").to_dicts()
        found = {(r["day"], r["country"]): (r["orders"], r["revenue"]) for r in daily}
        assert found == wanted.daily
        turned_away = self.table("quarantine.orders")
        assert turned_away["quarantine_id"].n_unique() == sum(wanted.rejected.values())
        assert refreshed or turned_away["quarantine_id"].is_unique().all()
