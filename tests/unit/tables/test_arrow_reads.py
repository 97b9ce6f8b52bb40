"""Whole versions read by Arrow: the same rows as delta-rs gives, or left to it."""

from __future__ import annotations

import datetime as dt
import decimal
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.delta.schema import arrow_schema
from raylake.tables.arrow_reads import arrow_reader

UTC = pa.timestamp("us", tz="UTC")
DAY = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ODD = ["a b", "ä/ö", "50%", "x=y", None, "c:d", "#1", "+"]


def by_arrow(path: Path, columns: list[str] | None = None) -> pa.Table:
    handle = DeltaTable(path)
    schema = arrow_schema(handle.schema())
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    reader = arrow_reader(path, handle, wanted)
    assert reader is not None
    found = reader.read_all()
    assert found.schema.equals(wanted)
    found.validate(full=True)
    return found


def by_delta_rs(path: Path) -> list[str]:
    handle = DeltaTable(path)
    found = pa.RecordBatchReader.from_stream(handle.scan()).read_all()
    return lines(found.cast(arrow_schema(handle.schema())))


def lines(rows: pa.Table) -> list[str]:
    return sorted(str(sorted(row.items())) for row in rows.to_pylist())


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(pa.array(ODD), id="texts"),
        pytest.param(pa.array([1, -2, None, 2**40] * 2), id="integers"),
        pytest.param(pa.array([1, -2, None, 7] * 2, pa.int16()), id="short integers"),
        pytest.param(pa.array([dt.date(2026, 1, 1), None] * 4), id="dates"),
        pytest.param(pa.array([DAY, None] * 4, UTC), id="times"),
        pytest.param(pa.array([True, False, None, True] * 2), id="truth"),
        pytest.param(pa.array([decimal.Decimal("1.50"), None] * 4), id="decimals"),
    ],
)
def test_partition_values_are_columns(tmp_path: Path, values: pa.Array) -> None:
    rows = pa.table({"n": range(8), "p": values})
    write_deltalake(tmp_path, rows, partition_by=["p"])
    assert lines(by_arrow(tmp_path)) == by_delta_rs(tmp_path)
    assert by_arrow(tmp_path, ["p"]).num_rows == 8


def test_columns_that_older_files_lack_are_null(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"n": [1, 2]}))
    more = pa.table({"n": [3], "text": ["x"], "at": pa.array([DAY], UTC)})
    write_deltalake(tmp_path, more, mode="append", schema_mode="merge")
    assert lines(by_arrow(tmp_path)) == by_delta_rs(tmp_path)
    assert by_arrow(tmp_path, ["text"]).column("text").to_pylist().count(None) == 2


@pytest.mark.parametrize("written", ["int96", "ms", "no zone", "large text", "dictionary"])
def test_files_of_other_writers_come_in_the_tables_types(tmp_path: Path, written: str) -> None:
    """Converted folders keep what other engines wrote."""
    rows = pa.table({"at": pa.array([DAY, None], UTC), "text": ["ä", None], "n": [1, 2]})
    write_deltalake(tmp_path, rows)
    (file,) = tmp_path.glob("*.parquet")
    kinds = {"large text": pa.large_string(), "dictionary": pa.dictionary(pa.int32(), pa.string())}
    fields = [
        pa.field("at", pa.timestamp("us") if written == "no zone" else UTC),
        pa.field("text", kinds.get(written, pa.string())),
        pa.field("n", pa.int32()),
    ]
    pq.write_table(
        rows.cast(pa.schema(fields)),
        file,
        use_deprecated_int96_timestamps=written == "int96",
        coerce_timestamps="ms" if written == "ms" else None,
    )
    _with_size(tmp_path, file)
    assert lines(by_arrow(tmp_path)) == lines(
        rows.cast(arrow_schema(DeltaTable(tmp_path).schema()))
    )


def test_batches_hold_at_most_65536_rows_and_all_come(tmp_path: Path) -> None:
    for part in range(3):
        write_deltalake(
            tmp_path, pa.table({"n": range(part * 10**5, (part + 1) * 10**5)}), mode="append"
        )
    handle = DeltaTable(tmp_path)
    reader = arrow_reader(tmp_path, handle, arrow_schema(handle.schema()))
    assert reader is not None
    batches = list(reader)
    assert max(batch.num_rows for batch in batches) <= 65_536
    found = pa.Table.from_batches(batches).column("n").to_pylist()
    assert sorted(found) == list(range(3 * 10**5))


def test_nested_columns_and_deletion_vectors_are_left_to_delta_rs(tmp_path: Path) -> None:
    nested, vectors = tmp_path / "nested", tmp_path / "vectors"
    write_deltalake(nested, pa.table({"s": [{"a": 1}]}))
    configuration = {"delta.enableDeletionVectors": "true"}
    write_deltalake(vectors, pa.table({"n": [1]}), configuration=configuration)
    for path in (nested, vectors):
        handle = DeltaTable(path)
        assert arrow_reader(path, handle, arrow_schema(handle.schema())) is None


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"n": [1]}))
    (file,) = tmp_path.glob("*.parquet")
    file.unlink()
    with pytest.raises(OSError, match=file.name):
        by_arrow(tmp_path)


def _with_size(table: Path, file: Path) -> None:
    """The log says the size of a file that was written again."""
    entry = table / "_delta_log" / "00000000000000000000.json"
    actions = [json.loads(line) for line in entry.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            action["add"]["size"] = file.stat().st_size
    entry.write_text("".join(json.dumps(action) + "\n" for action in actions))
