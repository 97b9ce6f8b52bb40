"""The SQL of a derived table: what it may be, and that nothing else gets through."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from raylake.layers.query import QueryRefused, is_aggregate, parse_query
from raylake.layers.sandbox import Limits, QueryFailed, Sandbox

TABLES = ("silver.orders", "silver.customers", "bronze.clicks")

ATTACKS = [
    # Files.
    "SELECT count(*) AS n FROM read_csv('/etc/passwd')",
    "SELECT count(*) AS n FROM read_csv_auto('/etc/passwd')",
    "SELECT count(*) AS n FROM read_parquet('s3://other/*.parquet')",
    "SELECT count(*) AS n FROM read_json('https://example.com/x.json')",
    "SELECT content AS c FROM read_text('/etc/passwd')",
    "SELECT content AS c FROM read_blob('/proc/self/environ')",
    "SELECT file AS f FROM glob('/*')",
    "SELECT count(*) AS n FROM '/etc/passwd'",
    "SELECT count(*) AS n FROM 'orders.parquet'",
    'SELECT count(*) AS n FROM "orders.parquet"',
    'SELECT count(*) AS n FROM silver."orders.parquet"',
    "SELECT count(*) AS n FROM delta_scan('/lake/silver/secret')",
    "SELECT count(*) AS n FROM sqlite_scan('x.db', 't')",
    "SELECT count(*) AS n FROM query('SELECT 1')",
    "SELECT count(*) AS n FROM query_table('silver.secret')",
    "SELECT count(*) AS n FROM sniff_csv('/etc/passwd')",
    "SELECT count(*) AS n FROM parquet_metadata('x.parquet')",
    # Files, further in.
    "SELECT a, (SELECT max(content) FROM read_text('/etc/passwd')) AS c FROM silver.orders",
    "SELECT a FROM silver.orders WHERE a IN (SELECT column0 FROM read_csv('/etc/passwd'))",
    "SELECT a FROM silver.orders WHERE EXISTS (SELECT 1 FROM glob('/root/*'))",
    "WITH f AS (SELECT * FROM read_csv('/etc/passwd')) SELECT count(*) AS n FROM f",
    "SELECT o.a FROM silver.orders o JOIN read_csv('/etc/passwd') f ON true",
    "SELECT a FROM silver.orders UNION ALL SELECT column0 FROM read_csv('/etc/passwd')",
    "SELECT a FROM silver.orders, LATERAL (SELECT * FROM read_text(a)) AS t",
    "SELECT read_text('/etc/passwd') AS t FROM silver.orders",
    "SELECT parse_path(a) AS p, getenv('AWS_SECRET_ACCESS_KEY') AS k FROM silver.orders",
    # Several statements, and others than SELECT.
    "SELECT a FROM silver.orders; DROP TABLE silver.orders",
    "SELECT a FROM silver.orders;\n-- nothing\nCOPY silver.orders TO '/tmp/x'",
    "DROP TABLE silver.orders",
    "DELETE FROM silver.orders",
    "UPDATE silver.orders SET a = 1",
    "INSERT INTO silver.orders SELECT a FROM silver.orders",
    "CREATE TABLE t AS SELECT a FROM silver.orders",
    "SELECT a INTO t FROM silver.orders",
    "COPY (SELECT a FROM silver.orders) TO '/tmp/x.csv'",
    "EXPORT DATABASE '/tmp/x'",
    "ATTACH '/tmp/other.db' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '100GB'",
    "RESET ALL",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "EXPLAIN ANALYZE SELECT a FROM silver.orders",
    "DESCRIBE silver.orders",
    "SUMMARIZE silver.orders",
    "PREPARE p AS SELECT 1",
    "VACUUM",
    "FROM silver.orders",
    "TABLE silver.orders",
    "VALUES (1)",
    "PIVOT silver.orders ON a USING count(*)",
    # Hidden in comments, quotes and odd characters.
    "SELECT a /* */ FROM silver.orders /* ; */ ; /* */ ATTACH 'x'",
    "SELECT a FROM silver.orders WHERE a = ‘x’",
    "SELECT a FROM silver.orders WHERE “a” = 1",
    "SELECT a FROM silver.orders WHERE a = 'x",
    "SELECT a FROM silver.orders /* no end",
    "SELECT a FROM silver.orders WHERE a = $1",
    "SELECT a FROM silver.orders WHERE a = ?",
    "SELECT a FROM silver.orders WHERE a = :x",
    'SELECT a AS "x""; DROP" FROM silver.orders',
    # Other tables, the catalogue, names of ours.
    "SELECT a FROM silver.secret",
    "SELECT a FROM orders",
    "SELECT a FROM lake.silver.orders",
    "SELECT a FROM information_schema.tables",
    "SELECT name AS n FROM pg_catalog.pg_settings",
    "SELECT name AS n FROM duckdb_settings()",
    "SELECT name AS n FROM duckdb_secrets()",
    "SELECT name AS n FROM pragma_table_info('x')",
    "SELECT a FROM raylake_source",
    "WITH raylake_source AS (SELECT a FROM silver.orders) SELECT a FROM raylake_source",
    "SELECT a AS _group FROM silver.orders",
    "SELECT current_setting('temp_directory') AS s FROM silver.orders",
    "SELECT getvariable('x') AS s FROM silver.orders",
    "SELECT current_user AS u FROM silver.orders",
    "SELECT version() AS u FROM silver.orders",
    "SELECT set_config('a', 'b') AS u FROM silver.orders",
    # Work without end, or too much of it.
    "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r) SELECT a FROM r",
    "SELECT count(*) AS n FROM range(1000000000000)",
    "SELECT unnest(generate_series(1, 1000000000)) AS n FROM silver.orders",
    "SELECT repeat('x', 1000000000) AS n FROM silver.orders",
    "SELECT lpad(a, 1000000000, 'x') AS n FROM silver.orders",
    "SELECT a FROM silver.orders WHERE " + "(" * 3000 + "a" + ")" * 3000,
    "SELECT a FROM silver.orders WHERE a IN (" + "1, " * 10_000 + "1)",
]

UNSTEADY = [
    "now()",
    "current_timestamp",
    "current_date",
    "today()",
    "random()",
    "uuid()",
    "gen_random_uuid()",
    "uuidv7()",
    "nextval('s')",
    "first(a)",
    "any_value(a)",
    "arg_max(a, b)",
    "mode(a)",
    "list(a)",
    "string_agg(a, ',')",
    "approx_quantile(b, 0.5)",
    "reservoir_quantile(b, 0.5)",
    "get_current_timestamp()",
    "transaction_timestamp()",
]


@pytest.mark.parametrize("sql", ATTACKS)
def test_what_is_no_plain_select_over_known_tables_is_refused(sql: str) -> None:
    with pytest.raises(QueryRefused) as caught:
        parse_query(sql, TABLES)
    assert caught.value.code == "query_refused"
    assert caught.value.hint
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("call", UNSTEADY)
def test_what_makes_other_rows_each_time_is_refused_by_name(call: str) -> None:
    sql = f"SELECT b,\n  {call} AS x\nFROM silver.orders GROUP BY b"
    with pytest.raises(QueryRefused, match=r"^sql:2:\d+: ") as caught:
        parse_query(sql, TABLES)
    assert "same rows" in caught.value.hint or "order" in caught.value.hint.lower()


@pytest.mark.parametrize(
    ("sql", "where", "what"),
    [
        ("SELECT a\nFROM silver.order", (2, 6), "did you mean 'silver.orders'?"),
        ("SELECT a,\n  now() AS x FROM silver.orders", (2, 3), "event time"),
        ("SELECT a FROM silver.orders\nWHERE a = = 1", (2, 11), "does not parse"),
        ("SELECT\n count(*) FROM silver.orders", (2, 2), "write AS"),
        ("SELECT a, b AS A FROM silver.orders", (1, 11), "twice"),
        ("SELECT * FROM silver.orders", (1, 8), "name the columns"),
        ("SELECT a FROM silver.orders LIMIT 3", (1, 8), "ORDER BY"),
        ("SELECT DISTINCT ON (a) a FROM silver.orders", (1, 21), "DISTINCT ON"),
        ('SELECT a AS "x.y" FROM silver.orders', (1, 8), "cannot be a column's name"),
        ("SELECT a FROM silver.orders TABLESAMPLE 10%", None, "TABLESAMPLE"),
        ("SELECT o.a FROM silver.orders o NATURAL JOIN silver.customers", None, "NATURAL"),
        ("SELECT o.a FROM silver.orders o POSITIONAL JOIN silver.customers", None, "POSITIONAL"),
        ("SELECT 1 AS one", None, "reads no table"),
        ("   ", None, "empty"),
    ],
)
def test_a_refusal_says_where_and_what_to_do(
    sql: str, where: tuple[int, int] | None, what: str
) -> None:
    with pytest.raises(QueryRefused) as caught:
        parse_query(sql, TABLES)
    assert what in str(caught.value)
    if where is not None:
        assert (caught.value.context["line"], caught.value.context["column"]) == where


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT CAST(at AS DATE) AS day, count(*) AS n FROM silver.orders GROUP BY day",
        "(SELECT a, sum(b) FILTER (WHERE b > 0) AS s FROM silver.orders GROUP BY ALL)",
        (
            "WITH c AS (SELECT a FROM silver.customers) SELECT o.a FROM silver.orders o "
            "JOIN c USING (a)"
        ),
        (
            "SELECT a, list(b ORDER BY b) AS l, string_agg(b, ',' ORDER BY b) AS s "
            "FROM silver.orders GROUP BY a"
        ),
        (
            "SELECT a, extract(year FROM at) AS y, at::DATE AS d, b // 2 AS h, b ** 2 AS q, "
            "payload->>'$.x' AS x, at + INTERVAL 1 DAY AS t, try_cast(a AS INT) AS i, s.f AS f, "
            "quantile_cont(b, 0.9) AS p, date_part('dow', at) AS w, epoch(at) "
            "AS k, a || 'x' AS c, CASE WHEN b > 1 THEN 1 ELSE 2 END AS e FROM silver.orders "
            "GROUP BY ALL"
        ),
        "SELECT a FROM silver.orders ORDER BY a LIMIT 3",
        "SELECT a, rank() OVER (PARTITION BY b ORDER BY c) AS r FROM bronze.clicks QUALIFY r < 3",
        "SELECT a -- ; DROP TABLE silver.orders\nFROM silver.orders /* ' */ WHERE a = '; ATTACH'",
        "SELECT größe FROM silver.orders",
    ],
)
def test_plain_queries_pass_and_their_text_is_no_part_of_what_runs(sql: str) -> None:
    query = parse_query(sql, TABLES)
    assert query.source in TABLES
    assert parse_query(query.tree.sql("duckdb"), TABLES).outputs == query.outputs


def test_the_source_is_that_of_the_outermost_from() -> None:
    sql = (
        "WITH c AS (SELECT a FROM silver.customers) "
        "SELECT o.a FROM silver.orders o JOIN c ON c.a = o.a"
    )
    assert parse_query(sql, TABLES).tables == ("silver.orders", "silver.customers")


def test_aggregates_are_told_from_functions_of_a_row() -> None:
    sql = "SELECT sum(a) AS s, abs(a) AS b, geomean(a) AS g FROM silver.orders"
    found = [is_aggregate(one.unalias()) for one in parse_query(sql, TABLES).tree.selects]
    assert found == [True, False, True]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM given_in_python",
        "COPY (SELECT 1) TO '{file}.out'",
        "ATTACH '{file}.db'",
        "SET enable_external_access = true",
        "SET TimeZone = 'Europe/Oslo'",
        "INSTALL httpfs",
        "SELECT * FROM of_another",
        "SELECT 'now'::TIMESTAMP",
    ],
)
def test_what_runs_reaches_nothing_even_where_a_query_was_let_through(
    sql: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a\n1\n")
    given_in_python = pa.table({"a": [1]})
    with Sandbox(Limits(), "t") as other, Sandbox(Limits(), "t") as box:
        other.give("of_another", given_in_python)
        with pytest.raises(QueryFailed):
            box.rows(sql.format(file=file))
    assert [one.name for one in tmp_path.iterdir()] == ["x.csv"]


def test_times_are_utc_and_what_does_not_fit_in_memory_spills(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=24 * 2**20, threads=1, spill_folder=str(tmp_path))
    rows = pa.table({"a": pa.array(range(400_000))})
    with Sandbox(limits, "t") as box:
        box.give("t", rows.to_reader())
        found = box.rows(
            "SELECT count(*) AS n FROM (SELECT a::VARCHAR || 'of some length' AS x, count(*) AS c "
            "FROM t GROUP BY x)"
        )
        assert found.column("n").to_pylist() == [400_000]
        zone = box.rows("SELECT date_trunc('day', TIMESTAMPTZ '2026-01-31T23:30:00-02:00') AS d")
        assert zone.column("d")[0].as_py().isoformat() == "2026-02-01T00:00:00+00:00"


def test_an_error_of_rows_that_are_read_is_told_as_it_is() -> None:
    def batches() -> object:
        yield pa.record_batch({"a": [1]})
        raise OSError("the store is away")

    reader = pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), batches())
    with Sandbox(Limits(), "t") as box:
        box.give("t", reader)
        with pytest.raises(OSError, match="the store is away"):
            box.rows("SELECT sum(a) AS s FROM t")
