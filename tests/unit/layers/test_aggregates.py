"""Aggregate tables: how each one is kept up to date, its columns, and what is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlglot

from raylake.layers.aggregates import Aggregates, AggregateSpec
from raylake.layers.derived import NEVER, SourceRows, Span
from raylake.layers.group_pruning import rows_of_groups
from raylake.layers.query import QueryRefused
from raylake.layers.sandbox import QueryFailed
from raylake.tables.expressions import Scope, condition
from raylake.tables.requests import Overwrite, Read, Upsert
from tests.harness.aggregate_steps import SCHEMA, Followed, InMemory

TABLES = ("silver.orders", "silver.countries")
COUNTRIES = pa.schema([("code", pa.string()), ("area", pa.string())])
DAILY = "SELECT CAST(at AS DATE) AS day, count(*) AS n FROM silver.orders GROUP BY day"


def aggregates(sql: str, **spec: Any) -> Aggregates:
    found = Aggregates("gold.t", AggregateSpec(sql, **spec), TABLES)
    found.others({"silver.countries": COUNTRIES})
    return found


def orders(*rows: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)


def changes(came: pa.Table, left: pa.Table | None = None, after: int = 0) -> SourceRows:
    span = Span("silver.orders", "", "", after, after + 1)
    return SourceRows(span, came, came.slice(0, 0) if left is None else left)


class Tables:
    """A look at rows in memory, whatever is asked of them."""

    def __init__(self, source: pa.Table, target: pa.Table | None = None) -> None:
        self._source, self._target = source, target
        self.asked: list[Read] = []

    def source(self, request: Read) -> pa.RecordBatchReader:
        self.asked.append(request)
        return self._source.select(list(request.columns or ())).to_reader()

    def target(self, request: Read) -> pa.RecordBatchReader:
        assert self._target is not None
        return self._target.select(list(request.columns or ())).to_reader()

    def target_rows(self) -> int | None:
        return None if self._target is None else self._target.num_rows

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        assert table == "silver.countries"
        rows = [{"code": "NO", "area": "north"}, {"code": "DE", "area": "south"}]
        found = pa.Table.from_pylist(rows, schema=COUNTRIES)
        return found.select(list(request.columns or found.schema.names)).to_reader()


@pytest.mark.parametrize(
    ("sql", "strategy", "why"),
    [
        (DAILY, "maintain", "counts, and sums"),
        (
            "SELECT country, sum(amount) / count(*) AS a FROM silver.orders GROUP BY 1",
            "maintain",
            "",
        ),
        ("SELECT country, max(price) AS a FROM silver.orders GROUP BY 1", "maintain", "maximum"),
        ("SELECT sum(qty) AS a FROM silver.orders WHERE ok", "maintain", ""),
        ("SELECT country, count_if(ok) AS a FROM silver.orders GROUP BY (country)", "maintain", ""),
        ("SELECT count_if(ok) FILTER (WHERE qty > 1) AS a FROM silver.orders", "maintain", ""),
        (
            "SELECT qty, sum(price) FILTER (WHERE ok) AS a FROM silver.orders GROUP BY 1",
            "groups",
            "",
        ),
        ("SELECT n FROM (SELECT count(*) AS n FROM silver.orders)", "whole", "another query"),
        ("SELECT max(n) AS n FROM silver.orders, (SELECT 1 AS n)", "whole", "joins"),
        (
            "SELECT count(*) AS n FROM silver.orders WHERE qty > (SELECT 1)",
            "whole",
            "subqueries",
        ),
        ("SELECT country, count(DISTINCT id) AS a FROM silver.orders GROUP BY 1", "groups", "all"),
        ("SELECT country, avg(price) AS a FROM silver.orders GROUP BY 1", "groups", "rounding"),
        ("SELECT country, sum(DISTINCT qty) AS a FROM silver.orders GROUP BY 1", "groups", "all"),
        ("SELECT country, max(qty, 2) AS a FROM silver.orders GROUP BY 1", "groups", "all rows"),
        (
            (
                "SELECT country, percentile_cont(0.5) WITHIN GROUP (ORDER BY price) AS a "
                "FROM silver.orders GROUP BY 1"
            ),
            "groups",
            "all rows",
        ),
        (
            "SELECT country, count(*) AS a FROM silver.orders GROUP BY 1 HAVING count(*) > 2",
            "groups",
            "HAVING",
        ),
        ("SELECT median(price) AS a FROM silver.orders", "whole", "one group"),
        ("SELECT price, count(*) AS a FROM silver.orders GROUP BY 1", "whole", "is double"),
        ("SELECT DISTINCT country FROM silver.orders", "whole", "DISTINCT"),
        ("SELECT country FROM silver.orders", "whole", "neither aggregates"),
        (
            "SELECT country, qty, count(*) AS n FROM silver.orders GROUP BY ROLLUP (1, 2)",
            "whole",
            "several groupings",
        ),
        (
            "SELECT country, count(*) AS n FROM silver.orders GROUP BY 1 ORDER BY n LIMIT 3",
            "whole",
            "LIMIT",
        ),
        (
            (
                "WITH o AS (SELECT country FROM silver.orders) "
                "SELECT country, count(*) AS n FROM o GROUP BY 1"
            ),
            "whole",
            "WITH",
        ),
        (
            "SELECT country, rank() OVER (ORDER BY count(*)) AS n FROM silver.orders GROUP BY 1",
            "whole",
            "window",
        ),
        (
            "SELECT country AS c FROM silver.orders UNION SELECT code FROM silver.countries",
            "whole",
            "UNION",
        ),
        (
            (
                "SELECT area, count(*) AS n FROM silver.orders JOIN silver.countries "
                "ON code = country GROUP BY area"
            ),
            "whole",
            "joins",
        ),
    ],
)
def test_a_table_says_how_it_is_kept_up_to_date_and_why(sql: str, strategy: str, why: str) -> None:
    said = aggregates(sql).explain(SCHEMA)
    assert said.startswith(f"{strategy}: ")
    assert why in said


JOINED = (
    "SELECT o.country AS country, at::DATE AS day, area, count(*) AS n FROM silver.orders AS o "
    "LEFT JOIN silver.countries AS c ON c.code = o.country GROUP BY ALL"
)
PRICES = "SELECT price, country, qty, at, min(id) AS q FROM silver.orders GROUP BY ALL"


@pytest.mark.parametrize(
    ("sql", "partition_by", "strategy"),
    [
        (PRICES, ("country",), "partitions"),
        (PRICES, ("qty", "country"), "partitions"),
        (PRICES, ("hour(at)",), "partitions"),
        (PRICES, (), "whole"),
        (PRICES, ("price",), "whole"),
        (PRICES, ("q",), "whole"),
        (JOINED, ("country",), "whole"),
    ],
)
def test_partitions_are_recomputed_where_the_source_says_which(
    sql: str, partition_by: tuple[str, ...], strategy: str
) -> None:
    assert aggregates(sql, partition_by=partition_by).explain(SCHEMA).startswith(f"{strategy}: ")


def test_partitions_of_rows_that_came_or_left_are_replaced_alone(tmp_path: Path) -> None:
    sql = "SELECT price, country, count(*) AS n FROM silver.orders GROUP BY ALL"
    followed = Followed(tmp_path, AggregateSpec(sql, partition_by=("country",)))
    rows = [
        {"id": at, "country": country, "price": at / 2}
        for at, country in enumerate(["NO", "it's", None, "", "SE"])
    ]
    followed.upsert(orders(*rows))
    followed.step()
    followed.upsert(orders({"id": 0, "country": "it's", "price": 0.5}, {"id": 3, "price": 9.0}))
    deed = followed.step()
    assert isinstance(deed.last, Overwrite)
    assert set(deed.last.where.split(" OR ")) == {
        "((\"country\" IN ('NO')))",
        "((\"country\" IN ('it''s')))",
        '(("country" IS NULL))',
    }
    found = {(row["price"], row["country"], row["n"]) for row in followed.rows()}
    assert found == {(0.5, "it's", 2), (1.0, None, 1), (9.0, None, 1), (2.0, "SE", 1)}
    followed.delete([4])
    followed.step()
    assert not any(row["country"] == "SE" for row in followed.rows())


def test_more_partitions_than_can_be_named_are_the_whole_table() -> None:
    table = aggregates(PRICES, partition_by=("qty",))
    source = orders(*({"id": at, "qty": at, "price": 0.5} for at in range(300)))
    look, step = Tables(source), changes(source.slice(0, 250))
    rows = table.shape(step, look).rows
    assert rows.num_rows == 300
    write = table.deed(rows, step, look).last
    assert isinstance(write, Overwrite)
    assert write.where is None


def test_fields_of_structs_are_columns_like_others() -> None:
    schema = pa.schema([("place", pa.struct([("city", pa.string())])), ("n", pa.int64())])
    for name in ("place.city", "o.place.city"):
        sql = f"SELECT {name} AS city, sum(n) AS n FROM silver.orders o GROUP BY city"
        table = aggregates(sql)
        source = pa.Table.from_pylist([{"place": {"city": "Oslo"}, "n": 3}], schema=schema)
        assert table.columns(schema) == ("place", "n")
        rows = table.shape(changes(source, after=NEVER), Tables(source)).rows
        assert rows.select(["city", "n"]).to_pylist() == [{"city": "Oslo", "n": 3}]


def test_one_state_serves_all_that_need_it() -> None:
    sql = (
        "SELECT sum(qty) AS s, avg(qty) AS a, count(qty) AS c, count(*) AS n, "
        "sum(qty) FILTER (WHERE ok) AS o FROM silver.orders"
    )
    kept = [name for name in aggregates(sql).table(SCHEMA).schema.names if name[0] == "_"]
    assert kept == ["_group", "_rows", "_sum_s", "_count_s", "_sum_o", "_count_o"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a.id AS id, b.qty AS q FROM silver.orders a JOIN silver.orders b ON a.id = b.id",
        "SELECT id, qty AS q FROM silver.orders WHERE id IN (SELECT id FROM silver.orders)",
        (
            "WITH o AS (SELECT id, qty FROM silver.orders) SELECT a.id AS id, b.qty AS q "
            "FROM o AS a JOIN o AS b ON a.id = b.id"
        ),
        (
            "SELECT id, max(qty) AS q FROM silver.orders GROUP BY id INTERSECT "
            "SELECT id, min(qty) AS q FROM silver.orders GROUP BY id"
        ),
    ],
)
def test_a_table_that_a_query_names_twice_is_there_twice(sql: str) -> None:
    source = orders(*({"id": at, "qty": at % 7} for at in range(1000)))
    table, look, step = aggregates(sql), Tables(source), changes(source.slice(0, 1))
    rows = table.shape(step, look).rows.sort_by("id")
    assert rows["id"].to_pylist() == list(range(1000))
    assert rows["q"].to_pylist() == source["qty"].to_pylist()


def test_a_query_over_several_tables_reads_them_all() -> None:
    table = Aggregates("gold.t", AggregateSpec(JOINED), TABLES)
    source = orders({"id": 1, "country": "NO"}, {"id": 2, "country": None})
    look = Tables(source)
    step = changes(source.slice(0, 1))
    rows = table.shape(step, look).rows
    assert {(row["country"], row["area"], row["n"]) for row in rows.to_pylist()} == {
        ("NO", "north", 1),
        (None, None, 1),
    }
    write = table.deed(rows, step, look).last
    assert isinstance(write, Overwrite)
    assert write.where is None


def test_nothing_that_counts_changes_nothing() -> None:
    for sql in (
        DAILY + "",
        "SELECT country, median(qty) AS m FROM silver.orders GROUP BY 1",
        JOINED,
    ):
        table = aggregates(sql.replace("GROUP BY", "WHERE id > 5 GROUP BY"))
        step = changes(orders({"id": 1}), orders({"id": 2}))
        look = Tables(orders())
        rows = table.shape(step, look).rows
        if not table.explain(SCHEMA).startswith("whole"):
            assert table.deed(rows, step, look).last is None


def test_the_columns_of_a_grouped_table() -> None:
    sql = (
        "SELECT at::DATE AS day, country, sum(qty) AS pieces, sum(amount) AS revenue, "
        "avg(qty) AS a FROM silver.orders GROUP BY ALL"
    )
    create = aggregates(sql, partition_by=("date(day)", "country")).table(SCHEMA)
    kinds = {one.name: str(one.type) for one in create.schema}
    assert kinds == {
        "day": "date32[day]",
        "country": "string",
        "pieces": "int64",
        "revenue": "decimal128(38, 2)",
        "a": "double",
        "_group": "string",
        "_rows": "int64",
        "_sum_pieces": "int64",
        "_count_pieces": "int64",
        "_sum_revenue": "decimal128(38, 2)",
        "_count_revenue": "int64",
        "day_date": "date32[day]",
    }
    assert not create.schema.field("_group").nullable
    assert create.partition_by == ("day_date", "country")
    assert create.properties == {}


def test_statistics_are_kept_of_keys_where_not_all_columns_have_them() -> None:
    many = ", ".join(f"count(*) + {n} AS n{n}" for n in range(40))
    sql = f"SELECT country, ok, {many} FROM silver.orders GROUP BY ALL"
    create = aggregates(sql, partition_by=("ok",), zorder_by=("n3",)).table(SCHEMA)
    assert create.properties == {"delta.dataSkippingStatsColumns": "n3,country,_group"}


def test_only_columns_that_are_needed_are_read() -> None:
    assert aggregates(DAILY).columns(SCHEMA) == ("at",)
    assert aggregates("SELECT count(*) AS n FROM silver.orders").columns(SCHEMA) == ("id",)
    using = JOINED.replace("ON c.code = o.country", "USING (id)")
    assert aggregates(using).columns(SCHEMA) == ("id", "country", "at")


@pytest.mark.parametrize(
    ("sql", "spec", "what"),
    [
        (DAILY.replace("at AS", "att AS"), {}, "did you mean 'at'?"),
        ("SELECT id, count(*) AS n FROM silver.orders GROUP BY qty", {}, "add it to GROUP BY"),
        ("SELECT qty, count(*) AS n FROM silver.orders GROUP BY 3", {}, "column 3 of 2"),
        ("SELECT country + 1 AS c, count(*) AS n FROM silver.orders GROUP BY 1", {}, "sql:"),
        ("SELECT qty, max(at) - min(at) AS d FROM silver.orders GROUP BY 1", {}, "write CAST(d"),
        ("SELECT qty, max(at)::TIME AS d FROM silver.orders GROUP BY 1", {}, "write CAST(d"),
        ("SELECT qty, [max(at)::TIME] AS d FROM silver.orders GROUP BY 1", {}, "write CAST(d"),
        (DAILY, {"partition_by": ("days",)}, "did you mean 'day'?"),
        (DAILY, {"zorder_by": ("days",)}, "zorder_by: there is no column 'days'"),
        (DAILY, {"zorder_by": ("day", "n") * 3}, "at most 4 columns"),
        (
            "SELECT list(qty ORDER BY qty) AS l FROM silver.orders",
            {"zorder_by": ("l",)},
            "which has no order",
        ),
        ("SELECT n, sum(n) AS s FROM silver.orders GROUP BY n", {}, "lacks"),
        (JOINED.replace("area", "nothing"), {}, "nothing"),
    ],
)
def test_what_does_not_fit_the_source_is_refused(sql: str, spec: dict[str, Any], what: str) -> None:
    with pytest.raises(QueryRefused) as caught:
        aggregates(sql, **spec).table(SCHEMA)
    assert caught.value.message.startswith("gold.t: ")
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("sql", "schema", "values"),
    [
        ("SELECT sum(id) AS s FROM silver.orders", SCHEMA, [2**62, 2**62]),
        (
            "SELECT sum(amount) AS s FROM silver.orders",
            pa.schema([("amount", pa.decimal128(38, 0))]),
            [Decimal(10**38 - 1)] * 2,
        ),
        ("SELECT CAST(country AS INT) AS s FROM silver.orders", SCHEMA, ["1", "x"]),
    ],
)
def test_what_does_not_fit_its_type_fails_and_says_so(
    sql: str, schema: pa.Schema, values: list[Any]
) -> None:
    table = aggregates(sql)
    (name,) = table.columns(schema)
    rows = pa.table({name: pa.array(values, schema.field(name).type)})
    with pytest.raises(QueryFailed) as caught:
        table.shape(changes(rows.slice(0, 0), after=NEVER), Tables(rows))
    assert caught.value.hint


def test_least_numbers_leave_a_sum_as_they_came() -> None:
    world = InMemory(AggregateSpec("SELECT country, sum(id) AS s FROM silver.orders GROUP BY 1"))
    world.upsert(orders({"id": -(2**63), "country": "NO"}))
    world.step()
    world.upsert(orders({"id": 2**63 - 1, "country": "NO"}))
    world.step()
    assert world.rows() == [{"country": "NO", "s": -1}]
    world.delete([-(2**63)])
    world.step()
    assert world.rows() == [{"country": "NO", "s": 2**63 - 1}]


@pytest.mark.spec("D2")
@pytest.mark.parametrize(
    ("changed", "how"),
    [
        (4, "4 groups, 20% of the table's: rows of these alone are grouped"),
        (5, "5 groups, 25% of the table's: all groups are computed at once"),
        (20, "20 groups, 100% of the table's: all groups are computed at once"),
    ],
)
@pytest.mark.parametrize("taken", [0, 1])
def test_where_many_groups_changed_all_are_computed_in_one_pass(
    changed: int, how: str, taken: int
) -> None:
    sql = "SELECT country, count(DISTINCT qty) AS n FROM silver.orders GROUP BY country"
    table = InMemory(AggregateSpec(sql))
    places = [f"c{n:02}" for n in range(20)]
    table.upsert(
        orders(*({"id": n * 20 + i, "country": c, "qty": n} for n in (0, 1)
                 for i, c in enumerate(places)))
    )  # fmt: skip
    table.step()
    table.upsert(
        orders(*({"id": 100 + i, "country": c, "qty": 7} for i, c in enumerate(places[:changed])))
    )
    # A group that all rows leave is among them.
    table.delete([0, 20, 100] if taken else [])
    deed = table.step()
    assert deed.counts["how"] == how
    assert isinstance(deed.last, Upsert)
    assert sorted(set(deed.last.rows.column("country").to_pylist()) - {None}) == sorted(
        places[taken:changed]
    )
    key = lambda row: row["country"]  # noqa: E731
    assert sorted(table.rows(), key=key) == sorted(table.at_once().rows(), key=key)


def test_a_group_that_rules_kept_out_is_computed_from_the_source() -> None:
    sql = "SELECT country, count(*) AS n FROM silver.orders GROUP BY country"
    source = orders({"id": 1, "country": "NO"}, {"id": 2, "country": "NO"})
    for rejects, count in ((False, 1), (True, 2)):
        table = aggregates(sql, rejects=rejects)
        empty = table.table(SCHEMA).schema.empty_table()
        look = Tables(source, empty)
        assert table.shape(changes(source.slice(1)), look).rows["n"].to_pylist() == [count]
        assert len(look.asked) == count - 1


def test_rows_that_rules_took_out_leave_the_table() -> None:
    table = aggregates("SELECT country, median(qty) AS m FROM silver.orders GROUP BY country")
    source = orders({"id": 1, "country": "NO", "qty": 3}, {"id": 2, "country": None, "qty": -3})
    step = changes(source)
    look = Tables(source)
    shaped = table.shape(step, look)
    passed = shaped.rows.filter(pa.compute.greater(shaped.rows["m"], 0))
    write = table.deed(passed, step, look).last
    assert isinstance(write, Upsert)
    assert write.keys == ("_group",)
    found = {row["_group"]: row["raylake_gone"] for row in write.rows.to_pylist()}
    assert found == {'["NO"]': False, "[null]": True}


UTC = dt.UTC
NEW_YEAR = dt.datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "values", "where"),
    [
        ("country", ["NO", "it's", None], "IN ('NO', 'it''s') OR \"country\" IS NULL"),
        (
            "country",
            [f"{n:02}" for n in range(40)],
            "(\"country\" >= '00' AND \"country\" <= '39')",
        ),
        ("qty", [3, 5], '"qty" = 3 OR "qty" = 5'),
        ("qty", [*range(10, 40), 90], '("qty" >= 10 AND "qty" <= 39) OR "qty" = 90'),
        ("qty", [None, 4], '"qty" = 4 OR "qty" IS NULL'),
        ("qty % 7", [1], None),
        ("price", [0.5], None),
        ("CAST(at AS DATE)", [dt.date(9999, 12, 31)], None),
        (
            "CAST(at AS DATE)",
            [dt.date(2026, 1, 2), dt.date(2026, 1, 1)],
            (
                "(\"at\" >= CAST('2026-01-01T00:00:00+00:00' AS TIMESTAMP) AND "
                "\"at\" <= CAST('2026-01-02T23:59:59.999999+00:00' AS TIMESTAMP))"
            ),
        ),
        (
            "date_trunc('quarter', at)",
            [dt.datetime(2025, 10, 1, tzinfo=UTC), None],
            (
                "(\"at\" >= CAST('2025-10-01T00:00:00+00:00' AS TIMESTAMP) AND "
                '"at" <= CAST(\'2025-12-31T23:59:59.999999+00:00\' AS TIMESTAMP)) OR "at" IS NULL'
            ),
        ),
        (
            "date_trunc('hour', at)",
            [NEW_YEAR],
            (
                "(\"at\" >= CAST('2026-01-01T00:00:00+00:00' AS TIMESTAMP) AND "
                "\"at\" <= CAST('2026-01-01T00:59:59.999999+00:00' AS TIMESTAMP))"
            ),
        ),
        ("date_trunc('minute', at)", [NEW_YEAR], None),
    ],
)
def test_rows_of_groups_are_looked_for_by_the_columns_of_the_source(
    key: str, values: list[Any], where: str | None
) -> None:
    tree = sqlglot.parse_one(key, read="duckdb")
    found = rows_of_groups([(tree, pa.chunked_array([pa.array(values)]))], SCHEMA)
    if where is None:
        assert found is None
    else:
        assert found is not None
        assert where in found
        condition(found, Scope({"": SCHEMA}, "where"))


def test_many_days_are_a_few_ranges_that_hold_all_of_them() -> None:
    days = [dt.date(2026, 1, 1) + dt.timedelta(days=n * n) for n in range(60)]
    tree = sqlglot.parse_one("CAST(at AS DATE)", read="duckdb")
    found = rows_of_groups([(tree, pa.chunked_array([pa.array(days)]))], SCHEMA)
    assert found is not None
    assert found.count(" OR ") == 15
    condition(found, Scope({"": SCHEMA}, "where"))
