"""Rows of a flush, split into one file per partition value."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake.delta.files import WriteOptions, write_data_files
from raylake.delta.partition_values import partition_text

NONE = WriteOptions("none")
DAYS = st.dates(dt.date(1969, 12, 30), dt.date(1970, 1, 2))
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), st.sampled_from(["", "a", "b", "é"])),
    (pa.int64(), st.integers(-2, 2)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), DAYS),
    (
        pa.timestamp("us", tz="UTC"),
        DAYS.map(lambda day: dt.datetime.combine(day, dt.time(1, tzinfo=dt.UTC))),
    ),
]


@st.composite
def partitioned(draw: st.DrawFn) -> tuple[pa.Table, list[str]]:
    """A table in several chunks and its partition columns; ``n`` numbers the rows."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(any))
    pieces, first = [], 0
    for size in sizes:
        columns = {"n": pa.array(range(first, first + size), pa.int64())}
        for number, (kind, values) in enumerate(kinds):
            found = st.lists(st.none() | values, min_size=size, max_size=size)
            columns[f"p{number}"] = pa.array(draw(found), kind)
        pieces.append(pa.table(columns))
        first += size
    return pa.concat_tables(pieces), [f"p{number}" for number in range(len(kinds))]


@settings(deadline=None)
@given(partitioned())
def test_every_row_is_in_the_file_of_its_values_in_the_order_it_came(
    given: tuple[pa.Table, list[str]],
) -> None:
    rows, names = given
    expected: dict[tuple[str | None, ...], list[int]] = defaultdict(list)
    for row in rows.to_pylist():
        expected[tuple(partition_text(row[name]) for name in names)].append(row["n"])
    with tempfile.TemporaryDirectory() as folder:
        files = write_data_files(folder, rows, rows.schema, names, NONE)
        found = {}
        for path in Path(folder).rglob("*.parquet"):
            table = pq.ParquetFile(path).read()
            assert table.column_names == ["n"]
            found[path.name] = table["n"].to_pylist()
    values = {tuple(file.partition_values.values()): Path(file.path).name for file in files}
    assert {key: found[name] for key, name in values.items()} == expected
    assert len(files) == len(found)


def test_more_combinations_than_fit_into_sixteen_bits(tmp_path: Path) -> None:
    count = 40
    numbers = range(count)
    columns = {f"p{place}": pa.array([n * (place + 1) for n in numbers]) for place in range(4)}
    rows = pa.table({"n": pa.array(numbers), **columns})
    files = write_data_files(tmp_path, rows, rows.schema, list(columns), NONE)
    assert sorted(int(file.partition_values["p0"] or "") for file in files) == list(numbers)
