"""The Z-order curve, and sorting along it."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import itertools
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


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
@given(
    st.lists(st.binary(max_size=12) | st.none(), min_size=1),
    st.sampled_from([b"", b"customer-", b"x" * 70]),
    st.integers(0, 3),
)
def test_texts_that_begin_alike_keep_their_order(
    kind: pa.DataType, ends: list[bytes | None], begin: bytes, skip: int
) -> None:
    ends = [None if end is None else end.hex().encode() for end in ends]
    values = [None if end is None else begin + end for end in ends] + [b"", b"\x7f", b"customer"]
    column = pa.array(values, pa.binary()).cast(kind)
    found = quantiles(column.take(pa.array(range(0, len(ends), 2)))).ranks(column.slice(skip))
    pairs = sorted(zip(values[skip:], found.tolist(), strict=True), key=lambda one: one[0] or b"")
    ranked = [rank for value, rank in pairs if value is not None]
    assert ranked == sorted(ranked)
    assert all((rank == 0) == (value is None) for value, rank in pairs)


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


def sorted_along(
    batches: z_sort.Batches, curve: z_sort.Curve, rows: pa.Table, files: int = 1
) -> pa.Table:
    with z_sort.z_ordered([batches], curve, rows.num_rows, files) as streams:
        return pa.Table.from_batches([one for each in streams for one in each], rows.schema)


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
        found = sorted_along(batches, curve, rows)
    assert Counter(map(str, found.to_pylist())) == Counter(map(str, rows.to_pylist()))
    places = curve.of(found)
    if bucket_bytes > 1:
        assert (places[1:] >= places[:-1]).all()


def test_threads_and_buckets_change_nothing_about_the_order() -> None:
    draw = np.random.default_rng(3)
    size = 20_000
    table = pa.table({"x": draw.integers(0, 90, size), "y": draw.random(size), "n": range(size)})
    batches = table.to_batches(max_chunksize=500)
    curve = z_sort.sampled(lambda: iter(batches), ("x", "y"), size)
    expected = table.take(pa.array(np.argsort(curve.of(table), kind="stable")))
    for sources, files, bucket_bytes in [(1, 1, 1 << 20), (1, 1, 9000), (3, 8, 9000), (2, 5, 1)]:
        at = np.linspace(0, len(batches), sources + 1).astype(int)
        parts = [batches[start:end] for start, end in itertools.pairwise(at)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(z_sort, "BUCKET_BYTES", bucket_bytes)
            patch.setattr(z_sort, "SPILL_BYTES", 100_000)
            works = [functools.partial(iter, one) for one in parts]
            with z_sort.z_ordered(works, curve, size, files) as streams:
                assert len(streams) == files
                found = pa.Table.from_batches([one for each in streams for one in each])
        if bucket_bytes > 1:
            assert found.equals(expected)
        assert sorted(found.column("n").to_pylist()) == list(range(size))


def test_each_file_is_a_box_of_the_curve() -> None:
    """Of 16 files of independent columns a value of either column lies in four."""
    draw = np.random.default_rng(4)
    table = pa.table({"x": draw.random(50_000), "y": draw.integers(0, 10**9, 50_000)})
    curve = z_sort.sampled(lambda: iter(table.to_batches()), ("x", "y"), table.num_rows)
    works = [lambda: iter(table.to_batches())]
    with z_sort.z_ordered(works, curve, table.num_rows, 16) as streams:
        files = [pa.Table.from_batches(list(one)) for one in streams]
    for column in table.column_names:
        ends = [pa.compute.min_max(one.column(column)).as_py() for one in files]
        for value in table.column(column).to_pylist()[:200]:
            assert sum(one["min"] <= value <= one["max"] for one in ends) <= 5


def test_a_box_of_the_curve_lies_in_few_stretches() -> None:
    """Of 64 stretches of 64 × 64 points, an eighth of each side lies in few; by rows it is 8."""
    side = 64
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    table = pa.table({"x": x.ravel(), "y": y.ravel(), "v": np.arange(side * side)})

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches(max_chunksize=500)

    curve = z_sort.sampled(batches, ("x", "y"), table.num_rows)
    found = sorted_along(batches, curve, table)
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
