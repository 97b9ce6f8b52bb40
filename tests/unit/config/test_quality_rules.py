"""Rules of the pipeline file: what they may say, and what is told where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake.config import Pipeline
from raylake.config.quality import pattern_fault
from tests.unit.config.loading import load_text, refusal

HEAD = "pipeline: p\nlake: /l\nkafka: {bootstrap: 'k:1'}\nbronze: {b: {topics: [t]}}\n"


def silver(*rules: str) -> str:
    return (
        HEAD + f"silver: {{s: {{from: bronze.b, mode: append, quality: [{', '.join(rules)}]}}}}\n"
    )


def test_a_rule_has_a_name_and_a_time(tmp_path: Path) -> None:
    (tmp_path / "gold" / "of_another_pipeline" / "_delta_log").mkdir(parents=True)
    config = load_text(
        silver(
            "{rule: not_null, columns: [a], name: mine, when: before}",
            "{rule: foreign_key, column: a, references: gold.of_another_pipeline}",
        ).replace("lake: /l", f"lake: {tmp_path}")
    ).config
    first, second = config.silver["s"].quality
    assert (first.name, first.when) == ("mine", "before")
    assert (second.name, second.when) == (None, "after")
    assert second.references == "gold.of_another_pipeline"
    assert Pipeline.model_validate(config.model_dump(mode="json", by_alias=True)) == config


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{rule: not_null, columns: [a], name: ' '}", "a rule's name is printable text"),
        ("{rule: not_null, columns: [a], when: during}", "is not one of before, after"),
        ("{rule: range, column: a}", "a range needs a bound"),
        ("{rule: range, column: a, min: 2, max: 1}", "max 1 is less than min 2"),
        ("{rule: regex, column: a, pattern: '(?=x)'}", "the syntax is RE2's"),
        ("{rule: freshness, column: a, max_age: 1m, on_failure: quarantine}", "no row to"),
    ],
)
def test_what_is_wrong_about_a_rule_is_told(rule: str, said: str) -> None:
    problem = refusal(silver(rule)).one
    assert said in f"{problem['message']} {problem['hint']}"
    assert problem["loc"].startswith("silver.s.quality[0]")


def test_names_are_unique_in_a_table() -> None:
    one = "{rule: not_null, columns: [a], name: n}"
    problem = refusal(silver(one, one)).one
    assert problem["loc"] == "silver.s.quality[1].name"
    assert "another rule of the table is named 'n'" in problem["message"]


def test_a_pattern_that_is_no_text() -> None:
    assert pattern_fault("\ud800") == "it is not valid Unicode"
    assert pattern_fault("(") != ""
    assert pattern_fault("a.*") == ""
