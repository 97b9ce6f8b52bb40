"""What is found where no rule is written: each category finds its fault, and nothing in peace."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raylake.quality import history
from raylake.quality.categories import CATEGORIES, check
from raylake.quality.past import KEPT_RESULTS, Past, usual
from raylake.quality.profile import MAX_COLUMNS, profile
from raylake.quality.results import RuleResult
from raylake.quality.side_table import Target
from tests.harness.quality import NOW, read

COUNT = 1000
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("amount", pa.decimal128(18, 2)),
        ("rate", pa.float64()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("updated_at", pa.timestamp("us", "UTC")),
        ("day", pa.date32()),
        ("tags", pa.list_(pa.string())),
        ("_offset", pa.int64()),
    ]
)


def batch(step: int, now: dt.datetime, **changes: Callable[[int], Any]) -> pa.Table:
    """Orders as they are always: fresh, distinct, plausible."""
    spread = np.random.default_rng(step)
    columns: dict[str, Any] = {
        "id": [step * COUNT + n for n in range(COUNT)],
        "name": [None if n % 100 == 0 else f"name {n % 50:03}" for n in range(COUNT)],
        "amount": [f"{100 + n % 100}.50" for n in spread.permutation(COUNT)],
        "rate": [0.1 * (n % 10) for n in range(COUNT)],
        "created_at": [now - dt.timedelta(seconds=60 + n) for n in range(COUNT)],
        "updated_at": [now - dt.timedelta(seconds=30 + n) for n in range(COUNT)],
        "day": [now.date()] * COUNT,
        "tags": [["a"]] * COUNT,
        "_offset": list(range(COUNT)),
    }
    columns |= {name: [make(n) for n in range(COUNT)] for name, make in changes.items()}
    arrays = {}
    for field in SCHEMA:
        values = columns[field.name]
        text = pa.types.is_decimal(field.type)
        arrays[field.name] = (
            pa.array(values, pa.string()).cast(field.type) if text else pa.array(values, field.type)
        )
    return pa.table(arrays, schema=SCHEMA)


def at(step: int) -> dt.datetime:
    return NOW + dt.timedelta(minutes=step)


@pytest.fixture(scope="module")
def past() -> Past:
    found = Past()
    for step in range(5):
        results = check(batch(step, at(step)), found, at(step))
        assert [one.category for one in results] == list(CATEGORIES)
        assert [one.message for one in results if not one.passed] == []
        found = found.then(results)
    return found


def found(results: tuple[RuleResult, ...]) -> dict[str, RuleResult]:
    return {one.category: one for one in results if not one.passed}


@pytest.mark.spec("E2")
@pytest.mark.parametrize(
    ("changes", "category", "said"),
    [
        ({"name": lambda n: None}, "completeness", "name has no value in 100 % of the rows"),
        ({"rate": lambda n: 10.0 * n}, "accuracy", "the mean of rate is 4995; usually 0.45"),
        ({"name": lambda n: "x" * 90}, "consistency", "the mean length of name is 90; usually 8"),
        ({"id": lambda n: n % 10}, "uniqueness", "id has 1 % distinct values a row"),
        ({"name": lambda n: " " * (n % 3)}, "validity", "name is blank, not a number, or a time"),
        ({"rate": lambda n: float("nan")}, "validity", "rate is blank, not a number"),
        (
            {"day": lambda n: dt.date(1, 1, 1) if n % 2 else at(5).date()},
            "validity",
            "day is blank, not a number, or a time that is hardly meant in 50 %",
        ),
        (
            {"updated_at": lambda n: at(5) - dt.timedelta(seconds=n * 2 + 70)},
            "business_rules",
            "created_at <= updated_at does not hold for 100 % of the rows; it always did",
        ),
        ({"amount": lambda n: "-1.00"}, "business_rules", "amount >= 0 does not hold for 100 %"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_a_fault_is_found_by_its_category(
    past: Past, changes: Any, category: str, said: str
) -> None:
    results = found(check(batch(5, at(5), **changes), past, at(5)))
    one = results[category]
    assert said in one.message
    assert one.recommendation
    assert one.severity == "warning"
    assert one.figure is not None
    assert one.threshold is not None
    assert one.figure != one.threshold
    assert not one.by_rule
    assert 1 <= one.failed <= one.rows


def test_rows_that_repeat_are_found_without_their_coordinates(past: Past) -> None:
    one = batch(5, at(5))
    twice = pa.concat_tables([one.slice(0, 500), one.slice(0, 500)])
    offsets = pa.array(range(COUNT), pa.int64())
    twice = twice.set_column(8, "_offset", offsets)
    result = found(check(twice, past, at(5)))["uniqueness"]
    assert "another row is the same in 50 % of the rows; usually 0 %" in result.message


def test_a_table_that_grows_old_is_found_though_nothing_arrives(past: Past) -> None:
    nothing = SCHEMA.empty_table()
    assert found(check(nothing, past, at(5))) == {}
    results = check(nothing, past, at(5) + dt.timedelta(hours=2))
    result = found(results)["freshness"]
    assert "the newest created_at is 2026-01-31T12:03:00Z" in result.message
    assert "still sends" in result.recommendation
    assert past.then(results).of("freshness") == past.of("freshness")
    quiet = {one.category: one.message for one in results if one.passed}
    assert quiet["completeness"] == "no rows came"


def test_a_column_that_goes_or_changes_is_found(past: Past) -> None:
    rows = batch(5, at(5))
    gone = found(check(rows.drop_columns("rate"), past, at(5)))["consistency"]
    assert gone.message == "column rate is gone"
    other = rows.set_column(0, "id", rows.column("id").cast(pa.string()))
    changed = found(check(other, past, at(5)))["consistency"]
    assert "column id is string, it was long" in changed.message


def test_without_history_only_the_schema_speaks() -> None:
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    rows = pa.table({"x": [None] * 30}).cast(pa.schema([("x", pa.int64())]))
    bad = pa.Table.from_arrays(rows.columns, schema=schema)
    result = found(check(bad, Past(), NOW))["completeness"]
    assert result.message == "x must have a value, and has none in 100 % of the rows"
    assert "not_null" in result.recommendation
    fine = check(pa.table({"x": [1, 2]}), Past(), NOW)
    assert found(fine) == {}
    messages = {one.category: one.message for one in fine}
    assert messages["completeness"].startswith("measured; judged from the 4th result on")
    assert messages["freshness"] == "no column to measure this by"


def test_a_few_rows_prove_nothing_of_means(past: Past) -> None:
    few = batch(5, at(5), rate=lambda n: 9e9, id=lambda n: 1).slice(1, 10)
    assert not {"accuracy", "consistency"} & set(found(check(few, past, at(5))))


def test_the_past_is_bounded() -> None:
    one = RuleResult("validity", "validity", "warning", "continue", 1, 0, measures={"x": 0.5},
                     by_rule=False)  # fmt: skip
    kept = Past()
    for _ in range(KEPT_RESULTS + 3):
        kept = kept.then([one, RuleResult("r", "validity", "error", "continue", 1, 0)])
    assert len(kept.of("validity")) == KEPT_RESULTS
    assert kept.usual("validity", "x") == (0.5, 0.0, KEPT_RESULTS)
    assert not usual([]).known


def test_a_profile_of_every_kind_of_column() -> None:
    rows = pa.table(
        {
            "text": ["a", "  ", None, ""],
            "n": pa.array([1, -1, None, 3], pa.int32()),
            "f": [1.0, float("nan"), float("inf"), None],
            "d": [dt.date(1899, 12, 31), dt.date(2200, 12, 31), None, dt.date(2201, 1, 1)],
            "t": pa.array([NOW.replace(tzinfo=None)] * 4),
            "b": [b"x", b"x", None, b"y"],
            "flag": [True, False, None, True],
            "nested": [[1], None, [], [2]],
            "nothing": pa.nulls(4),
        }
    )  # fmt: skip
    found = profile(rows)
    assert found.rows == 4
    text, number, real, date = (found.columns[name] for name in ("text", "n", "f", "d"))
    assert (text.nulls, text.odd, text.distinct) == (0.25, 2 / 3, 3)
    assert (number.low, number.high, number.mean, number.negative) == (-1, 3, 1, 1 / 3)
    assert (real.low, real.high, real.mean, real.odd) == (1, 1, 1, 2 / 3)
    assert date.odd == 2 / 3
    assert found.columns["t"].newest_us == int(NOW.timestamp() * 1e6)
    assert found.columns["nested"].distinct is None
    assert found.columns["nothing"].nulls == 1.0
    assert found.columns["flag"].kind == "boolean"
    assert profile(rows.select(["nested"])).repeated == 0.0
    wide = pa.table({f"c{n}": [n] for n in range(MAX_COLUMNS + 5)})
    assert len(profile(wide).columns) == MAX_COLUMNS


def test_the_past_is_read_from_the_history() -> None:
    rows = pa.table(
        {
            "target_table_id": ["t", "t", "u", "t"],
            "by_rule": [False, False, False, True],
            "category": ["validity"] * 4,
            "measures": ['{"x": 2}', '{"x": 1}', '{"x": 3}', "{}"],
            "at": pa.array([at(2), at(1), at(3), at(4)]),
        }
    )

    assert history.past(partial(read, rows), Target("silver.t", "", "t")).of("validity") == [
        {"x": 1},
        {"x": 2},
    ]
    empty = rows.slice(0, 0)
    marks = rows.set_column(3, "measures", pa.array(["{}", '{"x": 1}', "{}", "{}"]))
    assert history.past(partial(read, marks), Target("", "", "t")).of("validity") == [{"x": 1}]
    assert history.past(partial(read, empty), Target("", "", "t")).of("x") == ()
