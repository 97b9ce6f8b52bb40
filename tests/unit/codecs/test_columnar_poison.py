"""Poison at columnar speed: found, told as the plain path tells it, every neighbour kept."""

from __future__ import annotations

from typing import Any

import pytest

from raylake.codecs import Decoded, DecoderSpec, parse_schema
from raylake.codecs.columnar import ColumnarJsonDecoder
from tests.unit.codecs.comparing import assert_same
from tests.unit.codecs.records import COLUMNS, GOOD, ILL_TYPED, POISON, batch

_SHAPES = [b'{"n":%d}', b'{"n": %d }', b'{"id":"%d"}', b'{"n":%d,"id":"\xc3\xa9","tags":[]}']


def _good(count: int) -> list[bytes | None]:
    return [_SHAPES[i % len(_SHAPES)] % i for i in range(count)]


def _decode(values: list[bytes | None], columns: dict[str, str], **spec: Any) -> Decoded:
    return ColumnarJsonDecoder(DecoderSpec(schema=parse_schema(columns), **spec)).decode(
        batch(values)
    )


@pytest.mark.parametrize("policy", ["evolve", "rescue", "reject"])
def test_failure_14_each_poison_among_999_good_rows_is_one_dead_letter(policy: Any) -> None:
    decoder = ColumnarJsonDecoder(DecoderSpec(schema=parse_schema(COLUMNS), unknown_fields=policy))
    good = _good(1000)
    whole = decoder.decode(batch(good)).payload.column("n").to_pylist()
    for number, (kind, (value, error_class)) in enumerate(POISON.items()):
        at = number * 997 % 1000
        decoded = decoder.decode(batch([*good[:at], value, *good[at + 1 :]]))
        assert decoded.kept.tolist() == [i for i in range(1000) if i != at], kind
        assert [(dead.row, dead.error_class) for dead in decoded.dead] == [(at, error_class)], kind
        stage = "validate" if error_class == "TypeMismatch" else "decode"
        assert decoded.dead[0].stage == stage, kind
        assert decoded.payload.column("n").to_pylist() == whole[:at] + whole[at + 1 :], kind


def test_failure_14_poison_has_the_reason_of_the_plain_path() -> None:
    for policy in ("evolve", "rescue", "reject"):
        values = [v for value, _ in POISON.values() for v in (GOOD, value, None)]
        spec = DecoderSpec(schema=parse_schema(COLUMNS), unknown_fields=policy)
        decoded = assert_same(spec, batch(values))
        assert [dead.row for dead in decoded.dead] == [3 * i + 1 for i in range(len(POISON))]


def test_failure_14_a_message_is_read_within_its_own_bounds() -> None:
    """The bytes behind a cut message would complete it."""
    values: list[bytes | None] = [b'{"n":1', b'2}{"n":3}', b'{"id":"a', b'b"}', b'{"n":4}', b"4"]
    decoded = _decode(values, COLUMNS)
    assert decoded.payload.column("n").to_pylist() == [4]
    assert decoded.kept.tolist() == [4]
    pieces: list[bytes | None] = [GOOD[at : at + 1] for at in range(len(GOOD))]
    assert _decode(pieces, COLUMNS).kept.tolist() == []


@pytest.mark.parametrize(("column", "text"), ILL_TYPED)
def test_failure_15_a_value_that_the_column_cannot_take_costs_only_its_row(
    column: str, text: str
) -> None:
    values: list[bytes | None] = [b'{"x":null}'] * 1000
    values[613] = b'{"x":' + text.encode() + b"}"
    decoded = _decode(values, {"x": column})
    assert decoded.payload.num_rows == 999
    assert [dead.row for dead in decoded.dead] == [613]
    assert decoded.payload.column("x").null_count == 999


def test_failure_16_a_batch_of_only_poison_has_no_rows() -> None:
    decoded = _decode([value for value, _ in POISON.values()] * 3, COLUMNS)
    assert decoded.payload.num_rows == 0
    assert decoded.payload.schema.names == [*COLUMNS, "_tombstone", "_rescued_data"]
    assert [dead.error_class for dead in decoded.dead] == [name for _, name in POISON.values()] * 3


def test_a_null_value_is_a_tombstone_among_rows() -> None:
    decoded = _decode([GOOD, None, b"", None, GOOD], COLUMNS)
    assert decoded.kept.tolist() == [0, 1, 3, 4]
    assert decoded.payload.column("_tombstone").to_pylist() == [False, True, True, False]
    assert decoded.payload.column("id").to_pylist() == ["a", None, None, "a"]


def test_the_sign_of_a_zero_is_kept() -> None:
    spec = DecoderSpec(schema=parse_schema({"d": "double", "f": "float"}))
    values = [b'{"d":-0,"f":-0}', b'{"d":-0.0,"f":-0e5}', b'{"d":0,"f":[]}', b'{"d":0,"f":0}']
    decoded = assert_same(spec, batch([*values, *(b" " + value + b" " for value in values)]))
    signs = [str(value) for value in decoded.payload.column("d").to_pylist()]
    assert signs == ["-0.0", "-0.0", "0.0"] * 2


def test_a_schema_deeper_than_the_messages_may_be() -> None:
    columns = {"x": "struct<a:array<int>>"}
    values: list[bytes | None] = [
        b'{"x":{"a":[]}}',
        b'{"x":{}}',
        b'{"x":null}',
        b'{"x":{"a":[[]]}}',
    ]
    for depth in (1, 2, 3, 4):
        spec = DecoderSpec(schema=parse_schema(columns), max_depth=depth)
        decoded = assert_same(spec, batch(values))
        assert [dead.error_class for dead in decoded.dead].count("TooDeep") == max(4 - depth, 0)
