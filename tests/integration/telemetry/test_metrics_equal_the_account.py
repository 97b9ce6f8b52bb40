"""After a run through kills, its metrics say what ``verify`` finds in the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable

from raylake.delta.verify import TableToVerify, VerifyOptions, verify_pipeline
from tests.harness.producing import DIRTY
from tests.harness.scope import MakeScope, Scope

OUTCOMES = {"row": "rows", "dead": "dead", "absent": "absent", "lost": "lost", "dropped": "dropped"}


def value(scope: Scope, name: str, **labels: str) -> float:
    """A series of the status document."""
    known = {"pipeline": scope.name, **labels}
    shown = ",".join(f'{k}="{v}"' for k, v in sorted(known.items()))
    return float(scope.status()["metrics"].get(f"{name}{{{shown}}}", 0))


def sum_of(scope: Scope, name: str) -> float:
    """The sum over all series of a metric."""
    metrics = scope.status()["metrics"].items()
    return sum(float(v) for series, v in metrics if series.startswith(f"{name}{{"))


def counted(scope: Scope) -> bool:
    """Whether all is committed and the consumers have told of all that they decoded."""
    if not scope.caught_up():
        return False
    decoded, committed = (
        sum(
            value(scope, "raylake_records_total", table="bronze.events", stage=stage, outcome=kind)
            for kind in ("row", "dead")
        )
        for stage in ("decoded", "committed")
    )
    return decoded >= committed


@pytest.mark.spec("J1", "B3")
def test_property_36_metrics_tracking_equals_the_account_after_kills(
    make_scope: MakeScope, tmp_path: Path
) -> None:
    scope = make_scope(folder=tmp_path)
    scope.produce(3000, DIRTY)
    job = scope.start()
    scope.run_until(lambda: counted(scope), "all was counted")
    for victim in ("consumer", "owner"):
        scope.kill(victim)
        scope.produce(1500, DIRTY, seed=7)
        scope.run_until(lambda: counted(scope), "all was counted")
    job.process.terminate()
    job.ends_with(0)

    table = TableToVerify(str(scope.table()), "bronze.events")
    options = VerifyOptions(level="data")
    report = verify_pipeline([table], str(scope.letters), scope.name, options)
    assert report.ok
    for outcome, name in OUTCOMES.items():
        told = value(
            scope,
            "raylake_records_total",
            table="bronze.events",
            stage="committed",
            outcome=outcome,
        )
        assert told == getattr(report.totals, name), outcome
    assert report.totals.dead > 0
    assert sum_of(scope, "raylake_dead_letters_total") >= DeltaTable(scope.letters).count() > 0
    assert value(scope, "raylake_lag_records", table="bronze.events") == 0
    assert value(scope, "raylake_buffered_bytes", table="bronze.events") == 0
    assert value(scope, "raylake_restarts_total", process="consumer") == 1
    assert value(scope, "raylake_restarts_total", process="owner") == 1
    assert value(scope, "raylake_commits_total", table="bronze.events") > 1
    assert sum_of(scope, "raylake_commit_seconds_count") == sum_of(scope, "raylake_commits_total")
    scope.audit()
