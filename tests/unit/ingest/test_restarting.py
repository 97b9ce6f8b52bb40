"""Which failed runs are started again, how often, and when (I11)."""

from __future__ import annotations

import pytest

from raylake import errors
from raylake.ingest.restarting import FORGOTTEN_S, LONGEST_WAIT_S, Restarts

PASSING = errors.DependencyUnreachable("no broker answers")


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (PASSING, True),
        (errors.Retryable("try again"), True),
        (errors.OutcomeUnknown("did it happen?"), True),
        (errors.Fenced("a newer owner took the table over"), False),
        (errors.AlreadyRunning("another run holds it"), False),
        (errors.ConfigError("wrong"), False),
        (errors.Terminal("never"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: errors.RayLakeError, again: bool) -> None:
    assert (Restarts(5).after(error, "run-1", 1.0, 0.0) is not None) is again


def test_the_number_is_bounded_and_waits_grow() -> None:
    now: Restarts | None = Restarts(4, first_wait_s=100.0)
    waits = []
    while now is not None and (now := now.after(PASSING, "run-1", 1.0, 7.0)) is not None:
        waits.append(now.wait_s(0.0))
        assert now.run_id == "run-1"
        assert now.last == {"code": "unreachable", "message": PASSING.message, "at": 7.0}
    assert waits == [100.0, 200.0, LONGEST_WAIT_S, LONGEST_WAIT_S]
    assert Restarts(4, 1, first_wait_s=100.0).wait_s(1.0) == 125.0
    assert Restarts(0).after(PASSING, "run-1", 1.0, 0.0) is None


def test_a_run_that_lasted_counts_anew() -> None:
    tired = Restarts(3, 3, "run-1")
    assert tired.after(PASSING, "run-1", FORGOTTEN_S - 1, 0.0) is None
    found = tired.after(PASSING, "run-1", FORGOTTEN_S, 0.0)
    assert found is not None
    assert found.count == 1


def test_the_next_process_reads_what_this_one_hands_on() -> None:
    one = Restarts(5, first_wait_s=0.5).after(PASSING, "run-1", 1.0, 7.0)
    assert one is not None
    assert Restarts.read(5, one.text()) == one
    assert Restarts.read(5, None) == Restarts(5)
