"""The long form: seeded SIGKILLs at random points, under load, until the account is closed."""

from __future__ import annotations

import random
import signal
import time

import pytest

from raylake.faults import POINTS
from tests.harness.producing import DIRTY
from tests.harness.scope import Scope
from tests.harness.waiting import NotInTimeError, until

KILLS = 200
# The supervisor gives up beyond 20 lost processes a minute.
PACE_S = 3.2
POINT_TIMEOUT_S = 120.0


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.spec("A3", "B1")
def test_failure_01_seeded_kills_under_load_lose_and_double_nothing(
    scope: Scope, seed: int
) -> None:
    choose = random.Random(seed)
    points = [point for point in POINTS if not point.startswith("evolve.")]
    scope.pipeline(ingest={"consumers": 2})
    job = scope.start()
    with scope.load(DIRTY):
        scope.run_until(lambda: any(sum(t.values()) for t in scope.committed()), "a commit")
        for number in range(KILLS):
            began = time.monotonic()
            point = choose.choice(points)
            fired = scope.arm(point, name=f"{number:04d}", skip=choose.randrange(3))
            try:
                scope.run_until(fired.exists, f"kill {number} at {point}", POINT_TIMEOUT_S)
            except NotInTimeError:
                print(scope.status())
                raise
            until(lambda began=began: time.monotonic() > began + PACE_S, "the pace")
    scope.until_caught_up(120)
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    hit = [fault["point"] for fault in scope.faults()]
    assert len(hit) == KILLS
    assert set(hit) == set(points)
    print(f"{KILLS} kills: {scope.audit().to_text()}")
    scope.verify("all")
