"""One broken message is one dead letter; its neighbours are rows (FAILURES 14 and 15)."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raylake.codecs import DecoderSpec, make_decoder, parse_schema
from raylake.codecs.exact_path import Plan
from tests.unit.codecs.records import COLUMNS, GOOD, ILL_TYPED, POISON, batch, decode

_SHAPES = [b'{"n":%d}', b'{"n": %d }', b'{"id":"%d"}', b'{"n":%d,"id":"\xc3\xa9","tags":[]}']


def _good(count: int) -> list[bytes | None]:
    return [_SHAPES[i % len(_SHAPES)] % i for i in range(count)]


@pytest.mark.parametrize("policy", ["evolve", "rescue", "reject"])
@pytest.mark.parametrize("kind", POISON)
def test_failure_14_a_poison_message_is_one_dead_letter_that_says_why(
    kind: str, policy: str
) -> None:
    value, error_class = POISON[kind]
    decoded = decode([GOOD, value, GOOD], unknown_fields=policy)
    assert decoded.additions is None
    assert decoded.kept.tolist() == [0, 2]
    assert decoded.payload.column("id").to_pylist() == ["a", "a"]
    [dead] = decoded.dead
    assert (dead.row, dead.error_class) == (1, error_class)
    assert dead.stage == ("validate" if error_class == "TypeMismatch" else "decode")
    assert 5 < len(dead.reason) < 600
    dead.reason.encode()


def test_failure_14_999_good_and_1_bad_give_999_rows_wherever_the_bad_one_is() -> None:
    for number, (value, error_class) in enumerate(POISON.values()):
        values = _good(1000)
        at = number * 997 % 1000
        values[at] = value
        decoded = decode(values)
        assert decoded.payload.num_rows == 999
        assert decoded.kept.tolist() == [i for i in range(1000) if i != at]
        assert [(dead.row, dead.error_class) for dead in decoded.dead] == [(at, error_class)]


def test_failure_14_a_batch_of_only_poison_has_no_rows() -> None:
    decoded = decode([value for value, _ in POISON.values()])
    assert decoded.payload.num_rows == 0
    assert decoded.payload.schema.names == [*COLUMNS, "_tombstone", "_rescued_data"]
    assert [dead.row for dead in decoded.dead] == list(range(len(POISON)))
    assert [dead.error_class for dead in decoded.dead] == [name for _, name in POISON.values()]


def test_failure_14_a_null_value_is_a_tombstone_and_kept() -> None:
    decoded = decode([GOOD, None, b"", None])
    assert decoded.kept.tolist() == [0, 1, 3]
    assert decoded.payload.column("_tombstone").to_pylist() == [False, True, True]
    assert decoded.payload.column("id").to_pylist() == ["a", None, None]
    assert decoded.payload.column("_rescued_data").null_count == 3


def test_failure_14_a_huge_message_is_refused_before_it_is_parsed() -> None:
    limit = len(GOOD)
    decoded = decode([GOOD, GOOD + b" ", b"[" * 1000], max_message_bytes=limit)
    assert decoded.kept.tolist() == [0]
    assert [dead.error_class for dead in decoded.dead] == ["MessageTooLarge"] * 2
    assert f"{limit + 1} bytes" in decoded.dead[0].reason


def test_depth_counts_brackets_outside_strings_only() -> None:
    text = b'{"id":"' + b"[{" * 500 + b'\\"[[[[' + b'"}'
    assert decode([text]).dead == []
    assert decode([b'{"inner":{"a":1}}'], max_depth=2).dead == []
    assert decode([b'{"x":{"a":1}}'], max_depth=1).dead[0].error_class == "TooDeep"


def test_an_embedded_nul_and_every_escape_are_data() -> None:
    value = b'{"id":"a\\u0000b\\n\\"\\\\\\/\\ud83d\\ude00\\u00e9"}'
    assert decode([value]).payload.column("id").to_pylist() == ['a\0b\n"\\/\U0001f600é']


@pytest.mark.parametrize(("column", "text"), ILL_TYPED)
def test_failure_15_a_value_that_the_column_cannot_take_costs_only_its_row(
    column: str, text: str
) -> None:
    values: list[bytes | None] = [b'{"x":null}'] * 1000
    values[613] = b'{"x":' + text.encode() + b"}"
    decoded = decode(values, {"x": column})
    assert decoded.payload.num_rows == 999
    assert [dead.row for dead in decoded.dead] == [613]
    assert decoded.payload.column("x").null_count == 999


def test_failure_15_what_only_the_column_builder_refuses_is_bisected_to_the_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[int] = []
    real = Plan.batch

    def batch_that_refuses_13(self: Plan, nodes: list[dict[str, int]], texts: list[None]) -> object:
        built.append(len(nodes))
        if any(node and node.get("n") in (13, 14, 700) for node in nodes):
            raise pa.ArrowInvalid("a builder's refusal")
        return real(self, nodes, texts)

    monkeypatch.setattr(Plan, "batch", batch_that_refuses_13)
    spec = DecoderSpec(schema=parse_schema({"n": "int"}), careful=True)
    decoded = make_decoder(spec).decode(batch([b'{"n":%d}' % i for i in range(1000)]))
    assert [(dead.row, dead.stage) for dead in decoded.dead] == [
        (13, "build"),
        (14, "build"),
        (700, "build"),
    ]
    assert decoded.payload.column("n").to_pylist() == decoded.kept.tolist()
    assert decoded.payload.num_rows == 997
    assert len(built) < 60


def test_a_fast_builder_that_fails_leaves_the_decision_to_the_exact_path() -> None:
    decoder = make_decoder(DecoderSpec(schema=parse_schema({"d": "decimal(38,37)"})))
    decoded = decoder.decode(batch([b'{"d":9.5}', b'{"d":"9.50"}', b'{"d":99}']))
    assert (
        decoded.payload.column("d").cast(pa.string()).to_pylist()[:2]
        == ["9." + "5".ljust(37, "0")] * 2
    )
    assert decoded.payload.column("_rescued_data").to_pylist() == [None, None, '{"d":99}']
