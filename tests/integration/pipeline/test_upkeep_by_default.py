"""Upkeep beside a pipeline whose file says nothing of it but how soon it begins."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
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
from tests.harness.waiting import until
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


def add(bench: Bench, table: str, at_s: float | None = None, count: int = 5) -> None:
    """Some records, and a commit of their own."""
    known = bench.accounted(table)
    stamp = None if at_s is None else int(at_s * 1000)
    new = [Record({"id": known + n}, timestamp_ms=stamp) for n in range(count)]
    produce(bench.broker, f"{bench.name}-{table}", new)
    bench.until_accounted(**{table: known + count})


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
    write(bench, {"t": {}})
    bench.start()
    old_s = time.time() - 2 * DAY_S
    add(bench, "t", old_s)
    # Nobody is there before there may be something to do.
    assert upkeep(bench) == UpkeepStatus("not needed yet")
    while not pids_of(bench.lake, "maintainer"):
        add(bench, "t", old_s)
    assert bench.table_status("t")["live_files"] > 32
    # One that is lost is started again, and the run goes on.
    (lost,) = pids_of(bench.lake, "maintainer")
    psutil.Process(lost).kill()
    while done(bench)["bronze.t", "compact"] < 1:
        add(bench, "t", old_s)
    assert lost not in pids_of(bench.lake, "maintainer")
    assert upkeep(bench).state in ("running", "gives way")
    bench.runs[-1].stop()
    assert upkeep(bench).state == "ended"
    old = bench.accounted("t")
    assert len(bench.rows("t")) == old
    assert len(DeltaTable(bench.table("t")).file_uris()) < 40

    # Eight days later: what was put in the place of others leaves the disk, and old rows the table.
    age(bench.table("t"), 8 * DAY_S)
    said = place(maintenance_status_path(load(bench.file).config))
    write_status(said, {**read_status(said), "at": old_s})
    gone = tombstoned(bench.table("t"))
    assert len(gone) > 32
    write(bench, {"t": {"retain": "1d"}})
    bench.start()
    add(bench, "t")
    wanted = {("bronze.t", "retain"), ("bronze.t", "vacuum")}
    bench.until(lambda: wanted <= set(done(bench)), "old rows and files have gone")
    assert not [one for one in gone if one.exists()]
    add(bench, "t")
    assert bench.rows("t")["id"].to_list() == list(range(old, old + 10))
    bench.verify("t")
    bench.runs[-1].stop()
    assert bench.table_status("t")["totals"]["dropped"] == old
    assert "the schedule" in bench.runs[-1].said


@pytest.mark.spec("F3")
@pytest.mark.timeout(600)
def test_upkeep_pauses_while_ingestion_is_behind_and_goes_on_after(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    bench = bench_of(make_bench, broker, "slow", "t")
    few = {"compact": {"small_files": 8}, "budget": {"yield_above_lag": "2s", "cpu": "50%"}}
    write(bench, {"slow": {}, "t": {}}, **few)
    bench.start(**{SILENT_ENV: "600"})
    add(bench, "slow")
    while done(bench)["bronze.t", "compact"] < 1:
        add(bench, "t")
    frozen = psutil.Process(bench.table_status("slow")["owner_pid"])
    frozen.suspend()
    try:
        produce(broker, f"{bench.name}-slow", [{"id": n} for n in range(100)])
        bench.until(lambda: behind(bench, "slow"), "the table lacks something")
        seen_s = bench.status()["at"]
        bench.until(lambda: bench.status()["at"] > seen_s + 6, "it has for some seconds")
        before = done(bench)
        for _ in range(10):
            add(bench, "t")
        bench.until(lambda: upkeep(bench).state == "gives way", "upkeep gives way")
        assert "ingestion is" in upkeep(bench).why
        add(bench, "t")
        assert done(bench) == before
    finally:
        frozen.send_signal(signal.SIGCONT)
    bench.until(lambda: done(bench)["bronze.t", "compact"] > 1, "the compaction is done")
    bench.until_accounted(slow=105)
    until(lambda: len(DeltaTable(bench.table("t")).file_uris()) < 8, "few files are left")
    assert len(bench.rows("t")) == bench.accounted("t")
    bench.runs[-1].stop()
    bench.verify("slow", "t")
