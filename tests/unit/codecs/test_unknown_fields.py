"""Unknown fields by policy, and a stated outcome for every awkward name (SPEC A6)."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from raylake.codecs import (
    Decoded,
    DecoderSpec,
    make_decoder,
    merge_schema,
    parse_schema,
    schema_text,
)
from raylake.codecs.names import MAX_NAME_CHARACTERS
from tests.unit.codecs.records import batch, decode, rescued

ONE = {"id": "string"}


def added(
    values: list[bytes | None], columns: dict[str, str] | None = None, **spec: int
) -> dict[str, str]:
    decoded = decode(values, ONE if columns is None else columns, **spec)
    assert decoded.additions is not None
    return schema_text(decoded.additions)


def evolved(values: list[bytes | None], columns: dict[str, str], **spec: int) -> Decoded:
    schema = parse_schema(columns)
    for _ in range(2):
        decoded = make_decoder(DecoderSpec(schema=schema, **spec)).decode(batch(values))
        if decoded.additions is None:
            return decoded
        schema = merge_schema(schema, decoded.additions)
    pytest.fail("the evolved schema asks for more")


def test_evolve_asks_for_wide_types_in_order_of_first_appearance() -> None:
    values: list[bytes | None] = [
        b'{"id":"a","z":1}',
        b'{"id":"b","a":1.5,"z":2,"t":"2024-05-01T12:00:00Z","ok":true}',
        b'{"id":"c","s":{"x":[1,2.5],"y":{"k":null,"v":"w"}},"n":null,"e":[],"o":{}}',
    ]
    assert added(values) == {
        "z": "long",
        "a": "double",
        "t": "string",
        "ok": "boolean",
        "s": "struct<x:array<double>,y:struct<v:string>>",
    }
    decoded = evolved(values, ONE)
    assert decoded.payload.column("z").to_pylist() == [1, 2, None]
    assert rescued(decoded, 0) is None
    assert rescued(decoded, 2) == '{"s":{"y":{"k":null}},"n":null,"e":[],"o":{}}'


@pytest.mark.parametrize(
    ("first", "second", "dtype"),
    [
        ("1", "2.5", "double"),
        ("1", '"a"', "string"),
        ("true", "1", "string"),
        ("1.5", "false", "string"),
        ("null", "1", "long"),
        ("9223372036854775808", "1", "string"),
        ("1e400", "1", "string"),
        ("[1]", "[2.5]", "array<double>"),
        ("[]", '["a"]', "array<string>"),
        ('{"a":1}', '{"b":"c"}', "struct<a:long,b:string>"),
    ],
)
def test_evolve_merges_the_types_of_a_batch_and_loses_no_row(
    first: str, second: str, dtype: str
) -> None:
    values: list[bytes | None] = [f'{{"x":{text}}}'.encode() for text in (first, second)]
    assert added(values) == {"x": dtype}
    decoded = evolved(values, ONE)
    assert decoded.dead == []
    assert decoded.kept.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("first", "second"), [("1", '{"a":1}'), ('{"a":1}', "[1]"), ("[1]", '"a"')]
)
def test_the_kind_that_came_first_wins_and_the_other_is_a_dead_letter(
    first: str, second: str
) -> None:
    values: list[bytes | None] = [f'{{"x":{text}}}'.encode() for text in (first, second)]
    decoded = evolved(values, ONE)
    assert decoded.kept.tolist() == [0]
    assert [(dead.row, dead.error_class) for dead in decoded.dead] == [(1, "TypeMismatch")]


def test_evolve_grows_structs_wherever_they_are() -> None:
    columns = {
        "id": "string",
        "s": "struct<a:int>",
        "l": "array<struct<a:int>>",
        "m": "map<string,struct<a:int>>",
    }
    value = b'{"s":{"a":1,"b":2},"l":[{"a":1},{"c":"x"}],"m":{"k":{"d":true}}}'
    assert added([value], columns) == {
        "s": "struct<a:int,b:long>",
        "l": "array<struct<a:int,c:string>>",
        "m": "map<string,struct<a:int,d:boolean>>",
    }
    row = evolved([value], columns).payload.to_pylist()[0]
    assert row["s"] == {"a": 1, "b": 2}
    assert row["l"] == [{"a": 1, "c": None}, {"a": None, "c": "x"}]
    assert row["m"] == [("k", {"a": None, "d": True})]
    assert row["_rescued_data"] is None


def test_a_dead_letter_adds_no_column() -> None:
    values: list[bytes | None] = [b'{"id":{},"x":1}', b'{"id":"a","y":1,"y":2}', b'{"id":"b"}']
    decoded = decode(values, ONE)
    assert decoded.additions is None
    assert decoded.kept.tolist() == [2]


def test_rescue_keeps_the_exact_text_beside_the_row() -> None:
    value = (
        b'{"id":"a", "x": 1.500 ,"big":123456789012345678901234567890, "e": -1.0E+5,'
        b'"s":{"k":[1.0,"\\u00e9\\n",null,true]}}'
    )
    decoded = decode([value, b'{"id":"b"}'], ONE, unknown_fields="rescue")
    assert rescued(decoded) == (
        '{"x":1.500,"big":123456789012345678901234567890,"e":-1.0E+5,'
        '"s":{"k":[1.0,"é\\n",null,true]}}'
    )
    assert rescued(decoded, 1) is None
    assert decoded.payload.column("id").to_pylist() == ["a", "b"]


def test_reject_names_the_unknown_fields() -> None:
    columns = {"id": "string", "s": "struct<a:int>"}
    values: list[bytes | None] = [
        b'{"id":"a"}',
        b'{"id":"b","x":1}',
        b'{"s":{"a":1,"b":2}}',
        b'{"a":1,"b":2,"c":3,"d":4,"e":5}',
        b'{"id":"c","x":null}',
    ]
    decoded = decode(values, columns, unknown_fields="reject")
    assert decoded.kept.tolist() == [0]
    assert {dead.error_class for dead in decoded.dead} == {"UnknownField"}
    assert "'x'" in decoded.dead[0].reason
    assert "'s.b'" in decoded.dead[1].reason
    assert "and 2 more" in decoded.dead[2].reason
    assert decoded.payload.schema.names == ["id", "s", "_tombstone"]


AWKWARD = [
    "",
    "_offset",
    "_x",
    "__",
    "ID",
    "Id",
    "a b",
    "a,b",
    "a;b",
    "a{b",
    "a}",
    "(a",
    "a)",
    "a\nb",
    "a\tb",
    "a=b",
    "a.b",
    "a`b",
    "a\0b",
    "a\x7f",
    "x" * (MAX_NAME_CHARACTERS + 1),
]


@pytest.mark.parametrize("policy", ["evolve", "rescue"])
@pytest.mark.parametrize("name", AWKWARD)
def test_a_name_that_can_be_no_column_is_kept_in_rescued_data(name: str, policy: str) -> None:
    value = json.dumps({"id": "a", name: [1, "b"]}).encode()
    decoded = decode([value], ONE, unknown_fields=policy)
    assert decoded.additions is None
    assert decoded.payload.column("id").to_pylist() == ["a"]
    assert json.loads(rescued(decoded) or "") == {name: [1, "b"]}


@pytest.mark.parametrize("name", AWKWARD)
def test_such_names_are_no_fields_of_new_structs_either(name: str) -> None:
    if name.startswith("_"):
        pytest.skip("only the top level has columns of ours")
    decoded = evolved([json.dumps({"s": {"id": 1, name: 2}}).encode()], ONE)
    assert decoded.payload.to_pylist()[0]["s"] == {"id": 1}
    assert json.loads(rescued(decoded) or "") == {"s": {name: 2}}


@pytest.mark.parametrize("name", ["é", "数量", "a-b", "a/b", "1", "select", "$x", "a:b", "x" * 255])
def test_other_names_are_columns(name: str) -> None:
    value = json.dumps({"id": "a", name: 1}).encode()
    assert evolved([value], ONE).payload.column(name).to_pylist() == [1]


def test_two_new_names_that_differ_in_case_give_one_column() -> None:
    decoded = evolved([b'{"Qty":1,"qty":2}', b'{"qty":3}'], ONE)
    assert decoded.payload.column("Qty").to_pylist() == [1, None]
    assert [rescued(decoded, row) for row in (0, 1)] == ['{"qty":2}', '{"qty":3}']


def test_thousands_of_distinct_names_stop_at_max_columns_and_lose_nothing() -> None:
    values: list[bytes | None] = [
        json.dumps({"id": "a", **{f"f{n}_{k}": n for k in range(50)}}).encode() for n in range(60)
    ]
    decoded = evolved(values, ONE, max_columns=1000)
    assert len(decoded.payload.schema.names) == 1000 + 2
    assert decoded.payload.num_rows == 60
    for row, (value, out) in enumerate(zip(values, decoded.payload.to_pylist(), strict=True)):
        message = json.loads(value or b"")
        kept = json.loads(rescued(decoded, row) or "{}")
        columns = {k: v for k, v in out.items() if v is not None and not k.startswith("_")}
        assert columns | kept == message
        assert not columns.keys() & kept.keys()


def test_a_struct_that_has_no_room_stays_out_whole() -> None:
    decoded = evolved([b'{"s":{"a":1,"b":2},"x":1}'], ONE, max_columns=3)
    assert decoded.payload.schema.names == ["id", "x", "_tombstone", "_rescued_data"]
    assert rescued(decoded) == '{"s":{"a":1,"b":2}}'


def test_a_field_nested_deeper_than_a_table_takes_is_kept_in_rescued_data() -> None:
    value = b'{"x":' * 40 + b"1" + b"}" * 40
    decoded = evolved([value, b'{"y":1}'], ONE)
    assert decoded.payload.num_rows == 2
    assert rescued(decoded) == value.decode()


def test_a_tables_whole_schema_may_be_given() -> None:
    schema = pa.schema(
        [("id", pa.large_string()), ("_offset", pa.int64()), ("_rescued_data", pa.string())]
    )
    decoder = make_decoder(DecoderSpec(schema=schema))
    assert decoder.schema.names == ["id", "_tombstone", "_rescued_data"]
    decoded = decoder.decode(batch([b'{"id":"a","_offset":7}']))
    assert rescued(decoded) == '{"_offset":7}'
    assert decoded.kept.dtype == np.int64
