"""Conditions and values are rewritten from what was parsed; whatever else they hold is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raylake.tables.errors import BadExpression, TableError, UnknownColumn
from raylake.tables.expression_grammar import MAX_CHARACTERS
from raylake.tables.expressions import Scope, condition, quoted, value

SIDE = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("flag", pa.bool_()),
        ("price", pa.decimal128(9, 2)),
        ("address", pa.struct([("city", pa.string())])),
        ("Select", pa.string()),
    ]
)
ALONE = Scope({"": SIDE}, "where")
BOTH = Scope({"source": SIDE, "target": SIDE.remove(1)}, "update_when")


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("id=1", '"id" = 1'),
        ("ID <> 2 or not flag", '"id" <> 2 OR NOT "flag"'),
        ("flag", '"flag"'),
        ("name = 'it''s'", "\"name\" = 'it''s'"),
        ("name like 'a%' -- all of them", "\"name\" LIKE 'a%'"),
        ("id between 1 and 2 and name is not null", '"id" BETWEEN 1 AND 2 AND NOT "name" IS NULL'),
        ("id in (1, -2, null)", '"id" IN (1, -2, NULL)'),
        ("\"Select\" = 'x'", "\"Select\" = 'x'"),
        ("address.CITY = 'x'", "\"address\"['city'] = 'x'"),
        ("coalesce(flag, false)", 'COALESCE("flag", FALSE)'),
        ("id % 2 = 0", '"id" % 2 = 0'),
        ("id / 2.0 > 1", '"id" / 2.0 > 1'),
        ("name is distinct from 'x'", "\"name\" IS DISTINCT FROM 'x'"),
        ("length(name) = 1", 'CHARACTER_LENGTH("name") = 1'),
        (
            "case when flag then id > 1 else false end",
            'CASE WHEN "flag" THEN "id" > 1 ELSE FALSE END',
        ),
    ],
)
def test_what_is_allowed_is_written_anew_with_quoted_names(text: str, sql: str) -> None:
    assert condition(text, ALONE).sql() == sql


def test_columns_of_two_sides_are_told_apart() -> None:
    found = condition("source.id > target.id and name = 'x'", BOTH)
    assert found.sql() == '"source"."id" > "target"."id" AND "source"."name" = \'x\''
    assert found.columns == {("source", "id"), ("target", "id"), ("source", "name")}
    with pytest.raises(BadExpression, match="both sides have"):
        condition("id = 1", BOTH)
    with pytest.raises(UnknownColumn):
        condition("target.name = 'x'", BOTH)


@pytest.mark.parametrize(
    "text",
    [
        "1; drop table t",
        "id = 1;; select 1",
        "id in (select id from t)",
        "exists (select 1)",
        "(select 1) = 1",
        "id = any(select 1)",
        "id = 1 union select 2",
        "select 1",
        "drop table t",
        "insert into t values (1)",
        "copy t to 'x'",
        "id = load_extension('x')",
        "read_csv('/etc/passwd') = id",
        "id = pg_sleep(9)",
        "version() = name",
        "current_user = name",
        "random() < id",
        "id = $1",
        "id = ?",
        "id = :x",
        "id = @x",
        "{{ id }} = 1",
        "id = {id}",
        "name = 'a' || (select 1)",
        "name = 'open",
        'name = "open',
        "id = 1 /* open",
        "id = 1)",
        "(id = 1",
        "*",
        "t.* = 1",
        "id as x",
        "id x",
        "id = 1, id = 2",
        "try_cast(name as int) = 1",
        "cast(name as blob) = id",
        "cast(id as int[]) = id",
        "id over () = 1",
        "count(*) > 1",
        "sum(id) = 1",
        "id = 1 limit 1",
        "x -> 1",
        "name ~ '.*'",
        "name regexp '.*'",
        "id = interval '1' day",
        "id = array[1]",
        "id = [1]",
        "id / 0.0 = 1",
        "id % 0 = 1",
        "id / id = 1",
        "name['x'] = 1",
        "name = e'\\x'",
        "(" * 4000 + "flag" + ")" * 4000,
        "flag or " * (MAX_CHARACTERS // 8) + "flag and flag",
        " ",
        "id + 1",
        "'x'",
        "1",
        "null",
    ],
)
def test_an_attack_or_an_accident_is_refused(text: str) -> None:
    with pytest.raises(TableError) as caught:
        condition(text, ALONE)
    assert caught.value.code in {"table_expression", "unknown_column"}
    assert len(caught.value.message) < 700


def test_a_value_need_not_be_a_condition() -> None:
    assert value("id + 1", ALONE).sql() == '"id" + 1'
    assert value("'x;--'", ALONE).sql() == "'x;--'"


@pytest.mark.parametrize(
    ("text", "kind", "fits"),
    [
        ("7", pa.int8(), True),
        ("128", pa.int8(), False),
        ("-7", pa.int8(), True),
        ("1.0", pa.int32(), True),
        ("1.5", pa.int32(), False),
        ("1.25", pa.decimal128(3, 2), True),
        ("1.255", pa.decimal128(3, 2), False),
        ("10", pa.decimal128(3, 2), False),
        ("1.5", pa.float32(), True),
        ("null", pa.date32(), True),
        ("'2026-01-31'", pa.date32(), True),
        ("'2026-31-01'", pa.date32(), False),
        ("'2026-01-31T00:00:00Z'", pa.timestamp("us", tz="UTC"), True),
        ("'2026-01-31T00:00:00'", pa.timestamp("us", tz="UTC"), False),
        ("'2026-01-31T00:00:00'", pa.timestamp("us"), True),
        ("'7'", pa.int32(), False),
        ("id", pa.int64(), False),
    ],
)
def test_plain_values_are_known_to_fit(text: str, kind: pa.DataType, fits: bool) -> None:
    assert value(text, ALONE).fits(kind) is fits


def test_a_quote_in_a_name_stays_in_the_name() -> None:
    assert quoted('a" or "1"="1') == '"a"" or ""1""=""1"'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("substring(name, 0, 2) = 'a'", "a position of 1 or more"),
        ("substring(name, id) = 'a'", "a position of 1 or more"),
        ("name like name", "no text in single quotes"),
        ("name like 'a\\b'", "a backslash before"),
        ("name = 1", "compares the text 'name' with the number 1"),
        ("name in ('a', -2)", "the number -2"),
        ("cast(at as text) = 'x'", "casts 'at'"),
    ],
)
def test_what_engines_read_differently_is_refused(text: str, reason: str) -> None:
    side = Scope({"": SIDE.append(pa.field("at", pa.timestamp("us", tz="UTC")))}, "where")
    with pytest.raises(BadExpression, match="engines differ") as caught:
        condition(text, side)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("name = 'it''s \\ \"x\"'", r"""`name` = 'it\'s \\ "x"'"""),
        ("address.city is not distinct from 'x'", "`address`['city'] IS NOT DISTINCT FROM 'x'"),
        ("id / 3.0 > 0.5", "`id` / CAST(3.0 AS DOUBLE) > 0.5"),
        ("-1.5 * id < 2", "-CAST(1.5 AS DOUBLE) * `id` < 2"),
        ("price = 1.10", "`price` = 1.10"),
        ("name like 'a\\_%'", r"`name` LIKE 'a\\_%'"),
    ],
)
def test_spark_gets_its_own_words(text: str, sql: str) -> None:
    found = condition(text, ALONE)
    before = found.sql()
    assert found.sql("spark") == sql
    assert found.sql() == before
