"""Decoding: nothing raises, nothing vanishes, no field changes (SPEC L 2 and 4)."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylake.codecs import DecoderSpec, infer_schema, make_decoder, merge_schema, parse_schema
from tests.unit.codecs.records import COLUMNS, GOOD, POISON, batch

MORE = os.environ.get("RAYLAKE_EXAMPLES")
POLICIES = st.sampled_from(["evolve", "rescue", "reject"])
NAMES = st.sampled_from(
    ["id", "n", "big", "price", "at", "inner", "tags", "a", "x", "ID", "_q", "y z"]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LONGS = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)


def examples(few: int) -> settings:
    """So many, or many more in the long form (`tests/chaos/test_long_properties.py`)."""
    wanted = int(MORE or few)
    return settings(
        max_examples=wanted, suppress_health_check=[HealthCheck.too_slow], deadline=None
    )


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "boolean": st.booleans(),
    "byte": st.integers(-128, 127),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": LONGS,
    "double": DOUBLES,
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | DOUBLES | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=3),
    max_leaves=8,
)
NUMBER_TEXTS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,22})?([eE][-+]?[0-9]{1,3})?", fullmatch=True
)
INSTANT_TEXTS = st.from_regex(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,10})?)?"
    r"(Z|[+-][0-2][0-9](:?[0-5][0-9])?)?",
    fullmatch=True,
)


@st.composite
def typed(draw: st.DrawFn, depth: int = 0) -> tuple[str, st.SearchStrategy[Any]]:
    """A type text, and a strategy for its values."""
    kind = draw(st.sampled_from([*SCALARS, *(["array", "struct"] if depth < 2 else [])]))
    if kind in SCALARS:
        return kind, st.none() | SCALARS[kind]
    if kind == "array":
        text, values = draw(typed(depth=depth + 1))
        return f"array<{text}>", st.none() | st.lists(values, max_size=3)
    inner = {f"f{i}": draw(typed(depth=depth + 1)) for i in range(draw(st.integers(1, 3)))}
    text = ",".join(f"{name}:{one}" for name, (one, _) in inner.items())
    return f"struct<{text}>", st.none() | st.fixed_dictionaries(
        {name: values for name, (_, values) in inner.items()}
    )


@st.composite
def typed_objects(draw: st.DrawFn) -> tuple[dict[str, str], list[dict[str, Any]]]:
    columns = {f"c{i}": draw(typed()) for i in range(draw(st.integers(1, 4)))}
    values = st.fixed_dictionaries({name: values for name, (_, values) in columns.items()})
    return {name: text for name, (text, _) in columns.items()}, draw(st.lists(values, max_size=6))


@st.composite
def messy_messages(draw: st.DrawFn) -> bytes | None:
    """Random bytes, poison, JSON, JSON with a byte changed, odd values in columns."""
    return draw(
        st.none()
        | st.binary(max_size=40)
        | st.sampled_from([value for value, _ in POISON.values() if len(value) < 2000])
        | st.just(GOOD)
        | JSON_VALUES.map(lambda node: json.dumps(node, ensure_ascii=False).encode())
        | st.dictionaries(NAMES, JSON_VALUES, max_size=4).map(
            lambda node: json.dumps(node).encode()
        )
        | st.builds(
            lambda name, text: f'{{"{name}":{text}}}'.encode(),
            NAMES,
            NUMBER_TEXTS | INSTANT_TEXTS.map(json.dumps),
        )
        | st.builds(
            lambda at, byte: GOOD[:at] + bytes([byte]) + GOOD[at + 1 :],
            st.integers(0, len(GOOD) - 1),
            st.integers(0, 255),
        )
    )


@given(st.lists(messy_messages(), max_size=12), POLICIES)
@examples(60)
def test_property_04_error_resilience_every_record_is_kept_or_dead_and_nothing_raises(
    values: list[bytes | None], policy: Any
) -> None:
    schema = parse_schema(COLUMNS)
    decoded = make_decoder(DecoderSpec(schema=schema, unknown_fields=policy)).decode(batch(values))
    if decoded.additions is not None:
        assert policy == "evolve"
        schema = merge_schema(schema, decoded.additions)
        decoded = make_decoder(DecoderSpec(schema=schema)).decode(batch(values))
    assert decoded.additions is None
    kept, dead = decoded.kept.tolist(), [record.row for record in decoded.dead]
    assert kept == sorted(kept)
    assert dead == sorted(dead)
    assert sorted(kept + dead) == list(range(len(values)))
    assert decoded.payload.num_rows == len(kept)
    decoded.payload.validate(full=True)
    for record in decoded.dead:
        assert record.stage in ("decode", "validate")
        assert record.reason
        record.reason.encode()


@given(st.lists(messy_messages(), max_size=12), st.integers(0, 12), POLICIES)
@examples(30)
def test_property_04_error_resilience_neighbours_do_not_change_a_record(
    values: list[bytes | None], at: int, policy: Any
) -> None:
    if policy == "evolve":
        policy = "rescue"
    decoder = make_decoder(DecoderSpec(schema=parse_schema(COLUMNS), unknown_fields=policy))
    values.insert(min(at, len(values)), GOOD)
    together = decoder.decode(batch(values))
    alone = [decoder.decode(batch([value])) for value in values]
    assert together.payload.to_pylist() == [r for one in alone for r in one.payload.to_pylist()]
    assert [(dead.reason, dead.error_class) for dead in together.dead] == [
        (dead.reason, dead.error_class) for one in alone for dead in one.dead
    ]


@given(st.lists(messy_messages(), max_size=12), POLICIES)
@examples(30)
def test_property_02_field_preservation_the_fast_path_agrees_with_the_exact_path(
    values: list[bytes | None], policy: Any
) -> None:
    columns = COLUMNS | {"x": "decimal(12,3)", "a": "array<double>", "x2": "map<string,long>"}
    schema = parse_schema(columns)
    fast, exact = (
        make_decoder(DecoderSpec(schema=schema, unknown_fields=policy, careful=careful)).decode(
            batch(values)
        )
        for careful in (False, True)
    )
    assert fast.additions == exact.additions
    assert fast.payload == exact.payload
    assert fast.kept.tolist() == exact.kept.tolist()
    assert fast.dead == exact.dead


@given(typed_objects(), st.booleans(), POLICIES)
@examples(40)
def test_property_02_field_preservation_a_row_equals_its_object(
    given_: tuple[dict[str, str], list[dict[str, Any]]], ascii_only: bool, policy: Any
) -> None:
    columns, objects = given_
    values = [json.dumps(one, ensure_ascii=ascii_only).encode() for one in objects]
    spec = DecoderSpec(schema=parse_schema(columns), unknown_fields=policy)
    decoded = make_decoder(spec).decode(batch(values))
    assert decoded.dead == []
    if policy != "reject":
        assert decoded.payload.column("_rescued_data").null_count == decoded.payload.num_rows
    rows = decoded.payload.select(list(columns)).to_pylist()
    assert [json.dumps(row, sort_keys=True) for row in rows] == [
        json.dumps(one, sort_keys=True) for one in objects
    ]


@given(st.lists(st.dictionaries(NAMES | TEXTS, JSON_VALUES, max_size=4), max_size=6))
@examples(40)
def test_property_02_field_preservation_a_row_and_its_rescued_data_are_the_message(
    objects: list[dict[str, Any]],
) -> None:
    values = [json.dumps(one).encode() for one in objects]
    decoder = make_decoder(DecoderSpec(schema=infer_schema(values), unknown_fields="rescue"))
    decoded = decoder.decode(batch(values))
    for row, at in zip(decoded.payload.to_pylist(), decoded.kept.tolist(), strict=True):
        kept = json.loads(row["_rescued_data"] or "{}")
        for name, value in objects[at].items():
            if value is None or name in kept:
                continue
            text = row[name]
            if isinstance(value, dict | list):
                assert text is not None
            elif isinstance(text, str) and not isinstance(value, str):
                assert text == json.dumps(value)
            else:
                assert text == value
    assert len(decoded.kept) + len(decoded.dead) == len(values)
