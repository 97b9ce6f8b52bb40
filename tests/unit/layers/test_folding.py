"""Which event of a key is the greatest one, whatever order they come in."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from raylake.layers.folding import (
    DELETED,
    distinct,
    events_of,
    greatest,
    held_against,
    key_codes,
    of_keys,
)

NAN = float("nan")
MOMENT = dt.datetime.fromisoformat("1900-01-01T00:00:00")


def winner(kind: pa.DataType, values: list[Any]) -> Any:
    """The value of the greatest of rows of one key; the same for every order of them."""
    found = set()
    for arriving in itertools.permutations(values):
        column = pa.chunked_array([pa.array(arriving[:1], kind), pa.array(arriving[1:], kind)])
        rows = pa.table({"k": pa.array(["x"] * len(values)), "v": column})
        [row] = greatest(events_of(rows, rows.slice(0, 0)), ["k"], []).to_pylist()
        found.add(repr(row["v"]))
    [one] = found
    return one


@pytest.mark.spec("D1")
@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.int64(), [None, -5, -(2**63)], -5),
        (pa.float64(), [None, NAN, -1.5], -1.5),
        (pa.float64(), [None, NAN, NAN], NAN),
        (pa.string(), [None, "", "é", "z"], "é"),
        (pa.binary(), [None, b"\x01", b"\x00"], b"\x01"),
        (pa.bool_(), [None, False, True], True),
        (pa.decimal128(38, 2), [None, Decimal("-1.00"), Decimal("10.00")], Decimal("10.00")),
        (pa.date32(), [None, dt.date(1960, 1, 1), dt.date(1969, 1, 1)], dt.date(1969, 1, 1)),
        (pa.timestamp("us"), [None, MOMENT], MOMENT),
        (pa.list_(pa.int64()), [None, [], [1]], []),
        (pa.struct([("a", pa.int64())]), [None, {"a": None}, {"a": 1}], {"a": None}),
    ],
)
def test_the_greatest_value(kind: pa.DataType, values: list[Any], expected: Any) -> None:
    assert winner(kind, values) == repr(expected)


def test_columns_that_order_come_first_then_deletes_then_the_rest() -> None:
    schema = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("at", pa.int64())])
    rows = pa.table({"k": [1, 1, 2, 2, 3], "v": [9, 1, 5, 7, 0], "at": [1, 2, 2, 2, 0]}, schema)
    deletes = pa.table({"k": [1, 2, 3], "v": [None] * 3, "at": [1, 2, None]}, schema)
    found = greatest(events_of(rows, deletes), ["k"], ["at"]).to_pylist()
    assert {r["k"]: (r["v"], r[DELETED]) for r in found} == {
        1: (1, False),
        2: (None, True),
        3: (0, False),
    }
    found = greatest(events_of(rows, deletes), ["k"], ["at"], deletes_last=False).to_pylist()
    assert {r["k"]: r["v"] for r in found} == {1: 1, 2: 7, 3: 0}


def test_the_order_of_arrival_is_kept_and_keys_are_told_apart() -> None:
    rows = pa.table({"a": ["x", "y", "x", "x"], "b": [1, 1, 2, 1], "v": [1, 2, 3, 4]})
    assert key_codes(rows, ["a", "b"]).tolist() == [0, 1, 2, 0]
    events = events_of(rows, rows.slice(0, 0))
    assert greatest(events, ["a", "b"], ["v"]).column("v").to_pylist() == [2, 3, 4]
    assert distinct(rows, ["a"]).to_pylist() == [{"a": "x"}, {"a": "y"}]
    wanted = pa.table({"a": ["x"], "b": [2]})
    assert of_keys(rows, wanted, ["a", "b"]).tolist() == [False, False, True, False]
    assert of_keys(rows, wanted, ["a"]).tolist() == [True, False, True, True]
    assert of_keys(rows, wanted.slice(0, 0), ["a"]).tolist() == [False] * 4


def test_events_against_what_is_remembered() -> None:
    events = pa.table({"k": [1, 2, 3, 4, 5], "at": [5, 5, 5, 5, None]})
    remembered = pa.table({"k": [5, 1, 2, 3, 9], "at": [0, 4, 5, 6, 9]})
    found = held_against(events, remembered, ["k"], ["at"])
    assert found.tolist() == [False, True, True, False, True]
    assert not held_against(events, remembered.slice(0, 0), ["k"], ["at"]).any()
