"""A pipeline that looks after its own tables while records come and rows change."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raylake import faults
from raylake.config import load
from raylake.config.addresses import maintenance_status_path
from raylake.errors import ConfigError
from raylake.ingest.status import read_status
from raylake.maintenance.history import History
from raylake.storage.place import place
from raylake.tables.requests import Upsert
from tests.harness.broker import LiveBroker
from tests.harness.cluster import CPUS, ROOT, LiveCluster
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import produce
from tests.integration.tables.client import Client

BATCH = 100
BURST_S = 1.0
"""What was not taken may be taken later, for so long."""
POLICY: dict[str, Any] = {
    "look_every": "1s",
    "compact": {"small_files": 4},
    "checkpoint": {"commits": 20},
    "budget": {"cpu": "50%"},
}


class World:
    """A pipeline, and a client beside it that merges into its table."""

    def __init__(self, bench: Bench, client: Client, topic: str) -> None:
        self.bench = bench
        self.client = client
        self.topic = topic
        self.rows: dict[int, str] = {}
        self.failed = 0

    def produce(self) -> None:
        new = range(len(self.rows), len(self.rows) + BATCH)
        produce(self.bench.broker, self.topic, [{"id": n, "who": f"w{n % 7}"} for n in new])
        self.rows |= {n: f"w{n % 7}" for n in new}
        self.bench.until_accounted(events=len(self.rows))

    def merge(self) -> None:
        """The who of every tenth row becomes another one."""
        asked = [n for n in self.rows if n % 10 == 0]
        name = f"m{len(self.rows)}"
        found = self.bench.rows("events").filter(self.bench.rows("events")["id"].is_in(asked))
        source = found.to_arrow().select(["id"]).append_column("who", [[name] * len(found)])
        request = Upsert(source, ("id",), columns=("who",), insert_when="false")
        done = self.client.do("execute", str(self.bench.table("events")), request)
        assert done.rows.updated == len(asked)
        self.rows |= dict.fromkeys(asked, name)

    def sound(self) -> None:
        found = self.bench.rows("events")
        assert len(found) == len(self.rows)
        assert dict(zip(found["id"], found["who"], strict=True)) == self.rows
        self.bench.verify("events")

    def done(self) -> Counter[str]:
        """What upkeep has done so far, by action; nothing of it may have failed."""
        rows = History(str(self.bench.lake)).read().to_pylist()
        assert [one for one in rows if one["outcome"] == "failed"] == []
        return Counter(one["action"] for one in rows if one["outcome"] == "done")


@pytest.fixture(scope="module")
def make_world(
    make_bench: MakeBench, broker: LiveBroker, ray_cluster: LiveCluster
) -> Iterator[Callable[..., World]]:
    clients: list[Client] = []

    def make(**policy: Any) -> World:
        bench = make_bench()
        topic = f"events-{uuid.uuid4().hex[:6]}"
        broker.create_named_topic(topic)
        schema = {"id": "long", "who": "string"}
        bench.write(
            {"events": {"topics": [topic], "schema": schema, "commit_interval": "100ms"}},
            maintenance={**POLICY, **policy},
        )
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment = {**inherited, **ray_cluster.environment, "PYTHONPATH": str(ROOT)}
        environment[faults.ENV] = str(bench.faults)
        clients.append(Client(environment))
        return World(bench, clients[-1].ready(), topic)

    yield make
    for client in clients:
        client.close()


def status(bench: Bench) -> dict[str, Any]:
    try:
        return read_status(place(maintenance_status_path(load(bench.file).config)))
    except ConfigError:
        return {}


def run_beside(world: World, wanted: dict[str, int], merges: int) -> None:
    world.bench.start()
    while any(world.done()[kind] < count for kind, count in wanted.items()) or merges > 0:
        world.produce()
        if merges > 0:
            world.merge()
            merges -= 1
    table = world.bench.table_status("events")
    assert (table["units_refused"], table["error"]) == (0, "")
    world.sound()


@pytest.mark.long
@pytest.mark.spec("F1", "F3")
@pytest.mark.timeout(600)
def test_property_29_appends_and_merges_go_on_beside_upkeep(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    run_beside(world, {"compact": 2, "checkpoint": 1}, merges=2)
    until(lambda: status(world.bench).get("tables"), "its status is told")
    said = status(world.bench)
    assert (said["state"], said["pipeline"]) == ("running", world.bench.name)
    assert set(said["tables"]) == {"bronze.events"}
    world.bench.runs[-1].stop()
    until(lambda: status(world.bench)["state"] == "ended", "the maintainer has ended")
    world.sound()


@pytest.mark.long
@pytest.mark.spec("F1")
@pytest.mark.timeout(600)
def test_rewrites_keep_to_their_share_of_the_cpus(make_world: Callable[..., World]) -> None:
    part = 0.0002
    world = make_world(budget={"cpu": f"{part:.2%}"})
    run_beside(world, {"compact": 4}, merges=0)
    found = [one for one in History(str(world.bench.lake)).read().to_pylist() if one["cpu_s"] > 0]
    found.sort(key=lambda one: one["at"])
    first, last = found[0], found[-1]
    last_began_s = last["at"].timestamp() - (last["duration_s"] - last["waited_s"])
    least_s = sum(one["cpu_s"] for one in found[:-1]) / (part * CPUS) - BURST_S
    worked_s = sum(one["duration_s"] - one["waited_s"] for one in found[:-1])
    assert least_s > worked_s, "its share did not bind"
    assert last_began_s - first["at"].timestamp() >= least_s
