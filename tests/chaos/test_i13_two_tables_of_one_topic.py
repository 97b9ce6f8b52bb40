"""I13: one topic into two tables, whose ends differ when everything is killed."""

from __future__ import annotations

import pytest

from tests.harness.producing import DIRTY
from tests.harness.scope import Scope


@pytest.mark.long
@pytest.mark.spec("A3", "B1")
def test_i13_one_topic_into_two_tables_killed_and_restarted_is_exact_in_both(scope: Scope) -> None:
    scope.pipeline(
        tables={
            "fast": {"commit_interval": "100ms", "max_batch_bytes": "32KiB"},
            "slow": {"commit_interval": "2s", "unknown_fields": "rescue"},
        }
    )
    scope.produce(1500, DIRTY)
    scope.arm("consumer.written", skip=1, match={"table": "bronze.fast"})
    scope.arm("consumer.handed_over", skip=2)
    scope.arm("owner.after_commit", match={"kind": "data"}, skip=1)
    job = scope.start()
    scope.run_until(lambda: scope.faults(), "a kill")
    job.process.kill()
    job.wait()
    scope.produce(1500, DIRTY)
    scope.drain()
    for table in ("fast", "slow"):
        scope.audit(table)
    scope.verify("all")
