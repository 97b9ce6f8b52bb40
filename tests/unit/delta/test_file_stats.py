"""Statistics and partition values of written files (DESIGN §5, item 4)."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylake.delta.files import WriteOptions, write_data_files
from raylake.delta.partition_values import folder, log_path, partition_text
from raylake.delta.stats import leaves, rounded_up
from raylake.errors import DependencyUnreachable, SchemaConflict

UTC = dt.UTC
FAST = WriteOptions(durability="none")


def stats(tmp_path: Path, values: list[Any], kind: pa.DataType) -> dict[str, Any]:
    schema = pa.schema([("c", kind)])
    (file,) = write_data_files(
        tmp_path, pa.table({"c": pa.array(values, kind)}), schema, options=FAST
    )
    found: dict[str, Any] = json.loads(file.stats)
    assert found["numRecords"] == len(values) == file.rows
    return found


@pytest.mark.parametrize(
    ("values", "kind", "low", "high", "nulls"),
    [
        ([3, None, 1], pa.int64(), 1, 3, 1),
        ([1.5, -2.0], pa.float64(), -2.0, 1.5, 0),
        (["b", None, "a"], pa.string(), "a", "b", 1),
        ([dt.date(1969, 12, 31), dt.date(2024, 2, 29)], pa.date32(), "1969-12-31", "2024-02-29", 0),
        (
            [dt.datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],
            pa.timestamp("us", tz="UTC"),
            "2024-01-01T00:00:00.000Z",
            "2024-01-01T00:00:00.001Z",
            0,
        ),
        (
            [dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC).replace(tzinfo=None)],
            pa.timestamp("us"),
            "1969-12-31T23:59:59.999",
            "1970-01-01T00:00:00.000",
            0,
        ),
        ([decimal.Decimal("1.10")], pa.decimal128(10, 2), 1.1, 1.1, 0),
        ([decimal.Decimal(7)], pa.decimal128(10, 0), 7, 7, 0),
    ],
)
def test_bounds_and_null_counts(
    tmp_path: Path, values: list[Any], kind: pa.DataType, low: Any, high: Any, nulls: int
) -> None:
    found = stats(tmp_path, values, kind)
    assert found["minValues"] == {"c": low}
    assert found["maxValues"] == {"c": high}
    assert found["nullCount"] == {"c": nulls}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, math.nan], pa.float64()),
        ([1.0, math.nan], pa.float32()),
        ([math.inf, -math.inf], pa.float64()),
        ([True, False], pa.bool_()),
        ([b"a"], pa.binary()),
        ([decimal.Decimal("12345678901234567.89")], pa.decimal128(20, 2)),
        ([None, None], pa.int64()),
    ],
)
def test_no_bounds_where_they_could_mislead(
    tmp_path: Path, values: list[Any], kind: pa.DataType
) -> None:
    found = stats(tmp_path, values, kind)
    assert found["minValues"] == found["maxValues"] == {}
    assert found["nullCount"] == {"c": sum(v is None for v in values)}


@pytest.mark.parametrize(
    ("values", "kind"),
    [([[1], None], pa.list_(pa.int64())), ([[("k", 1)]], pa.map_("string", "int64"))],
)
def test_lists_and_maps_have_no_statistics(
    tmp_path: Path, values: list[Any], kind: pa.DataType
) -> None:
    found = stats(tmp_path, values, kind)
    assert found == {
        "numRecords": len(values),
        "minValues": {},
        "maxValues": {},
        "nullCount": {},
    }


def test_struct_leaves_have_their_own_statistics(tmp_path: Path) -> None:
    kind = pa.struct([("x", pa.int64()), ("in", pa.struct([("f", pa.float64())]))])
    values = [{"x": 5, "in": {"f": 1.0}}, None, {"x": None, "in": {"f": math.nan}}]
    found = stats(tmp_path, values, kind)
    assert found["minValues"] == {"c": {"x": 5}}
    assert found["nullCount"] == {"c": {"x": 2, "in": {"f": 1}}}


def test_columns_after_a_nested_one_keep_their_own_statistics(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            ("m", pa.map_(pa.string(), pa.int64())),
            ("l", pa.list_(pa.struct([("a", pa.int64()), ("b", pa.string())]))),
            ("n", pa.int64()),
        ]
    )
    rows = pa.table({"m": [[("k", 99)]], "l": [[{"a": 98, "b": "z"}]], "n": [7]}, schema=schema)
    (file,) = write_data_files(tmp_path, rows, schema, options=FAST)
    assert json.loads(file.stats)["maxValues"] == {"n": 7}
    assert [leaf.path for leaf in leaves(schema) if not leaf.repeated] == [("n",)]


def test_only_the_named_columns_have_statistics(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64())])
    options = WriteOptions(durability="none", stats_columns=("b",))
    (file,) = write_data_files(tmp_path, pa.table({"a": [1], "b": [2]}), schema, options=options)
    assert json.loads(file.stats)["nullCount"] == {"b": 0}


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=40))
def test_a_cut_maximum_is_never_below_the_string(text: str) -> None:
    bound = rounded_up(text)
    if bound is None:
        assert text[:32] == chr(0x10FFFF) * 32
    else:
        assert len(bound) <= 32
        assert bound.encode() >= text.encode()
        assert bound == text or len(text) > 32


def test_a_maximum_that_cannot_be_rounded_up_is_left_out(tmp_path: Path) -> None:
    assert rounded_up("\ud7ff".ljust(33, chr(0x10FFFF))) == "\ue000"
    found = stats(tmp_path, [chr(0x10FFFF) * 33], pa.string())
    assert (list(found["minValues"]), found["maxValues"]) == (["c"], {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        ("a b", "a b"),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.datetime(2024, 1, 2, 3, tzinfo=UTC), "2024-01-02 03:00:00.000000"),
        (
            dt.datetime(2024, 1, 2, 3, 4, 5, 6, UTC).replace(tzinfo=None),
            "2024-01-02 03:04:05.000006",
        ),
        (decimal.Decimal("1.50"), "1.50"),
    ],
)
def test_partition_values_as_text(value: Any, text: str | None) -> None:
    assert partition_text(value) == text


def test_binary_cannot_partition() -> None:
    with pytest.raises(TypeError, match="cannot be a partition value"):
        partition_text(b"a")


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.none() | st.text(max_size=300), max_size=3)
)
def test_no_partition_value_leaves_the_tables_folder(values: dict[str, str | None]) -> None:
    place = folder(values)
    parts = place.split("/") if place else []
    assert all(part not in {"", ".", ".."} and len(part) <= 255 for part in parts)
    assert len(parts) in {0, len(values)}
    assert "%25" in log_path("p=a%20b")


def test_rows_are_split_by_partition_value(tmp_path: Path) -> None:
    schema = pa.schema([("p", pa.string()), ("d", pa.date32()), ("n", pa.int64())])
    day = dt.date(2024, 1, 1)
    rows = pa.table({"n": range(5), "d": [day] * 5, "p": ["x", "", None, "x", "../y"]}).cast(
        pa.schema([("n", pa.int64()), ("d", pa.date32()), ("p", pa.string())])
    )
    files = write_data_files(tmp_path, rows, schema, ("p", "d"), FAST)
    found = {f.partition_values["p"]: f.rows for f in files}
    assert found == {"x": 2, None: 2, "../y": 1}
    assert {f.partition_values["d"] for f in files} == {"2024-01-01"}
    assert all(path.resolve().is_relative_to(tmp_path) for path in tmp_path.rglob("*.parquet"))
    assert len(list(tmp_path.rglob("*.parquet"))) == 3


def test_large_batches_become_several_files(tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int64())])
    options = WriteOptions(durability="none", target_file_bytes=4000)
    files = write_data_files(tmp_path, pa.table({"n": range(1000)}), schema, options=options)
    assert [f.rows for f in files] == [500, 500]


def test_no_rows_no_files(tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int64())])
    assert write_data_files(tmp_path, schema.empty_table(), schema) == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (pa.table({"n": ["1"]}), "column 'n': the rows have string, the table int64"),
        (pa.table({"n": [1.5]}), "column 'n'"),
        (pa.table({"m": [1]}), "differ in m, n"),
        (pa.table({"n": [1], "m": [1]}), "differ in m"),
        (pa.table({"n": pa.array([None], pa.int64())}), "must not be null"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, rows: pa.Table, named: str
) -> None:
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    with pytest.raises(SchemaConflict, match=named):
        write_data_files(tmp_path, rows, schema)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = pa.schema([("p", pa.string()), ("n", pa.int64())])
    (tmp_path / "p=b").write_text("in the way")
    rows = pa.table({"p": ["a", "b"], "n": [1, 2]})
    with pytest.raises(DependencyUnreachable, match="could not be written"):
        write_data_files(tmp_path, rows, schema, ("p",), FAST)
    assert list(tmp_path.rglob("*.parquet")) == []
