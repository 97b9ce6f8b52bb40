"""SIGKILL of a consumer, the owner or the dead-letter queue, at every named point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from raylake.faults import POINTS
from tests.harness.producing import DIRTY
from tests.harness.scope import Scope

DATA = {"kind": "data"}
GROUPS = {
    "consumer": [p for p in POINTS if p.startswith("consumer.")],
    "owner": [p for p in POINTS if p.startswith("owner.")],
    "others": [p for p in POINTS if p.startswith(("dlq.", "evolve."))],
}
ALL = [pytest.param(POINTS, id="all")]
ONE_BY_ONE = [pytest.param(GROUPS[name], id=name, marks=pytest.mark.long) for name in GROUPS]


def test_every_point_is_in_a_group() -> None:
    assert sorted(point for group in GROUPS.values() for point in group) == sorted(POINTS)


@pytest.mark.spec("A3", "B1")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("points", [*ALL, *ONE_BY_ONE])
def test_failure_01_33_sigkill_at_every_point_loses_and_doubles_nothing(
    scope: Scope, points: Sequence[str]
) -> None:
    """In one run all of them, or those of one kind of process.

    An owner that dies after its commit is asked again, and has committed once.
    """
    scope.pipeline(ingest={"drain_timeout": "12m"})
    scope.produce(1500, replace(DIRTY, pad=100))
    scope.produce(1500, replace(DIRTY, new_field="channel", pad=100))
    for number, point in enumerate(points):
        match = DATA if point in ("owner.after_check", "owner.after_commit") else {}
        scope.arm(point, name=str(number), match=match)
    scope.drain(timeout_s=800)
    hit = [fault["point"] for fault in scope.faults()]
    assert sorted(hit) == sorted(points)
    found = scope.audit()
    assert found.dead_letters > 20
    scope.verify("all")
    ranges = [(one["partition"], one["start"]) for one in scope.ranges_in_log()]
    assert len(ranges) == len(set(ranges))
    assert sum(scope.status()["restarts"].values()) > 0
