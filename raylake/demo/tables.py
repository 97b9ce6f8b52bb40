"""The demo's pipeline file: bronze, silver and gold of the order events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylake.demo.events import SCHEMA
from raylake.tables.routing import EngineChoice

PIPELINE = "demo"
BRONZE, SILVER, GOLD = "bronze.orders", "silver.orders", "gold.daily_sales"

_SILVER: Mapping[str, Any] = {
    "from": BRONZE,
    "mode": "upsert",
    "keys": ["order_id"],
    "sequence_by": "updated_at",
    "types": {"amount": "decimal(18,2)"},
    "quality": [
        {"rule": "not_null", "columns": ["customer_id"], "on_failure": "quarantine"},
        {"rule": "range", "column": "amount", "min": 0, "max": 1000000, "on_failure": "quarantine"},
        {
            "rule": "regex",
            "column": "order_id",
            "pattern": "^o[0-9]-[0-9]{9}$",
            "severity": "warning",
        },
    ],
}
_GOLD: Mapping[str, Any] = {
    "mode": "aggregate",
    "sql": "SELECT CAST(ordered_at AS DATE) AS day, country, count(*) AS orders, "
    "sum(amount) AS revenue, max(amount) AS largest FROM silver.orders GROUP BY day, country",
    "partition_by": ["day"],
}


def document(
    lake: Path, bootstrap: str, bronze: Mapping[str, Any], engine: EngineChoice
) -> dict[str, Any]:
    """The pipeline file.

    Args:
        lake: The lake's folder.
        bootstrap: The broker's ``host:port``.
        bronze: What bronze is fed from, and how often it commits.
        engine: Who writes silver and gold.
    """
    return {
        "pipeline": PIPELINE,
        "lake": str(lake),
        "kafka": {"bootstrap": bootstrap},
        "bronze": {
            "orders": {
                "schema": dict(SCHEMA),
                "event_time": {"column": "ordered_at", "lateness": "10m", "late": "flag"},
                "keep_value": True,
                **bronze,
            }
        },
        "silver": {"orders": dict(_SILVER)},
        "gold": {"daily_sales": dict(_GOLD)},
        "engine": engine,
    }
