"""Rules against what they mean in plain Python, row by row; rows through the quarantine."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from raylake.quality import row_json
from raylake.quality.errors import RuleRefused
from raylake.quality.rules import RuleSet
from tests.harness.quality import Look, check, failed, rule

UTC = dt.UTC
TEXTS = st.text(st.characters(codec="utf-8"), max_size=4)
TIMES = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
CENTS = st.integers(-(10**6), 10**6).map(lambda units: Decimal(units).scaleb(-2))
VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "byte": (pa.int8(), st.integers(-128, 127)),
    "long": (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
    "double": (pa.float64(), st.floats(width=64)),
    "decimal": (pa.decimal128(10, 2), CENTS),
    "text": (pa.string(), TEXTS),
    "flag": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), st.dates()),
    "time": (pa.timestamp("us", "UTC"), TIMES),
}
few = settings(max_examples=60, deadline=None)


@st.composite
def columns(draw: st.DrawFn, *names: str) -> tuple[str, pa.DataType, list[Any]]:
    """A kind, its type, and values of it with nulls in between."""
    name = draw(st.sampled_from(names or tuple(VALUES)))
    kind, values = VALUES[name]
    return name, kind, draw(st.lists(st.none() | values, max_size=12))


def table(kind: pa.DataType, values: list[Any]) -> pa.Table:
    return pa.table({"x": pa.array(values, kind)})


@few
@given(st.lists(columns(), min_size=1, max_size=4))
def test_property_09_not_null_keeps_exactly_the_rows_with_values(
    given_: list[tuple[str, pa.DataType, list[Any]]],
) -> None:
    count = min(len(values) for _, _, values in given_)
    rows = pa.table({f"c{n}": pa.array(v[:count], k) for n, (_, k, v) in enumerate(given_)})
    names = rows.column_names
    expected = [at for at, row in enumerate(rows.to_pylist()) if None in row.values()]
    assert failed(rows, rule("not_null", columns=names)) == expected
    found = check(rows, rule("not_null", columns=names, on_failure="quarantine"))
    for one in found.rejected:
        for place in one.places.to_pylist():
            row = rows.slice(place, 1).to_pylist()[0]
            assert one.column == next(name for name in names if row[name] is None)


def _written(value: Any) -> Any:
    """A value as a pipeline file has it."""
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _exact(value: Any) -> Any:
    return Decimal(value) if isinstance(value, int | float | Decimal) else value


@few
@given(st.data())
def test_property_10_quality_metrics_of_a_range_are_those_of_plain_python(
    data: st.DataObject,
) -> None:
    name, kind, values = data.draw(
        columns("byte", "long", "double", "decimal", "text", "date", "time")
    )
    bounds = VALUES[name][1]
    if name in ("byte", "long", "decimal"):
        bounds = bounds | st.integers(-(2**70), 2**70) | CENTS | st.decimals(-200, 200, places=4)
    if name == "double":
        bounds = st.floats(allow_nan=False, allow_infinity=False)
    low, high = data.draw(st.none() | bounds), data.draw(st.none() | bounds)
    if low is None and high is None:
        return
    if low is not None and high is not None and low > high:
        low, high = high, low
    one = rule("range", column="x", min=_written(low), max=_written(high))

    def bad(value: Any) -> bool:
        if value is None:
            return False
        if isinstance(value, float) and (math.isnan(value) or math.isinf(value)):
            return (
                math.isnan(value)
                or (low is not None and value < 0)
                or (high is not None and value > 0)
            )
        exact = _exact(value)
        return (low is not None and exact < _exact(low)) or (
            high is not None and exact > _exact(high)
        )

    expected = [at for at, value in enumerate(values) if bad(value)]
    rows = table(kind, values)
    assert failed(rows, one) == expected
    result = check(rows, one).results[0]
    assert (result.rows, result.failed) == (len(values), len(expected))
    assert result.share == (len(expected) / len(values) if values else 0.0)
    assert result.passed == (not expected)
    assert len(result.values) == min(5, len(expected))


@few
@given(st.data())
def test_property_10_quality_metrics_of_a_set_are_those_of_plain_python(
    data: st.DataObject,
) -> None:
    name, kind, values = data.draw(
        columns("byte", "long", "decimal", "text", "flag", "date", "time")
    )
    known = data.draw(st.lists(VALUES[name][1], min_size=1, max_size=5))
    one = rule("in_set", column="x", values=[_written(value) for value in known])
    expected = [at for at, value in enumerate(values) if value is not None and value not in known]
    assert failed(table(kind, values), one) == expected


@few
@given(
    st.lists(st.none() | TEXTS, max_size=12),
    st.sampled_from([".*", "a|b.", "[^0-9]+", "", "(é|.)?"]),
)
def test_property_10_quality_metrics_of_a_pattern_are_those_of_plain_python(
    values: list[str | None], pattern: str
) -> None:
    expected = [
        at
        for at, value in enumerate(values)
        if value is not None and re.fullmatch(pattern, value) is None
    ]
    assert (
        failed(table(pa.string(), values), rule("regex", column="x", pattern=pattern)) == expected
    )


KEYED = st.lists(
    st.tuples(st.integers(0, 3), st.none() | st.sampled_from("ab"), st.integers(0, 1)), max_size=8
)


@few
@given(KEYED, KEYED, st.booleans())
def test_property_10_quality_metrics_of_unique_are_those_of_plain_python(
    batch: list[tuple[int, str | None, int]], stored: list[tuple[int, str | None, int]], keyed: bool
) -> None:
    schema = pa.schema([("id", pa.int64()), ("a", pa.string()), ("b", pa.int64())])
    if keyed:
        stored = list({row[0]: row for row in stored}.values())

    def rows(values: list[tuple[int, str | None, int]]) -> pa.Table:
        return pa.Table.from_pylist(
            [dict(zip(schema.names, v, strict=True)) for v in values], schema
        )

    replaced = {row[0] for row in batch} if keyed else set()
    taken: dict[Any, Any] = {row[1:]: "stored" for row in stored if row[0] not in replaced}
    expected = []
    for at, (key, *value) in enumerate(batch):
        if None in value:
            continue
        holder = taken.setdefault(tuple(value), key if keyed else at)
        if holder != (key if keyed else at):
            expected.append(at)
    keys = ("id",) if keyed else ()
    one = rule("unique", columns=["a", "b"])
    result = check(rows(batch), one, keys=keys, look=Look(target=rows(stored))).results[0]
    assert result.failed == len(expected)
    leaving = one.model_copy(update={"on_failure": "quarantine"})
    gone = check(rows(batch), leaving, keys=keys, look=Look(target=rows(stored))).rejected
    found = [place for each in gone for place in each.places.to_pylist()]
    assert set(expected) <= set(found)
    if not keyed:
        assert found == expected


@few
@given(columns("long", "text", "decimal", "date"), st.data())
def test_property_10_quality_metrics_of_a_foreign_key_are_those_of_plain_python(
    given_: tuple[str, pa.DataType, list[Any]], data: st.DataObject
) -> None:
    name, kind, values = given_
    known = data.draw(st.lists(st.none() | VALUES[name][1] | st.sampled_from(values or [None])))
    look = Look(silver_o=pa.table({"id": pa.array(known, kind)}))
    one = rule("foreign_key", column="x", references="silver.o", references_column="id")
    expected = [at for at, value in enumerate(values) if value is not None and value not in known]
    assert failed(table(kind, values), one, look=look) == expected


@few
@given(columns(), st.sampled_from(["range", "in_set", "regex", "freshness", "not_null", "unique"]))
def test_property_06_schema_validation_refuses_before_it_judges(
    given_: tuple[str, pa.DataType, list[Any]], kind: str
) -> None:
    """What fits a schema can be judged on every table of it; what does not is refused."""
    _name, type_, values = given_
    rules = {
        "range": rule("range", column="x", min="2026-01-31"),
        "in_set": rule("in_set", column="x", values=[True]),
        "regex": rule("regex", column="x", pattern="a"),
        "freshness": rule("freshness", column="x", max_age_s=1),
        "not_null": rule("not_null", columns=["x"]),
        "unique": rule("unique", columns=["x"]),
    }
    chosen = RuleSet.of([rules[kind]])
    rows = table(type_, values)
    try:
        chosen.fits(rows.schema)
    except RuleRefused:
        with pytest.raises(RuleRefused):
            check(rows, rules[kind])
    else:
        assert len(check(rows, rules[kind]).kept) == len(values)
    with pytest.raises(RuleRefused, match="no column 'x'"):
        chosen.fits(pa.schema([("y", type_)]))


LEAVES = st.sampled_from([kind for kind, _ in VALUES.values()] + [pa.binary(), pa.timestamp("us")])
TYPES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(pa.list_),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(f"f{n}", kind) for n, kind in enumerate(kinds)])
        ),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=4,
)


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    for known, values in VALUES.values():
        if kind.equals(known):
            return st.none() | values
    if pa.types.is_binary(kind):
        return st.none() | st.binary(max_size=4)
    if pa.types.is_timestamp(kind):
        return st.none() | TIMES.map(lambda at: at.replace(tzinfo=None))
    if pa.types.is_list(kind):
        return st.none() | st.lists(_values(kind.value_type), max_size=3)
    if pa.types.is_map(kind):
        return st.none() | st.lists(st.tuples(TEXTS, _values(kind.item_type)), max_size=3)
    return st.none() | st.fixed_dictionaries({field.name: _values(field.type) for field in kind})


@few
@given(st.lists(TYPES, min_size=1, max_size=3), st.data())
def test_rows_of_every_type_come_back_from_the_quarantine(
    kinds: list[pa.DataType], data: st.DataObject
) -> None:
    schema = pa.schema([(f"c{n}", kind) for n, kind in enumerate(kinds)])
    count = data.draw(st.integers(0, 4))
    rows = pa.table(
        [
            pa.array(data.draw(st.lists(_values(k), min_size=count, max_size=count)), k)
            for k in kinds
        ],
        schema=schema,
    )
    again = row_json.decode(row_json.encode(rows), schema)
    # As text, NaN is NaN.
    assert str(again.to_pylist()) == str(rows.to_pylist())
