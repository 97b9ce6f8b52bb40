"""Versions with more rows than a step takes come in parts: the same tables, a part at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake.layers.derived import NEVER, SOURCE_VERSION, Begun
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.source_changes import look_for, read
from raylake.layers.source_parts import Limit
from raylake.tables.requests import Delete
from raylake.tables.upkeep_requests import Compact
from tests.harness.derived_steps import ENGINE, Stepper, bronze, minute, put
from tests.harness.vectors import delete_by_vector

PAYLOAD = pa.schema(
    [("id", pa.string()), ("updated_at", pa.timestamp("us", tz="UTC")), ("amount", pa.string())]
)
MODES = {
    "append": RowWiseSpec("silver.t", "append"),
    "upsert": RowWiseSpec("silver.t", "upsert", keys=("id",), sequence_by=("updated_at",)),
    "scd2": RowWiseSpec(
        "silver.t", "scd2", keys=("id",), sequence_by=("updated_at",), track=("amount",)
    ),
}
VERSIONS = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 5), st.sampled_from(["1", "2", "3"])),
        min_size=1,
        max_size=12,
    ),
    min_size=1,
    max_size=4,
)


def cut(version: int, *, first: bool) -> bool:
    del version, first
    return True


def fed(folder: Path, versions: list[list[tuple[str, int, str]]]) -> Path:
    source, offset = bronze(folder / "bronze", PAYLOAD), 0
    for rows in versions:
        events = []
        for key, at, amount in rows:
            events.append(
                {
                    "id": key,
                    "updated_at": minute(at),
                    "amount": amount,
                    "_offset": offset,
                    "_timestamp": minute(offset),
                }
            )
            offset += 1
        put(source, events, PAYLOAD)
    return source


@pytest.mark.spec("D1", "D2", "A3")
@settings(max_examples=12)
@given(
    VERSIONS,
    st.sampled_from(sorted(MODES)),
    st.integers(1, 7),
    st.sampled_from(["as it is", "compacted", "rows deleted"]),
)
def test_property_33_a_step_of_any_size_makes_the_same_table(
    versions: list[list[tuple[str, int, str]]], mode: str, rows: int, before: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = fed(folder, versions)
        if before == "compacted":
            ENGINE.execute(str(source), Compact())
        elif before == "rows deleted":
            ENGINE.execute(str(source), Delete("_offset = 0"))
        whole = Stepper(MODES[mode], source, folder / "whole").run()
        parts = Stepper(MODES[mode], source, folder / "parts").run(Limit(rows=rows, cuts=cut))
        assert parts.rows() == whole.rows()
        assert max(parts.handed) <= rows
        assert sum(parts.handed) == sum(whole.handed)
        # What comes later is cut as well.
        later = [[(key, 9, "7") for key in "abcdef"]]
        offset = sum(len(one) for one in versions)
        put(
            source,
            [
                {
                    "id": key,
                    "updated_at": minute(at),
                    "amount": amount,
                    "_offset": offset + n,
                    "_timestamp": minute(99),
                }
                for n, (key, at, amount) in enumerate(later[0])
            ],
            PAYLOAD,
        )
        whole.run()
        parts.run(Limit(rows=rows, cuts=cut))
        assert parts.rows() == whole.rows()
        assert max(parts.handed) <= rows


def parts_of(source: Path, limit: Limit) -> list[pa.Table]:
    """All rows of a source, part by part."""
    found, begun = [], None
    while True:
        span = look_for(source, "bronze.t", NEVER, limit=limit, begun=begun)
        assert span is not None
        assert span.part is not None
        found.append(read(span).came)
        if span.whole:
            return found
        begun = Begun(span.last, span.part.end)


@pytest.mark.spec("D1")
def test_parts_are_bounded_by_bytes_and_leave_deleted_rows_out(tmp_path: Path) -> None:
    source = bronze(tmp_path / "bronze", PAYLOAD)
    texts = [f"{n:>512}" for n in range(600)]
    put(source, [{"id": one, "_offset": n} for n, one in enumerate(texts)], PAYLOAD)
    delete_by_vector(source, [0, 599])
    whole = look_for(source, "bronze.t", NEVER)
    assert whole is not None
    expected = read(whole).came
    file = next(source.glob("*.parquet")).stat().st_size
    parts = parts_of(source, Limit(nbytes=file // 5, cuts=cut))
    assert len(parts) >= 5
    assert max(one.nbytes for one in parts) < expected.nbytes / 4
    rows = [row for one in parts for row in one.to_pylist()]
    assert sorted(map(repr, rows)) == sorted(map(repr, expected.to_pylist()))
    # A row that is larger than the limit is a part.
    assert [one.num_rows for one in parts_of(source, Limit(nbytes=1, cuts=cut))][:3] == [0, 1, 1]


@pytest.mark.spec("D1")
def test_versions_that_change_rows_are_not_cut(tmp_path: Path) -> None:
    rows = [[("a", 1, "1"), ("b", 1, "1"), ("c", 1, "1")]]
    source = fed(tmp_path, rows)
    first = look_for(source, "bronze.t", NEVER)
    assert first is not None
    ENGINE.execute(str(source), Delete("id = 'a'"))
    span = look_for(source, "bronze.t", first.last, limit=Limit(rows=1, cuts=cut))
    assert span is not None
    assert (span.part, span.over, span.whole) == (None, 2, True)
    assert [one["id"] for one in read(span).left.to_pylist()] == ["a"]
    assert SOURCE_VERSION in read(span).left.column_names
