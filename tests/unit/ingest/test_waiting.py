"""A table that waits for a first record is shown, and told in the log now and then."""

from __future__ import annotations

import logging

import pytest

from raylake.clock import ManualClock
from raylake.errors import ConfigError
from raylake.ingest.plan import NothingToInfer
from raylake.ingest.waiting import LOG_INTERVAL_S, NO_RECORD, Waiting, together


def test_it_is_told_once_and_then_at_most_every_ten_minutes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="raylake")
    clock = ManualClock()
    waiting = Waiting(clock)
    for _ in range(10):
        waiting.add("bronze.x")
        clock.sleep(5.0)
    assert caplog.messages == [f"bronze.x waits: {NO_RECORD}"]
    clock.sleep(LOG_INTERVAL_S)
    waiting.add("bronze.x")
    assert len(caplog.messages) == 2
    assert waiting.why == {"bronze.x": NO_RECORD}
    waiting.keep({"bronze.y"})
    assert waiting.why == {}


def test_what_is_wrong_is_one_error_of_its_kind() -> None:
    nothing, wrong = NothingToInfer("a", hint="h"), ConfigError("b", hint="h")
    assert together([nothing]) is nothing
    assert type(together([nothing, nothing])) is NothingToInfer
    both = together([nothing, wrong])
    assert (type(both), both.message, both.hint) == (ConfigError, "a\nb", "h")
