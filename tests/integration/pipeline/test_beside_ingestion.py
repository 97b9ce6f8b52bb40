"""Rows are deleted and files compacted beside a running pipeline, and while it does not run."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from deltalake import DeltaTable

from raylake import faults
from raylake.delta.ledger import OWNER_APP, owner_epoch
from raylake.tables import errors
from raylake.tables.requests import Append, Delete, Restore, Update, Write
from raylake.tables.routing import Allowance
from raylake.tables.upkeep_requests import Compact, Vacuum, ZOrder
from raylake.tables.workplace import FOLDER
from tests.harness.broker import LiveBroker
from tests.harness.cluster import ROOT, LiveCluster
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import produce
from tests.integration.tables.client import Client

BATCH = 200


@dataclass
class World:
    """A pipeline, a client beside it, and the rows that its table must hold."""

    bench: Bench
    client: Client
    other: Client
    topic: str
    produced: int = 0
    rows: dict[int, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        return str(self.bench.table("events"))

    def produce(self) -> None:
        """Another batch; it is in the table when this returns, where the pipeline runs."""
        new = range(self.produced, self.produced + BATCH)
        produce(self.bench.broker, self.topic, [{"id": n, "who": f"w{n % 7}"} for n in new])
        self.rows |= {n: f"w{n % 7}" for n in new}
        self.produced += BATCH

    def arrived(self) -> None:
        self.bench.until_accounted(events=self.produced)

    def do(self, operation: Write) -> Any:
        return self.client.do("execute", self.table, operation)

    def gone(self, who: str) -> None:
        self.rows = {n: one for n, one in self.rows.items() if one != who}

    def sound(self) -> None:
        """The table holds what it must, and ``verify`` says so on each level."""
        found = self.bench.rows("events")
        assert dict(zip(found["id"], found["who"], strict=True)) == self.rows
        assert len(found) == len(self.rows)
        self.bench.verify("events")
        (table,) = self.bench.verify("events", level="data").tables
        assert table.totals.dropped == self.produced - len(self.rows)

    def stopped(self, point: str) -> int:
        """The process that a fault has stopped; 0 while there is none."""
        hit = [f for f in self.bench.fired() if f["point"] == point and f["action"] == "stop"]
        if not hit or not psutil.pid_exists(hit[-1]["pid"]):
            return 0
        process = psutil.Process(hit[-1]["pid"])
        return process.pid if process.status() == psutil.STATUS_STOPPED else 0

    def on_disk(self) -> set[str]:
        return {p.name for p in Path(self.table).glob("*.parquet")}

    def named(self) -> set[str]:
        """Files that the log names."""
        log = Path(self.table) / "_delta_log"
        lines = (line for p in log.glob("*.json") for line in p.read_text().splitlines())
        return {str(a["add"]["path"]) for a in map(json.loads, lines) if a.get("add")}

    def epoch(self) -> int:
        return owner_epoch(DeltaTable(self.table).transaction_version(OWNER_APP))

    def kinds(self) -> list[str]:
        """The kinds of the commits, the newest one last."""
        found = [(h.get("raylake") or {}).get("kind", "") for h in DeltaTable(self.table).history()]
        return found[::-1]


@pytest.fixture(scope="module")
def make_world(
    make_bench: MakeBench, broker: LiveBroker, ray_cluster: LiveCluster
) -> Iterator[Callable[[], World]]:
    clients: list[Client] = []

    def make() -> World:
        bench = make_bench()
        topic = f"events-{uuid.uuid4().hex[:6]}"
        broker.create_named_topic(topic)
        schema = {"id": "long", "who": "string"}
        bench.write({"events": {"topics": [topic], "schema": schema, "commit_interval": "100ms"}})
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment = {**inherited, **ray_cluster.environment, "PYTHONPATH": str(ROOT)}
        environment[faults.ENV] = str(bench.faults)
        pair = Client(environment), Client(environment)
        clients.extend(pair)
        return World(bench, pair[0].ready(), pair[1].ready(), topic)

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def running(make_world: Callable[[], World]) -> World:
    world = make_world()
    world.produce()
    world.bench.start()
    world.arrived()
    return world


@pytest.mark.spec("C6")
def test_rows_leave_and_change_and_files_are_compacted_while_records_come(running: World) -> None:
    world, epoch = running, running.epoch()
    deleted = world.do(Delete("who = 'w3'"))
    world.gone("w3")
    assert deleted.rows.deleted == BATCH // 7 + (BATCH % 7 > 3)
    world.sound()
    for _ in range(3):
        world.produce()
        world.arrived()
    assert world.do(Update({"who": "'nobody'"}, "id < 10")).rows.updated == 9
    world.rows |= {n: "nobody" for n in range(10) if n in world.rows}
    world.client.begin("execute", world.table, Compact())
    world.produce()
    compacted = world.client.answer()
    assert compacted.files.removed > compacted.files.added
    world.arrived()
    world.sound()
    assert world.do(ZOrder(("id",))).changed
    assert not world.do(Vacuum(dry_run=True)).changed
    # Two at once take turns: neither is in the other's way.
    world.client.begin("execute", world.table, Delete("id = 20"))
    world.other.begin("execute", world.table, Delete("id = 21"))
    assert [one.answer().attempts for one in (world.client, world.other)] == [1, 1]
    world.rows = {n: who for n, who in world.rows.items() if n not in (20, 21)}
    # The pipeline's own owner did it all: nobody took the table from it.
    assert world.epoch() == epoch
    assert world.bench.runs[-1].process.poll() is None
    world.sound()


@pytest.mark.spec("C6")
def test_what_rows_would_come_or_go_uncounted_is_refused(running: World) -> None:
    for operation in (Append(running.bench.rows("events").head(1).to_arrow()), Restore(version=1)):
        with pytest.raises(errors.OwnerOnly) as caught:
            running.do(operation)
        assert caught.value.table_changed is False
    running.sound()


@pytest.mark.spec("C6")
@pytest.mark.parametrize(
    "allowance",
    [Allowance(), pytest.param(Allowance(in_process_bytes=0), marks=pytest.mark.long)],
    ids=["here", "in a child"],
)
def test_a_worker_that_is_killed_before_the_commit_has_changed_nothing(
    running: World, allowance: Allowance
) -> None:
    world = running
    world.client.do("allow", allowance)
    world.bench.arm("rewrite.proposed", "kill", match={"table": world.table})
    with pytest.raises(errors.WriteFailed, match="was not done") as caught:
        world.do(Delete("who = 'w5'"))
    assert caught.value.table_changed is False
    world.produce()
    world.arrived()
    world.sound()
    # The turn is free, and what it left is nobody's.
    assert world.do(Compact()).changed
    assert not (Path(world.table) / FOLDER).exists()
    world.client.do("allow", Allowance())
    world.sound()


@pytest.mark.long
@pytest.mark.spec("C6")
def test_an_owner_that_is_replaced_refuses_what_was_begun_under_the_old_one(
    running: World,
) -> None:
    world, epoch = running, running.epoch()
    world.bench.arm("rewrite.proposed", "stop", match={"table": world.table})
    world.client.begin("execute", world.table, Delete("who = 'w6'"))
    frozen = until(lambda: world.stopped("rewrite.proposed"), "it is about to hand over")
    world.other.do("kill_owner", world.table)
    world.produce()
    world.arrived()
    assert world.epoch() > epoch
    os.kill(frozen, signal.SIGCONT)
    done = world.client.answer()
    # It was done again, on what was there then.
    assert done.attempts == 2
    world.gone("w6")
    world.sound()
    left = world.on_disk() - world.named()
    assert left
    with pytest.raises(errors.OwnerOnly, match="not committed yet"):
        world.do(Vacuum(retention_hours=0, allow_short_retention=True, orphans=True))
    # They go when they are old enough, that none can be what a consumer has just written.
    assert world.do(Vacuum(orphans=True)).paths == ()
    assert left <= world.on_disk()
    world.produce()
    world.arrived()
    world.sound()


@pytest.mark.long
@pytest.mark.spec("C6")
def test_while_the_pipeline_does_not_run_another_one_stands_in_and_makes_way_for_it(
    make_world: Callable[[], World],
) -> None:
    world = make_world()
    world.produce()
    world.bench.drain()
    assert world.do(Delete("who = 'w1'")).rows.deleted
    world.gone("w1")
    assert world.kinds()[-4:] == ["epoch", "append_only", "rewrite", "append_only"]
    # The next run waits for nobody, although the last commit is that of a moment ago.
    world.produce()
    world.bench.drain()
    world.sound()
    world.bench.arm("rewrite.proposed", "stop", match={"table": world.table})
    world.client.begin("execute", world.table, Delete("who = 'w2'"))
    frozen = until(lambda: world.stopped("rewrite.proposed"), "it is about to hand over")
    world.produce()
    world.bench.start()
    world.arrived()
    os.kill(frozen, signal.SIGCONT)
    # The pipeline's owner took the table; it was asked instead.
    assert world.client.answer().attempts == 2
    world.gone("w2")
    world.produce()
    world.arrived()
    assert world.bench.runs[-1].process.poll() is None
    world.sound()
