"""Silver and gold in the pipeline file: what they may say, and where it is told what they may not.

What is refused stands at its line; sources, circles and columns are told without asking anybody.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raylake.config import Pipeline
from raylake.config.cron import parse_cron
from raylake.config.derived import (
    AggregateTable,
    AppendTable,
    Scd2Table,
    UpsertTable,
    sources_of,
)
from raylake.config.derived_checks import circles
from raylake.config.findings import Invalid
from raylake.config.sql import names_in, tables_of
from tests.unit.config.loading import bronze, load_text, refusal

CLOSED = "topics: [a], schema: {id: long, name: string, at: timestamp}, unknown_fields: reject"
FULL = """
silver:
  s:
    from: bronze.t
    mode: upsert
    keys: [key]
    sequence_by: at
    columns: {key: id, at: at, label: name}
    where: "name is not null and id > 0"
    not_null: [label]
    envelope: none
    tombstones: ignore
    resolve: "source.at >= target.at"
    partition_by: [date(at)]
    zorder_by: [label]
    trigger: "*/5 * * * *"
    max_hold: 2d
    properties: {delta.logRetentionDuration: interval 7 days, delta.enableDeletionVectors: false}
  log: {from: silver.s, mode: append, columns: [key, label], on_source_delete: ignore}
  now: {from: silver.s, mode: scd1, keys: [key], sequence_by: [at, label], resolve: target}
gold:
  past: {from: silver.s, mode: scd2, keys: [key], track: [label], sequence_by: at}
  days:
    mode: aggregate
    sql: |
      WITH s AS (SELECT at, key FROM silver.s) SELECT s.at, count(*) AS n
      FROM s JOIN silver.now AS now ON s.key = now.key GROUP BY s.at
    trigger: watermark
"""


def test_all_that_a_derived_table_may_say() -> None:
    config = load_text(bronze(CLOSED) + FULL).config
    s = config.silver["s"]
    assert isinstance(s, UpsertTable)
    assert (s.sequence_by, s.columns) == (("at",), {"key": "id", "at": "at", "label": "name"})
    assert s.properties == {
        "delta.logRetentionDuration": "interval 7 days",
        "delta.enableDeletionVectors": "false",
    }
    assert (s.max_hold_s, s.partition_fields[0].name, s.tombstones) == (
        2 * 86_400,
        "at_date",
        "ignore",
    )
    log, past, days = config.silver["log"], config.gold["past"], config.gold["days"]
    assert isinstance(log, AppendTable)
    assert (log.columns, log.on_source_delete) == ({"key": "key", "label": "label"}, "ignore")
    assert isinstance(past, Scd2Table)
    assert isinstance(days, AggregateTable)
    assert sorted(sources_of(days)) == ["silver.now", "silver.s"]
    assert sources_of(log) == ("silver.s",)
    for by_alias in (True, False):
        dumped = config.model_dump(mode="json", by_alias=by_alias)
        assert Pipeline.model_validate(dumped) == config


def test_what_is_left_out_has_the_defaults() -> None:
    text = (
        "silver: {u: {from: bronze.t, mode: upsert, keys: [id]}, a: {from: bronze.t, mode: append}}"
    )
    config = load_text(bronze("topics: [a]") + text).config
    u, a = config.silver["u"], config.silver["a"]
    assert isinstance(u, UpsertTable)
    assert isinstance(a, AppendTable)
    assert (u.sequence_by, u.resolve, u.columns, u.where) == ((), "latest", {}, None)
    assert (u.envelope, u.tombstones, u.trigger, u.max_hold_s) == (
        "none",
        "delete",
        "source_changed",
        604_800,
    )
    assert (a.tombstones, a.on_source_delete) == ("ignore", "refuse")
    assert config.not_yet() == []


@pytest.mark.parametrize(
    ("table", "at", "message"),
    [
        ("mode: upsert, keys: [id], where: 'id >'", "where", "does not parse"),
        ("mode: upsert, keys: [id], where: 'id + 1'", "where", "a value, not a condition"),
        ("mode: upsert, keys: [id], where: 'exists (select 1)'", "where", "not allowed"),
        ("mode: upsert, keys: [id], where: 'random() > 1'", "where", "not allowed"),
        ("mode: upsert, keys: [id], where: '* is null'", "where", "not allowed"),
        ("mode: upsert, keys: [id], where: 'nme is null'", "where", "'nme' cannot be a column"),
        ("mode: upsert, keys: [id], resolve: lastest", "resolve", "a column of neither side"),
        ("mode: upsert, keys: [id], resolve: 'id > target.id'", "resolve", "neither side"),
        ("mode: upsert, keys: [id, id]", "keys[1]", "twice"),
        ("mode: upsert, keys: [ids]", "keys[0]", "'ids' cannot be a column"),
        ("mode: upsert, keys: [id], sequence_by: when", "sequence_by", "'when' cannot be a column"),
        ("mode: upsert, keys: [id], sequence_by: [at, when]", "sequence_by[1]", "'when' cannot be"),
        ("mode: upsert, keys: [id], types: {idd: long}", "types.idd", "'idd' cannot be a column"),
        ("mode: upsert, keys: [id], types: {id: lang}", "types.id", "no type"),
        ("mode: upsert, keys: [id], columns: [id, id]", "columns[1]", "twice"),
        ("mode: upsert, keys: [id], columns: [id, 7]", "columns[1]", "text, not a number"),
        ("mode: upsert, keys: [id], columns: {id: idd}", "columns.id", "'idd' cannot be a column"),
        ("mode: upsert, keys: [id], partition_by: [month(at)]", "partition_by[0]", "not a way"),
        ("mode: upsert, keys: [id], partition_by: [nme]", "partition_by[0]", "'nme' cannot"),
        (
            "mode: upsert, keys: [id], partition_by: [date(when)]",
            "partition_by[0]",
            "'when' cannot",
        ),
        (
            "mode: upsert, keys: [id], partition_by: [id], zorder_by: [id]",
            "zorder_by[0]",
            "partition",
        ),
        ("mode: upsert, keys: [id], zorder_by: [a, b, c, d, e]", "zorder_by", "at most 4"),
        ("mode: upsert, keys: [id], max_hold: 7", "max_hold", "needs a unit"),
        ("mode: upsert, keys: [id], envelope: avro", "envelope", "not one of"),
        (
            "mode: upsert, keys: [id], properties: {delta.apendOnly: true}",
            "properties.delta.apendOnly",
            "no property",
        ),
        (
            "mode: upsert, keys: [id], properties: {raylake.pipeline: x}",
            "properties.raylake.pipeline",
            "reserved",
        ),
        (
            "mode: upsert, keys: [id], properties: {delta.checkpointInterval: 0}",
            "properties.delta.checkpointInterval",
            "'0'",
        ),
        (
            "mode: upsert, keys: [id], properties: {delta.appendOnly: true}",
            "properties.delta.appendOnly",
            "changes rows",
        ),
        (
            "mode: upsert, keys: [id], properties: {delta.enableRowTracking: true}",
            "properties.delta.enableRowTracking",
            "Spark alone",
        ),
        ("mode: upsert, keys: [id], update_when: 'name is null'", "update_when", "neither side"),
        ("mode: upsert, keys: [id], update_when: 'source.nme is null'", "update_when", "'nme'"),
        ("mode: upsert, keys: [id], insert_when: 'target.id > 1'", "insert_when", "of the table's"),
        ("mode: scd1, keys: [id], delete_when: 'nme is null'", "delete_when", "'nme' cannot be"),
        ("mode: upsert, keys: [id], update_columns: [nme]", "update_columns[0]", "'nme' cannot be"),
        ("mode: upsert, keys: [id], update_columns: []", "update_columns", "at least 1"),
        ("mode: upsert, keys: [id], insert_columns: [at, at]", "insert_columns[1]", "twice"),
        (
            "mode: upsert, keys: [id], insert_columns: [at], not_null: [at, name]",
            "not_null[1]",
            "would lack 'name'",
        ),
        (
            "mode: upsert, keys: [id], insert_only: true, update_columns: [at]",
            "update_columns",
            "insert_only leaves rows that are there",
        ),
        (
            "mode: upsert, keys: [id], insert_only: true, resolve: source",
            "resolve",
            "nothing is resolved",
        ),
        (
            "mode: scd1, keys: [id], resolve: target, delete_when: id = 1",
            "delete_when",
            "resolve: target leaves rows that are there",
        ),
        ("mode: append, insert_only: true", "insert_only", "unknown key"),
        (
            "mode: upsert, keys: [id], not_matched_by_source: delete",
            "not_matched_by_source",
            "a row that it does not name is not gone",
        ),
        ("mode: upsert, keys: [id], cluster_by: [id]", "cluster_by", "liquid clustering is not"),
        (
            "mode: append, properties: {delta.bloomFilter.enabled: true}",
            "properties.delta.bloomFilter.enabled",
            "nothing here sets up bloom filters",
        ),
        (
            "mode: append, properties: {delta.autoOptimize.autoCompact: true}",
            "properties.delta.autoOptimize.autoCompact",
            "Spark alone",
        ),
        ("mode: append, optimize_after_write: zorder", "optimize_after_write", "by which columns"),
        ("mode: append, optimize_after_write: always", "optimize_after_write", "not one of none"),
        ("mode: append, bloom_filter_columns: [id]", "bloom_filter_columns", "bloom filters are"),
        ("mode: append, tombstones: delete", "tombstones", "no key"),
        ("mode: append, resolve: latest", "resolve", "unknown key"),
        ("mode: scd2, keys: [id], track: [name]", "sequence_by", "required"),
        ("mode: scd2, keys: [id], track: [name], sequence_by: []", "sequence_by", "at least 1"),
        (
            "mode: scd2, keys: [id], track: [nam], sequence_by: at",
            "track[0]",
            "'nam' cannot be a column",
        ),
        (
            "mode: append, quality: [{rule: range, column: size, min: 0}]",
            "quality[0].column",
            "'size' cannot",
        ),
        (
            "mode: append, quality: [{rule: not_null, columns: [id, sz]}]",
            "quality[0].columns[1]",
            "'sz' cannot",
        ),
    ],
)
def test_what_a_table_refuses_at_its_place(table: str, at: str, message: str) -> None:
    text = bronze(CLOSED) + f"silver:\n  s: {{from: bronze.t, {table}}}\n"
    problem = refusal(text).at(f"silver.s.{at}")
    assert message in problem["message"]
    assert problem["line"] == 7
    assert problem["column"] >= 3


def test_columns_follow_from_table_to_table_where_they_are_known() -> None:
    text = bronze(CLOSED) + (
        "silver:\n"
        "  a: {from: bronze.t, mode: append, columns: {key: id},"
        " partition_by: [date(_timestamp)]}\n"
        "  b: {from: silver.a, mode: append, where: 'id > 1', not_null: [key, _timestamp_date]}\n"
        "  c: {from: bronze.t, mode: append, envelope: debezium}\n"
        "  d: {from: silver.c, mode: append, not_null: [whatever]}\n"
    )
    assert "'id' cannot be a column" in refusal(text).one["message"]
    assert refusal(text).one["loc"] == "silver.b.where"
    open_ended = text.replace("unknown_fields: reject", "unknown_fields: evolve")
    assert load_text(open_ended)


@pytest.mark.spec("D2")
@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC x", "no SELECT"),
        ("SELECT FROM WHERE", "parse"),
        ("SELECT 1 AS a", "reads no table"),
        ("SELECT a FROM orders", "reads 'orders', which is no table's name"),
        ("SELECT a FROM tin.orders", "'tin.orders', which is no table's name"),
        ("SELECT a FROM silver.nothing", "neither declared in this file nor a table of the lake"),
        ("SELECT a FROM read_csv('/etc/passwd')", "it has read_csv()"),
        ("DELETE FROM bronze.t", "no SELECT but DELETE"),
        ("SELECT a FROM bronze.t; SELECT a FROM bronze.t", "2 statements"),
        ("INSERT INTO bronze.t SELECT a FROM bronze.t", "no SELECT but INSERT"),
    ],
)
def test_queries_that_are_refused_at_their_line(sql: str, message: str) -> None:
    text = bronze("topics: [a]") + f"gold:\n  g:\n    mode: aggregate\n    sql: {sql!r}\n"
    problem = refusal(text).at("gold.g.sql")
    assert message in problem["message"]
    assert problem["line"] == 9


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ("partition_by: [dy]", "partition_by[0]"),
        ("zorder_by: [id]", "zorder_by[0]"),
        ("types: {m: long}", "types.m"),
        ("quality: [{rule: range, column: m, min: 0}]", "quality[0].column"),
    ],
)
def test_columns_that_a_query_does_not_make(more: str, at: str) -> None:
    sql = "SELECT CAST(at AS DATE) AS day, count(*) AS n FROM bronze.t GROUP BY day"
    text = bronze("topics: [a]") + f"gold:\n  g: {{mode: aggregate, sql: '{sql}', {more}}}\n"
    assert "cannot be a column of it" in refusal(text).at(f"gold.g.{at}")["message"]


def test_columns_that_a_query_makes() -> None:
    sql = "SELECT CAST(at AS DATE) AS day, n, t.hour FROM bronze.t GROUP BY ALL"
    more = "partition_by: [day, date(hour)], quality: [{rule: range, column: hour_date, min: 0}]"
    text = bronze("topics: [a]") + f"gold:\n  g: {{mode: aggregate, sql: '{sql}', {more}}}\n"
    assert load_text(text)


def test_tables_of_a_query() -> None:
    of_both = 'SELECT x.a FROM "silver"."a" AS x, gold.b, silver.a'
    assert tables_of(of_both) == ("silver.a", "gold.b")
    nested = "SELECT a FROM (SELECT a FROM silver.x WHERE id IN (SELECT id FROM silver.y)) AS z"
    assert tables_of(nested) == ("silver.x", "silver.y")
    with_first = "WITH z AS (SELECT a FROM silver.x) SELECT y.a FROM silver.y JOIN z ON y.a = z.a"
    assert tables_of(with_first) == ("silver.y", "silver.x")
    assert tables_of("SELECT a FROM silver.a UNION ALL SELECT a FROM silver.b") == (
        "silver.a",
        "silver.b",
    )


def test_columns_of_a_condition() -> None:
    assert names_in("source.at > target.at and x is null") == [
        ("source", "at"),
        ("target", "at"),
        ("x",),
    ]
    assert names_in("flag") == [("flag",)]


def test_a_circle_is_named_once_at_its_first_table() -> None:
    text = bronze("topics: [a]") + (
        "silver:\n"
        "  ok: {from: bronze.t, mode: append}\n"
        "  a: {from: gold.c, mode: append}\n"
        "  b: {from: silver.a, mode: append}\n"
        "gold:\n"
        "  c: {mode: aggregate, sql: 'SELECT x FROM silver.b JOIN silver.ok USING (x)'}\n"
    )
    problem = refusal(text).one
    assert problem["loc"] == "silver.a"
    assert (problem["line"], problem["column"]) == (8, 3)
    assert "silver.a reads gold.c reads silver.b reads silver.a" in problem["message"]


def test_circles_are_told_apart() -> None:
    reads = {"a": ["b"], "b": ["a"], "c": ["d", "a"], "d": ["c"], "e": ["e"], "f": ["a", "z"]}
    assert circles(reads) == [("a", "b", "a"), ("c", "d", "c")]


def test_a_table_of_another_pipeline_is_known_where_it_lies_on_this_machine(tmp_path: Path) -> None:
    text = bronze("topics: [a]") + "silver: {s: {from: silver.theirs, mode: append}}\n"
    local = text.replace("./lake", str(tmp_path / "lake"))
    assert "silver.theirs" in refusal(local).at("silver.s.from")["message"]
    (tmp_path / "lake" / "silver" / "theirs" / "_delta_log").mkdir(parents=True)
    assert load_text(local)
    # Whether a store has it is asked when the pipeline starts.
    assert load_text(text.replace("./lake", "s3://lake"))


def test_a_change_feed_that_a_later_table_needs_is_not_turned_off() -> None:
    off = "properties: {delta.enableChangeDataFeed: false}"
    text = bronze("topics: [a]") + (
        f"silver: {{s: {{from: bronze.t, mode: upsert, keys: [id], {off}}}}}\n"
        "gold: {g: {from: silver.s, mode: append}}\n"
    )
    problem = refusal(text).at("silver.s.properties.delta.enableChangeDataFeed")
    assert "gold.g reads the changes of silver.s" in problem["message"]
    assert load_text(text.replace("mode: upsert, keys: [id]", "mode: append"))


def test_two_derived_tables_may_not_lie_in_one_place() -> None:
    text = bronze("topics: [a]") + (
        "silver: {a: {from: bronze.t, mode: append, path: ./lake/gold/b}}\n"
        "gold: {b: {from: bronze.t, mode: append}}\n"
    )
    assert "gold.b would lie where silver.a lies" in refusal(text).one["message"]


MINUTE_MS = 60_000
DAY_MS = 86_400_000
# 1970-01-01 was a Thursday.


@pytest.mark.parametrize(
    ("text", "after_ms", "next_ms"),
    [
        ("* * * * *", 0, MINUTE_MS),
        ("* * * * *", 59_999, MINUTE_MS),
        ("* * * * *", MINUTE_MS, 2 * MINUTE_MS),
        ("0 2 * * *", 0, 120 * MINUTE_MS),
        ("0 2 * * *", 120 * MINUTE_MS, DAY_MS + 120 * MINUTE_MS),
        ("*/20 1-3/2 * * *", 61 * MINUTE_MS, 80 * MINUTE_MS),
        ("*/20 1-3/2 * * *", 100 * MINUTE_MS, 180 * MINUTE_MS),
        ("5/25 0 * * *", 0, 5 * MINUTE_MS),
        ("5/25 0 * * *", 30 * MINUTE_MS, 55 * MINUTE_MS),
        ("0 0 * * sun", 0, 3 * DAY_MS),
        ("0 0 * * 7", 0, 3 * DAY_MS),
        ("0 0 1 feb *", 0, 31 * DAY_MS),
        ("0 0 15 * mon", 0, 4 * DAY_MS),
        ("0 0 3 * mon", 0, 2 * DAY_MS),
        ("0 0 29 2 *", 0, (365 + 365 + 31 + 28) * DAY_MS),
    ],
)
def test_when_a_schedule_comes_next(text: str, after_ms: int, next_ms: int) -> None:
    assert parse_cron(text).next_after(after_ms) == next_ms


def test_a_schedule_that_never_comes_is_refused() -> None:
    for text in ("0 0 30 2 *", "0 0 31 4,6 *"):
        with pytest.raises(Invalid, match="never comes"):
            parse_cron(text)


UNPARSED = """
import sys
from raylake.config import load_bytes
load_bytes(b"pipeline: p\\nlake: ./l\\nkafka: {bootstrap: 'h:1'}\\nbronze: {t: {topics: [a]}}")
assert "sqlglot" not in sys.modules, "imported for nothing"
"""


def test_the_parser_of_sql_is_loaded_when_there_is_sql() -> None:
    ran = subprocess.run([sys.executable, "-c", UNPARSED], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_rows_cannot_be_set_aside_before_a_query() -> None:
    rule = "{rule: not_null, columns: [a], when: before, on_failure: %s}"
    text = (
        'gold: {g: {mode: aggregate, sql: "SELECT a, count(*) AS n FROM bronze.t GROUP BY a", '
        "quality: [%s]}}"
    )
    head = bronze("topics: [a]")
    told_of = refusal(head + text % (rule % "quarantine"))
    assert "cannot be set aside" in told_of.at("gold.g.quality[0].when")["message"]
    told = load_text(head + text % (rule % "abort"))
    assert told.config.gold["g"].quality[0].when == "before"
