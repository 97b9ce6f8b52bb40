"""How many consumers: a number, auto, or between two numbers."""

from __future__ import annotations

import os

import pytest

from raylake.cli.explain import plan
from raylake.config import Scaled
from raylake.config.scaled import fewest, most
from tests.unit.config.loading import bronze, load_text, refusal

FILE = bronze("topics: [a]")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("auto", "auto"),
        ("4", 4),
        ("{max: 8}", Scaled(min=1, max=8, lag_s=30.0, lag_bytes=2**30, down_after_s=300.0)),
        (
            "{min: 2, max: 2, lag: 5s, lag_bytes: 64MiB, down_after: 1m}",
            Scaled(min=2, max=2, lag_s=5.0, lag_bytes=2**26, down_after_s=60.0),
        ),
    ],
)
def test_what_may_be_written(written: str, read: object) -> None:
    loaded = load_text(f"{FILE}ingest: {{consumers: {written}}}\n")
    assert loaded.config.ingest.consumers == read


@pytest.mark.parametrize(
    ("written", "loc", "said"),
    [
        ("0", "ingest.consumers", "at least one consumer"),
        ("many", "ingest.consumers", "neither a number nor auto"),
        ("true", "ingest.consumers", "neither a number nor auto"),
        ("[1, 4]", "ingest.consumers", "consumers is a number, auto, or {min: 1, max: 8}"),
        ("{min: 2}", "ingest.consumers.max", ""),
        ("{min: 3, max: 2}", "ingest.consumers", "at most 2 and at least 3"),
        ("{min: 0, max: 2}", "ingest.consumers.min", ""),
        ("{max: 2, lag: 30}", "ingest.consumers.lag", ""),
        ("{maximum: 2}", "ingest.consumers.maximum", ""),
    ],
)
def test_what_is_refused_and_where(written: str, loc: str, said: str) -> None:
    found = refusal(f"{FILE}ingest: {{consumers: {written}}}\n")
    assert loc in {problem["loc"] for problem in found.problems}, found.text
    assert said in found.text


def test_fewest_and_most() -> None:
    assert (fewest(3), most(3)) == (3, 3)
    assert (fewest(Scaled(min=2, max=5)), most(Scaled(min=2, max=5))) == (2, 5)
    assert fewest("auto") == most("auto") == max(1, min(4, os.cpu_count() or 1))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("auto", "one consumer a CPU, at most four on Ray"),
        ("3", "3 consumers on Ray"),
        (
            "{max: 4}",
            "1 to 4 consumers (one more where one lags by 30s or 1GiB, fewer when fewer have",
        ),
    ],
)
def test_explain_says_it(written: str, said: str) -> None:
    assert said in plan(load_text(f"{FILE}ingest: {{consumers: {written}}}\n"))[0]
