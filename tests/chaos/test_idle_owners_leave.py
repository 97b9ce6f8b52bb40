"""A detached owner whose job is gone releases its table and leaves (I11)."""

from __future__ import annotations

import signal

import pytest

from tests.harness.scope import Scope
from tests.harness.waiting import until


@pytest.mark.long
@pytest.mark.spec("A3", "A11")
def test_an_owner_that_nobody_asks_any_more_releases_its_table(scope: Scope) -> None:
    scope.produce(500)
    job = scope.start(RAYLAKE_IDLE_EXIT_S="12")
    scope.run_until(scope.caught_up, "everything is in the table")
    job.signal(signal.SIGKILL)
    job.wait()
    until(lambda: scope.commits()[-1][1]["kind"] == "release", "the owner released the table", 40.0)
    until(lambda: not scope.pids("owner"), "the owner is gone", 20.0)
    scope.produce(300)
    scope.drain()
    scope.audit()
    scope.verify()
