"""Fingerprints and differences of schemas."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raylake.delta.schema import (
    arrow_schema,
    delta_schema,
    differences,
    fingerprint,
    missing,
    refuse_names,
)
from raylake.errors import SchemaConflict

BASE = pa.schema(
    [
        ("a", pa.int64()),
        ("s", pa.struct([("x", pa.string()), ("l", pa.list_(pa.struct([("k", pa.int32())])))])),
        ("m", pa.map_(pa.string(), pa.float64())),
    ]
)


def test_a_fingerprint_survives_the_way_through_delta() -> None:
    assert fingerprint(arrow_schema(delta_schema(BASE))) == fingerprint(BASE)


def test_string_and_large_string_are_one_type() -> None:
    assert fingerprint(pa.schema([("a", pa.large_string())])) == fingerprint(
        pa.schema([("a", pa.string())])
    )


@pytest.mark.parametrize(
    "other",
    [
        pa.schema([("b", pa.int64())]),
        pa.schema([("a", pa.int32())]),
        pa.schema([pa.field("a", pa.int64(), nullable=False)]),
        pa.schema([("a", pa.int64()), ("b", pa.int64())]),
    ],
)
def test_name_type_nullability_and_order_change_it(other: pa.Schema) -> None:
    assert fingerprint(other) != fingerprint(pa.schema([("a", pa.int64())]))
    swapped = pa.schema(list(reversed(list(BASE))))
    assert fingerprint(swapped) != fingerprint(BASE)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (pa.schema([("z", pa.int64())]), []),
        (pa.schema([("a", pa.string())]), ["a: string is asked for, the table has long"]),
        (
            pa.schema([("s", pa.struct([("x", pa.int64())]))]),
            ["s.x: long is asked for, the table has string"],
        ),
        (
            pa.schema([("s", pa.struct([("X", pa.string())]))]),
            ["s.X: differs only in case from the table's 'x'"],
        ),
        (
            pa.schema([("m", pa.map_(pa.string(), pa.int64()))]),
            ["m.valueType: long is asked for, the table has double"],
        ),
        (pa.schema([("s", pa.int64())]), ["s: long is asked for, the table has struct"]),
    ],
)
def test_differences_name_the_column(wanted: pa.Schema, found: list[str]) -> None:
    assert differences(wanted, BASE) == found


def test_missing_finds_what_lies_in_structs_and_lists() -> None:
    inner = pa.struct([("l", pa.list_(pa.struct([("k", pa.int32()), ("new", pa.int32())])))])
    wanted = pa.schema([("a", pa.int64()), ("s", inner), ("z", pa.string())])
    assert missing(wanted, BASE).names == ["s", "z"]
    assert missing(BASE, BASE).names == []


@pytest.mark.parametrize(
    "schema",
    [
        pa.schema([("a", pa.int64()), ("A", pa.int64())]),
        pa.schema([("a", pa.int64()), ("a", pa.int64())]),
        pa.schema([("s", pa.struct([("x", pa.int64()), ("X", pa.int64())]))]),
        pa.schema([("l", pa.list_(pa.struct([("a b", pa.int64())])))]),
        pa.schema([("m", pa.map_(pa.string(), pa.struct([("", pa.int64())])))]),
    ],
)
def test_names_that_another_engine_could_not_read_are_refused(schema: pa.Schema) -> None:
    with pytest.raises(SchemaConflict):
        refuse_names(schema, "here")
