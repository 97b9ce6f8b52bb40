"""A condition in texts: JSON by its fields, other bytes by whole words."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from raylake.tables import errors
from raylake.tables.raw_search import RawSearch

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("n", pa.int64()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("ok", pa.bool_()),
    ]
)


def holds(where: str, *texts: str | bytes | None) -> list[bool]:
    with RawSearch(where, SCHEMA) as search:
        return [bool(one) for one in search.search(texts).mask]


def test_objects_are_judged_by_the_condition_at_any_depth() -> None:
    found = holds(
        "customer_id = 'x'",
        '{"customer_id": "x"}',
        b'{"customer_id": "y", "note": "x"}',
        '{"before": null, "after": {"customer_id": "x"}}',
        '[{"a": [{"customer_id": "x"}]}]',
        '{"other": "x"}',
        '"x"',
        None,
        json.dumps({"payload": json.dumps({"customer_id": "x"})}),
        '{"customer_id": "x", "customer_id": "y"}',
    )
    assert found == [True, False, True, True, False, False, False, True, True]


@pytest.mark.parametrize(
    ("where", "value", "wanted"),
    [
        ("n = 7", {"n": 7}, True),
        ("n = 7", {"n": "7"}, True),
        ("n > 7", {"n": 8}, True),
        ("n = 7", {"n": "seven"}, False),
        ("n = 7", {"n": [7]}, False),
        ("n = 9007199254740993", {"n": 9007199254740993}, True),
        ("n = 9007199254740992", {"n": 9007199254740993}, False),
        ("ok", {"ok": True}, True),
        ("ok", {"ok": False}, False),
        ("at < '2026-02-01T00:00:00Z'", {"at": "2026-01-31T00:00:00Z"}, True),
        ("customer_id = 'x' and n = 7", {"customer_id": "x"}, False),
        ("customer_id in ('x', 'y')", {"customer_id": "y"}, True),
        ("customer_id = 'x' or n = 7", {"n": 7}, True),
    ],
)
def test_values_have_their_columns_types(where: str, value: object, *, wanted: bool) -> None:
    assert holds(where, json.dumps(value)) == [wanted]


def test_one_bad_value_does_not_hide_another() -> None:
    assert holds("n = 7", '{"n": "?"}', '{"n": 7}') == [False, True]


def test_what_is_no_json_is_searched_for_whole_words() -> None:
    where = "customer_id = 'x-1' and n = 7"
    texts = (
        b"x-1;7;broken",
        b"x-1;77",
        b"ax-1;7",
        b'{"customer_id": "x-1", "n": 7',
        b"\xff\xfe x-1 \x00 7 \xff",
        b"nothing",
    )
    with RawSearch(where, SCHEMA) as search:
        found = search.search(texts)
    assert found.mask.tolist() == [True, False, False, True, True, False]
    assert (found.as_words, found.unread) == (3, 0)


def test_without_a_value_to_look_for_what_is_no_json_is_counted() -> None:
    with RawSearch("n > 7", SCHEMA) as search:
        found = search.search([b"n is 8", b"{", '{"n": 8}'])
    assert found.mask.tolist() == [False, False, True]
    assert (found.as_words, found.unread) == (0, 2)


def test_deep_texts_end() -> None:
    assert holds("n = 7", "[" * 100_000, "[" * 30 + '{"n": 7}' + "]" * 30) == [False, True]


def test_a_condition_is_held_against_the_columns() -> None:
    with pytest.raises(errors.UnknownColumn):
        RawSearch("custmer_id = 'x'", SCHEMA)
    with pytest.raises(errors.BadExpression):
        RawSearch("customer_id = 'x' union select 1", SCHEMA)
