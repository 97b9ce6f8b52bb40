"""A commit file that is torn or overwritten under our feet: nothing goes on, exit code 5."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.scope import Scope


def last_commits(scope: Scope) -> tuple[Path, Path]:
    logs = sorted((scope.table() / "_delta_log").glob("*.json"))
    return logs[-2], logs[-1]


@pytest.mark.long
@pytest.mark.spec("A3")
def test_failure_05_and_29_a_damaged_log_is_refused_with_exit_code_5(scope: Scope) -> None:
    """Overwritten beside a run, torn before one."""
    job = scope.start()
    scope.run_until(lambda: scope.status().get("state") == "running", "the run started")
    scope.produce(300)
    scope.until_caught_up()
    scope.produce(300)
    scope.until_caught_up()
    before, last = last_commits(scope)
    whole = last.read_bytes()
    last.write_bytes(before.read_bytes())
    scope.produce(300)
    job.ends_with(5)
    assert scope.status()["error"]["code"] == "log_damaged"
    assert "lost or overwritten" in job.said

    last.write_bytes(whole[:-40])
    job = scope.drain(code=5)
    assert last.name in job.said
    assert scope.status()["error"]["code"] == "log_damaged"

    last.write_bytes(whole)
    scope.drain()
    scope.audit()
    scope.verify("all")
