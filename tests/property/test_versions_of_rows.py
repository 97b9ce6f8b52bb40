"""SCD type 2: any order, any repetition and any cut of the changes makes the same versions."""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raylake.tables.requests import Scd2, Upsert
from raylake.tables.scd2 import Layout, changes_of, layout_of, table_for
from raylake.tables.scd2_plan import plan
from tests.harness.versions_oracle import expected_versions

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
KEYS = ("tenant", "id")
COLUMNS = {
    "tenant": (pa.string(), st.sampled_from(["", "x"])),
    "id": (pa.int32(), st.integers(0, 1)),
    "time": (
        pa.timestamp("us", tz="UTC"),
        st.integers(0, 4).map(lambda n: NOON + dt.timedelta(microseconds=n)),
    ),
    "offset": (pa.int64(), st.none() | st.integers(0, 1)),
    "score": (pa.float64(), st.sampled_from([None, float("nan"), 0.5])),
    "price": (pa.decimal128(9, 2), st.sampled_from([None, Decimal("0.10"), Decimal("0.11")])),
    "place": (pa.struct([("city", pa.string())]), st.sampled_from([None, {"city": "Oslo"}])),
    "tags": (pa.list_(pa.string()), st.sampled_from([None, [], ["a"]])),
    "op": (pa.string(), st.sampled_from(["U", "U", "D", None])),
}
CHANGES = st.lists(
    st.fixed_dictionaries({name: values for name, (_, values) in COLUMNS.items()}), max_size=14
)
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])
WAYS: dict[str, dict[str, Any]] = {
    "all tracked": {"sequence_by": ("time",)},
    "some tracked": {"sequence_by": ("time",), "track": ("score", "price")},
    "ties by an offset that the table lacks": {
        "sequence_by": ("time", "offset"),
        "track": ("score", "tags"),
    },
    "ties by an offset that the table has": {
        "sequence_by": ("time", "offset"),
        "track": ("price",),
        "has": ("time", "offset", "score", "price"),
    },
    "one column": {"sequence_by": ("time",), "has": ("score",)},
}


def request(way: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Scd2:
    options = {name: value for name, value in way.items() if name != "has"}
    columns = set(way.get("has", SCHEMA.names)) | {*KEYS, *way["sequence_by"], "op"}
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    table = table.select([name for name in SCHEMA.names if name in columns])
    return Scd2(table, KEYS, delete_when="op = 'D'", **options)


def brought(
    layout: Layout, table: dict[Any, dict[str, Any]], changes: pa.Table
) -> dict[Any, dict[str, Any]]:
    """The table after some changes, by keys and begin."""
    if not changes.num_rows:
        return table
    keys = {(row["tenant"], row["id"]) for row in changes.select(KEYS).to_pylist()}
    stored = pa.Table.from_pylist(
        [row for key, row in table.items() if key[:2] in keys], schema=layout.table
    )
    merge = plan(layout, stored, changes, "t: scd2").upsert(layout)
    return table if merge is None else merged(table, merge)


def merged(table: dict[Any, dict[str, Any]], merge: Upsert) -> dict[Any, dict[str, Any]]:
    after = dict(table)
    seen = set()
    for row in merge.rows.to_pylist():
        key = tuple(row[name] for name in merge.keys)
        assert key not in seen
        seen.add(key)
        if merge.delete_when is not None and row.pop("raylake_gone"):
            del after[key]
        else:
            after[key] = row
    return after


def canonical(rows: list[dict[str, Any]], layout: Layout) -> list[str]:
    schema = pa.schema([f for f in layout.table if not rows or f.name in rows[0]])
    table = pa.Table.from_pylist(rows, schema=schema)
    # NaN is no NaN's equal, but its text is.
    return sorted(repr(list(row.values())) for row in table.to_pylist())


def visible(table: dict[Any, dict[str, Any]]) -> list[dict[str, Any]]:
    shown = [row for row in table.values() if row["valid_from"] != row["valid_to"]]
    return [{name: value for name, value in row.items() if name != "_changes"} for row in shown]


def change(time: int, op: str | None = "U", **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    return (
        row | {"tenant": "x", "id": 1, "time": NOON + dt.timedelta(hours=time), "op": op} | values
    )


LATE_BETWEEN = [change(1, score=0.5), change(5, score=0.5), change(3)]
DELETED_TWICE = [change(1, "D"), change(2, "D"), change(0), change(4, "D"), change(3)]


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=int(os.environ.get("RAYLAKE_EXAMPLES", "15")))
@given(CHANGES, st.randoms(use_true_random=False), st.lists(st.integers(0, 20), max_size=4))
@example(LATE_BETWEEN, None, [1, 2])
@example(DELETED_TWICE, None, [1, 2, 3, 4])
@example([change(1), change(1, "D"), change(1, score=0.5)], None, [1, 2])
def test_property_12_any_order_and_repetition_of_changes_makes_the_same_versions(
    way: str, changes: list[dict[str, Any]], random: Any, cuts: list[int]
) -> None:
    options = WAYS[way]
    schema = table_for(request(options, changes), _columns(options)).schema
    layout = layout_of(request(options, changes), schema, "t: scd2")
    every = changes_of(request(options, changes), layout, "t: scd2")
    order = list(range(len(changes)))
    if random is not None:
        order += [at for at in order if random.random() < 0.3]
        random.shuffle(order)
    table: dict[Any, dict[str, Any]] = {}
    marks = sorted({0, len(order), *(min(cut, len(order)) for cut in cuts)})
    for start, stop in itertools.pairwise(marks):
        some = every.take(pa.array(order[start:stop], pa.int64()))
        table = brought(layout, table, some)
    wanted = expected_versions(
        changes,
        KEYS,
        options["sequence_by"],
        layout.tracked,
        layout.values,
        lambda row: row["op"] == "D",
    )
    assert canonical(visible(table), layout) == canonical(wanted, layout)
    # The rows themselves, with what they keep, do not depend on the order either.
    whole = brought(layout, {}, every)
    assert canonical(list(table.values()), layout) == canonical(list(whole.values()), layout)
    # What is known already changes nothing.
    if changes:
        stored = pa.Table.from_pylist(list(table.values()), schema=layout.table)
        assert plan(layout, stored, every, "t: scd2").upsert(layout) is None
    assert_intervals(visible(table), layout)


def assert_intervals(rows: list[dict[str, Any]], layout: Layout) -> None:
    """Half-open, without overlap, one current version at most, each another than the last."""
    for key in {(row["tenant"], row["id"]) for row in rows}:
        mine = sorted(
            (row for row in rows if (row["tenant"], row["id"]) == key),
            key=lambda row: row["valid_from"],
        )
        for earlier, later in itertools.pairwise(mine):
            assert earlier["valid_from"] < earlier["valid_to"] <= later["valid_from"]
            if earlier["valid_to"] == later["valid_from"]:
                states = [repr([row[name] for name in layout.tracked]) for row in (earlier, later)]
                assert states[0] != states[1]
        assert [row["is_current"] for row in mine[:-1]] == [False] * (len(mine) - 1)
        assert mine[-1]["is_current"] == (mine[-1]["valid_to"] is None)


def _columns(options: Mapping[str, Any]) -> list[str] | None:
    if "has" in options:
        return list(options["has"])
    left_out = {*KEYS, *options["sequence_by"], "op"}
    return [name for name in SCHEMA.names if name not in left_out]
