"""The whole pipeline under seeded crash schedules: nothing lost, nothing doubled, nothing stuck.

A failing seed is named in the error: ``RAYLAKE_FIRST_SEED=<seed> RAYLAKE_SCHEDULES=1`` replays it.
"""

from __future__ import annotations

import os
from collections import Counter

from tests.harness.simulated_runs import COMMIT_FAULTS, QUEUE_FAULTS, run_schedule

SCHEDULES = int(os.environ.get("RAYLAKE_SCHEDULES", "200"))
FIRST_SEED = int(os.environ.get("RAYLAKE_FIRST_SEED", "0"))

KINDS = (
    *(f"commit: {fault}" for fault in COMMIT_FAULTS),
    *(f"queue: {fault}" for fault in QUEUE_FAULTS),
    "answer lost",
    "broker down",
    "consumer killed",
    "dead_letters refused a write",
    "owner crashed",
    "owner killed",
    "partition added",
    "queue killed",
    "retention",
    "stopped",
    "stopped by poison",
    "store refused a write",
    "supervisor killed",
    "topic created again",
    "written off alive",
    "zombie fenced",
)


def test_every_record_is_once_a_row_or_a_dead_letter_under_seeded_crash_schedules() -> None:
    fired: Counter[str] = Counter()
    commits = 0
    for seed in range(FIRST_SEED, FIRST_SEED + SCHEDULES):
        world = run_schedule(seed)
        fired.update(world.lake.fired)
        commits += sum(
            version.kind == "data" for log in world.lake.logs.values() for version in log
        )
    assert commits > SCHEDULES
    for kind in KINDS:
        assert fired[kind] >= SCHEDULES // 100, f"{kind} hit {fired[kind]} times: it proves little"


def test_a_schedule_is_the_same_when_it_is_run_again() -> None:
    first, again = run_schedule(FIRST_SEED + 3), run_schedule(FIRST_SEED + 3)
    assert first.lake.fired == again.lake.fired
    kinds = [[version.kind for version in log] for log in first.lake.logs.values()]
    assert kinds == [[version.kind for version in log] for log in again.lake.logs.values()]
