"""A run without anything to commit, while another run takes its tables over."""

from __future__ import annotations

import pytest

from tests.harness.scope import MakeScope


@pytest.mark.long
@pytest.mark.spec("A3")
def test_failure_02_an_idle_run_notices_that_it_was_taken_over(make_scope: MakeScope) -> None:
    """Its owners commit nothing that could be fenced: the status document tells it."""
    scope = make_scope()
    scope.produce(200)
    old = scope.start()
    scope.until_caught_up()
    shared, scope.cluster = scope.cluster, None
    new = scope.start("--take-over")
    scope.cluster = shared
    old.ends_with(6)
    assert "took the table over" in old.said
    scope.produce(200)
    scope.until_caught_up()
    assert scope.status()["error"] is None
    new.stop()
    assert scope.status()["state"] == "stopped"
    scope.audit()
    scope.verify("all")
