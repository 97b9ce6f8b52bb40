"""Variables in scalars, RAYLAKE__ variables and flags, and where each value says it comes from."""

from __future__ import annotations

import pytest

from raylake.config.interpolate import interpolate
from tests.unit.config.loading import SMALLEST, bronze, load_text, refusal

FILE = bronze("topics: [a]")


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}", {"A": ""}, ""),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-}", {}, ""),
        ("${A:-http://h:1/x}", {}, "http://h:1/x"),
        ("${A:?needed}", {"A": "x"}, "x"),
        ("p/${A}/${B:-b}/s", {"A": "x"}, "p/x/b/s"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$A $ {A} 100$", {"A": "x"}, "$A $ {A} 100$"),
        ("${A}", {"A": "${B}", "B": "no"}, "${B}"),
        ("${A}", {"A": "[1, 2]: {x}"}, "[1, 2]: {x}"),
        ("{topic}", {}, "{topic}"),
    ],
)
def test_filled_in(text: str, environ: dict[str, str], value: str) -> None:
    assert interpolate({"k": [text]}, environ)[:2] == ({"k": [value]}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${A}", "the variable A is not set"),
        ("${A:?ask the team}", "A is not set: ask the team"),
        ("${A", "not closed"),
        ("${}", "not a variable"),
        ("${1A}", "not a variable"),
        ("${A-x}", "not a variable"),
        ("${A:-${B}}", "nested"),
    ],
)
def test_not_filled_in(text: str, message: str) -> None:
    data, found, _ = interpolate({"k": text}, {})
    assert data == {"k": text}
    assert found[0].at == ("k",)
    assert message in found[0].message


def test_a_filled_in_scalar_is_converted_for_its_field() -> None:
    text = FILE + (
        'ingest: {consumers: "${N}", buffer: "${BUF:-1MiB}"}\ndead_letters: {stop_above: "${P}"}\n'
    )
    text = text.replace("[a]", '[a], keep_value: "${KEEP}"')
    loaded = load_text(text, environ={"N": "4", "P": "30%", "KEEP": "true"})
    assert loaded.config.ingest.consumers == 4
    assert loaded.config.ingest.buffer_bytes == 2**20
    assert loaded.config.dead_letters.stop_above == 0.3
    assert loaded.config.bronze["t"].keep_value is True


def test_a_variable_is_never_read_as_yaml() -> None:
    found = refusal(FILE.replace("[a]", '"${T}"'), environ={"T": "[a, b]"})
    assert "topics is a list" in found.one["message"]


def test_variables_that_are_missing_come_with_all_other_problems() -> None:
    found = refusal("pipeline: ${NAME}\nlake: ${LAKE}\nkafka: {}\nbronze: {t: {topics: []}}\n")
    assert {p["loc"] for p in found.problems} == {
        "pipeline",
        "lake",
        "kafka.bootstrap",
        "bronze.t.topics",
    }


def test_precedence_is_flag_then_environment_then_file_then_default() -> None:
    environ = {
        "RAYLAKE__KAFKA__BOOTSTRAP": "env:1",
        "RAYLAKE__BRONZE__T__COMMIT_INTERVAL": "9s",
        "RAYLAKE__BRONZE__T__TOPICS": '["b", "c"]',
    }
    loaded = load_text(FILE, environ=environ, overrides={"kafka.bootstrap": "flag:2"})
    assert loaded.config.kafka.bootstrap == "flag:2"
    assert loaded.config.bronze["t"].topics == ("b", "c")
    assert loaded.config.bronze["t"].commit_interval_s == 9
    assert loaded.origins["kafka.bootstrap"] == "flag"
    assert loaded.origins["bronze.t.commit_interval"] == "env RAYLAKE__BRONZE__T__COMMIT_INTERVAL"
    assert loaded.origins["bronze.t.topics[1]"] == "env RAYLAKE__BRONZE__T__TOPICS"
    assert loaded.origins["pipeline"] == "p.yaml:1:11"
    assert loaded.origins["kafka.connect_timeout"] == "default"
    assert loaded.origins["breaker.half_open_calls"] == "default"


def test_every_value_has_an_origin() -> None:
    loaded = load_text(FILE)
    assert set(loaded.values()) <= set(loaded.origins)
    assert loaded.values()["bronze.t.start"] == "earliest"


def test_an_override_may_repair_what_the_file_lacks() -> None:
    text = FILE.replace("lake: ./lake", "lake: ${LAKE}").replace("[a]", "[]")
    loaded = load_text(text, overrides={"lake": "/data", "bronze.t.topics": '["x"]'})
    assert loaded.config.lake == "/data"


def test_names_of_tables_with_dots_dashes_and_capitals() -> None:
    text = SMALLEST + "bronze: {Web.Clicks-v2: {topics: [a]}}\n"
    environ = {"RAYLAKE__BRONZE__WEB_CLICKS_V2__MAX_COLUMNS": "7"}
    flags = {"bronze.Web.Clicks-v2.topics[0]": "z"}
    loaded = load_text(text, environ=environ, overrides=flags)
    table = loaded.config.bronze["Web.Clicks-v2"]
    assert (table.max_columns, table.topics) == (7, ("z",))


def test_a_wrong_variable_is_named_in_its_problem() -> None:
    found = refusal(FILE, environ={"RAYLAKE__KAFKA__BOOTSTRP": "h:1", "RAYLAKE__X____Y": "1"})
    problem = found.at("kafka.bootstrp")
    assert problem["file"] == "env RAYLAKE__KAFKA__BOOTSTRP"
    assert "bootstrap" in problem["hint"]
    assert "names no key" in found.text


def test_a_bare_number_in_a_variable_is_an_error_too() -> None:
    found = refusal(FILE, environ={"RAYLAKE__BRONZE__T__COMMIT_INTERVAL": "5"})
    assert "5s" in found.one["hint"]


def test_the_hash_follows_values_and_not_spelling() -> None:
    plain = load_text(FILE)
    commented = load_text("# hello\n" + FILE.replace("[a]", "['a'], commit_interval: 5000ms"))
    other = load_text(FILE.replace("[a]", "[a], start: latest"))
    assert plain.sha256 == commented.sha256
    assert plain.sha256 != other.sha256
