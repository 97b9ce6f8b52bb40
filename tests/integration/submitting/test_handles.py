"""One contract of a run's handle, wherever the run is (SPEC A11, K1)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import raylake
from raylake.client.changes import ConfigurationChanged
from raylake.client.progress import Silent
from raylake.client.run import LogLine, Run, WaitTimedOut
from raylake.client.run_view import RunView
from raylake.client.shown import Listing
from tests.harness.broker import LiveBroker
from tests.integration.submitting.conftest import GOOD, POISON, TOTAL, Runs, Target, Write, send

WAIT_S = 90.0
IN_BOTH = pytest.mark.parametrize("target", ["process", "token cluster"], indirect=True)


class Seen(Silent):
    """Progress that is remembered."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def show(self, view: RunView) -> None:
        self.states.append(view.state)


async def beside_others(run: Run) -> tuple[RunView, int]:
    """Wait, and count how often another task had its turn meanwhile."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    beside = asyncio.create_task(other())
    view = await run.wait_async("caught_up", WAIT_S, Silent())
    beside.cancel()
    return view, turns


@pytest.mark.long
@pytest.mark.spec("K1", "A11")
@pytest.mark.timeout(300)
@IN_BOTH
def test_a_run_is_watched_found_again_replaced_drained_and_verified(
    runs: Runs, target: Target, write: Write, broker: LiveBroker, tmp_path: Path
) -> None:
    name = f"p{uuid.uuid4().hex[:6]}"
    topic = broker.create_topic(name, partitions=2)
    send(broker, topic, GOOD)
    file = write(name, topic=topic)
    run = runs.submit(file)
    again = runs.submit(file)
    assert again.run_id == run.run_id, "a second run was started"
    seen = Seen()
    view = run.wait(timeout_s=WAIT_S, progress=seen)
    assert (view.state, view.rows, view.lag) == ("running", GOOD, 0)
    assert "running" in seen.states
    assert name in repr(view)
    assert "bronze.clicks" in view._repr_html_()

    # Caught up means what is there when the wait begins.
    send(broker, topic, 50)
    view, turns = asyncio.run(beside_others(run))
    assert view.rows == GOOD + 50
    assert turns > 10, "the loop was blocked"
    with pytest.raises(WaitTimedOut, match="the run goes on"):
        run.wait("ended", 0.1, Silent())

    # Another client, by name; and one outside of the cluster, by the lake alone.
    assert runs.lake.run(name).run_id == run.run_id
    outside = raylake.connect(tmp_path / "lake").run(name)
    assert (outside.status().state, outside.status().rows) == ("running", GOOD + 50)
    lines = run.logs()
    assert isinstance(lines, Listing)
    assert lines
    assert run.verify().ok

    # Changed files.
    with pytest.raises(ConfigurationChanged, match=r"consumers: 1 -> 2 \(after a drain\)"):
        runs.submit(write(name, "ingest: {consumers: 2}\n", topic))
    with pytest.raises(ConfigurationChanged, match=r"topics: .* \(refused\)") as told:
        runs.submit(write(name, topic="another"), replace=True)
    assert "name another table" in told.value.hint
    replaced = runs.submit(write(name, "ingest: {consumers: 2}\n", topic), replace=True)
    assert replaced.run_id != run.run_id
    assert run.status().ended
    replaced.wait("caught_up", WAIT_S, Silent())
    followed = replaced.logs(follow=True)
    assert isinstance(followed, Iterator)
    assert isinstance(next(followed), LogLine)
    view = replaced.drain(WAIT_S)
    assert (view.state, view.rows) == ("stopped", GOOD + 50)
    assert list(followed) is not None
    account = replaced.verify("data")
    assert account.ok
    assert account.report.totals.rows == GOOD + 50
    assert "ok" in repr(account)


@pytest.mark.long
@pytest.mark.spec("K1")
@pytest.mark.timeout(300)
@IN_BOTH
def test_a_run_that_ends_by_itself_is_waited_for(runs: Runs, write: Write, tmp_path: Path) -> None:
    name = f"p{uuid.uuid4().hex[:6]}"
    run = runs.submit(write(name), available_now=True)
    view = run.wait(timeout_s=WAIT_S, progress=Silent())
    assert (view.state, view.rows, view.dead_letters) == ("done", GOOD, POISON)
    account = run.verify()
    assert account.ok
    assert account.report.totals.total == TOTAL
    found = raylake.connect(tmp_path / "lake").run(name)
    assert found.status().state == "done"
    assert found.verify().ok, "by the status document alone"
