"""New partitions, taken partitions and a stop, all while records keep coming."""

from __future__ import annotations

import signal

import pytest
from kafka.admin import NewPartitions

from tests.harness.producing import DIRTY
from tests.harness.scope import Scope


@pytest.mark.spec("A3", "A11")
def test_failure_07_12_40_partitions_move_and_appear_under_load_and_sigterm_drains(
    scope: Scope,
) -> None:
    """Two consumers; the new partitions make the supervisor take some away from the first one."""
    scope.pipeline({"commit_interval": "1s"}, ingest={"consumers": 2})
    job = scope.start()
    with scope.load(DIRTY):
        scope.run_until(lambda: any(sum(t.values()) > 400 for t in scope.committed()), "commits")
        # A commit is held up while its partitions are taken away.
        scope.arm("owner.before_commit", "delay", delay_s=2)
        scope.broker.admin.create_partitions({scope.topic: NewPartitions(5)})
        scope.partitions = 5
        scope.run_until(
            lambda: any(len(t) == 5 and min(t.values()) > 50 for t in scope.committed()),
            "the new partitions were read",
        )
        job.signal(signal.SIGTERM)
        job.ends_with(0)
    assert scope.status()["state"] == "stopped"
    scope.verify("data")
    scope.drain()
    scope.audit()
    scope.verify("all")


@pytest.mark.long
@pytest.mark.spec("A11")
def test_failure_40_a_stop_while_the_owner_is_being_replaced_still_drains(scope: Scope) -> None:
    scope.pipeline({"commit_interval": "1s"})
    scope.produce(500)
    job = scope.start()
    scope.until_caught_up()
    scope.arm("owner.after_commit", match={"kind": "data"})
    with scope.load():
        scope.run_until(scope.faults, "the owner was killed")
        job.signal(signal.SIGTERM)
        job.ends_with(0)
    scope.drain()
    scope.audit()
