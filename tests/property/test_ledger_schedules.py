"""Two or three consumers, owners that crash, freeze and come back: the account always balances.

FAILURES 1 to 5 and 33 over a simulated store; the real one is in tests/integration/delta.
"""

from __future__ import annotations

import os
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.simulated_delta import FAULTS, run_schedule

SCHEDULES = int(os.environ.get("RAYLAKE_SCHEDULES", "1000"))
FIRST_SEED = int(os.environ.get("RAYLAKE_FIRST_SEED", "0"))


def test_property_05_exactly_once_under_a_thousand_seeded_crash_schedules() -> None:
    fired: Counter[str] = Counter()
    committed = 0
    for seed in range(FIRST_SEED, FIRST_SEED + SCHEDULES):
        world = run_schedule(seed)
        fired.update(world.store.fired)
        committed += world.committed
    assert committed > SCHEDULES
    for what in (*FAULTS, "frozen in write", "zombie stopped", "hand-over lost"):
        assert fired[what] > SCHEDULES / 20, (
            f"{what} hit {fired[what]} times: the run proves little"
        )


@settings(max_examples=150)
@given(st.randoms(use_true_random=False), st.integers(min_value=1, max_value=30))
def test_property_05_exactly_once_in_every_schedule_that_hypothesis_finds(
    choices: random.Random, steps: int
) -> None:
    run_schedule(choices, steps)
