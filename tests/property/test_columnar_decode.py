"""The columnar decoder makes of every message what the plain one makes of it (SPEC L 2 and 4)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylake.codecs import DecoderSpec, JsonDecoder, columnar, columns, parse_schema
from raylake.codecs.columnar import ColumnarJsonDecoder
from tests.property.json_making import Making
from tests.property.test_decode_properties import POLICIES, messy_messages
from tests.unit.codecs.comparing import assert_equal, assert_same, decoders
from tests.unit.codecs.guarding import guarded_array, guarded_batch
from tests.unit.codecs.records import COLUMNS, POISON, batch

EVENTS = {
    "event_id": "string",
    "user": "struct<id:long,name:string,tags:array<string>,at:struct<lat:double,lon:double>>",
    "quantity": "int",
    "small": "short",
    "price": "decimal(18,2)",
    "ratio": "double",
    "paid": "boolean",
    "created_at": "timestamp",
    "day": "date",
    "bytes": "binary",
    "items": "array<struct<sku:string,n:int,price:double>>",
    "extra": "map<string,string>",
}
LIMITS = st.fixed_dictionaries(
    {"unknown_fields": POLICIES},
    optional={
        "max_columns": st.sampled_from([1, 3, 25]),
        "max_depth": st.integers(1, 5),
        "max_message_bytes": st.integers(2, 300),
    },
)
ODD = st.sampled_from([0.0, 0.02, 0.2])
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@given(st.randoms(use_true_random=False), st.integers(0, 12), ODD, LIMITS)
@settings(max_examples=150, suppress_health_check=SLOW, deadline=None)
def test_property_02_field_preservation_any_messages_under_any_schema(
    random: Random, count: int, odd: float, limits: dict[str, Any]
) -> None:
    making = Making(random, odd)
    schema = making.schema()
    values = [making.value(schema) for _ in range(count)]
    assert_same(DecoderSpec(schema=schema, **limits), batch(values))


@given(st.lists(messy_messages(), max_size=12), POLICIES)
@settings(max_examples=30, suppress_health_check=SLOW, deadline=None)
def test_property_04_error_resilience_messy_messages(
    values: list[bytes | None], policy: Any
) -> None:
    columns = COLUMNS | {"x": "decimal(12,3)", "a": "array<double>", "x2": "map<string,long>"}
    assert_same(DecoderSpec(schema=parse_schema(columns), unknown_fields=policy), batch(values))


@pytest.mark.parametrize("policy", ["evolve", "rescue", "reject"])
def test_property_02_field_preservation_360_schemas_with_wide_messages(policy: Any) -> None:
    """Seeded: as the first property, with more rows and columns than Hypothesis can afford."""
    kept = dead = vouched = 0
    for seed in range(120):
        making = Making(Random(f"{policy} {seed}"), odd=(0.0, 0.01, 0.1)[seed % 3])
        schema = making.schema(max_columns=30)
        values = [making.value(schema) for _ in range(30)]
        spec = DecoderSpec(schema=schema, unknown_fields=policy)
        decoded = assert_same(spec, batch(values))
        kept, dead = kept + len(decoded.kept), dead + len(decoded.dead)
        vouched += len(values) - (0 if decoded.by_row is None else len(decoded.by_row))
    assert kept > 1000
    assert dead > 500
    # Else the decoders are equal because they are the same one.
    assert vouched > 700


@pytest.mark.parametrize("batches", [2, pytest.param(10, marks=pytest.mark.long)])
@pytest.mark.parametrize("policy", ["rescue", "reject"])
def test_property_04_error_resilience_damaged_messages(policy: Any, batches: int) -> None:
    """In the long form 100,000 of them, over both policies."""
    spec = DecoderSpec(schema=parse_schema(EVENTS), unknown_fields=policy)
    plain, quick = JsonDecoder(spec), ColumnarJsonDecoder(spec)
    making = Making(Random(f"damaged, {policy}"), odd=0.01)
    fields = parse_schema(EVENTS)
    made = [making.message(fields) for _ in range(1000)]
    corpus = [made[row] for row in plain.decode(batch(made)).kept]
    kept = dead = 0
    for _ in range(batches):
        records = batch([making.broken(making.random.choice(corpus)) for _ in range(5000)])
        found = quick.decode(records)
        assert_equal(found, plain.decode(records), records, "plain")
        kept, dead = kept + len(found.kept), dead + len(found.dead)
    assert kept > 200 * batches
    assert dead > 2000 * batches


@pytest.mark.parametrize("seed", range(4))
def test_a_message_cut_at_every_byte_and_changed_at_every_byte(seed: int) -> None:
    making = Making(Random(seed))
    fields = parse_schema(EVENTS)
    message = making.message(fields)[:400]
    values = [message[:at] for at in range(len(message) + 1)]
    for byte in b'\x00"\\{}[]:,-0e.n \xff\xc3\xed':
        one = bytes([byte])
        values += [message[:at] + one + message[at + 1 :] for at in range(len(message))]
        values += [message[:at] + one + message[at:] for at in range(len(message))]
    values += [message[:at] + message[at + 1 :] for at in range(len(message))]
    spec = DecoderSpec(schema=fields, unknown_fields="rescue")
    assert_same(spec, batch(values), exact=False)


@given(st.randoms(use_true_random=False), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=60, suppress_health_check=SLOW, deadline=None)
def test_a_slice_of_a_batch_is_decoded_as_the_rows_that_are_in_it(
    random: Random, before: int, count: int, after: int
) -> None:
    making = Making(random)
    schema = making.schema(max_columns=6)
    values = [making.value(schema) for _ in range(before + count + after)]
    spec = DecoderSpec(schema=schema, unknown_fields="rescue")
    sliced = batch(values).slice(before, count)
    assert sliced.num_rows == count
    assert_same(spec, sliced)
    decoder = ColumnarJsonDecoder(spec)
    alone = batch(values[before : before + count])
    assert_equal(decoder.decode(sliced), decoder.decode(alone), alone, "the rows alone")


def test_a_batch_without_rows_and_columns_without_nulls_or_values() -> None:
    for schema in (pa.schema([]), parse_schema(EVENTS)):
        for policy in ("evolve", "rescue", "reject"):
            spec = DecoderSpec(schema=schema, unknown_fields=policy)
            for values in ([], [None], [None] * 9, [b"{}"], [b"{}"] * 9, [b""], [b"", None, b"{}"]):
                assert_same(spec, batch(values))
                assert_same(spec, batch([b'{"x":1}', *values, None]).slice(1, len(values)))


@pytest.mark.parametrize(
    "name", ['a"b', "a\\u0062", "a\\", 'a\\"', "a\nb", "\x00", "é", "\x7f", ""]
)
def test_a_name_that_json_escapes_is_not_taken_as_it_is(name: str) -> None:
    schema = pa.schema([(name, pa.int64()), ("b", pa.int64()), ("ab", pa.int64())])
    names = [name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1]]
    values = [
        before + b'"' + one.encode() + b'":1' + after
        for one in names
        for before, after in ((b"{", b"}"), (b"{", b',"ab":2}'), (b'{"b":1,', b"}"))
    ]
    for policy in ("evolve", "rescue", "reject"):
        assert_same(DecoderSpec(schema=schema, unknown_fields=policy), batch(values))


def test_a_batch_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "_MAX_SLOTS", 40)
    for seed in range(20):
        making = Making(Random(f"passes {seed}"), odd=0.05)
        schema = making.schema(max_columns=6)
        policy: Any = ("evolve", "rescue", "reject")[seed % 3]
        spec = DecoderSpec(schema=schema, unknown_fields=policy)
        assert_same(spec, batch([making.value(schema) for _ in range(70)]))


def test_every_poison_at_every_place_of_the_first_rows() -> None:
    values = [value for value, _ in POISON.values()]
    for policy in ("evolve", "rescue", "reject"):
        spec = DecoderSpec(schema=parse_schema(COLUMNS), unknown_fields=policy)
        assert_same(spec, batch(values))
        for at in range(0, len(values), 31):
            assert_same(spec, batch([*values[at:], None, *values[:at]]))


def test_one_decoder_in_several_threads_at_once() -> None:
    making = Making(Random("threads"), odd=0.02)
    fields = parse_schema(EVENTS)
    spec = DecoderSpec(schema=fields, unknown_fields="rescue")
    batches = [batch([making.value(fields) for _ in range(200)]) for _ in range(10)]
    decoder = decoders(spec)["columnar"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(decoder.decode, batches * 2))
    plain = JsonDecoder(spec)
    for one, records in zip(found, batches * 2, strict=True):
        assert_equal(one, plain.decode(records), records, "plain")


class _GuardedNumpy:
    """numpy, but for new arrays: they lie before a page that nobody may touch."""

    empty = zeros = staticmethod(guarded_array)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def test_nothing_is_read_or_written_beyond_its_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does ends this process."""
    monkeypatch.setattr(columns, "np", _GuardedNumpy())
    for seed in range(150):
        making = Making(Random(f"bounds {seed}"), odd=0.02)
        schema = making.schema(max_columns=6)
        values = [making.value(schema) for _ in range(making.random.choice([1, 1, 2, 7, 40]))]
        if values[-1] and seed % 2:
            values[-1] = values[-1][: making.random.randrange(len(values[-1]) + 1)]
        spec = DecoderSpec(schema=schema, unknown_fields="rescue")
        records = guarded_batch(values)
        found = ColumnarJsonDecoder(spec).decode(records)
        assert_equal(found, JsonDecoder(spec).decode(records), records, "plain")
