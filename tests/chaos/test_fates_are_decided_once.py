"""I5: what the data commit decided stays, whatever the pipeline file says after a restart."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import replace

import duckdb
import pytest

from raylake.demo.auditor import replay
from tests.harness.producing import Mix
from tests.harness.scope import Scope
from tests.harness.waiting import until

LATE = Mix(poison=0.02, tombstones=0.01, aborted=0.005, late=0.1)


def letters(scope: Scope, ends: dict[int, int]) -> list[tuple[int, int, str]]:
    """The dead letters below these ends, by another engine than ours."""
    snapshot = replay(scope.letters)
    if not snapshot.files:
        return []
    rows = duckdb.sql(
        'SELECT partition, "offset", reason FROM read_parquet($files, union_by_name = true,'
        " hive_partitioning = false) ORDER BY ALL",
        params={"files": list(snapshot.files)},
    ).fetchall()
    return [row for row in rows if row[1] < ends.get(row[0], 0)]


@pytest.mark.long
@pytest.mark.spec("A3", "A4")
def test_i5_killed_between_the_data_and_their_dead_letters_then_configured_otherwise(
    scope: Scope,
) -> None:
    event_time = {"column": "at", "lateness": "1h", "late": "dead_letter"}
    scope.pipeline({"event_time": event_time, "max_batch_bytes": "16KiB"})
    scope.produce(1200, LATE)
    scope.arm("owner.before_dead_letters", "stop", skip=1)
    job = scope.start()
    (fault,) = scope.run_until(scope.faults, "the owner froze before the dead letters")
    job.process.kill()
    job.wait()
    until(lambda: not scope.pids("supervisor"), "the supervisor follows its job")
    # Nobody is left who would replace the owner.
    committed = scope.ends_in_log()
    last = scope.commits()[-1][0]
    assert last >= fault["version"]
    before = letters(scope, committed)
    os.kill(fault["pid"], signal.SIGKILL)
    for process in ("dead_letters", "consumer"):
        for pid in scope.pids(process):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    keep = {"column": "at", "lateness": "30d", "late": "keep", "idle_timeout": "5s"}
    other = {"id": "long", "at": "timestamp", "extra": "string"}
    scope.pipeline(
        {
            "schema": other,
            "event_time": keep,
            "max_batch_bytes": "64KiB",
            "unknown_fields": "rescue",
        },
        ingest={"consumers": 2},
    )
    scope.produce(200, replace(LATE, new_field="extra"))
    scope.drain()
    scope.audit()
    scope.verify("all")
    after = letters(scope, committed)
    assert len(after) > len(before), "nothing was left to be redone"
    decided = scope.ranges_in_log(upto=last)
    assert len(after) == sum(one["dead"] for one in decided)
    assert set(before) <= set(after)
