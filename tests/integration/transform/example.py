"""``examples/orders.yaml`` on topics of its own, and what its tables must hold."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import polars as pl

from raylake.client.transform_status import transform_document
from raylake.config import load
from raylake.config.addresses import quality_path, quarantine_path
from tests.harness.broker import LiveBroker
from tests.harness.cluster import ROOT
from tests.integration.pipeline.conftest import Bench
from tests.integration.transform.orders import Event, encoded, expected

EXAMPLE = ROOT / "examples" / "orders.yaml"


class Orders:
    """The example with its own topics, what was produced, and what the tables hold."""

    def __init__(self, bench: Bench, broker: LiveBroker) -> None:
        self.bench = bench
        self._broker = broker
        self._suffix = uuid.uuid4().hex[:8]
        self.placed: list[tuple[Event, int]] = []
        text = EXAMPLE.read_text()
        for name in ("orders.eu", "orders.us"):
            text = text.replace(name, f"{name}-{self._suffix}")
            broker.create_named_topic(f"{name}-{self._suffix}", 3)
        text = text.replace("${LAKE:-./lake}", str(bench.lake))
        text = text.replace("${KAFKA:-localhost:9092}", broker.bootstrap)
        bench.file.write_text(text.replace("pipeline: orders", f"pipeline: {bench.name}"))

    def produce(self, made: list[Event]) -> None:
        producer = self._broker.producer(acks="all", linger_ms=5)
        sent = [
            producer.send(
                f"{one.topic}-{self._suffix}",
                key=one.key.encode(),
                value=encoded(one.value),
                partition=one.partition,
                timestamp_ms=one.timestamp_ms,
            )
            for one in made
        ]
        producer.flush()
        self.placed += [(one, f.get(30).offset) for one, f in zip(made, sent, strict=True)]
        producer.close()

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_delta(str(self.bench.lake.joinpath(*name.split("."))))

    @property
    def status(self) -> dict[str, Any]:
        return transform_document(load(self.bench.file).config)

    def check(self) -> None:
        """Silver, gold, quarantine and quality hold what plain Python makes of the events."""
        wanted = expected(self.placed)
        silver = {row["order_id"]: row for row in self.table("silver.orders").to_dicts()}
        assert silver.keys() == wanted.silver.keys()
        for key, row in wanted.silver.items():
            assert {name: silver[key][name] for name in row} == row
        daily = self.table("gold.daily_sales").to_dicts()
        found = {(r["day"], r["country"]): (r["orders"], r["revenue"]) for r in daily}
        assert found == wanted.daily
        config = load(self.bench.file).config
        turned_away = pl.read_delta(quarantine_path(config))
        counts = dict(turned_away.group_by("rule").len().iter_rows())
        by_kind = {name.partition("(")[0]: count for name, count in counts.items()}
        assert by_kind == wanted.rejected
        assert turned_away["quarantine_id"].n_unique() == turned_away.height
        self._check_versions(wanted.silver)
        results = pl.read_delta(quality_path(config))
        judged = {"range(amount)", "in_set(country)", "freshness(ordered_at)", "completeness"}
        assert judged <= set(results["rule"])

    def _check_versions(self, silver: dict[str, dict[str, Any]]) -> None:
        """The current version of each customer is its newest order's country and segment."""
        newest: dict[str, tuple[dt.datetime, str, str]] = {}
        for row in silver.values():
            one = (row["updated_at"], row["country"], row["segment"])
            newest[row["customer_id"]] = max(newest.get(row["customer_id"], one), one)
        current = self.table("gold.customers").filter(pl.col("is_current")).to_dicts()
        assert {row["customer_id"] for row in current} == newest.keys()
        for row in current:
            assert (row["country"], row["segment"]) == newest[row["customer_id"]][1:]
