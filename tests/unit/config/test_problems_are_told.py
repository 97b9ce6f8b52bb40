"""All problems at once, each with its place, its line, a caret, a hint, and no secret."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from raylake.config import load
from raylake.errors import ConfigError
from tests.unit.config.loading import SMALLEST, bronze, load_text, refusal

MANY = """\
pipeline: ../a
lke: ./x
kafka:
  bootstrap: localhost
  connect_timeout: 5
bronze:
  orders:
    topic: [a]
    topics: [a, b, a]
    start: earlest
    format: jsn
    keep_value: yes
    max_columns: abc
    schema: {id: strng, ts: timestamp}
    event_time: {column: tz, lateness: 10}
    partition_by: [date(ts), month(ts), idd]
  clicks: null
silver:
  s: {from: bronze.oders, mode: upsrt, keys: [a]}
  u: {from: bronze.orders, mode: upsert, keyz: [a], quality: [{rule: not_nul, columns: [a]}]}
retry: {attempts: 0}
"""


def test_all_problems_at_once_each_at_its_place() -> None:
    found = refusal(MANY)
    places = {(p["loc"], p["line"], p["column"]) for p in found.problems}
    assert places == {
        ("pipeline", 1, 11),
        ("lake", 1, 1),
        ("lke", 2, 1),
        ("kafka.bootstrap", 4, 14),
        ("kafka.connect_timeout", 5, 20),
        ("bronze.orders.topic", 8, 5),
        ("bronze.orders.topics[2]", 9, 20),
        ("bronze.orders.start", 10, 12),
        ("bronze.orders.format", 11, 13),
        ("bronze.orders.keep_value", 12, 17),
        ("bronze.orders.max_columns", 13, 18),
        ("bronze.orders.schema.id", 14, 18),
        ("bronze.orders.event_time.column", 15, 26),
        ("bronze.orders.event_time.lateness", 15, 40),
        ("bronze.orders.partition_by[1]", 16, 30),
        ("bronze.orders.partition_by[2]", 16, 41),
        ("bronze.clicks", 17, 11),
        ("silver.s.from", 19, 13),
        ("silver.s.mode", 19, 33),
        ("silver.u.keys", 20, 3),
        ("silver.u.keyz", 20, 42),
        ("silver.u.quality[0].rule", 20, 70),
        ("retry.attempts", 21, 19),
    }


@pytest.mark.parametrize(
    ("loc", "hint"),
    [
        ("lke", "did you mean 'lake'?"),
        ("kafka.connect_timeout", "write 5s"),
        ("bronze.orders.topic", "did you mean 'topics'?"),
        ("bronze.orders.start", "did you mean 'earliest'?"),
        ("bronze.orders.format", "did you mean 'json'?"),
        ("bronze.orders.keep_value", "write true"),
        ("bronze.orders.schema.id", "did you mean 'string'?"),
        ("bronze.orders.partition_by[2]", "did you mean 'id'?"),
        ("silver.s.from", "did you mean 'bronze.orders'?"),
        ("silver.s.mode", "did you mean 'upsert'?"),
        ("silver.u.keyz", "did you mean 'keys'?"),
        ("silver.u.quality[0].rule", "did you mean 'not_null'?"),
    ],
)
def test_hints(loc: str, hint: str) -> None:
    assert hint in refusal(MANY).at(loc)["hint"]


def test_the_caret_stands_under_the_value() -> None:
    problem = refusal(bronze("topics: [a], format: jsn")).one
    line, caret = problem["snippet"].splitlines()
    assert line[caret.index("^") :].startswith("jsn")
    assert (
        "p.yaml:5:28  bronze.t.format: 'jsn' is not one of"
        in refusal(bronze("topics: [a], format: jsn")).text
    )


def test_a_long_line_is_cut_around_the_caret() -> None:
    topics = ", ".join(f"topic-{i}" for i in range(200))
    problem = refusal(bronze(f"topics: [{topics}], format: jsn")).one
    line, caret = problem["snippet"].splitlines()
    assert len(line) < 200
    assert line[caret.index("^") :].startswith("jsn")


def test_the_error_travels_between_processes() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(MANY)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.context == caught.value.context


@pytest.mark.parametrize(
    "security",
    [
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: hunter2}",
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, pasword: hunter2}",
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, pw: hunter2}",
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: [hunter2]}",
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: {x: hunter2}}",
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: '${PASSWORD}'}",
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: '${hunter2'}",
        '{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: "hunter2}',
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: *hunter2}",
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: !hunter2 x}",
        "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: hunter2, nope: 1}",
        "{protocol: SASL_SSL, mechanism: OAUTHBEARER, token: hunter2}",
        "{protocol: SSL, certificate: c, key: k, key_password: hunter2}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_repeated(security: str) -> None:
    text = bronze("topics: [a]").replace("9092'}", f"9092', security: {security}}}")
    found = refusal(text, environ={"PASSWORD": "hunter2"})
    assert "hunter2" not in found.text
    assert "hunter2" not in repr(found.problems)


@pytest.mark.parametrize(
    "line",
    [
        "client: {sasl_plain_password: hunter2}",
        "client: {ssl_password: hunter2}",
        "password: hunter2",
        "bootstrap: 'me:hunter2@localhost:9092'",
    ],
)
def test_secrets_in_other_places_are_refused_and_never_repeated(line: str) -> None:
    found = refusal(f"pipeline: p\nlake: ./l\nkafka:\n  {line}\nbronze: {{t: {{topics: [a]}}}}\n")
    assert "hunter2" not in found.text
    assert "hunter2" not in repr(found.problems)


def test_credentials_in_the_lake_address_are_refused_and_never_repeated() -> None:
    found = refusal(bronze("topics: [a]").replace("./lake", "s3://key:hunter2@bucket/x"))
    assert found.at("lake")
    assert "hunter2" not in found.text


def test_a_secret_in_a_variable_is_refused_and_never_repeated() -> None:
    found = refusal(
        bronze("topics: [a]").replace("9092'}", "9092', security: {protocol: SSL}}"),
        environ={"RAYLAKE__KAFKA__SECURITY__PASSWORD": "hunter2"},
    )
    assert found.at("kafka.security.password")
    assert "hunter2" not in found.text


def test_a_newer_format_is_refused_by_name_and_alone() -> None:
    problem = refusal("format: 2\nnews: {}\n").one
    assert "format 2 is newer" in problem["message"]
    assert "upgrade" in problem["hint"]


@pytest.mark.parametrize("value", ["0", "one", "true", "1.0", "-1"])
def test_other_formats_are_refused(value: str) -> None:
    assert refusal(bronze("topics: [a]") + f"format: {value}\n").at("format")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_an_empty_section_counts_as_left_out() -> None:
    loaded = load_text(bronze("topics: [a]") + "silver:\nretry:\nmaintenance:\n")
    assert loaded.config.silver == {}
    assert loaded.origins["retry"] == "default"


def test_a_required_key_without_a_value() -> None:
    assert refusal(SMALLEST + "bronze:\n").at("bronze")["line"] == 4


def test_a_list_of_one_wrong_item_is_one_problem() -> None:
    problem = refusal(bronze("topics: [7]")).one
    assert problem["loc"] == "bronze.t.topics[0]"
    assert problem["hint"] == "put it in quotes"


TWICE = """\
pipeline: p
lake: ./lake
lake: ./other
kafka:
  bootstrap: localhost:9092
  security: {username: u, password: env:P, password: "hunter2", protocl: x}
  security: {protocol: ssl, keystore: hunter3}
bronze:
  t: {topics: [a], start: earlest, start: latest}
pipeline: q
"""


def test_a_key_that_is_there_twice_hides_no_other_problem_and_shows_no_secret() -> None:
    found = refusal(TWICE)
    twice = [(p["loc"], p["line"], p["column"]) for p in found.problems if "twice" in p["message"]]
    assert twice == [
        ("lake", 3, 1),
        ("kafka.security.password", 6, 44),
        ("kafka.security", 7, 3),
        ("bronze.t.start", 9, 36),
        ("pipeline", 10, 1),
    ]
    assert found.at("kafka.security.protocl")["line"] == 6
    assert any(p["line"] == 9 and "earliest" in p["hint"] for p in found.problems)
    assert "hunter" not in found.text


def test_a_key_that_is_there_twice_is_an_error_also_where_a_flag_wins() -> None:
    text = f"{SMALLEST}lake: ./x\nbronze: {{t: {{topics: [a]}}}}\n"
    assert refusal(text, overrides={"lake": "./y"}).one["line"] == 4
