"""Columns into other types: what converts is exact, what does not is told apart."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from raylake.codecs.types import parse_type
from raylake.layers.conversion import convert, convertible

UTC = dt.UTC
CASES: list[tuple[str, list[Any], str, list[Any], list[int], list[int]]] = [
    # source, values, target, converted, failed, lossy
    ("string", ["12.30", "-0.5", "7", None], "decimal(18,2)",
     [Decimal("12.30"), Decimal("-0.50"), Decimal("7.00"), None], [], []),
    ("string", ["12.345", "12.3400", "1e2", "", " 1", "+1", "01", "1.", "abc", "NaN"],
     "decimal(18,2)", [None, Decimal("12.34"), Decimal("100.00"), *[None] * 7],
     [0, 3, 4, 5, 6, 7, 8, 9], [0]),
    ("string", ["99999999999999999.99", "9" * 17], "decimal(18,2)", [None, None], [0, 1], [0, 1]),
    ("string", ["1", "1.0", "1e3", "1.5", "9223372036854775807", "9223372036854775808", "x"],
     "long", [1, 1, 1000, None, 2**63 - 1, None, None], [3, 5, 6], [3]),
    ("string", ["127", "128", "-128"], "byte", [127, None, -128], [1], [1]),
    ("string", ["0.1", "0.10", "1e400", "0.1000000000000000055", "123456789.123"], "double",
     [0.1, 0.1, None, None, 123456789.123], [2, 3], [3]),
    ("string", ["true", "false", "True", "1"], "boolean", [True, False, None, None], [2, 3], []),
    ("string", ["2026-01-31", "2026-02-30", "31.01.2026"], "date",
     [dt.date(2026, 1, 31), None, None], [1, 2], []),
    ("string", ["2026-01-31T12:00:00Z", "2026-01-31 12:00:00.5Z", "2026-01-31T12:00:00",
                "2026-01-31T14:00+02:00", "2026-13-01T00:00:00Z", "2026-01-31T12:00:00.0000001Z"],
     "timestamp",
     [dt.datetime(2026, 1, 31, 12, tzinfo=UTC),
      dt.datetime(2026, 1, 31, 12, 0, 0, 500000, tzinfo=UTC),
      *[dt.datetime(2026, 1, 31, 12, tzinfo=UTC)] * 2, None, None], [4, 5], [5]),
    ("long", [1769860800000, 1769860800, None], "timestamp",
     [dt.datetime(2026, 1, 31, 12, tzinfo=UTC), None, None], [1], []),
    ("double", [1.0, 1.5, float("nan"), float("inf"), 1e30], "long",
     [1, None, None, None, None], [1, 2, 3, 4], [1]),
    ("double", [12.3, 0.1 + 0.2, None], "decimal(18,2)", [Decimal("12.30"), None, None], [1], [1]),
    ("long", [5, 10**17], "decimal(18,2)", [Decimal("5.00"), None], [1], [1]),
    ("long", [5, 2**31], "int", [5, None], [1], [1]),
    ("long", [2**53, 2**53 + 1], "double", [2.0**53, None], [1], [1]),
    ("decimal(18,2)", [Decimal("1.50"), Decimal("2.00")], "long", [None, 2], [0], [0]),
    ("decimal(18,2)", [Decimal("1.50"), Decimal("1.25")], "decimal(9,1)",
     [Decimal("1.5"), None], [1], [1]),
    ("timestamp", [dt.datetime(2026, 1, 31, tzinfo=UTC), dt.datetime(2026, 1, 31, 1, tzinfo=UTC)],
     "date", [dt.date(2026, 1, 31), None], [1], []),
    ("date", [dt.date(2026, 1, 31)], "timestamp", [dt.datetime(2026, 1, 31, tzinfo=UTC)], [], []),
    ("boolean", [True, None], "string", ["true", None], [], []),
    ("boolean", [True], "long", [None], [0], []),
    ("long", [7], "string", ["7"], [], []),
]  # fmt: skip


@pytest.mark.spec("D1")
@pytest.mark.parametrize(
    ("source", "values", "target", "converted", "failed", "lossy"),
    CASES,
    ids=[f"{c[0]} {c[2]} {i}" for i, c in enumerate(CASES)],
)
def test_values_convert_exactly_or_fail(
    source: str,
    values: list[Any],
    target: str,
    converted: list[Any],
    failed: list[int],
    lossy: list[int],
) -> None:
    found = convert(pa.array(values, parse_type(source)), parse_type(target))
    assert found.values.to_pylist() == converted
    assert found.failed.nonzero()[0].tolist() == failed
    assert found.lossy.nonzero()[0].tolist() == lossy
    assert found.values.type == parse_type(target)


def test_one_bad_value_among_many_that_look_good() -> None:
    texts = [f"2026-01-{day % 28 + 1:02}" for day in range(5000)]
    texts[3333] = "2026-02-30"
    found = convert(pa.chunked_array([texts[:100], texts[100:]]), pa.date32())
    assert found.failed.nonzero()[0].tolist() == [3333]
    assert found.values.null_count == 1
    assert found.values[0].as_py() == dt.date(2026, 1, 1)


def test_nested_columns_are_not_converted() -> None:
    assert not convertible(pa.list_(pa.string()), pa.string())
    assert not convertible(pa.string(), pa.struct([("a", pa.int32())]))
    assert convertible(pa.list_(pa.string()), pa.list_(pa.string()))
