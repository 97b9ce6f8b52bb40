"""Several processes add what a table's commits name, all at once: each file once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.clock import SystemClock
from raylake.delta.log_commit import LogCommit, commit_after
from raylake.layers.derived import Rejected, Span
from raylake.quality.history import entry, follow_up, history_table
from raylake.quality.quarantine import Origin, letters, quarantine_table, write
from raylake.quality.results import RuleResult
from raylake.quality.side_table import Target
from raylake.tables.landing import KEY
from tests.harness.quality import NOW

STEPS = 12
_CHILD = """
import sys
from raylake.clock import SystemClock
from raylake.quality import history, quarantine
from raylake.quality.side_table import Target, position
path, table_id, queue, told, steps = sys.argv[1:]
target = Target("silver.t", path, table_id)
sides = [
    (quarantine, quarantine.quarantine_table(queue)),
    (history, history.history_table(told)),
]
print("ready", flush=True)
done = 0
while sides:
    for module, side in list(sides):
        done += module.follow_up(side, target, SystemClock())
        if position(side, side.app(table_id))[0] >= int(steps):
            sides.remove((module, side))
print(done, flush=True)
"""


@pytest.mark.spec("E1")
def test_processes_that_follow_up_at_once_add_each_file_once(tmp_path: Path) -> None:
    path, queue, told = tmp_path / "t", tmp_path / "quarantine", tmp_path / "_quality"
    write_deltalake(path, pa.table({"x": [0]}))
    table_id = str(DeltaTable(path).metadata().id)
    target = Target("silver.t", str(path), table_id)
    span = Span("bronze.t", "", "s", -1, 0)
    side = quarantine_table(str(queue))
    given = [sys.executable, "-c", _CHILD, str(path), table_id, str(queue), str(told), str(STEPS)]
    children = [subprocess.Popen(given, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for step in range(STEPS):
            rows = pa.table({"x": [str(step), str(step)]})
            one = Rejected(rows, "r", "x", rows.column("x").combine_chunks(), "no")
            made = write(side, [letters(Origin(target, span, NOW), [one])], "none")
            results = entry(span, [RuleResult("r", "validity", "error", "quarantine", 2, 2)], NOW)
            metadata = {"quarantine": made, "quality": results}
            commit_after(path, step, LogCommit("WRITE", [], custom={KEY: metadata}))
        added = 0
        for child in children:
            output, _ = child.communicate(timeout=120)
            assert child.returncode == 0
            added += int(output)
    finally:
        for child in children:
            child.kill()
    values = DeltaTable(queue).to_pyarrow_table().column("value").to_pylist()
    assert sorted(values, key=int) == [str(step) for step in range(STEPS) for _ in range(2)]
    versions = DeltaTable(told).to_pyarrow_table().column("target_version").to_pylist()
    assert sorted(versions) == list(range(1, STEPS + 1))
    assert added == 2 * STEPS
    assert follow_up(history_table(str(told)), target, SystemClock()) == 0
