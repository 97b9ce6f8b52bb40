"""Rows of every kind that a table's column may have."""

from __future__ import annotations

import datetime as dt
import decimal

import pyarrow as pa

UTC = pa.timestamp("us", tz="UTC")


def every_kind(count: int = 3000) -> pa.Table:
    """Rows of every kind, with nulls and the greatest differences that there are."""
    long, integer = 2**63 - 1, 2**31 - 1
    numbers = range(count)
    at = dt.datetime(1969, 12, 31, tzinfo=dt.UTC)
    columns = {
        "number": pa.array(numbers, pa.int64()),
        "long": pa.array([(long, -long - 1, None, n)[n % 4] for n in numbers], pa.int64()),
        "integer": pa.array([(integer, -integer - 1, n)[n % 3] for n in numbers], pa.int32()),
        "small": pa.array([n % 30_000 - 15_000 for n in numbers], pa.int16()),
        "at": pa.array([at + dt.timedelta(microseconds=n**3) for n in numbers], UTC),
        "day": pa.array([n * 7 - 9000 if n % 5 else None for n in numbers], pa.date32()),
        "text": pa.array([f"é{n}" * (n % 4) if n % 7 else None for n in numbers]),
        "word": pa.array([("a", "", None)[n % 3] for n in numbers]),
        "raw": pa.array([str(n).encode() for n in numbers]),
        "double": pa.array([n / 7 for n in numbers]),
        "money": pa.array([decimal.Decimal(n) / 100 for n in numbers], pa.decimal128(12, 2)),
        "inner": pa.array([{"x": n * n} if n % 3 else None for n in numbers]),
        "many": pa.array([[n] * (n % 3) for n in numbers], pa.list_(pa.int64())),
        "yes": pa.array([(True, False, None)[n % 3] for n in numbers]),
    }
    return pa.table(columns)
