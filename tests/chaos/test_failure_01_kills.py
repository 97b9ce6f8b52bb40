"""SIGKILL of a consumer, the owner or the dead-letter queue, at every named point."""

from __future__ import annotations

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


def test_every_point_is_in_a_group() -> None:
    assert sorted(point for group in GROUPS.values() for point in group) == sorted(POINTS)


@pytest.mark.spec("A3", "B1")
@pytest.mark.parametrize("group", GROUPS)
def test_failure_01_sigkill_at_every_point_loses_and_doubles_nothing(
    scope: Scope, group: str
) -> None:
    scope.produce(1500, replace(DIRTY, pad=100))
    scope.produce(1500, replace(DIRTY, new_field="channel", pad=100))
    for number, point in enumerate(GROUPS[group]):
        match = DATA if point in ("owner.after_check", "owner.after_commit") else {}
        scope.arm(point, name=str(number), match=match)
    scope.drain()
    hit = [fault["point"] for fault in scope.faults()]
    assert sorted(hit) == sorted(GROUPS[group])
    found = scope.audit()
    assert found.dead_letters > 20
    scope.verify("all")
    assert sum(scope.status()["restarts"].values()) > 0
