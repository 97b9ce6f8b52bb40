"""The properties and the simulated schedules again, in many more examples, from the run's seed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.harness.cluster import ROOT

SEED_ENV = "RAYLAKE_CHAOS_SEED"
SCHEDULES = 5000


def schedules() -> dict[str, str]:
    """Other schedules than those of the short form."""
    seed = int(os.environ.get(SEED_ENV) or 1)
    return {"RAYLAKE_SCHEDULES": str(SCHEDULES), "RAYLAKE_FIRST_SEED": str(seed * SCHEDULES)}


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("tests/integration/delta/test_owner_properties.py", {"RAYLAKE_EXAMPLES": "300"}),
        ("tests/integration/verify/test_moves_keep_the_account.py", {"RAYLAKE_EXAMPLES": "300"}),
        ("tests/property/test_decode_properties.py", {"RAYLAKE_EXAMPLES": "1000"}),
        ("tests/property/test_derived_aggregates.py", {"RAYLAKE_EXAMPLES": "800"}),
        ("tests/property/test_versions_of_rows.py", {"RAYLAKE_EXAMPLES": "300"}),
        ("tests/property/test_ledger_schedules.py", schedules()),
        ("tests/property/test_pipeline_simulation.py", schedules()),
    ],
    ids=["owners", "moves", "decoding", "aggregates", "versions", "ledger", "pipeline"],
)
def test_the_properties_hold_in_many_more_examples(file: str, more: Mapping[str, str]) -> None:
    # The seed asks a run for faults in real processes; the child has none.
    environment = {k: v for k, v in os.environ.items() if k != SEED_ENV} | more
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=3000"]
    done = subprocess.run(
        [*command, file],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
