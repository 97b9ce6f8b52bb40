"""The auditor's own silver and gold: what counts, and that each difference is found."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from raylake.demo.auditor import DerivedReport, Tables, audit_derived
from raylake.demo.record import RecordWriter

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
TIME = pa.timestamp("us", "UTC")
PLACE: list[tuple[str, pa.DataType]] = [
    ("_topic", pa.string()),
    ("_partition", pa.int32()),
    ("_offset", pa.int64()),
]
BRONZE = pa.schema(
    [
        *PLACE,
        ("_timestamp", TIME),
        ("_key", pa.binary()),
        ("_value", pa.binary()),
        ("_tombstone", pa.bool_()),
    ]
)
TEXTS = ("order_id", "customer_id", "country", "segment")
SILVER = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        ("quantity", pa.int64()),
        ("amount", pa.decimal128(18, 2)),
        ("ordered_at", TIME),
        ("updated_at", TIME),
        ("_timestamp", TIME),
        *PLACE,
    ]
)
GOLD = pa.schema(
    [
        ("day", pa.date32()),
        ("country", pa.string()),
        ("orders", pa.int64()),
        ("revenue", pa.decimal128(38, 2)),
        ("largest", pa.decimal128(18, 2)),
    ]
)
QUARANTINE = pa.schema(
    [("table", pa.string()), ("rule", pa.string()), ("value", pa.string()), *PLACE]
)
Row = dict[str, Any]


def value(order: str, minute: int, **changed: Any) -> Row:
    """An event that was made so many minutes after noon."""
    at = NOON + dt.timedelta(minutes=minute)
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found = {"order_id": order, "customer_id": "c1", "country": "NO", "segment": "public"}
    more = {"quantity": 3, "amount": "10.50", "ordered_at": text, "updated_at": text}
    return {**found, **more, **changed}


SENT: list[tuple[str, Row | None, str]] = [
    ("a", value("a", 0), "event"),
    ("b", value("b", 1), "event"),
    ("a", value("a", 5, amount="12.00", country="DE"), "event"),
    ("a", value("a", 3, amount="99.00"), "out_of_order"),  # 3: older than what is there
    ("c", value("c", 6), "event"),
    ("c", None, "tombstone"),  # 5: as of its own time, minute 5
    ("d", None, "tombstone"),
    ("d", value("d", 9, quantity=1.5, ordered_at="2526-02-01T00:00:00.000Z"), "wider_value"),
    ("b", value("b", 1), "duplicate"),  # 8: as old as offset 1, and later
    ("e", value("e", 9, amount="12,50"), "not_convertible"),
    ("a", value("a", 10, amount="1.999"), "not_convertible"),
    ("a", value("a", 11, customer_id=None), "breaks_rule"),
    ("b", value("b", 12, amount="-1.50"), "breaks_rule"),
    ("f", value("f", 13), "event"),
    ("f", None, "tombstone"),
]
COUNTS = {"a": 2, "b": 8, "c": 4, "d": 7}
"""Order → the offset of the record that counts. The delete of ``c`` is older than its row."""
TURNED_AWAY = {
    9: ("type_conversion", "12,50"),
    10: ("type_conversion", "1.999"),
    11: ("not_null(customer_id)", None),
    12: ("range(amount)", "-1.50"),
}


def place(offset: int) -> Row:
    return {"_topic": "orders", "_partition": 0, "_offset": offset}


def stamp(offset: int) -> dt.datetime:
    return NOON + dt.timedelta(minutes=offset)


def silver_row(offset: int) -> Row:
    _, event, _ = SENT[offset]
    assert event is not None
    times = {n: dt.datetime.fromisoformat(event[n]) for n in ("ordered_at", "updated_at")}
    whole = event["quantity"] if isinstance(event["quantity"], int) else None
    typed = {"amount": Decimal(event["amount"]), "quantity": whole, "_timestamp": stamp(offset)}
    return {**event, **times, **typed, **place(offset)}


def quarantined(offset: int, rule: str, text: str | None) -> Row:
    return {"table": "silver.orders", "rule": rule, "value": text, **place(offset)}


@dataclass
class Made:
    """The tables' rows, sound until a test damages them."""

    silver: list[Row] = field(
        default_factory=lambda: [silver_row(offset) for offset in COUNTS.values()]
    )
    gold: list[Row] = field(
        default_factory=lambda: [
            _group(dt.date(2026, 1, 31), "DE", 1, "12.00", "12.00"),
            _group(dt.date(2026, 1, 31), "NO", 2, "21.00", "10.50"),
            _group(dt.date(2526, 2, 1), "NO", 1, "10.50", "10.50"),
        ]
    )
    quarantine: list[Row] = field(
        default_factory=lambda: [quarantined(at, *why) for at, why in TURNED_AWAY.items()]
    )
    kinds: list[str] = field(default_factory=lambda: [kind for _, _, kind in SENT])

    def write(self, root: Path, names: Iterable[str]) -> None:
        """Some of the tables, and the producers' notes."""
        of = {
            "bronze": (_bronze(), BRONZE),
            "silver": (self.silver, SILVER),
            "gold": (self.gold, GOLD),
            "quarantine": (self.quarantine, QUARANTINE),
        }
        for name in names:
            rows, schema = of[name]
            by = ["day"] if name == "gold" else None
            write_deltalake(root / name, pa.Table.from_pylist(rows, schema), partition_by=by)
        with RecordWriter(root / "record.parquet", "orders") as record:
            for offset, kind in enumerate(self.kinds):
                record.add(0, offset, b"", kind, "row")


NAMES = ("bronze", "silver", "gold", "quarantine")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    Made().write(root, NAMES)
    return root


def audited(sound: Path, other: Path, *changed: str) -> DerivedReport:
    """Sound tables, but for some that lie elsewhere."""
    tables = Tables(*((other if name in changed else sound) / name for name in NAMES))
    record = other if "record" in changed else sound
    return audit_derived(tables, [record / "record.parquet"])


def _bronze() -> list[Row]:
    return [
        {
            **place(offset),
            "_timestamp": stamp(offset),
            "_key": key.encode(),
            "_value": None if event is None else json.dumps(event).encode(),
            "_tombstone": event is None,
        }
        for offset, (key, event, _) in enumerate(SENT)
    ]


def _group(day: dt.date, country: str, orders: int, revenue: str, largest: str) -> Row:
    sums = {"revenue": Decimal(revenue), "largest": Decimal(largest)}
    return {"day": day, "country": country, "orders": orders, **sums}


def differences(report: DerivedReport) -> dict[str, tuple[int, int]]:
    named = {"silver": report.silver, "gold": report.gold, "quarantine": report.quarantine}
    return {n: (one.missing, one.unexpected) for n, one in named.items() if not one.same}


def test_sound_tables_are_what_bronze_makes_of_them(sound: Path) -> None:
    report = audited(sound, sound)
    assert differences(report) == {}, report.to_text()
    assert report.same
    assert (report.silver.rows, report.gold.rows, report.quarantine.rows) == (4, 3, 4)
    assert (report.orders, report.revenue) == (4, "43.50")
    assert report.by_rule == {"not_null": 1, "range": 1, "type_conversion": 2}


def test_without_a_quarantine_all_that_is_to_be_in_it_is_missing(
    sound: Path, tmp_path: Path
) -> None:
    assert differences(audited(sound, tmp_path, "quarantine")) == {"quarantine": (4, 0)}


Damage = Callable[[Made], object]
DAMAGES: dict[str, tuple[Damage, dict[str, tuple[int, int]]]] = {
    "an amount": (lambda made: made.silver[0].update(amount=Decimal("12.01")), {"silver": (1, 1)}),
    "a text": (lambda made: made.silver[1].update(segment=None), {"silver": (1, 1)}),
    "a time": (lambda made: made.silver[2].update(ordered_at=NOON), {"silver": (1, 1)}),
    "the record that counts": (
        lambda made: made.silver[1].update(**place(1)),
        {"silver": (1, 1)},
    ),
    "a row is lost": (lambda made: made.silver.pop(), {"silver": (1, 0)}),
    "a row is there twice": (
        lambda made: made.silver.append(made.silver[0]),
        {"silver": (0, 1)},
    ),
    "a deleted order came back": (
        lambda made: made.silver.append(silver_row(13)),
        {"silver": (0, 1)},
    ),
    "a revenue": (
        lambda made: made.gold[0].update(revenue=Decimal("12.01")),
        {"gold": (1, 1)},
    ),
    "a group moved": (
        lambda made: made.gold[2].update(day=dt.date(2526, 2, 2)),
        {"gold": (1, 1)},
    ),
    "a group is lost": (lambda made: made.gold.pop(), {"gold": (1, 0)}),
    "a row was not set aside": (lambda made: made.quarantine.pop(), {"quarantine": (1, 0)}),
    "a row was set aside twice": (
        lambda made: made.quarantine.append(made.quarantine[0]),
        {"quarantine": (0, 1)},
    ),
    "another rule": (
        lambda made: made.quarantine[3].update(rule="not_null(amount)"),
        {"quarantine": (1, 1)},
    ),
    "another value": (lambda made: made.quarantine[0].update(value="12"), {"quarantine": (1, 1)}),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_each_difference_is_found_and_counted(sound: Path, tmp_path: Path, what: str) -> None:
    damage, expected = DAMAGES[what]
    made = Made()
    damage(made)
    made.write(tmp_path, expected)
    report = audited(sound, tmp_path, *expected)
    assert differences(report) == expected
    assert not report.same
    for name in expected:
        assert getattr(report, name).examples
    assert "MISSING" in report.to_text()


def test_what_the_producers_did_not_spoil_is_not_to_be_turned_away(
    sound: Path, tmp_path: Path
) -> None:
    made = Made()
    made.kinds[9], made.kinds[0] = "event", "breaks_rule"
    made.write(tmp_path, ())
    report = audited(sound, tmp_path, "record")
    assert (report.unlike_notes, report.same) == (2, False)
    assert "UNLIKE THE PRODUCERS' NOTES" in report.to_text()
