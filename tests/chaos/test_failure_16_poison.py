"""A topic of nothing but poison stops before it becomes dead letters, unless that is wanted."""

from __future__ import annotations

import pytest

from tests.harness.producing import Mix
from tests.harness.scope import Scope


@pytest.mark.long
@pytest.mark.spec("A4", "B2")
def test_failure_16_all_poison_stops_the_partition_and_three_restarts_double_nothing(
    scope: Scope,
) -> None:
    scope.pipeline(dead_letters={"stop_above": "20%", "window": 200})
    scope.produce(1000, Mix(poison=1.0))
    for _ in range(3):
        job = scope.drain(code=5)
        assert "format" in job.said
        assert scope.status()["error"]["code"] == "too_many_dead_letters"
    first = scope.committed()
    assert all(sum(table.values()) < 400 for table in first), "poison was let through"

    scope.pipeline(dead_letters={"stop_above": "100%"})
    scope.drain()
    found = scope.audit()
    assert (found.rows, found.dead_letters) == (0, 1000)
    assert [sum(table.values()) for table in scope.committed()] == [1000]
    scope.verify("all")


@pytest.mark.long
@pytest.mark.spec("A4", "B2")
def test_failure_16_a_poisoned_partition_stops_alone_and_its_gate_is_seen(scope: Scope) -> None:
    scope.pipeline(dead_letters={"stop_above": "20%", "window": 200})
    job = scope.start()
    scope.produce(400, partitions=[0])
    scope.produce(400, Mix(poison=1.0), partitions=[1])
    good, poisoned = sorted(scope.ends)

    def stopped() -> bool:
        (table,) = scope.committed() or [{}]
        return poisoned in scope.status().get("stopped", {}) and table.get(good, -1) >= 400

    scope.run_until(stopped, "the poisoned partition stopped and the other one went on")
    scope.run_until(lambda: scope.tripped("/1"), "its gate is in the status document")
    scope.produce(200, partitions=[0])
    scope.run_until(
        lambda: any(table.get(good, -1) >= 600 for table in scope.committed()), "it goes on"
    )
    job.process.terminate()
    job.ends_with(0)

    scope.pipeline(dead_letters={"stop_above": "100%"})
    scope.drain()
    scope.audit()
