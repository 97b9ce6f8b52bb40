"""B1: an I/O error at every named point, of consumers, owner and queue, is overcome."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raylake.faults import POINTS
from tests.harness.producing import DIRTY
from tests.harness.scope import Scope

TRIED_AGAIN = {"consumer.storing": 6}
"""Here an error is the store's, and the write is tried again; elsewhere most cost a process."""


@pytest.mark.long
@pytest.mark.spec("B1", "A3")
def test_an_io_error_at_every_point_is_overcome_without_an_operator(scope: Scope) -> None:
    scope.pipeline(ingest={"drain_timeout": "3m"})
    scope.produce(1500, replace(DIRTY, pad=100))
    scope.produce(1500, replace(DIRTY, new_field="channel", pad=100))
    wanted = [point for point in POINTS for _ in range(TRIED_AGAIN.get(point, 1))]
    for point in wanted:
        data = {"kind": "data"} if point in ("owner.after_check", "owner.after_commit") else {}
        scope.arm(point, "error", match=data)
    scope.drain(timeout_s=240)
    assert sorted(fault["point"] for fault in scope.faults()) == sorted(wanted)
    scope.audit()
    scope.verify("all")
