"""The loader never raises anything but ConfigError; units read back what they write."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from raylake.config import load_bytes, normalise_table_address
from raylake.config.cron import parse_cron
from raylake.config.findings import Invalid
from raylake.config.positions import parse
from raylake.config.sql import names_in, tables_of
from raylake.config.units import (
    format_duration,
    format_ratio,
    format_size,
    parse_duration,
    parse_ratio,
    parse_size,
)
from raylake.errors import ConfigError
from tests.unit.config.loading import bronze
from tests.unit.config.test_derived_tables import CLOSED, FULL

ORDERS = (Path(__file__).parents[2] / "examples" / "orders.yaml").read_bytes()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


def _load(raw: bytes, environ: dict[str, str] | None = None, path: str = "p.yaml") -> None:
    with contextlib.suppress(ConfigError):
        load_bytes(raw, path=path, environ=environ or {})


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
@example(b'"\\UFFFFFFFF"')
@example(b"%YAML " + b"9" * 5000 + b".1\n---\na: 1")
def test_arbitrary_bytes(raw: bytes) -> None:
    _load(raw)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,? \n\t${}<.0\\u", max_size=60))
def test_text_of_yaml_signs(text: str) -> None:
    _load(text.encode())
    _load(text.encode(), path="p.json")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(ORDERS) - 1), st.integers(0, 12), st.binary(max_size=4))
def test_damaged_examples(at: int, cut: int, put: bytes) -> None:
    _load(ORDERS[:at] + put + ORDERS[at + cut :])


def _spots(data: Any, loc: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in items:
        found.append((*loc, key))
        if isinstance(value, dict | list):
            found += _spots(value, (*loc, key))
    return found


DERIVED = (bronze(CLOSED) + FULL).encode()
SPOTS = [(raw, loc) for raw in (ORDERS, DERIVED) for loc in _spots(parse(raw).data)]
WORDS = st.sampled_from(
    ["silver.s", "gold.past", "bronze.t", "date(at)", "* * * * *", "source.x > 1", "scd2"]
)
SQL = ["SELECT", "FROM", "silver.a", "(", ")", "*", ",", "'", "1", "UNION", "--", ";", "::", "\\"]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SPOTS), VALUES | WORDS)
def test_any_value_at_any_place(spot: tuple[bytes, tuple[Any, ...]], value: Any) -> None:
    raw, loc = spot
    data = parse(raw).data
    here: Any = data
    for part in loc[:-1]:
        here = here[part]
    here[loc[-1]] = value
    _load(json.dumps(data).encode(), path="p.json")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(SQL), max_size=8).map(" ".join) | st.text(max_size=15))
def test_any_text_as_sql_or_schedule(text: str) -> None:
    for read in (tables_of, names_in, parse_cron):
        with contextlib.suppress(Invalid):
            read(text)


def _allowed(field: str, value: int, low: int, high: int) -> bool:
    """Whether a field of a schedule allows a number, told item by item."""
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, dash, last = span.partition("-")
        start = low if span == "*" else int(first)
        end = high if span == "*" or (step and not dash) else int(last or first)
        if start <= value <= end and (value - start) % int(step or 1) == 0:
            return True
    return False


def _matches(text: str, ms: int) -> bool:
    at = dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
    minute, hour, day, month, weekday = text.split()
    of_day = _allowed(day, at.day, 1, 31)
    number = at.isoweekday()
    of_week = any(_allowed(weekday, n, 0, 7) for n in ((0, 7) if number == 7 else (number,)))
    both = "*" in (day[0], weekday[0])
    return (
        _allowed(minute, at.minute, 0, 59)
        and _allowed(hour, at.hour, 0, 23)
        and _allowed(month, at.month, 1, 12)
        and (of_day and of_week if both else of_day or of_week)
    )


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(
        st.sampled_from(["*", "0", "*/17", "5-40/7", "3,59", "30/20"]),
        st.sampled_from(["*", "0", "*/5", "23", "6-8"]),
        st.sampled_from(["*", "1", "28-31", "*/2"]),
        st.sampled_from(["*", "1-12", "*/1"]),
        st.sampled_from(["*", "0", "7", "1-5", "*/3"]),
    ).map(" ".join),
    st.integers(0, 3_000_000_000_000),
)
def test_the_next_moment_of_a_schedule_is_the_first_that_matches(text: str, ms: int) -> None:
    found = parse_cron(text).next_after(ms)
    assert found is not None
    first = ms // 60_000 * 60_000 + 60_000
    limit = first + 5 * 86_400_000
    assert next((t for t in range(first, limit, 60_000) if _matches(text, t)), None) == (
        found if found < limit else None
    )
    assert _matches(text, found)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["kafka", "bronze", "orders", "start", "topics", "0", "x", "", "format"]),
        max_size=4,
    ),
    st.text(max_size=12) | VALUES.map(json.dumps),
)
def test_any_variable(path: list[str], value: str) -> None:
    _load(ORDERS, {"RAYLAKE__" + "__".join(path).upper(): value, "LAKE": value or "x"})


@given(st.integers(0, 10**12))
def test_durations_read_back(ms: int) -> None:
    seconds = ms / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 2**60))
def test_sizes_read_back(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.integers(0, 10_000))
def test_ratios_read_back(hundredths: int) -> None:
    ratio = hundredths / 10_000
    assert parse_ratio(format_ratio(ratio)) == ratio


@settings(max_examples=300)
@given(st.text(max_size=30) | st.text(alphabet="s3a:/.%2e~@fileb ", max_size=30))
def test_a_normal_address_is_its_own(address: str) -> None:
    with contextlib.suppress(Invalid):
        normal = normalise_table_address(address)
        assert normalise_table_address(normal) == normal
        assert not normal.endswith("/") or normal == "/"
