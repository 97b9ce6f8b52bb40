"""The long form: seeded SIGKILLs at random points, under load, until the account is closed."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from raylake.faults import POINTS
from tests.harness.producing import DIRTY
from tests.harness.scope import Scope
from tests.harness.waiting import NotInTimeError, until

# The supervisor gives up beyond 20 lost processes a minute.
PACE_S = 3.2
POINT_TIMEOUT_S = 60.0


@pytest.fixture
def seed() -> int:
    """``RAYLAKE_CHAOS_SEED``, or a new one; printed, so that a failing run can be repeated."""
    chosen = int(os.environ.get("RAYLAKE_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"\nchaos seed {chosen}: repeat with RAYLAKE_CHAOS_SEED={chosen}")
    return chosen


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.spec("A3", "B1")
@pytest.mark.parametrize("kills", [50, 200])
def test_failure_01_seeded_kills_under_load_lose_and_double_nothing(
    scope: Scope, seed: int, kills: int
) -> None:
    choose = random.Random(seed)
    points = [point for point in POINTS if not point.startswith("evolve.")]
    scope.pipeline(ingest={"consumers": 2})
    job = scope.start()
    with scope.load(DIRTY):
        scope.run_until(lambda: any(sum(t.values()) for t in scope.committed()), "a commit")
        for number in range(kills):
            began = time.monotonic()
            point = choose.choice(points)
            scope.arm(point, name=f"{number:04d}", skip=choose.randrange(3))
            try:
                scope.run_until(
                    lambda number=number: len(scope.faults()) > number,
                    f"kill {number} at {point}",
                    POINT_TIMEOUT_S,
                )
            except NotInTimeError:
                print(scope.status())
                raise
            until(lambda began=began: time.monotonic() > began + PACE_S, "the pace")
    scope.until_caught_up(120)
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    assert len(scope.faults()) == kills
    print(f"{kills} kills: {scope.audit().to_text()}")
    scope.verify("all")
