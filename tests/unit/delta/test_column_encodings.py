"""How columns of data files are encoded, and that rows and statistics do not show it."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import convert_to_deltalake
from deltalake.table import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake.delta.files import WriteOptions, write_data_files
from raylake.delta.stats import file_stats, leaves
from tests.unit.delta.kinds import UTC, every_kind

DELTA, PLAIN, DICTIONARY = "DELTA_BINARY_PACKED", "PLAIN", "RLE_DICTIONARY"
NESTED = pa.schema(
    [
        ("a.b", pa.int64()),
        ("a", pa.struct([("b", pa.string()), ("c.d", pa.int64()), (".e", pa.float64())])),
        ("m", pa.map_(pa.string(), pa.struct([("q", pa.int8()), ("r", pa.list_(pa.string()))]))),
        ("l", pa.list_(pa.struct([("x", pa.int64()), ("y z", pa.date32())]))),
        ('é "', pa.decimal128(20, 2)),
    ]
)


def columns(path: Path) -> dict[str, Any]:
    """The first row group's columns, by their places."""
    group = pq.read_metadata(path).row_group(0)
    found = (group.column(number) for number in range(group.num_columns))
    return {column.path_in_schema: column for column in found}


def written(
    folder: Path, rows: pa.Table, stats_columns: tuple[str, ...] | None = None
) -> tuple[Path, str]:
    """The one file of these rows, and its statistics."""
    options = WriteOptions("none", stats_columns=stats_columns)
    (file,) = write_data_files(folder, rows, rows.schema, options=options)
    return folder / file.path, file.stats


def test_the_places_of_leaves_are_those_of_the_file(tmp_path: Path) -> None:
    path, _ = written(tmp_path, pa.Table.from_pylist([{}], NESTED))
    schema = pq.read_metadata(path).schema
    places = [schema.column(number).path for number in range(len(schema))]
    assert places == [leaf.place for leaf in leaves(NESTED)]


@pytest.mark.parametrize(
    ("kind", "values", "encoding"),
    [
        (pa.int64(), range(5000), DELTA),
        (pa.int64(), [value % 3 for value in range(5000)], DICTIONARY),
        (pa.int32(), [None] * 5000, DICTIONARY),
        (UTC, range(0, 5000_000, 1000), DELTA),
        (pa.date32(), range(5000), DELTA),
        (pa.float64(), range(5000), PLAIN),
        (pa.string(), [str(value) for value in range(5000)], PLAIN),
        (pa.string(), [str(value % 900) for value in range(5000)], DICTIONARY),
        (pa.binary(), [str(value).encode() for value in range(5000)], PLAIN),
        (pa.bool_(), [True, False] * 2500, PLAIN),
    ],
)
def test_the_encoding_follows_kind_and_repetition(
    tmp_path: Path, kind: pa.DataType, values: Any, encoding: str
) -> None:
    path, _ = written(tmp_path, pa.table({"c": pa.array(values, kind)}))
    found = columns(path)["c"]
    assert encoding in found.encodings
    assert (DICTIONARY in found.encodings) == (encoding == DICTIONARY)


def test_texts_have_statistics_in_the_file_only_where_the_log_wants_them(tmp_path: Path) -> None:
    texts = {"t": ["x", "y"], "wanted": ["x", "y"], "n": [1, 2], "b": [b"x", b"y"]}
    path, _ = written(tmp_path, pa.table(texts), ("wanted",))
    kept = {name for name, column in columns(path).items() if column.is_stats_set}
    assert kept == {"wanted", "n"}


def test_a_name_with_a_dot_is_not_taken_for_a_field_of_a_struct(tmp_path: Path) -> None:
    row = {"a.b": 1, "a": {"b": "text", "c.d": 2, ".e": 1.5}}
    path, stats = written(tmp_path, pa.Table.from_pylist([row], NESTED))
    assert pq.read_table(path).to_pylist()[0]["a"] == row["a"]
    assert json.loads(stats)["minValues"] == row


def test_nan_is_found_in_a_field_whose_name_begins_with_a_dot(tmp_path: Path) -> None:
    kind = pa.struct([("e", pa.float64()), (".e", pa.float64())])
    row = {"s": {"e": 1.0, ".e": float("nan")}}
    _, stats = written(tmp_path, pa.Table.from_pylist([row], pa.schema([("s", kind)])))
    assert json.loads(stats)["minValues"] == {"s": {"e": 1.0}}


LONGS = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(width=64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MICROS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), LONGS),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    (pa.float64(), DOUBLES),
    (pa.bool_(), st.booleans()),
    (pa.string(), TEXTS),
    (pa.binary(), st.binary(max_size=40)),
    (UTC, MICROS),
    (pa.timestamp("us"), MICROS),
    (pa.date32(), st.dates()),
    (pa.decimal128(10, 2), st.decimals(-999, 999, places=2)),
    (pa.decimal128(30, 2), st.decimals(-(10**20), 10**20, places=2)),
    (
        pa.struct([("x", pa.int64()), ("f", pa.float64())]),
        st.fixed_dictionaries({"x": st.none() | LONGS, "f": st.none() | DOUBLES}),
    ),
    (pa.list_(pa.int64()), st.lists(LONGS, max_size=3)),
    (pa.map_(pa.string(), pa.int64()), st.lists(st.tuples(TEXTS, LONGS), max_size=2)),
]


@st.composite
def generated(draw: st.DrawFn) -> pa.Table:
    """A table of a few columns, with repeated values and nulls, in several chunks."""
    times = draw(st.sampled_from([1, 3, 700]))
    length = draw(st.integers(1, 12))
    arrays = {}
    for number in range(draw(st.integers(1, 5))):
        kind, values = draw(st.sampled_from(KINDS))
        found = st.lists(st.none() | values, min_size=length, max_size=length)
        arrays[f"c{number}"] = pa.array(draw(found), kind)
    return pa.concat_tables([pa.table(arrays)] * times)


@settings(deadline=None, max_examples=60)
@given(generated(), st.none() | st.sets(st.sampled_from(["c0", "c1", "c2"])))
def test_rows_and_statistics_are_those_of_a_file_without_any_setting(
    rows: pa.Table, named: set[str] | None
) -> None:
    plain = io.BytesIO()
    pq.write_table(rows, plain, coerce_timestamps="us")
    stats_columns = None if named is None else tuple(sorted(named))
    with tempfile.TemporaryDirectory() as folder:
        path, stats = written(Path(folder), rows, stats_columns)
        # As text, where NaN is NaN.
        assert repr(pq.read_table(path).to_pydict()) == repr(pq.read_table(plain).to_pydict())
        assert pq.read_metadata(path).num_rows == rows.num_rows
    assert stats == file_stats(pq.read_metadata(plain), rows, stats_columns)


def test_other_engines_read_every_encoding(tmp_path: Path) -> None:
    rows = every_kind()
    path, _ = written(tmp_path, rows)
    used = {encoding for column in columns(path).values() for encoding in column.encodings}
    assert {DELTA, PLAIN, DICTIONARY} <= used
    wanted = rows.to_pylist()
    assert pl.read_parquet(path).to_dicts() == wanted
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        found = engine.read_parquet(str(path)).order("number").to_arrow_table()
    assert found.to_pylist() == wanted
    convert_to_deltalake(tmp_path)
    found = pa.table(DeltaTable(tmp_path).to_pyarrow_table()).sort_by("number")
    assert found.select(rows.column_names).to_pylist() == wanted
