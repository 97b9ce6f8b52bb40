"""The Z-order curve, and sorting along it."""

from __future__ import annotations

import datetime as dt
import decimal
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylake.tables import z_sort
from raylake.tables.z_curve import interleaved, quantiles, sortable


def ranks(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def test_the_bits_of_two_columns_alternate() -> None:
    found = interleaved([ranks(0, 0, 1, 1, 2), ranks(0, 1, 0, 1, 3)])
    assert found.tolist() == [0b00, 0b01, 0b10, 0b11, 0b1101]


@given(st.lists(st.tuples(*[st.integers(0, 65535)] * 3), min_size=1))
def test_each_place_belongs_to_one_set_of_ranks(points: list[tuple[int, int, int]]) -> None:
    columns = [ranks(*column) for column in zip(*points, strict=True)]
    places = interleaved(columns).tolist()
    assert len(set(places)) == len(set(points))


@given(st.integers(0, 65534), st.integers(0, 65535))
def test_a_larger_value_is_never_before_a_smaller_one_beside_it(x: int, y: int) -> None:
    low, high = interleaved([ranks(x, x + 1), ranks(y, y)]).tolist()
    assert low < high


NAIVE = dt.datetime(2026, 1, 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    "values",
    [
        pa.array([3, None, -1, 7, 3]),
        pa.array([0.5, None, float("nan"), -1.0]),
        pa.array(["b", None, "a", "ä", ""]),
        pa.array([b"\x01", None, b"\xff"]),
        pa.array([True, None, False]),
        pa.array([dt.date(2026, 1, 2), None, dt.date(1960, 1, 1)]),
        pa.array([NAIVE, None, NAIVE - dt.timedelta(seconds=1)]),
        pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("-2.5")]),
    ],
    ids=lambda column: str(column.type),
)
def test_ranks_keep_the_order_of_values_and_null_is_first(values: pa.Array) -> None:
    found = quantiles(values).ranks(values)
    assert found[1] == 0
    keep = values.is_valid().to_numpy(zero_copy_only=False)
    order = np.argsort(sortable(values.drop_null()), kind="stable")
    assert (np.diff(found[keep][order].astype(np.int64)) >= 0).all()
    assert (found[keep] > 0).all()


def test_a_column_of_nothing_has_one_rank() -> None:
    values = pa.nulls(3, pa.int64())
    assert quantiles(values).ranks(values).tolist() == [0, 0, 0]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["a", "b", None])), max_size=200),
    st.sampled_from([1, 1 << 20]),
)
def test_sorting_keeps_the_multiset_of_rows(
    points: list[tuple[int, str | None]], bucket_bytes: int
) -> None:
    schema = pa.schema([("x", pa.int64()), ("y", pa.string())])
    rows = pa.Table.from_pylist([{"x": x, "y": y} for x, y in points], schema=schema)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from rows.to_batches(max_chunksize=7)

    if not points:
        return
    curve = z_sort.sampled(batches, ("x", "y"), rows.num_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(z_sort, "BUCKET_BYTES", bucket_bytes)
        found = pa.Table.from_batches(z_sort.z_ordered(batches, curve, rows.num_rows), schema)
    assert Counter(map(str, found.to_pylist())) == Counter(map(str, rows.to_pylist()))
    places = curve.of(found)
    if bucket_bytes > 1:
        assert (places[1:] >= places[:-1]).all()


def test_a_box_of_the_curve_lies_in_few_stretches() -> None:
    """Of 64 stretches of 64 × 64 points, an eighth of each side lies in few; by rows it is 8."""
    side = 64
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    table = pa.table({"x": x.ravel(), "y": y.ravel(), "v": np.arange(side * side)})

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches(max_chunksize=500)

    curve = z_sort.sampled(batches, ("x", "y"), table.num_rows)
    found = pa.Table.from_batches(list(z_sort.z_ordered(batches, curve, table.num_rows)))
    inside = 0
    for start in range(0, side * side, side):
        part = found.slice(start, side)
        xs, ys = (part.column(name).to_numpy() for name in ("x", "y"))
        inside += bool(xs.min() < 8 <= 8 + xs.max() and xs.min() < 8 and ys.min() < 8)
    assert inside <= 4


def test_a_column_of_few_values_has_its_say_beside_one_of_many() -> None:
    few, many = pa.array([0, 1] * 5000), pa.array(range(10_000))
    places = interleaved([quantiles(many).ranks(many), quantiles(few).ranks(few)])
    quarter = few.take(pa.array(np.argsort(places)[:2500])).to_pylist()
    assert len(set(quarter)) == 1
