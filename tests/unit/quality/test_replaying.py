"""Which rows of the quarantine go again: each row of the source once, whatever is open of it."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from raylake.layers.derived import SOURCE_VERSION, Rejected, Span
from raylake.quality.quarantine import Origin, Taken, letters, markers
from raylake.quality.replaying import choose, columns_of, still_there
from raylake.quality.side_table import Target
from raylake.tables.requests import Read
from tests.harness.quality import NOW, read

TARGET = Target("silver.t", "", "t-1")
SPAN = Span("bronze.t", "", "s-1", 0, 5)
ORIGIN = Origin(TARGET, SPAN, NOW)


def came(*values: str, offsets: list[int] | None = None) -> pa.Table:
    rows = pa.table({"x": list(values), SOURCE_VERSION: [5] * len(values)})
    if offsets is None:
        return rows
    place = {"_topic": ["o"] * len(offsets), "_partition": [0] * len(offsets), "_offset": offsets}
    return pa.table({**{name: rows.column(name) for name in rows.column_names}, **place})


def rejected(rows: pa.Table, rule: str = "r") -> Rejected:
    values = rows.column("x").combine_chunks()
    return Rejected(rows, rule, "x", values, "no")


def reader(*stored: pa.Table) -> Callable[[Read], pa.RecordBatchReader]:
    whole = pa.concat_tables(stored)
    return lambda request: read(whole, request)


def test_a_row_that_several_rules_turned_away_goes_once() -> None:
    rows = came("a", "b", offsets=[7, 8])
    stored = letters(ORIGIN, [rejected(rows, "one"), rejected(rows.slice(0, 1), "two")])
    chosen = choose(reader(stored), "t-1", "rule = 'two'")
    assert chosen.rows.column("_offset").to_pylist() == [7]
    assert sorted(chosen.closes.column("rule").to_pylist()) == ["one", "two"]
    every = choose(reader(stored), "t-1")
    assert sorted(every.rows.column("_offset").to_pylist()) == [7, 8]
    assert every.closes.num_rows == 3
    only = every.only([every.rows.column("_offset").to_pylist().index(8)])
    assert only.closes.column("_offset").to_pylist() == [8]


@pytest.mark.parametrize("offsets", [None, [7, 7]])
def test_rows_that_agree_in_all_go_together_and_stay_as_many(offsets: list[int] | None) -> None:
    stored = letters(ORIGIN, [rejected(came("a", "a", offsets=offsets))])
    (first, _) = stored.column("quarantine_id").to_pylist()
    chosen = choose(reader(stored), "t-1", f"quarantine_id = '{first}'")
    assert chosen.rows.num_rows == chosen.closes.num_rows == 2
    # One of both passes, the other one is turned away again: one is left.
    again = letters(
        Origin(TARGET, SPAN, NOW.replace(hour=23), 1),
        [rejected(came("a", offsets=offsets and [7]))],
    )
    marks = markers(Taken(chosen.closes, 1), again, NOW.replace(hour=23))
    left = choose(reader(stored, again, marks), "t-1")
    assert left.rows.num_rows == 1
    assert left.rows.column("replay").to_pylist() == [1]


def test_rows_of_another_table_stay_where_they_are() -> None:
    other = Origin(Target("silver.t", "", "t-0"), SPAN, NOW)
    stored = letters(other, [rejected(came("a"))])
    assert choose(reader(stored), "t-1").rows.num_rows == 0


def test_what_a_row_was_kept_with_and_whether_its_source_has_it() -> None:
    rows = came("a", "b", "", offsets=[1, 2, 3])
    stored = letters(ORIGIN, [rejected(rows)])
    assert set(columns_of(stored)) == {frozenset(rows.column_names)}
    there = came("b", "", offsets=[2, 9])
    names = ["x", "_offset", SOURCE_VERSION]
    assert still_there(rows, names, lambda request: read(there, request)) == [False, True, False]
    assert still_there(rows, [SOURCE_VERSION], lambda request: read(there, request)) == [True] * 3
