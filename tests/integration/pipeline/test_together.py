"""Several pipelines at once, the same one twice, a stalled owner, a log that stays short.

One pipeline runs through all of it (SPEC A1, A3, A8; DESIGN §9, I11).
"""

from __future__ import annotations

import itertools
import json
import secrets
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.broker import LiveBroker
from tests.harness.cluster import LiveCluster
from tests.harness.jobs import Job
from tests.integration.pipeline.conftest import ROOT, Bench, MakeBench
from tests.integration.pipeline.records import produce

BUFFER_BYTES = 400 * 1024
BATCH_BYTES = 64 * 1024
BIG = 2000
TICKS = 45
STALL_S = 8
NAMES = """
import json, os, sys, ray
ray.init(namespace="raylake", logging_level="ERROR", log_to_driver=False)
print(json.dumps([one["name"] for one in ray.util.list_named_actors(all_namespaces=True)]))
sys.stdout.flush()
os._exit(0)
"""


def actor_names(cluster: LiveCluster) -> list[str]:
    """The named actors of all namespaces."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **cluster.environment}
    done = subprocess.run(
        [sys.executable, "-P", "-c", NAMES],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass
class World:
    """What was seen while the first pipeline ran."""

    bench: Bench
    other: Bench
    names: list[str]
    refused: dict[str, Job]
    paused: dict[str, Any]
    resumed: dict[str, Any]
    end: Job
    ticked: int


@pytest.fixture(scope="module")
def world(broker: LiveBroker, ray_cluster: LiveCluster, make_bench: MakeBench) -> World:
    bench = make_bench(name=f"one-{uuid.uuid4().hex[:6]}")
    big, ticks = broker.create_topic("big"), broker.create_topic("ticks")
    bench.write(
        {
            "big": {
                "topics": [big],
                "schema": {"id": "long", "pad": "string"},
                "max_batch_bytes": f"{BATCH_BYTES}B",
            },
            "ticks": {
                "topics": [ticks],
                "schema": {"id": "long"},
                "commit_interval": "20ms",
                "max_batch_bytes": "1B",
            },
        },
        ingest={
            "buffer": f"{BUFFER_BYTES}B",
            "checkpoint_interval": 5,
            "log_retention": "1s",
        },
    )
    produce(broker, big, [{"id": 0, "pad": ""}])
    bench.arm("owner.before_commit", "delay", delay_s=STALL_S, skip=3, name="stall")
    run = bench.start()
    bench.until_accounted(big=1)
    # What is in files counts with their size: text that does not shrink.
    more = [{"id": n, "pad": secrets.token_urlsafe(1000)} for n in range(1, BIG)]
    producing = threading.Thread(target=produce, args=(broker, big, more))
    producing.start()
    paused = bench.until(lambda: paused_of(bench), "the consumer pauses")
    producing.join()
    resumed_at = bench.until(lambda: bench.accounted("big") >= BIG and bench.status(), "all of it")
    # An embedded cluster knows nothing of the actors of the other one: the table's epoch does.
    # (On the same one: see test_exit_codes.)
    alone = make_bench(name=bench.name, cluster=None, folder=bench.folder / "again")
    alone.file.write_text(bench.file.read_text())
    embedded = alone.start("--available-now", RAYLAKE_RAY_DIR="/tmp/rl-twice")
    thief = make_bench(folder=bench.folder / "thief")
    path = {"path": str(bench.table("ticks"))}
    thief.write({"mine": {"topics": [ticks], "schema": {"id": "long"}, **path}})
    refused = {"embedded": embedded, "thief": thief.start("--available-now")}
    other = make_bench(name=f"two-{uuid.uuid4().hex[:6]}")
    other.write({"big": {"topics": [big], "format": "raw", "commit_interval": "50ms"}})
    second = other.start("--available-now")
    for number in range(TICKS):
        produce(broker, ticks, [{"id": number}])
    ticked = tick_until_cleaned(bench, ticks)
    names = bench.until(lambda: both(actor_names(ray_cluster), bench, other, second), "names")
    for one in (second, *refused.values()):
        one.wait()
    bench.until_accounted(ticks=ticked)
    end = run.stop()
    return World(bench, other, names, refused, paused, resumed_at, end, ticked)


def tick_until_cleaned(bench: Bench, topic: str) -> int:
    """Go on until the first log file is gone; returns how many records there are."""
    first = bench.table("ticks") / "_delta_log" / f"{0:020}.json"
    numbers = itertools.count(TICKS)

    def cleaned() -> bool:
        if first.exists():
            produce(bench.broker, topic, [{"id": next(numbers)}])
        return not first.exists()

    bench.until(cleaned, "the log is cleaned up")
    return next(numbers)


def paused_of(bench: Bench) -> dict[str, Any]:
    """The status document when a consumer is paused."""
    document = bench.status()
    states = {one["state"] for one in document.get("consumers", {}).values()}
    return document if "paused" in states else {}


def both(names: list[str], one: Bench, two: Bench, second: Job) -> list[str]:
    """The names when both pipelines are there, or the second one is through."""
    there = {f"raylake/{one.name}", f"raylake/{two.name}"} <= set(names)
    return names if there or second.process.poll() is not None else []


@pytest.mark.spec("A8", "B5")
def test_a_stalled_owner_pauses_its_consumer_by_bytes_and_nothing_is_lost(world: World) -> None:
    assert [fault["point"] for fault in world.bench.fired()] == ["owner.before_commit"]
    (consumer,) = world.paused["consumers"].values()
    budget = consumer["budget"]
    assert budget["paused"] is True
    assert budget["limit_bytes"] == BUFFER_BYTES
    # Rows that were written meanwhile count with their files' size.
    assert budget["peak_bytes"] >= 0.9 * BUFFER_BYTES
    assert budget["used_bytes"] > 0.5 * BUFFER_BYTES
    (after,) = world.resumed["consumers"].values()
    # One fetch is bounded by the batch's bytes, so that the limit is passed by little.
    assert after["budget"]["peak_bytes"] <= BUFFER_BYTES + 4 * BATCH_BYTES
    assert world.bench.rows("big")["id"].to_list() == list(range(BIG))


@pytest.mark.spec("A1", "A11")
def test_two_pipelines_share_a_cluster_under_their_own_names(world: World) -> None:
    one, two = world.bench.name, world.other.name
    wanted = {f"raylake/{one}", f"raylake/dead_letters/{one}", f"raylake/{one}/consumer-0"}
    assert wanted <= set(world.names)
    owners = {
        f"raylake/owner/{table_id(world.bench, 'big')}",
        f"raylake/owner/{table_id(world.bench, 'ticks')}",
    }
    assert owners <= set(world.names)
    assert world.other.status()["state"] == "done"
    assert world.other.rows("big").height == BIG
    world.other.verify()
    assert f"raylake/{two}" != f"raylake/{one}"


def table_id(bench: Bench, table: str) -> str:
    """The id in the first commit, read as plain JSON."""
    path = bench.table(table) / "_delta_log" / f"{0:020}.json"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line).get("metaData", {}).get("id") for line in lines]
    return next((str(one) for one in found if one), "") or from_checkpoint(bench, table)


def from_checkpoint(bench: Bench, table: str) -> str:
    """The id when the first commit was cleaned up already."""
    import pyarrow.parquet as pq

    newest = max((bench.table(table) / "_delta_log").glob("*.checkpoint.parquet"))
    found = pq.read_table(newest, columns=["metaData"]).column("metaData").drop_null()
    return str(found[0].as_py()["id"])


@pytest.mark.spec("A3")
def test_the_same_pipeline_twice_is_refused_with_5(world: World) -> None:
    run = world.refused["embedded"]
    assert run.process.returncode == 5, run.said
    assert world.bench.name in run.said
    assert "hint: " in run.said


@pytest.mark.spec("A3")
def test_a_second_pipeline_on_a_table_is_refused_with_5(world: World) -> None:
    run = world.refused["thief"]
    assert run.process.returncode == 5, run.said
    assert f"belongs to pipeline {world.bench.name!r}" in run.said


@pytest.mark.spec("A3", "A11")
def test_the_first_one_went_on_all_the_time(world: World) -> None:
    assert world.end.process.returncode == 0
    document = world.bench.status()
    assert (document["state"], document["error"]) == ("stopped", None)
    assert document["restarts"] == {"consumer": 0, "owner": 0, "dead_letters": 0}
    assert document["tables"]["bronze.ticks"]["units_refused"] == 0
    assert document["tables"]["bronze.ticks"]["live_files"] > 0
    assert document["tables"]["bronze.ticks"]["checkpoint_error"] == ""


@pytest.mark.spec("A3", "F1")
def test_checkpoints_keep_the_log_short_and_the_account_the_same(world: World) -> None:
    log = world.bench.table("ticks") / "_delta_log"
    versions = sorted(int(path.stem) for path in log.glob("[0-9]*.json"))
    checkpoints = [int(path.name[:20]) for path in log.glob("*.checkpoint.parquet")]
    assert versions[-1] >= 40
    assert len(checkpoints) >= 1
    assert versions[0] == min(checkpoints)
    rows = world.bench.rows("ticks")["id"].to_list()
    assert rows == list(range(world.ticked))
    before = world.bench.verify().tables
    world.bench.drain()
    after = world.bench.verify().tables
    assert [one.partitions for one in before] == [one.partitions for one in after]
