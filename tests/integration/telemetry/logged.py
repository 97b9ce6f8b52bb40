"""One search in the logs finds a record's way: who read it, which commit has it."""

from __future__ import annotations

import json
from typing import Any

from deltalake import DeltaTable

from raylake.telemetry.logs import log_folder
from tests.harness.scope import TABLE, Scope


def lines(scope: Scope, process: str) -> list[dict[str, Any]]:
    """What the processes of a kind have logged, in all runs."""
    folder = log_folder(str(scope.lake), scope.name)
    files = sorted(folder.glob(f"*/{process}*.jsonl*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def spans(unit: dict[str, Any]) -> list[tuple[str, list[int]]]:
    return sorted(unit["partitions"].items())


def joined(spans: list[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    """Those of one partition that follow each other as one: a commit may have several units."""
    found: list[tuple[str, list[int]]] = []
    for place, (start, end) in sorted(spans):
        if found and found[-1][0] == place and found[-1][1][1] == start:
            found[-1][1][1] = end
        else:
            found.append((place, [start, end]))
    return found


def check_logs(scope: Scope) -> None:
    """Consumer, owner, commit and dead letters of the one run name the same units."""
    units = {unit for _, ours in scope.commits() for unit in ours.get("units", ())}
    assert units
    sent = {one["correlation_id"]: one for one in lines(scope, "consumer") if "partitions" in one}
    decided = {
        one["correlation_id"]: one for one in lines(scope, "owner") if "correlation_id" in one
    }
    assert sent.keys() == decided.keys() == units
    for version, ours in scope.commits():
        ranges = sorted(
            (f"{r['topic']}[{r['partition']}]", [r["start"], r["end"]])
            for r in ours.get("ranges", ())
        )
        named = ours.get("units", ())
        assert all(decided[unit]["commit"] == version for unit in named)
        assert joined([one for unit in named for one in spans(decided[unit])]) == joined(ranges)
        assert [spans(sent[unit]) for unit in named] == [spans(decided[unit]) for unit in named]
    every = [*sent.values(), *decided.values(), *lines(scope, "dead_letters")]
    assert {one["pipeline"] for one in every} == {scope.name}
    assert {one["table"] for one in sent.values()} == {f"bronze.{TABLE}"}
    assert len({one["run_id"] for one in every}) == 1

    letters = DeltaTable(scope.letters).to_pyarrow_table()
    assert letters.num_rows > 0
    assert set(letters.column("unit_id").to_pylist()) <= units
    stored = {v for one in lines(scope, "dead_letters") for v in one.get("commits", ())}
    naming = {version for version, ours in scope.commits() if ours.get("dead_letters")}
    assert stored == naming
