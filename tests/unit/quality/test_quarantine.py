"""Rejected rows: as rows of the quarantine, and as rows of their source again."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from raylake.layers.derived import SOURCE_VERSION, Rejected, Span
from raylake.quality import quarantine, row_json
from raylake.quality.quarantine import Origin, Taken, letters, markers, select, source_rows
from raylake.quality.rejecting import RejectedMask, rejected_rows
from raylake.quality.side_table import Target
from tests.harness.quality import NOW, check, read, rule

TARGET = Target("silver.orders", "/lake/silver/orders", "t-1")
SPAN = Span("bronze.orders", "/lake/bronze/orders", "s-1", 3, 7)
ORIGIN = Origin(TARGET, SPAN, NOW)
LATER = NOW + dt.timedelta(hours=1)


def came(*amounts: str, coordinates: bool = True) -> pa.Table:
    rows = pa.table({"amount": list(amounts), SOURCE_VERSION: [5] * len(amounts)})
    if not coordinates:
        return rows
    count = len(amounts)
    return (
        rows.append_column("_topic", pa.array(["o"] * count))
        .append_column("_partition", pa.array([0] * count, pa.int32()))
        .append_column("_offset", pa.array(range(count), pa.int64()))
    )


def rejected(rows: pa.Table, rule_name: str = "type_conversion") -> Rejected:
    values = rows.column("amount").combine_chunks()
    return Rejected(rows, rule_name, "amount", values, "it is no number", "warning")


def test_a_rejected_row_has_all_that_is_known_of_it() -> None:
    found = letters(ORIGIN, [rejected(came("x"))]).to_pylist()[0]
    identity = found.pop("quarantine_id")
    assert len(identity) == 32
    assert found == {
        "table": "silver.orders",
        "rule": "type_conversion",
        "column": "amount",
        "value": "x",
        "reason": "it is no number",
        "severity": "warning",
        "source": "bronze.orders",
        "source_table_id": "s-1",
        "source_version": 5,
        "target_table_id": "t-1",
        "row": '{"amount":"x","_commit_version":"5","_topic":"o","_partition":0,"_offset":"0"}',
        "_topic": "o",
        "_partition": 0,
        "_offset": 0,
        "quarantined_at": NOW,
        "replayed_at": None,
        "replay": None,
        "date": NOW.date(),
    }


def test_the_version_is_the_spans_where_rows_have_none() -> None:
    rows = came("x", coordinates=False).drop_columns(SOURCE_VERSION)
    found = letters(ORIGIN, [rejected(rows)]).to_pylist()[0]
    assert (found["source_version"], found["_offset"]) == (7, None)


def test_columns_that_are_no_coordinates_are_not_taken_for_some() -> None:
    rows = pa.table({"amount": ["x"], "_topic": [1], "_partition": ["p"], "_offset": [True]})
    found = letters(ORIGIN, [rejected(rows)]).to_pylist()[0]
    assert [found[name] for name in quarantine.COORDINATES] == [None, None, None]


def ids(*groups: Rejected, origin: Origin = ORIGIN) -> list[str]:
    return letters(origin, groups).column("quarantine_id").to_pylist()  # type: ignore[no-any-return]


def test_the_same_row_has_the_same_id_and_others_another() -> None:
    one = rejected(came("x", "x", "y"))
    again = Origin(TARGET, Span("bronze.orders", "/elsewhere", "s-1", 0, 9), LATER)
    assert ids(one) == ids(one, origin=again)
    assert len(set(ids(one))) == 3
    elsewhere = Origin(Target("silver.orders", "", "t-2"), SPAN, NOW)
    everything = [
        *ids(one),
        *ids(rejected(came("x", "x", "y"), "range(amount)")),
        *ids(one, origin=elsewhere),
    ]
    assert len(set(everything)) == 9


def test_rows_without_coordinates_are_told_apart_by_their_number() -> None:
    one = rejected(came("x", "x", "y", coordinates=False))
    assert ids(one) == ids(one)
    assert len(set(ids(one))) == 3


def test_rows_without_coordinates_are_known_by_what_they_are() -> None:
    forth = ids(rejected(came("x", "y", coordinates=False)))
    back = ids(rejected(came("y", "x", coordinates=False)))
    assert forth == back[::-1]


def test_a_row_that_is_replayed_in_the_instant_in_which_it_was_rejected_is_closed() -> None:
    stored = letters(ORIGIN, [rejected(came("x"))])
    marked = pa.concat_tables([stored, markers(Taken(stored, 1), stored.slice(0, 0), NOW)])
    assert select(lambda request: read(marked, request)).num_rows == 0


def test_no_rejected_rows_make_no_letters() -> None:
    assert letters(ORIGIN, []).equals(quarantine.SCHEMA.empty_table())


def test_rows_are_open_once_and_until_they_were_replayed() -> None:
    first = letters(ORIGIN, [rejected(came("x", "y"))])
    again = letters(Origin(TARGET, SPAN, LATER), [rejected(came("x", "y"))])
    stored = pa.concat_tables([first, again])
    found = select(lambda request: read(stored, request))
    assert found.column("value").to_pylist() == ["x", "y"]
    assert found.column("quarantined_at").to_pylist() == [LATER, LATER]
    much_later = LATER + dt.timedelta(hours=1)
    refused = letters(Origin(TARGET, SPAN, much_later), [rejected(came("x"))])
    marked = markers(Taken(found, 1), refused, much_later)
    assert marked.column("value").to_pylist() == ["y"]
    assert marked.column("row").null_count == 1
    stored = pa.concat_tables([stored, refused, marked])
    for where in (None, "\"column\" = 'amount'", "row is not null", "replayed_at is null"):
        left = select(lambda request: read(stored, request), where)
        assert left.column("value").to_pylist() == ["x"], where
    rejected_again = letters(
        Origin(TARGET, SPAN, much_later + dt.timedelta(hours=1)), [rejected(came("x", "y"))]
    )
    stored = pa.concat_tables([stored, rejected_again])
    assert select(lambda request: read(stored, request)).num_rows == 2


def test_rows_become_rows_of_the_source_again() -> None:
    rows = came("x", "y")
    stored = letters(ORIGIN, [rejected(rows)])
    assert source_rows(stored, rows.schema).equals(rows)
    wider = rows.schema.append(pa.field("new", pa.int64()))
    assert source_rows(stored, wider).column("new").null_count == 2


def test_rejected_rows_are_those_that_came() -> None:
    source = pa.table({"raw": ["a", "b", "c", "d"]})
    shaped = pa.table({"n": [1, 5, 9]})
    found = check(shaped, rule("range", column="n", max=4, on_failure="quarantine"))
    alone = rejected_rows(found.rejected, shaped)
    assert [one.rows.to_pylist() for one in alone] == [[{"n": 5}, {"n": 9}]]
    origin = pa.array([0, 3, 2])
    (by_source,) = rejected_rows(found.rejected, shaped, source, origin)
    assert by_source.rows.to_pylist() == [{"raw": "d"}, {"raw": "c"}]
    assert by_source.values.to_pylist() == ["5", "9"]
    assert by_source.severity == "error"
    made_of_several = rejected_rows(found.rejected, shaped, source, pa.array([0, None, 2]))
    assert [one.rows.to_pylist() for one in made_of_several] == [[{"raw": "c"}], [{"n": 5}]]
    (only,) = rejected_rows(found.rejected, shaped, source, pa.nulls(3, pa.int64()))
    assert only.rows.num_rows == 2


def test_a_mask_is_plain_data() -> None:
    found = check(pa.table({"n": [9]}), rule("range", column="n", max=4, on_failure="quarantine"))
    assert isinstance(found.rejected[0], RejectedMask)
    assert found.rejected[0].severity == "error"


EVERYTHING = pa.schema(
    [
        ("flag", pa.bool_()),
        ("byte", pa.int8()),
        ("long", pa.int64()),
        ("unsigned", pa.uint64()),
        ("real", pa.float32()),
        ("double", pa.float64()),
        ("decimal", pa.decimal128(38, 10)),
        ("text", pa.string()),
        ("large", pa.large_string()),
        ("bytes", pa.binary()),
        ("date", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("local", pa.timestamp("us")),
        ("list", pa.list_(pa.timestamp("us", tz="UTC"))),
        ("struct", pa.struct([("a", pa.int64()), ("b", pa.list_(pa.decimal128(5, 2)))])),
        ("map", pa.map_(pa.string(), pa.struct([("d", pa.date32())]))),
        ("nothing", pa.null()),
    ]
)


def test_every_type_comes_back() -> None:
    rows = pa.Table.from_pylist(
        [
            {
                "flag": True,
                "byte": -128,
                "long": 2**63 - 1,
                "unsigned": 2**64 - 1,
                "real": float(np.float32(0.1)),
                "double": -0.0,
                "decimal": Decimal("-1234567890123456789012345678.0000000001"),
                "text": 'é\u2028"\\\x00😀',
                "large": "",
                "bytes": b"\x00\xff",
                "date": dt.date(1, 1, 1),
                "at": dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, dt.UTC),
                "local": dt.datetime(1970, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None),
                "list": [NOW, None],
                "struct": {"a": None, "b": [Decimal("1.00")]},
                "map": [("k", {"d": dt.date(2026, 1, 31)}), ("n", None)],
            },
            {},
            {"double": float("inf"), "real": float("-inf"), "list": [], "map": [], "struct": {}},
        ],
        EVERYTHING,
    )
    assert row_json.decode(row_json.encode(rows), EVERYTHING).equals(rows)
    nan = pa.table({"x": [float("nan"), None]})
    assert row_json.encode(nan) == ['{"x":"NaN"}', '{"x":null}']
    back = row_json.decode(row_json.encode(nan), nan.schema).column("x").to_pylist()
    assert str(back) == "[nan, None]"


def test_times_that_python_lacks_come_back() -> None:
    rows = pa.table(
        {
            "at": pa.array([2**62, -(2**62)]).cast(pa.timestamp("us", "UTC")),
            "date": pa.array([2**31 - 1, -(2**31)], pa.int32()).cast(pa.date32()),
        }
    )
    assert row_json.decode(row_json.encode(rows), rows.schema).equals(rows)


def test_no_columns_and_no_rows() -> None:
    empty = pa.table({"x": pa.array([], pa.int64())})
    assert row_json.encode(empty) == []
    assert row_json.decode([], empty.schema).equals(empty)
    assert row_json.encode(pa.table({"x": [1, 2]}).select([])) == ["{}", "{}"]


@pytest.mark.parametrize("text", ["{", '{"x": "many"}'])
def test_what_is_no_row_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        row_json.decode([text], pa.schema([("x", pa.int64())]))


def test_values_as_text() -> None:
    column = pa.chunked_array([pa.array([True, None])])
    assert row_json.texts(column).to_pylist() == ["true", None]
