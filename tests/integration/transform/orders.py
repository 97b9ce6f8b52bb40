"""Orders for the example pipeline, and what its tables must hold, by plain Python."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COUNTRIES = ("DE", "NO", "US", "FR")
SEGMENTS = ("consumer", "business")
START = dt.datetime(2026, 1, 30, 22, tzinfo=dt.UTC)
BEGAN_MS = int(time.time() * 1000) - 3_600_000
CENT = decimal.Decimal("0.01")


@dataclass(frozen=True)
class Event:
    """One record: where it goes and what is in it; no value is a tombstone."""

    topic: str
    partition: int
    key: str
    value: dict[str, Any] | None
    timestamp_ms: int


def events(count: int, seed: int, *, first: int = 0) -> list[Event]:
    """Orders and updates of them, in no order of time; some cannot be converted or break a rule."""
    draw = random.Random(seed)
    found = []
    for n in range(first, first + count):
        order = n if draw.random() < 0.6 else draw.randrange(n + 1)
        customer = order % 40
        ordered = START + dt.timedelta(minutes=order)
        updated = ordered + dt.timedelta(seconds=draw.randrange(86_400))
        value: dict[str, Any] | None = {
            "order_id": f"o{order}",
            "customer_id": f"c{customer}",
            "country": draw.choice(COUNTRIES),
            "segment": SEGMENTS[draw.randrange(2)],
            "amount": f"{draw.randrange(1, 90_000) / 100:.2f}",
            "ordered_at": _text(ordered),
            "updated_at": _text(updated),
        }
        _spoil(draw, value)
        topic = ("orders.eu", "orders.us")[order % 2]
        # A broker drops what is older than its retention.
        stamp_ms = BEGAN_MS + 1000 * n
        found.append(Event(topic, order % 3, f"o{order}", value, stamp_ms))
    return found


def _spoil(draw: random.Random, value: dict[str, Any] | None) -> None:
    chance = draw.random()
    assert value is not None
    if chance < 0.03:
        value["amount"] = draw.choice(["12,50", "", "a lot", "1.999"])
    elif chance < 0.05:
        value["amount"] = "2000000.00"
    elif chance < 0.07:
        value["customer_id"] = None
    elif chance < 0.09:
        value["order_id"] = None


def _text(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encoded(value: Mapping[str, Any] | None) -> bytes | None:
    """The record's value."""
    return None if value is None else json.dumps(value).encode()


@dataclass
class Expected:
    """What the example's tables hold after some events.

    Attributes:
        silver: By order.
        rejected: How many rows were turned away, by rule's beginning.
        daily: By day and country: orders and revenue.
        versions: By customer: its versions as (from, country, segment).
    """

    silver: dict[str, dict[str, Any]]
    rejected: dict[str, int]
    daily: dict[tuple[dt.date, str], tuple[int, decimal.Decimal]]
    versions: dict[str, list[tuple[dt.datetime, str, str]]]


def expected(placed: Iterable[tuple[Event, int]]) -> Expected:
    """The tables for events and the offsets that they got."""
    rejected: dict[str, int] = defaultdict(int)
    newest: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    for event, offset in placed:
        row = event.value
        assert row is not None
        reason, amount = _judged(row)
        if reason:
            rejected[reason] += 1
            continue
        moment = dt.datetime.fromisoformat(row["updated_at"])
        rank = (moment, event.timestamp_ms, event.topic, event.partition, offset)
        if row["order_id"] not in newest or newest[row["order_id"]][0] < rank:
            kept = {**row, "amount": amount, "updated_at": moment}
            kept["ordered_at"] = dt.datetime.fromisoformat(row["ordered_at"])
            newest[row["order_id"]] = (rank, kept)
    silver = {key: row for key, (_, row) in newest.items()}
    daily: dict[tuple[dt.date, str], tuple[int, decimal.Decimal]] = {}
    for row in silver.values():
        group = (row["ordered_at"].date(), row["country"])
        orders, revenue = daily.get(group, (0, decimal.Decimal(0)))
        daily[group] = (orders + 1, revenue + row["amount"])
    return Expected(silver, dict(rejected), daily, {})


def _judged(row: Mapping[str, Any]) -> tuple[str, decimal.Decimal]:
    """Why a row is turned away; empty: it is not. And its amount."""
    zero = decimal.Decimal(0)
    try:
        amount = decimal.Decimal(row["amount"])
    except decimal.InvalidOperation:
        return "type_conversion", zero
    if amount != amount.quantize(CENT):
        return "type_conversion", zero
    if row["order_id"] is None:
        return "key", zero
    if row["customer_id"] is None:
        return "not_null", zero
    if not 0 <= amount <= 1_000_000:
        return "range", zero
    return "", amount
