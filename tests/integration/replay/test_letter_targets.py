"""Further targets of dead letters get each at least once, and hold nothing up (B3)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raylake.client.dead_letters import Selection
from raylake.client.replays import replay
from raylake.clock import SystemClock
from raylake.config import dead_letter_path
from raylake.delta.log_files import commit_versions
from raylake.errors import DependencyUnreachable
from raylake.ingest.breaker import Breaker, BreakerPolicy
from raylake.ingest.letter_feeds import LetterFeeds
from raylake.ingest.letter_targets import FORWARDED, WAITING, Feed, FileTarget
from raylake.ingest.retry import Dependency, Pace, RetryPolicy
from raylake.storage.place import Place
from raylake.telemetry.metrics import MemoryMetrics
from tests.integration.replay.small_pipeline import PIPELINE, SmallPipeline

CLOCK = SystemClock()
LABELS = {"pipeline": PIPELINE, "target": "kafka"}


class Target:
    """Takes offsets, unless it is away or told to fail after it has taken some."""

    def __init__(self, name: str = "kafka") -> None:
        self.name = name
        self.away = False
        self.dies_after = False
        self.taken: list[int] = []

    def take(self, table: Place, path: str, values: Mapping[str, str | None]) -> int:
        if self.away:
            raise DependencyUnreachable("nobody answers")
        assert values["pipeline"] == PIPELINE
        found = pq.read_table(Path(str(table)) / path, partitioning=None)["offset"].to_pylist()
        self.taken += found
        if self.dies_after:
            raise OSError("gone after it was taken")
        return len(found)


def feed_of(small: SmallPipeline, target: Target | FileTarget, metrics: MemoryMetrics) -> Feed:
    pace = Pace(RetryPolicy("none", 100, 0.001, 0.001), CLOCK)
    breaker = Breaker("letters", BreakerPolicy(1.0, 1000, 30.0, 30.0, 1), CLOCK)
    table = dead_letter_path(small.loaded.config)
    mark = small.folder / "marks" / f"{target.name}.json"
    return Feed(PIPELINE, table, target, mark, Dependency(breaker, pace), metrics)


@pytest.mark.spec("B3")
def test_what_a_target_did_not_take_comes_again_and_nothing_is_left_out(tmp_path: Path) -> None:
    small = SmallPipeline(tmp_path)
    small.ingest([b"before"])
    target, metrics = Target(), MemoryMetrics()
    feed = feed_of(small, target, metrics)
    feed.begin()
    small.ingest([b"{1", b'{"id": 2}', b"{3"], start=1)
    assert feed.step()
    assert target.taken == [1, 3], "what comes from its beginning on"
    target.away = True
    small.ingest([b"{4"], start=4)
    small.ingest([b"{5"], start=5)
    assert not feed.step()
    assert metrics.value(WAITING, **LABELS) > 0
    target.away, target.dies_after = False, True
    assert not feed_of(small, target, metrics).step()
    target.dies_after = False
    again = feed_of(small, target, metrics)
    assert again.step()
    assert target.taken == [1, 3, 4, 4, 5]
    assert metrics.value(WAITING, **LABELS) == 0
    assert metrics.value(FORWARDED, **LABELS) == 4
    assert again.keep_from == commit_versions(Path(dead_letter_path(small.loaded.config)))[-1] + 1
    # What a replay marks is no new letter.
    fix = small.fix("    return b'{\"id\": 1}'")
    assert replay(small.loaded, Selection(), CLOCK, fix=fix).rows == 5
    assert again.step()
    assert target.taken == [1, 3, 4, 4, 5]
    small.verify()


@pytest.mark.spec("B3")
def test_files_are_copied_by_date_hour_pipeline_and_stage(tmp_path: Path) -> None:
    small = SmallPipeline(tmp_path)
    small.ingest([b'{"id": 0}'])
    feed = feed_of(small, FileTarget(str(tmp_path / "copies")), MemoryMetrics())
    feed.begin()
    small.ingest([b"{1", b"{2"], start=1)
    assert feed.step()
    (folder,) = (tmp_path / "copies").glob("date=*/hour=*/pipeline=small/stage=decode")
    rows = pq.read_table(folder, partitioning=None).to_pylist()
    assert [(one["topic"], one["partition"], one["offset"]) for one in rows] == [
        ("t", 0, 1),
        ("t", 0, 2),
    ]
    (tmp_path / "marks" / "files.json").unlink()
    (tmp_path / "marks" / "files.json").write_text('{"version": 7, "table_id": "another"}')
    before = sorted(folder.iterdir())
    assert feed_of(small, FileTarget(str(tmp_path / "copies")), MemoryMetrics()).step()
    assert sorted(folder.iterdir()) == before, "what comes again replaces itself"


@pytest.mark.spec("B3")
def test_a_target_that_is_away_holds_no_other_one_up(tmp_path: Path) -> None:
    small = SmallPipeline(tmp_path)
    small.ingest([b'{"id": 0}'])
    away, here = Target("away"), Target("here")
    away.away = True
    metrics = MemoryMetrics()
    feeds = [feed_of(small, away, metrics), feed_of(small, here, metrics)]
    running = LetterFeeds(feeds, CLOCK)
    small.ingest([b"{1"], start=1)
    running.wake()
    closing = threading.Thread(target=running.close, args=(1.0,))
    closing.start()
    closing.join(30)
    assert (here.taken, away.taken) == ([1], [])
    newest = commit_versions(Path(dead_letter_path(small.loaded.config)))[-1]
    assert running.keep_from(newest) <= newest, "the log stays for who is away"
