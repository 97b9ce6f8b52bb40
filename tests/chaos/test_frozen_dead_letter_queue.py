"""A dead-letter queue that is frozen in the middle of a commit is replaced (I5, I11)."""

from __future__ import annotations

import signal

import pytest

from tests.harness.producing import DIRTY
from tests.harness.scope import Scope


@pytest.mark.long
@pytest.mark.spec("A4", "B3")
def test_a_frozen_queue_is_ended_and_its_letters_are_stored_once(scope: Scope) -> None:
    scope.produce(400, DIRTY)
    scope.arm("dlq.before_commit", "stop")
    job = scope.start(RAYLAKE_SILENT_S="15")
    scope.until_caught_up()
    scope.run_until(scope.faults, "the queue is frozen")
    # The drain lasts until the queue is found silent and a new one has stored the letters.
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    assert scope.status()["restarts"]["dead_letters"] == 1
    scope.audit()
    scope.verify()
