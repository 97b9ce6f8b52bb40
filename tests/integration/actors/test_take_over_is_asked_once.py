"""``--take-over`` is meant for the run that was there at the start, not for a later one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import ingest
from raylake.client.cluster import ClusterHandle
from raylake.config import load
from raylake.ingest.plan import RunPlan
from raylake.ingest.ports import OwnerLost
from raylake.ingest.supervisor import Outcome


def test_a_supervisor_that_is_started_again_takes_over_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "pipeline: p\nlake: ./lake\nkafka: {bootstrap: 'h:1'}\nbronze: {t: {topics: [t]}}"
    )
    run = RunPlan(load(file).config, "sha", str(file), "run-1", take_over=True)
    asked: list[bool] = []

    def start(run: RunPlan, _job: dict[str, Any]) -> None:
        asked.append(run.take_over)

    def watch(_supervisor: None, _signals: None, _beside: None) -> Outcome:
        if len(asked) < 3:
            raise OwnerLost("the supervisor is gone")
        return Outcome("done")

    monkeypatch.setattr(ingest, "_start", start)
    monkeypatch.setattr(ingest, "_watch", watch)
    monkeypatch.setattr(ingest, "WAIT_S", 0.0)
    signals: Any = None
    beside: Any = None
    cluster = ClusterHandle("h:2", embedded=False, session=tmp_path)
    outcome = ingest._run(run, cluster, signals, beside)
    assert outcome.state == "done"
    assert asked == [True, False, False]
