"""Type texts round trip, and what a sample of messages says about a topic's schema."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from raylake.codecs import (
    DecoderSpec,
    infer_schema,
    make_decoder,
    merge_schema,
    parse_schema,
    parse_type,
    schema_text,
    type_text,
)
from raylake.codecs.names import MAX_NAME_CHARACTERS
from raylake.errors import ConfigError
from tests.unit.codecs.records import batch

ROUND_TRIPS = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "byte": pa.int8(),
    "short": pa.int16(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "decimal(38,0)": pa.decimal128(38, 0),
    "decimal(18,2)": pa.decimal128(18, 2),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
    "binary": pa.binary(),
    "array<array<int>>": pa.list_(pa.list_(pa.int32())),
    "map<string,array<double>>": pa.map_(pa.string(), pa.list_(pa.float64())),
    "struct<a:int,b:array<struct<c:string>>>": pa.struct(
        [("a", pa.int32()), ("b", pa.list_(pa.struct([("c", pa.string())])))]
    ),
    "struct<`a-b`:int,`数`:string>": pa.struct([("a-b", pa.int32()), ("数", pa.string())]),
}


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_a_type_text_round_trips(text: str) -> None:
    assert parse_type(text) == ROUND_TRIPS[text]
    assert type_text(parse_type(text)) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("BIGINT", "long"),
        ("Integer", "int"),
        ("tinyint", "byte"),
        ("decimal", "decimal(10,0)"),
        ("decimal(5)", "decimal(5,0)"),
        (
            " struct < a : int , b : array < decimal ( 4 , 2 ) > > ",
            "struct<a:int,b:array<decimal(4,2)>>",
        ),
    ],
)
def test_synonyms_case_and_spaces_are_understood(text: str, same: str) -> None:
    assert type_text(parse_type(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "",
        "strin",
        "int int",
        "array",
        "array<>",
        "array<int",
        "array<int>>",
        "map<string>",
        "struct<>",
        "struct<a>",
        "struct<a:int,>",
        "struct<a:int,A:int>",
        "struct<a:int,a:int>",
        "struct<`a b`:int>",
        "decimal(39,0)",
        "decimal(2,3)",
        "decimal(0)",
        "decimal(a)",
        "decimal(2",
        "decimal(-1,0)",
        "decimal(1,1,1)",
        "array<" * 100 + "int" + ">" * 100,
        "array<" * 100_000,
    ],
)
def test_a_text_that_is_no_type_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_type(text)
    assert "character" in caught.value.message
    assert len(caught.value.message) < 700


def test_all_problems_of_a_schema_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_schema({"a": "int", "A": "int", "_x": "int", "b c": "int", "d": "nonsense"})
    assert [p.split(":")[0] for p in caught.value.context["problems"]] == [
        "'A'",
        "'_x'",
        "'b c'",
        "'d'",
    ]


def test_types_that_delta_has_not_are_refused_and_views_become_plain() -> None:
    with pytest.raises(ConfigError, match="uint8"):
        type_text(pa.uint8())
    assert type_text(pa.large_list(pa.string_view())) == "array<string>"
    assert type_text(pa.timestamp("ns", tz="Europe/Oslo")) == "timestamp"


def test_a_map_without_string_keys_cannot_come_from_json() -> None:
    with pytest.raises(ConfigError, match="map"):
        make_decoder(DecoderSpec(schema=parse_schema({"m": "map<int,string>"})))


def test_merging_adds_at_the_end_and_twice_is_once() -> None:
    base = parse_schema({"a": "int", "s": "struct<x:int>", "l": "array<struct<x:int>>"})
    more = parse_schema(
        {"s": "struct<x:int,y:long>", "b": "string", "l": "array<struct<z:string>>", "a": "long"}
    )
    merged = merge_schema(base, more)
    assert schema_text(merged) == {
        "a": "int",
        "s": "struct<x:int,y:long>",
        "l": "array<struct<x:int,z:string>>",
        "b": "string",
    }
    assert merge_schema(merged, more) == merged


def test_inference_is_wide_and_in_order_of_first_appearance() -> None:
    values = [
        b'{"id":"2024-05-01","n":1,"at":"2024-05-01T12:00:00Z"}',
        b'{"n":2,"price":1,"tags":["a"],"at":null}',
        None,
        b"not json",
        b"[1]",
        b'{"price":1.5,"inner":{"a":true},"tags":[null],"mixed":1,"void":null}',
        b'{"inner":{"b":{"c":[]}},"mixed":"x","inner2":{"_ok":1},"_offset":1,"ID":2}',
    ]
    assert schema_text(infer_schema(values)) == {
        "id": "string",
        "n": "long",
        "at": "string",
        "price": "double",
        "tags": "array<string>",
        "inner": "struct<a:boolean>",
        "mixed": "string",
        "inner2": "struct<_ok:long>",
    }


def test_inference_is_bounded() -> None:
    def endless() -> object:
        number = 0
        while True:
            number += 1
            yield b'{"f%d":1}' % number

    assert len(infer_schema(endless(), max_messages=10)) == 10  # type: ignore[arg-type]
    assert len(infer_schema(endless(), max_messages=10_000, max_columns=7)) == 7  # type: ignore[arg-type]
    assert len(infer_schema(endless(), max_bytes=25)) == 4  # type: ignore[arg-type]
    assert len(infer_schema([b"[" * 200_000, b'{"a":1}'])) == 1
    assert len(infer_schema([])) == 0


def test_inferred_columns_hold_the_sample() -> None:
    values = [json.dumps({"a": n, "b": n / 2, "c": {"d": [n]}}).encode() for n in range(10)]
    decoder = make_decoder(DecoderSpec(schema=infer_schema(values), unknown_fields="reject"))
    decoded = decoder.decode(batch(values))
    assert decoded.payload.drop_columns(["_tombstone"]).to_pylist() == [
        json.loads(v) for v in values
    ]


def test_raw_keeps_every_byte_and_null_is_a_tombstone() -> None:
    values = [b"", b"\x00\xff", None, b"x" * 11, b'{"a":1}']
    decoded = make_decoder(DecoderSpec(format="raw", max_message_bytes=10)).decode(batch(values))
    assert decoded.payload.to_pylist() == [
        {"value": b"", "_tombstone": False},
        {"value": b"\x00\xff", "_tombstone": False},
        {"value": None, "_tombstone": True},
        {"value": b'{"a":1}', "_tombstone": False},
    ]
    assert decoded.kept.tolist() == [0, 1, 2, 4]
    assert [(dead.row, dead.error_class) for dead in decoded.dead] == [(3, "MessageTooLarge")]


def test_empty_batches_decode() -> None:
    for spec in (DecoderSpec(format="raw"), DecoderSpec(schema=pa.schema([("a", pa.int32())]))):
        decoded = make_decoder(spec).decode(batch([]))
        assert (decoded.payload.num_rows, decoded.kept.size, decoded.dead) == (0, 0, [])


def test_a_schema_without_columns_still_keeps_rows() -> None:
    decoder = make_decoder(DecoderSpec(schema=pa.schema([]), unknown_fields="rescue"))
    decoded = decoder.decode(batch([b"{}", b'{"a":1}', b"x", None]))
    assert decoded.kept.tolist() == [0, 1, 3]
    assert decoded.payload.column("_rescued_data").to_pylist() == [None, '{"a":1}', None]


@pytest.mark.parametrize("spec", [DecoderSpec(format="avro"), DecoderSpec(format="json")])
def test_what_cannot_be_decoded_yet_is_a_configuration_error(spec: DecoderSpec) -> None:
    with pytest.raises(ConfigError):
        make_decoder(spec)


def test_the_longest_name_is_a_column() -> None:
    assert len(parse_schema({"x" * MAX_NAME_CHARACTERS: "int"})) == 1
