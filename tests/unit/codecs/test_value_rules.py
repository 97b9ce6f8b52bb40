"""Every cell of the table in ``raylake.codecs.json_codec``: fits, kept, dead letter."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.codecs.records import decode, rescued

UTC = dt.UTC
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=UTC)
FIVE_MICROS = dt.timedelta(microseconds=5)

FITS: list[tuple[str, str, Any]] = [
    ("string", '"a"', "a"),
    ("string", '""', ""),
    ("string", "1.50", "1.50"),
    ("string", "-0", "-0"),
    ("string", "12345678901234567890123", "12345678901234567890123"),
    ("string", "1E400", "1E400"),
    ("string", "true", "true"),
    ("boolean", "false", False),
    ("byte", "-128", -128),
    ("short", "32767", 32767),
    ("int", "-2147483648", -2147483648),
    ("int", "1.0", 1),
    ("int", "1e3", 1000),
    ("int", "1200e-2", 12),
    ("int", "-0", 0),
    ("int", "0e999999999", 0),
    ("long", "9223372036854775807", 9223372036854775807),
    ("long", "-9223372036854775808", -9223372036854775808),
    ("long", "9007199254740993.0", 9007199254740993),
    ("long", "9007199254740993", 9007199254740993),
    ("double", "1", 1.0),
    ("double", "1.10", 1.1),
    ("double", "0.1", 0.1),
    ("double", "0.30000000000000004", 0.30000000000000004),
    ("double", "0.10000000000000001", 0.1),
    ("double", "0.1000000000000000055511151231257827021181583404541015625", 0.1),
    ("double", "9007199254740992", 9007199254740992.0),
    ("double", "1e23", 1e23),
    ("double", "5e-324", 5e-324),
    ("double", "0.0", 0.0),
    ("double", "0e-400", 0.0),
    ("float", "0.5", 0.5),
    ("float", "16777216", 16777216.0),
    ("decimal(10,2)", "12.50", Decimal("12.50")),
    ("decimal(10,2)", "12.5000", Decimal("12.50")),
    ("decimal(10,2)", "1e3", Decimal("1000.00")),
    ("decimal(10,2)", '"-99999999.99"', Decimal("-99999999.99")),
    ("decimal(10,2)", "0.000", Decimal("0.00")),
    (
        "decimal(38,0)",
        "99999999999999999999999999999999999999",
        Decimal(99999999999999999999999999999999999999),
    ),
    ("decimal(2,2)", "0.25", Decimal("0.25")),
    ("date", '"2024-02-29"', dt.date(2024, 2, 29)),
    ("date", '"0001-01-01"', dt.date(1, 1, 1)),
    ("timestamp", '"2024-05-01T12:00:00Z"', NOON),
    ("timestamp", '"2024-05-01T12:00Z"', NOON),
    ("timestamp", '"2024-05-01 12:00:00Z"', NOON),
    ("timestamp", '"2024-05-01T12:00:00"', NOON),
    ("timestamp", '"2024-05-01T14:00:00+02:00"', NOON),
    ("timestamp", '"2024-05-01T14:30:00+0230"', NOON),
    ("timestamp", '"2024-05-01T03:00:00-09"', NOON),
    ("timestamp", '"2024-05-01T12:00:00.000005Z"', NOON + FIVE_MICROS),
    ("timestamp", '"2024-05-01T12:00:00.000005000Z"', NOON + FIVE_MICROS),
    (
        "timestamp",
        '"1969-12-31T23:59:59.999999Z"',
        dt.datetime(1970, 1, 1, tzinfo=UTC) - FIVE_MICROS / 5,
    ),
    ("timestamp", "1714564800000", NOON),
    ("timestamp", "1714564800000.0", NOON),
    ("timestamp_ntz", '"2024-05-01T12:00:00"', NOON.replace(tzinfo=None)),
    ("binary", '"AAH/"', b"\x00\x01\xff"),
    ("binary", '""', b""),
    ("struct<a:int,b:struct<c:string>>", '{"a":1,"b":{"c":2.0}}', {"a": 1, "b": {"c": "2.0"}}),
    ("struct<a:int>", "{}", {"a": None}),
    ("array<int>", "[1,null,3]", [1, None, 3]),
    ("array<array<string>>", '[["a"],[],null]', [["a"], [], None]),
    ("map<string,int>", '{"a.b":1,"":null}', [("a.b", 1), ("", None)]),
    (
        "struct<t:timestamp,d:decimal(4,1)>",
        '{"t":"2024-05-01T12:00:00Z","d":1.5}',
        {"t": NOON, "d": Decimal("1.5")},
    ),
]

KEPT: list[tuple[str, str, Any, str]] = [
    ("byte", "128", None, "128"),
    ("short", "-32769", None, "-32769"),
    ("int", "3000000000", None, "3000000000"),
    ("int", "3e9", None, "3e9"),
    ("long", "1.5", None, "1.5"),
    ("long", "1.50", None, "1.50"),
    ("double", "9007199254740993", 9007199254740992.0, "9007199254740993"),
    ("double", "0.1234567890123456789", 0.12345678901234568, "0.1234567890123456789"),
    ("double", "100000000000000000000001", 1.0000000000000001e23, "100000000000000000000001"),
    ("double", "1e-400", 0.0, "1e-400"),
    ("float", "16777217", 16777216.0, "16777217"),
    ("float", "1e39", None, "1e39"),
    ("decimal(4,2)", "123.4", None, "123.4"),
    ("decimal(4,2)", "1.234", None, "1.234"),
    ("decimal(4,2)", '"1.2340"', None, '"1.2340"'),
    (
        "timestamp",
        '"2024-05-01T12:00:00.000005001Z"',
        NOON + FIVE_MICROS,
        '"2024-05-01T12:00:00.000005001Z"',
    ),
    ("binary", '"AB=="', b"\x00", '"AB=="'),
    ("struct<a:byte,b:int>", '{"a":1000,"b":2}', {"a": None, "b": 2}, '{"a":1000}'),
    ("struct<a:int>", '{"a":1,"z":[1.0]}', {"a": 1}, '{"z":[1.0]}'),
    ("array<byte>", "[1,1000]", [1, None], "[1,1000]"),
    ("map<string,byte>", '{"a":1,"b":1000}', [("a", 1), ("b", None)], '{"b":1000}'),
]

DEAD = [
    ("string", "{}"),
    ("string", "[]"),
    ("boolean", "0"),
    ("boolean", '"true"'),
    ("byte", "0.5"),
    ("int", "1.5"),
    ("int", "1e-999999999"),
    ("int", "9223372036854775808"),
    ("long", "9223372036854775808"),
    ("long", "1e19"),
    ("long", '"1"'),
    ("long", "false"),
    ("long", "{}"),
    ("double", "1e400"),
    ("double", '"1"'),
    ("double", "true"),
    ("float", "1e400"),
    ("float", "[1]"),
    ("decimal(10,2)", "1e38"),
    ("decimal(10,2)", "1e-39"),
    ("decimal(10,2)", '"1,5"'),
    ("decimal(10,2)", '"NaN"'),
    ("decimal(10,2)", '" 1"'),
    ("decimal(10,2)", "true"),
    ("date", '"2023-02-29"'),
    ("date", '"2024-1-1"'),
    ("date", '"2024-05-01T00:00:00Z"'),
    ("date", "19000"),
    ("timestamp", '"2024-05-01"'),
    ("timestamp", '"2024-05-01T24:00:00Z"'),
    ("timestamp", '"2024-05-01T12:00:00 Z"'),
    ("timestamp", '"20240501T120000Z"'),
    ("timestamp", "1714564800"),
    ("timestamp", "1714564800000.5"),
    ("timestamp", "1714564800000000"),
    ("timestamp_ntz", '"2024-05-01T12:00:00Z"'),
    ("timestamp_ntz", "1714564800000"),
    ("binary", '"a"'),
    ("binary", "1"),
    ("struct<a:int>", "[]"),
    ("struct<a:int>", '{"a":"b"}'),
    ("array<int>", "{}"),
    ("array<int>", "[1.00000000000000000000001]"),
    ("array<int>", "[1e-400]"),
    ("array<int>", '[1,"b"]'),
    ("map<string,int>", "[]"),
    ("map<string,int>", '{"a":"b"}'),
]


def _message(text: str) -> bytes:
    return f'{{"before":1, "x" : {text},"after":"z"}}'.encode()


def _columns(dtype: str) -> dict[str, str]:
    return {"before": "int", "x": dtype, "after": "string"}


@pytest.mark.parametrize("careful", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize(("dtype", "text", "value"), FITS)
@pytest.mark.parametrize("policy", ["evolve", "reject"])
def test_a_value_that_fits_is_in_its_column(
    dtype: str, text: str, value: Any, policy: str, careful: bool
) -> None:
    decoded = decode([_message(text)], _columns(dtype), unknown_fields=policy, careful=careful)
    assert decoded.dead == []
    row = decoded.payload.to_pylist()[0]
    assert row.pop("_rescued_data", None) is None
    assert row == {"before": 1, "x": value, "after": "z", "_tombstone": False}


@pytest.mark.parametrize("careful", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize(("dtype", "text", "value", "kept"), KEPT)
def test_a_value_that_only_a_wider_type_holds_keeps_its_row_and_its_exact_text(
    dtype: str, text: str, value: Any, kept: str, careful: bool
) -> None:
    decoded = decode([_message(text)], _columns(dtype), unknown_fields="rescue", careful=careful)
    assert decoded.dead == []
    assert decoded.payload.to_pylist()[0]["x"] == value
    assert decoded.payload.column("after").to_pylist() == ["z"]
    assert rescued(decoded) == f'{{"x":{kept}}}'


@pytest.mark.parametrize(("dtype", "text", "value", "kept"), KEPT)
def test_reject_makes_it_a_dead_letter(dtype: str, text: str, value: Any, kept: str) -> None:
    [dead] = decode([_message(text)], _columns(dtype), unknown_fields="reject").dead
    assert (dead.stage, dead.error_class) in {
        ("validate", "DoesNotFit"),
        ("validate", "UnknownField"),
    }
    assert "x" in dead.reason


@pytest.mark.parametrize("policy", ["evolve", "rescue", "reject"])
@pytest.mark.parametrize(("dtype", "text"), DEAD)
def test_an_incompatible_value_is_a_dead_letter_with_the_difference(
    dtype: str, text: str, policy: str
) -> None:
    good = _message("null")
    decoded = decode([good, _message(text), good], _columns(dtype), unknown_fields=policy)
    assert decoded.kept.tolist() == [0, 2]
    [dead] = decoded.dead
    assert (dead.row, dead.stage, dead.error_class) == (1, "validate", "TypeMismatch")
    assert dead.reason.startswith("field 'x")
    assert "expected" in dead.reason
    assert "found" in dead.reason


@pytest.mark.parametrize("dtype", sorted({dtype for dtype, _, _ in FITS}))
def test_null_and_absent_are_null_in_every_column(dtype: str) -> None:
    decoded = decode([_message("null"), b'{"before":1}', b"{}", None], _columns(dtype))
    assert decoded.dead == []
    assert decoded.payload.column("x").null_count == 4
    assert decoded.payload.column("_rescued_data").null_count == 4


def test_the_reason_names_the_nested_field_and_never_carries_the_whole_value() -> None:
    columns = {"items": "array<struct<price:int>>"}
    long_text = "p" * 5000
    [dead] = decode([b'{"items":[{"price":"%s"}]}' % long_text.encode()], columns).dead
    assert dead.reason.startswith("field 'items[].price': expected int, found string")
    assert len(dead.reason) < 300
