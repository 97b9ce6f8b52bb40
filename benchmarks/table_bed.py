"""The tables that table operations are measured on: orders as a silver table holds them.

Twelve columns, rows in the order of their key, which is every other whole number: so half of the
keys of any range are in the table and half are new.
"""

from __future__ import annotations

import decimal
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

FILE_ROWS = 1_000_000
KEY = "order_id"
_COUNTRIES = ["AT", "CH", "DE", "DK", "FI", "NO", "SE"]
_SEGMENTS = ["consumer", "corporate", "home office", "public"]
_START_US = 1_767_225_600_000_000
_TOPIC = "orders"


def orders(keys: np.ndarray[tuple[int], np.dtype[np.int64]], *, seed: int = 0) -> pa.Table:
    """Orders with these keys; what else they hold is drawn anew for each seed."""
    draw = np.random.default_rng([seed, int(keys[0]) if len(keys) else 0, len(keys)])
    count = len(keys)
    ordered_us = _START_US + keys * 40_000 + draw.integers(0, 1_000_000, count)
    stamps = pa.timestamp("us", tz="UTC")

    def words(values: list[str]) -> pa.Array:
        codes = pa.array(draw.integers(0, len(values), count).astype(np.int32))
        return pa.DictionaryArray.from_arrays(codes, pa.array(values)).cast(pa.string())

    customers = pc.cast(pa.array(draw.integers(0, 500_000, count)), pa.string())
    cents = pa.array(draw.integers(100, 100_000, count))
    cent = pa.scalar(decimal.Decimal("0.01"), pa.decimal128(2, 2))
    amount = pc.multiply(cents.cast(pa.decimal128(19, 0)), cent)
    return pa.table(
        {
            KEY: pa.array(keys),
            "customer_id": pc.binary_join_element_wise("c-", customers, ""),
            "country": words(_COUNTRIES),
            "segment": words(_SEGMENTS),
            "amount": amount.cast(pa.decimal128(18, 2)),
            "quantity": pa.array(draw.integers(1, 20, count).astype(np.int32)),
            "ordered_at": pa.array(ordered_us).cast(stamps),
            "updated_at": pa.array(ordered_us + draw.integers(0, 86_400_000_000, count)).cast(
                stamps
            ),
            "_topic": pa.repeat(_TOPIC, count),
            "_partition": pa.array((keys % 4).astype(np.int32)),
            "_offset": pa.array(keys // 4),
            "_timestamp": pa.array(ordered_us + 5_000).cast(stamps),
        }
    )


def build(path: Path, rows: int) -> None:
    """Write a table as plain delta-rs does, a file a million rows."""
    for start in range(0, rows, FILE_ROWS):
        keys = 2 * np.arange(start, min(start + FILE_ROWS, rows), dtype=np.int64)
        write_deltalake(path, orders(keys), mode="append")


def source(kind: str, count: int, rows: int) -> pa.Table:
    """Rows to merge, half of them new.

    Args:
        kind: ``clustered``: keys that follow each other, from the middle of a file on.
            ``scattered``: keys from the whole table.
        count: How many.
        rows: Rows of the table.
    """
    if kind == "clustered":
        first = 2 * (rows // 2 + FILE_ROWS // 4)
        keys = np.arange(first, first + count, dtype=np.int64)
    else:
        draw = np.random.default_rng(7)
        keys = np.sort(draw.choice(2 * rows, count, replace=False).astype(np.int64))
    return orders(keys, seed=1).take(pa.array(np.random.default_rng(8).permutation(count)))


def plain(count: int) -> pa.Table:
    """Rows to append or to overwrite with."""
    return orders(2 * np.arange(count, dtype=np.int64), seed=2)


def copy(table: Path, target: Path) -> Path:
    """The same table under another name; its data files are shared, as nobody changes one."""
    subprocess.run(["cp", "-al", str(table), str(target)], check=True)
    return target
