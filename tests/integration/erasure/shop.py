"""A pipeline of all layers without Kafka, with one person's data in every place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from raylake.client.lake import Lake
from raylake.clock import Clock, SystemClock
from raylake.delta.log_store import files_of
from raylake.layers.build import definition
from raylake.layers.derived_table import DerivedTable
from raylake.layers.graph import graph_of
from raylake.layers.step import By
from raylake.storage.place import open_input, place
from raylake.tables.service import DirectTables
from tests.integration.replay.small_pipeline import SmallPipeline

PERSON = "person-4711"
WHERE = f"customer_id = '{PERSON}'"
SCHEMA = {
    "order_id": "string",
    "customer_id": "string",
    "segment": "string",
    "amount": "string",
    "ordered_at": "timestamp",
}


class Shop(SmallPipeline):
    """Bronze orders, silver orders, gold customers (scd2) and sales (aggregate)."""

    def __init__(
        self, folder: Path, where: str = "", stores: Mapping[str, Any] | None = None, **orders: Any
    ) -> None:
        self.orders = {
            "topics": ["t"],
            "schema": SCHEMA,
            "keep_value": True,
            "unknown_fields": "rescue",
            **orders,
        }
        self.where = where or str(folder / "lake")
        self.stores = dict(stores or {})
        self.rules: list[dict[str, Any]] = []
        super().__init__(folder)

    def write(self, key: str = "orders", **more: Any) -> None:
        silver = {
            "from": f"bronze.{key}",
            "mode": "upsert",
            "keys": ["order_id"],
            "sequence_by": "ordered_at",
            "types": {"amount": "decimal(18,2)"},
            "quality": [
                {"rule": "not_null", "columns": ["order_id"], "on_failure": "quarantine"},
                {
                    "rule": "range",
                    "column": "amount",
                    "min": 0,
                    "max": 1000,
                    "on_failure": "quarantine",
                },
                *self.rules,
            ],
        }
        gold = {
            "customers": {
                "from": "silver.orders",
                "mode": "scd2",
                "keys": ["customer_id"],
                "track": ["segment"],
                "sequence_by": "ordered_at",
            },
            "sales": {
                "mode": "aggregate",
                "sql": "SELECT segment, count(*) AS orders FROM silver.orders GROUP BY segment",
            },
        }
        document = {
            "pipeline": "small",
            "lake": self.where,
            "stores": self.stores,
            "kafka": {"bootstrap": "localhost:1"},
            "bronze": {key: {**self.orders, **more}},
            "silver": {"orders": silver},
            "gold": gold,
            "ingest": {"durability": "none", "takeover_after": "0s"},
        }
        self.file.write_text(yaml.safe_dump(document))

    def fill(self, start: int = 0) -> None:
        """Orders of three people, some broken: of each kind one is the person's."""
        self.ingest(list(messages(start)), start, name="bronze.orders")

    def transform(self, clock: Clock | None = None) -> None:
        config, clock = self.loaded.config, clock or SystemClock()
        graph, by = graph_of(config), By(DirectTables(), clock)
        for node in graph.derived:
            table = DerivedTable(definition(config, graph, node, clock), by)
            while table.advance(ending=True) is not None:
                pass

    def refresh(self) -> None:
        config, clock = self.loaded.config, SystemClock()
        graph, by = graph_of(config), By(DirectTables(), clock)
        for node in graph.derived:
            DerivedTable(definition(config, graph, node, clock), by).refresh()

    def read(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            Lake.from_pipeline(self.file).table(name).read().to_arrow().to_pylist()
        )
        return found

    def address(self, name: str) -> str:
        return f"{self.where}/{name}"

    def files_with(self, text: str = PERSON) -> list[str]:
        """Files of the lake that hold a text, in Parquet decoded; logs and checkpoints apart."""
        return [one for one in self.all_with(text) if "_delta_log/" not in one]

    def logs_with(self, text: str = PERSON) -> list[str]:
        """Files of the tables' logs that hold a text; those of the account of rules apart."""
        return [one for one in self.all_with(text) if "_delta_log/" in one]

    def all_with(self, text: str = PERSON) -> list[str]:
        """Files of the lake that hold a text: in Parquet decoded, else in their bytes."""
        root = place(self.where)
        found = []
        for path in sorted(files_of(self.where).tree("")):
            with open_input(root / path) as opened:
                data = opened.readall()
            if path.endswith(".parquet") and "_damaged." not in path:
                data = str(pq.read_table(pa.BufferReader(data)).to_pylist()).encode()
            if text.encode() in data:
                found.append(path)
        return found


def messages(start: int) -> Iterator[bytes]:
    at = start
    for person in ("ann", PERSON, "bob"):
        for segment in ("a", "b"):
            yield order(at, person, segment, "12.50")
            at += 1
        yield order(at, person, "b", "100000")  # out of range: quarantined
        yield order(at + 1, person, "b", "nonsense")  # does not convert: quarantined
        yield order(at + 2, person, "a", "1.00", extra={"of": person})
        yield f'{{"order_id": "o{at}", "customer_id": "{person}", broken'.encode()  # a dead letter
        yield json.dumps([{"customer_id": person}]).encode()  # JSON, and a dead letter
        at += 5


def order(at: int, person: str, segment: str, amount: str, **more: Any) -> bytes:
    said = {
        "order_id": f"o{at}",
        "customer_id": person,
        "segment": segment,
        "amount": amount,
        "ordered_at": f"2026-01-{1 + at % 27:02d}T12:00:00Z",
        **more,
    }
    return json.dumps(said).encode()
