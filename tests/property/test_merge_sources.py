"""The rows of a merge's source: one a key, the last by what orders them, whatever their order."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raylake.tables.errors import DuplicateMergeKeys
from raylake.tables.keys import one_row_a_key

SCHEMA = pa.schema(
    [("a", pa.int64()), ("b", pa.string()), ("seq", pa.int32()), ("value", pa.list_(pa.int8()))]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.integers(0, 3),
            "b": st.sampled_from(["", "x", "'"]),
            "seq": st.none() | st.integers(-2, 2),
            "value": st.none() | st.lists(st.integers(0, 1), max_size=1),
        }
    ),
    max_size=12,
)


def _rank(row: dict[str, Any]) -> tuple[bool, int]:
    return row["seq"] is not None, row["seq"] or 0


@given(ROWS)
@example([{"a": 0, "b": "", "seq": 1, "value": v} for v in (None, None, [])])
@example([{"a": 0, "b": "", "seq": s, "value": [s]} for s in (1, 0, 0)])
def test_the_last_row_of_each_key_counts_and_ties_are_refused(
    rows: list[dict[str, Any]],
) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["a"], row["b"]), []).append(row)
    last = {key: max(map(_rank, group)) for key, group in groups.items()}
    winners = {k: [r for r in group if _rank(r) == last[k]] for k, group in groups.items()}
    if any(row != found[0] for found in winners.values() for row in found):
        with pytest.raises(DuplicateMergeKeys):
            one_row_a_key(table, ("a", "b"), ("seq",), "t")
        return
    kept = one_row_a_key(table, ("a", "b"), ("seq",), "t")
    assert kept.schema == SCHEMA
    assert {(r["a"], r["b"]): r for r in kept.to_pylist()} == {k: f[0] for k, f in winners.items()}
    assert kept.num_rows == len(groups)


@given(ROWS)
def test_without_an_order_two_rows_of_a_key_are_refused(rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if len({(row["a"], row["b"]) for row in rows}) == len(rows):
        assert one_row_a_key(table, ("a", "b"), (), "t").equals(table)
        return
    with pytest.raises(DuplicateMergeKeys, match="share their merge key"):
        one_row_a_key(table, ("a", "b"), (), "t")
