"""A supervisor that is frozen is ended by its job and started again."""

from __future__ import annotations

import signal

import pytest

from tests.harness.producing import DIRTY
from tests.harness.scope import Scope


@pytest.mark.long
@pytest.mark.spec("A3", "B1")
def test_failure_35_a_frozen_supervisor_is_ended_and_started_again(scope: Scope) -> None:
    job = scope.start(RAYLAKE_SILENT_S="15")
    scope.produce(300, DIRTY)
    scope.until_caught_up()
    (pid,) = scope.kill("supervisor", signal.SIGSTOP)
    scope.produce(300, DIRTY)
    scope.run_until(lambda: pid not in scope.pids("supervisor"), "the frozen one is ended")
    scope.until_caught_up()
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    scope.audit()
    scope.verify()
