"""Upkeep beside a pipeline whose file says nothing of it but how soon it begins."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from deltalake import DeltaTable

from actors.calls import SILENT_ENV
from raylake.client.upkeep_status import UpkeepStatus, upkeep_status
from raylake.config import load
from raylake.config.addresses import maintenance_status_path, status_path
from raylake.ingest.status import read_status, write_status
from raylake.maintenance.history import History
from raylake.storage.place import place
from tests.harness.broker import LiveBroker
from tests.harness.jobs import pids_of
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import Record, produce

DAY_S = 86_400.0
SCHEMA = {"id": "long"}
SOON = {"look_every": "1s"}


def bench_of(make_bench: MakeBench, broker: LiveBroker, *tables: str) -> Bench:
    bench = make_bench()
    bench.folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        broker.create_named_topic(f"{bench.name}-{table}", 1)
    return bench


def write(bench: Bench, tables: Mapping[str, Mapping[str, Any]], **maintenance: Any) -> None:
    sections = {
        name: {
            "topics": [f"{bench.name}-{name}"],
            "schema": SCHEMA,
            "commit_interval": "50ms",
            **more,
        }
        for name, more in tables.items()
    }
    bench.write(sections, maintenance={**SOON, **maintenance})


@dataclass
class Feed:
    """Records of one table, and how many there were."""

    bench: Bench
    table: str
    at_s: float | None = None
    sent: int = 0

    def add(self, count: int = 5) -> None:
        """Some records, and a commit of their own."""
        before = self.files_ever()
        stamp = None if self.at_s is None else int(self.at_s * 1000)
        new = [Record({"id": self.sent + n}, timestamp_ms=stamp) for n in range(count)]
        produce(self.bench.broker, f"{self.bench.name}-{self.table}", new)
        self.sent += count
        self.bench.until(lambda: self.files_ever() > before, "its commit")

    def files_ever(self) -> int:
        """Files that commits of new records have added; the log tells it sooner than the status."""
        log = self.bench.table(self.table) / "_delta_log"
        return sum('"kind":"data"' in one.read_text() for one in log.glob("*.json"))

    def settled(self) -> None:
        """All of it is in the table, and the status says so."""
        self.bench.until_accounted(**{self.table: self.sent})


def done(bench: Bench) -> Counter[tuple[str, str]]:
    """What was done so far, by table and action; nothing of it may have failed."""
    rows = History(str(bench.lake)).read().to_pylist()
    assert [one for one in rows if one["outcome"] == "failed"] == []
    return Counter((one["table"], one["action"]) for one in rows if one["outcome"] == "done")


def upkeep(bench: Bench) -> UpkeepStatus:
    """As `raylake status` has it."""
    path = place(status_path(load(bench.file).config))
    return upkeep_status(path, read_status(path))


def tombstoned(table: Path) -> set[Path]:
    """Files on the disk that are no longer the table's."""
    live = {Path(one) for one in DeltaTable(table).file_uris()}
    return set(table.rglob("*.parquet")) - live - set((table / "_delta_log").rglob("*.parquet"))


def behind(bench: Bench, table: str) -> bool:
    partitions = bench.table_status(table)["partitions"].values()
    return any(one["end"] is not None and one["next"] < one["end"] for one in partitions)


def age(table: Path, by_s: float) -> None:
    """Put a table with all its history into the past."""
    log = table / "_delta_log"
    for one in [*log.glob("*.checkpoint*"), log / "_last_checkpoint"]:
        one.unlink(missing_ok=True)
    assert (log / f"{0:020d}.json").exists()
    by_ms = int(by_s * 1000)
    for entry in log.glob("*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for kind, stamp in [
            ("commitInfo", "timestamp"),
            ("remove", "deletionTimestamp"),
            ("add", "modificationTime"),
        ]:
            for action in actions:
                if stamp in (action.get(kind) or {}):
                    action[kind][stamp] -= by_ms
        entry.write_text("".join(json.dumps(one) + "\n" for one in actions))
    for file in table.rglob("*"):
        if file.is_file():
            os.utime(file, (time.time() - by_s, time.time() - by_s))


@pytest.mark.spec("F1", "F2", "F3", "F4")
@pytest.mark.timeout(900)
def test_small_files_old_files_and_old_rows_go_by_themselves(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    bench = bench_of(make_bench, broker, "t")
    old_s = time.time() - 2 * DAY_S
    feed = Feed(bench, "t", old_s)
    write(bench, {"t": {}})
    bench.start()
    feed.add()
    feed.settled()
    # Nobody is there before there may be something to do.
    assert upkeep(bench) == UpkeepStatus("not needed yet")
    while feed.files_ever() <= 33:
        feed.add()
    # One that is lost is started again, and the run goes on.
    (lost,) = bench.until(lambda: pids_of(bench.lake, "maintainer"), "somebody looks after it")
    psutil.Process(lost).kill()
    bench.until(lambda: done(bench)["bronze.t", "compact"], "its files are compacted")
    feed.add()
    bench.until(lambda: {*pids_of(bench.lake, "maintainer")} - {lost}, "another one is there")
    assert upkeep(bench).state in ("running", "gives way")
    feed.settled()
    bench.runs[-1].stop()
    assert upkeep(bench).state == "ended"
    assert len(bench.rows("t")) == feed.sent
    old, gone = feed.sent, tombstoned(bench.table("t"))
    assert len(gone) > 32

    # Eight days later: what was put in the place of others leaves the disk, and old rows the table.
    age(bench.table("t"), 8 * DAY_S)
    said = place(maintenance_status_path(load(bench.file).config))
    write_status(said, {**read_status(said), "at": old_s})
    write(bench, {"t": {"retain": "1d"}})
    bench.start()
    feed.at_s = None
    feed.add()
    wanted = {("bronze.t", "retain"), ("bronze.t", "vacuum")}
    bench.until(lambda: wanted <= set(done(bench)), "old rows and files have gone")
    assert not [one for one in gone if one.exists()]
    feed.add()
    feed.settled()
    assert bench.rows("t")["id"].to_list() == list(range(old, old + 10))
    bench.verify("t")
    bench.runs[-1].stop()
    assert bench.table_status("t")["totals"]["dropped"] == old
    assert "the schedule" in bench.runs[-1].said


@pytest.mark.long
@pytest.mark.spec("F3")
@pytest.mark.timeout(600)
def test_upkeep_pauses_while_ingestion_is_behind_and_goes_on_after(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    bench = bench_of(make_bench, broker, "slow", "t")
    few = {"compact": {"small_files": 8}, "budget": {"yield_above_lag": "2s", "cpu": "50%"}}
    slow, feed = Feed(bench, "slow"), Feed(bench, "t")
    write(bench, {"slow": {}, "t": {}}, **few)
    bench.start(**{SILENT_ENV: "600"})
    slow.add()
    slow.settled()
    for _ in range(9):
        feed.add()
    bench.until(lambda: done(bench)["bronze.t", "compact"], "its files are compacted")
    frozen = psutil.Process(bench.table_status("slow")["owner_pid"])
    frozen.suspend()
    try:
        produce(broker, f"{bench.name}-slow", [{"id": n} for n in range(100)])
        slow.sent += 100
        bench.until(lambda: behind(bench, "slow"), "the table lacks something")
        seen_s = bench.status()["at"]
        bench.until(lambda: bench.status()["at"] > seen_s + 6, "it has for some seconds")
        before = done(bench)
        for _ in range(10):
            feed.add()
        bench.until(lambda: upkeep(bench).state == "gives way", "upkeep gives way")
        assert "ingestion is" in upkeep(bench).why
        feed.add()
        assert done(bench) == before
    finally:
        frozen.resume()
    bench.until(lambda: done(bench)["bronze.t", "compact"] > 1, "the compaction is done")
    slow.settled()
    feed.settled()
    bench.runs[-1].stop()
    assert len(bench.rows("t")) == feed.sent
    bench.verify("slow", "t")
