"""The model: its defaults, its choices, and what must fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from raylake.config import (
    BronzeTable,
    Earliest,
    FromGroup,
    FromOffsets,
    FromTimestamp,
    Latest,
    Pipeline,
    SchemaFile,
    TopicPattern,
    load,
)
from raylake.config.columns import PartitionField, parse_partition
from raylake.config.cron import check_cron
from tests.unit.config.loading import SMALLEST, bronze, load_text, refusal

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_smallest_file_has_every_default_of_the_design() -> None:
    config = load_text(bronze("topics: [clicks]")).config
    table = config.bronze["t"]
    assert table.topics == ("clicks",)
    assert table.start == Earliest()
    assert (table.format, table.unknown_fields, table.max_columns) == ("json", "evolve", 1000)
    assert (table.commit_interval_s, table.idle_commit_interval_s) == (5, 60)
    assert (table.target_file_bytes, table.max_batch_bytes) == (128 * 2**20, 64 * 2**20)
    assert (table.on_data_loss, table.on_topic_recreated) == ("stop", "stop")
    assert (table.keep_value, table.on_failure, table.schema_) == (False, "continue", None)
    assert config.kafka.connect_timeout_s == 10
    ingest = config.ingest
    assert (ingest.consumers, ingest.trigger, ingest.durability) == ("auto", "continuous", "sync")
    assert (ingest.buffer_bytes, ingest.drain_timeout_s) == (256 * 2**20, 60)
    assert (ingest.takeover_after_s, ingest.log_retention_s) == (30, 86_400)
    assert (config.dead_letters.stop_above, config.dead_letters.window_records) == (0.2, 10_000)
    retry = config.retry
    assert (retry.strategy, retry.attempts, retry.initial_s, retry.max_s) == (
        "exponential",
        10,
        0.2,
        30,
    )
    breaker = config.breaker
    assert (breaker.failure_rate, breaker.calls, breaker.window_s, breaker.open_s) == (
        0.5,
        20,
        30,
        30,
    )
    assert config.engine == "auto"
    assert config.not_yet() == []


def test_object_stores_have_defaults_of_their_own() -> None:
    loaded = load_text(bronze("topics: [a]").replace("./lake", "s3a://b/lake/"))
    assert loaded.config.lake == "s3://b/lake"
    assert loaded.config.bronze["t"].commit_interval_s == 10
    assert loaded.config.ingest.log_retention_s == 7 * 86_400
    assert loaded.origins["bronze.t.commit_interval"] == "default"
    given = bronze("topics: [a], commit_interval: 3s").replace("./lake", "s3://b")
    assert load_text(given).config.bronze["t"].commit_interval_s == 3


def test_the_example_of_the_design_loads() -> None:
    loaded = load(EXAMPLES / "orders.yaml", environ={})
    config = loaded.config
    table = config.bronze["orders"]
    assert table.topics == ("orders.eu", "orders.us")
    assert table.event_time is not None
    assert (table.event_time.lateness_s, table.event_time.late) == (600, "flag")
    assert table.partition_fields == (PartitionField("date", "_timestamp"),)
    rules = config.silver["orders"].quality
    assert rules[2].values == ("DE", "NO", "US")
    assert rules[3].max_age_s == 900
    assert config.gold["customers"].track == ("country", "segment")
    assert "FROM silver.orders" in config.gold["daily_sales"].sql
    assert config.maintenance.budget.cpu == 0.25
    assert config.not_yet() == []
    assert config.maintenance.enabled


def test_the_smallest_example_loads() -> None:
    config = load(EXAMPLES / "clicks.yaml", environ={"KAFKA": "k:1", "LAKE": "/data/lake"}).config
    assert (config.kafka.bootstrap, config.lake) == ("k:1", "/data/lake")


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ("earliest", Earliest()),
        ("latest", Latest()),
        ("{timestamp: 2024-01-01T01:00:00+01:00}", FromTimestamp(timestamp_ms=1704067200000)),
        ("{timestamp: '2024-01-01T00:00:00.250Z'}", FromTimestamp(timestamp_ms=1704067200250)),
        ("{timestamp: 2024-01-01}", FromTimestamp(timestamp_ms=1704067200000)),
        ("{offsets: {0: 5, 1: 7}}", FromOffsets(offsets={"a": {0: 5, 1: 7}})),
        ("{offsets: {a: {0: 5}}}", FromOffsets(offsets={"a": {0: 5}})),
        ("{group: g}", FromGroup(group="g")),
    ],
)
def test_start_positions(written: str, start: object) -> None:
    config = load_text(bronze(f"topics: [a], start: {written}")).config
    assert config.bronze["t"].start == start
    assert type(config.bronze["t"].start) is type(start)


@pytest.mark.parametrize(
    ("body", "loc", "message"),
    [
        ("topics: [a], start: {timestamp: 2024-01-01T00:00:00}", "start.timestamp", "zone"),
        ("topics: [a], start: {timestamp: 5}", "start.timestamp", "text with a zone"),
        ("topics: [a], start: {timestamp: 1969-01-01}", "start.timestamp", "before 1970"),
        ("topics: [a], start: {when: now}", "start", "start is earliest"),
        ("topics: [a], start: {offsets: {b: {0: 1}}}", "start.offsets.b", "not among the topics"),
        ("topics: [a, b], start: {offsets: {0: 1}}", "start.offsets", "which topic"),
        ("topics: [a], start: {offsets: {0: -1}}", "start.offsets.a.0", "greater than or equal"),
        ("topics: []", "topics", "at least 1"),
        ("topics: a", "topics", "topics is a list"),
        ("topics: [a b]", "topics[0]", "cannot be a topic"),
        ("topics: ['..']", "topics[0]", "cannot be a topic"),
        ("topics: [7]", "topics[0]", "text, not a number"),
        ("topics: {pattern: '('}", "topics.pattern", "does not compile"),
        ("topics: {pattern: '*'}", "topics.pattern", "names no topics"),
        ("topics: {patern: 'a'}", "topics.patern", "unknown key"),
        ("topics: [a], table: '{topics}'", "table", "not known here"),
        ("topics: [a], table: '{topic'", "table", "not a template"),
        ("topics: [a], table: '../{topic}'", "table", "not a table's name"),
        ("topics: [a], table: '{topic}', path: /x", "path", "one path a topic"),
        ("topics: [a], path: '/x/{topic}'", "path", "needs table"),
        ("topics: [a], format: avro", "format", "does not read it yet"),
        ("topics: [a], schema: {}", "schema", "at least 1"),
        ("topics: [a], schema: {_offset: long}", "schema._offset", "RayLake's own columns"),
        ("topics: [a], schema: {id: long, ID: long}", "schema.ID", "only in case"),
        ("topics: [a], schema: {x: 'decimal(40,2)'}", "schema.x", "decimal"),
        ("topics: [a], schema: {x: 'array<>'}", "schema.x", "array<>"),
        (
            "topics: [a], schema: {x: long}, event_time: {column: x}",
            "event_time.column",
            "not a timestamp",
        ),
        ("topics: [a], event_time: {column: _offset}", "event_time.column", "not a timestamp"),
        (
            "topics: [a], schema: {x: long}, partition_by: [date(x)]",
            "partition_by[0]",
            "not a timestamp",
        ),
        ("topics: [a], partition_by: [_timestamp]", "partition_by[0]", "partition per moment"),
        ("topics: [a], partition_by: [_offset]", "partition_by[0]", "not a column to"),
        ("topics: [a], partition_by: [x, x]", "partition_by[1]", "twice"),
        ("topics: [a], partition_by: [a/b]", "partition_by[0]", "not a way to partition"),
        ("topics: [a], commit_interval: 0s", "commit_interval", "greater than 0"),
        ("topics: [a], commit_interval: -5s", "commit_interval", "not a duration"),
        ("topics: [a], commit_interval_s: 5", "commit_interval_s", "unknown key"),
        ("topics: [a], max_batch_bytes: 64", "max_batch_bytes", "needs a unit"),
        ("topics: [a], max_columns: true", "max_columns", "whole number"),
        ("topics: [a], max_columns: 1.5", "max_columns", "whole number"),
    ],
)
def test_what_a_bronze_table_refuses(body: str, loc: str, message: str) -> None:
    found = refusal(bronze(body))
    assert message in found.at(f"bronze.t.{loc}")["message"]
    assert found.at(f"bronze.t.{loc}")["line"] == 5


@pytest.mark.parametrize(
    "name", ["..", ".x", "a/b", "a b", "-a", "", "a\\b", "é", "x" * 129, "a\n", "%2e"]
)
def test_names_that_could_leave_the_lake_are_refused(name: str) -> None:
    quoted = '"' + name.replace("\\", "\\\\").replace("\n", "\\n") + '"'
    found = refusal(f"{SMALLEST}bronze: {{{quoted}: {{topics: [a]}}}}\n")
    assert found.problems
    found = refusal(bronze("topics: [a]").replace("pipeline: p", f"pipeline: {quoted}"))
    assert found.at("pipeline")


@pytest.mark.parametrize(
    "bootstrap", ["a", "a:", ":1", "a:0", "a:65536", "a:x", "a:1,", "a:1,b", "http://a:1", "::1:9"]
)
def test_bootstrap_is_a_list_of_hosts_and_ports(bootstrap: str) -> None:
    text = bronze("topics: [a]").replace("localhost:9092", bootstrap)
    assert refusal(text).at("kafka.bootstrap")


@pytest.mark.parametrize("bootstrap", ["a:1", "a.b-c:9092, d:2", "[::1]:9092", "10.0.0.1:9"])
def test_good_bootstraps(bootstrap: str) -> None:
    assert load_text(bronze("topics: [a]").replace("localhost:9092", bootstrap))


@pytest.mark.parametrize(
    ("security", "message"),
    [
        ("{protocol: SASL_SSL}", "needs a mechanism"),
        ("{protocol: SASL_SSL, mechanism: PLAIN}", "needs a username"),
        ("{protocol: SSL, mechanism: PLAIN}", "has no mechanism"),
        ("{protocol: SASL_SSL, mechanism: OAUTHBEARER}", "needs a token"),
        (
            "{protocol: SASL_PLAINTEXT, mechanism: PLAIN, username: u, password: env:P}",
            "without TLS",
        ),
        ("{protocol: SSL, certificate: c}", "both certificate and key"),
        ("{protocol: SSL, key_password: env:P}", "there is no key"),
        ("{protocol: SSL, username: u}", "SSL takes no username"),
        ("{protocol: PLAINTEXT, ca: c.pem}", "without TLS: ca has no effect"),
        (
            "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: env:P, token: env:T}",
            "PLAIN takes no token",
        ),
    ],
)
def test_security_that_does_not_fit_together(security: str, message: str) -> None:
    text = bronze("topics: [a]").replace("9092'}", f"9092', security: {security}}}")
    assert message in refusal(text).text


def test_files_of_tls_are_beside_the_pipeline_file_or_at_an_absolute_path(tmp_path: Path) -> None:
    files = "ca: tls/ca.pem, certificate: /etc/me.pem, key: ~/me.key"
    text = bronze("topics: [a]").replace("9092'}", f"9092', security: {{protocol: SSL, {files}}}}}")
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    security = load(path).config.kafka.security
    assert security is not None
    assert security.ca == str(tmp_path / "tls" / "ca.pem")
    assert security.certificate == "/etc/me.pem"
    assert security.key == str(Path("~/me.key").expanduser())


def test_options_that_would_break_the_guarantee_are_refused_by_name() -> None:
    text = bronze("topics: [a]").replace(
        "9092'}", "9092', client: {isolation_level: read_uncommitted, fetch_min_bytes: 1}}"
    )
    assert "committed records only" in refusal(text).one["hint"]


@pytest.mark.parametrize(
    ("tail", "loc"),
    [
        ("silver: {s: {from: bronze.x, mode: append}}", "silver.s.from"),
        ("silver: {s: {from: silver.s, mode: append}}", "silver.s.from"),
        ("silver: {s: {from: nowhere, mode: append}}", "silver.s.from"),
        (
            "gold: {g: {mode: scd2, from: bronze.t, keys: [], track: [b], sequence_by: c}}",
            "gold.g.keys",
        ),
        ("gold: {g: {mode: aggregate, sql: x, trigger: hourly}}", "gold.g.trigger"),
        ("gold: {g: {mode: aggregate, sql: x, trigger: '0 99 * * *'}}", "gold.g.trigger"),
        ("gold: {g: {mode: aggregate, sql: x, path: ./lake/bronze/t}}", "gold.g.path"),
        ("gold: {g: {mode: aggregate, sql: x, path: ./lake/bronze/t/in}}", "gold.g.path"),
        ("dead_letters: {path: ./lake/bronze/t}", "dead_letters.path"),
        ("maintenance: {zorder: {silver.q: [a]}}", "maintenance.zorder.silver.q"),
        ("maintenance: {budget: {yield_above_lag: -1s}}", "maintenance.budget.yield_above_lag"),
        ("maintenance: {schedule: debts}", "maintenance.schedule"),
        ("maintenance: {window: '0 1 * * *'}", "maintenance.window"),
        ("maintenance: {vacuum: {keep: 6d}}", "maintenance.vacuum.keep"),
        ("maintenance: {compact: {small_files: 0}}", "maintenance.compact.small_files"),
        ("maintenance: {zorder_depth: 1}", "maintenance.zorder_depth"),
        ("maintenance: {checkpoint: {commits: 0}}", "maintenance.checkpoint.commits"),
        ("ingest: {consumers: 0}", "ingest.consumers"),
        ("breaker: {failure_rate: 150%}", "breaker.failure_rate"),
        ("engine: sparc", "engine"),
    ],
)
def test_what_the_rest_refuses(tail: str, loc: str) -> None:
    found = refusal(bronze("topics: [a]") + tail + "\n")
    assert loc in {p["loc"] for p in found.problems}, found.text


def test_one_topic_may_feed_two_tables() -> None:
    assert load_text(SMALLEST + "bronze: {a: {topics: [x]}, b: {topics: [x, y]}}\n")


def test_two_entries_may_not_feed_one_table() -> None:
    found = refusal(SMALLEST + "bronze: {a: {topics: [x]}, b: {topics: [y], table: a}}\n")
    assert "would lie where bronze.a lies" in found.one["message"]


def test_a_fanned_out_table_can_be_a_source() -> None:
    text = SMALLEST + "bronze: {a: {topics: [x, y], table: 'raw_{topic}'}}\n"
    assert load_text(text + "silver: {s: {from: bronze.raw_x, mode: append}}\n")
    assert refusal(text + "silver: {s: {from: bronze.raw_z, mode: append}}\n")


def test_in_python_numbers_are_taken_in_the_unit_of_the_name() -> None:
    table = BronzeTable(topics=("a",), commit_interval_s=0.5, max_batch_bytes=1000)
    assert (table.commit_interval_s, table.max_batch_bytes) == (0.5, 1000)
    with pytest.raises(ValidationError):
        table.commit_interval_s = 1  # type: ignore[misc]


def test_a_model_in_python_is_cross_checked_too() -> None:
    table = BronzeTable(topics=("a", "a"))
    with pytest.raises(ValidationError, match="twice"):
        Pipeline(pipeline="p", lake="/l", kafka={"bootstrap": "h:1"}, bronze={"t": table})


def test_what_is_dumped_validates_to_the_same() -> None:
    config = load(EXAMPLES / "orders.yaml", environ={}).config
    for by_alias in (True, False):
        dumped = config.model_dump(mode="json", by_alias=by_alias)
        assert Pipeline.model_validate(dumped) == config


def test_a_schema_file_lies_beside_the_pipeline_file() -> None:
    config = load_text(bronze("topics: [a], schema: s.json"), path="/etc/raylake/p.yaml").config
    assert config.bronze["t"].schema_ == SchemaFile(path="/etc/raylake/s.json")


def test_a_pattern_means_the_whole_name() -> None:
    pattern = TopicPattern(pattern=r"orders\..*")
    assert pattern.matches("orders.eu")
    assert not pattern.matches("my.orders.eu")


def test_partition_expressions() -> None:
    assert parse_partition("date(x)") == PartitionField("date", "x")
    assert parse_partition(" hour( _timestamp ) ").name == "_timestamp_hour"
    assert parse_partition("country") == PartitionField("column", "country")


@pytest.mark.parametrize("text", ["* * * * *", "*/5 0-6 1,15 jan-mar mon", "0 3 * * 7"])
def test_schedules(text: str) -> None:
    assert check_cron(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "5-1 * * * *", "*/0 * * * *", "a * * * *", "1-2-3 * * * *"],
)
def test_schedules_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="schedule"):
        check_cron(text)


def test_retries_may_differ_by_dependency() -> None:
    config = load_text(
        bronze("topics: [a]")
        + "retry: {attempts: 4, max: 5s, broker: {strategy: fixed, initial: 1s},"
        + " store: {strategy: none}, conflicts: {attempts: 20}}\n"
    ).config
    rules = {
        name: config.retry.of(name)  # type: ignore[arg-type]
        for name in ("broker", "store", "dead_letters", "conflicts")
    }
    assert {n: (r.strategy, r.attempts, r.initial_s, r.max_s) for n, r in rules.items()} == {
        "broker": ("fixed", 4, 1.0, 5.0),
        "store": ("none", 4, 0.2, 5.0),
        "dead_letters": ("exponential", 4, 0.2, 5.0),
        "conflicts": ("exponential", 20, 0.02, 2.0),
    }


@pytest.mark.parametrize(
    ("retry", "loc", "said"),
    [
        ("{stor: {max: 1s}}", "retry.stor", "did you mean 'store'?"),
        ("{store: {strateg: none}}", "retry.store.strateg", "did you mean 'strategy'?"),
        ("{store: {initial: 40s}}", "retry.store", "initial is 40 s here and max 30 s"),
        ("{max: 2s, broker: {initial: 3s}}", "retry.broker", "max 2 s"),
        ("{conflicts: {initial: 5s}}", "retry.conflicts", "max 2 s"),
    ],
)
def test_what_is_wrong_about_one_dependencys_retries_is_told_there(
    retry: str, loc: str, said: str
) -> None:
    problem = refusal(bronze("topics: [a]") + f"retry: {retry}\n").one
    assert problem["loc"] == loc
    assert said in f"{problem['message']} {problem['hint']}"


@pytest.mark.spec("B3")
@pytest.mark.parametrize(
    ("also", "loc", "said"),
    [
        ("{kafka: {topic: a}}", "kafka.topic", "its dead letters would come again"),
        ("{kafka: {topic: 'a b'}}", "kafka.topic", "pattern"),
        ("{files: {path: ./lake/bronze/t}}", "files.path", "would lie"),
        ("{nowhere: {}}", "nowhere", "unknown key"),
    ],
)
def test_further_targets_of_dead_letters_that_cannot_be(also: str, loc: str, said: str) -> None:
    found = refusal(bronze("topics: [a]") + f"dead_letters: {{also: {also}}}\n")
    problem = found.at(f"dead_letters.also.{loc}")
    assert said in f"{problem['message']} {problem['hint']}"
