"""Where tables begin to read, and where ``available_now`` ends (SPEC A7, I8, I9)."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.broker import LiveBroker
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import Record, offsets, produce

STARTS = ("earliest", "latest", "timestamp", "offsets", "group")
GO_ON = ("earliest", "latest")
FIRST = 20
FOREVER = {"retention.ms": "-1"}
BASE = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


@dataclass
class World:
    """Two runs to the end: of 20 records, and of 5 more for some of the tables."""

    bench: Bench
    topic: str
    shown: dict[str, Any]


@pytest.fixture(scope="module")
def world(broker: LiveBroker, make_bench: MakeBench) -> World:
    bench = make_bench()
    topic = broker.create_topic("starts", config=FOREVER)
    opened = broker.create_topic("opened")
    moments = [BASE + dt.timedelta(minutes=n) for n in range(FIRST)]
    produce(
        broker,
        topic,
        [
            Record({"id": n}, timestamp_ms=int(moment.timestamp() * 1000))
            for n, moment in enumerate(moments)
        ],
    )
    group = broker.commit_group(topic, 9)
    starts = {
        "earliest": "earliest",
        "latest": "latest",
        "timestamp": {"timestamp": moments[7].isoformat()},
        "offsets": {"offsets": {topic: {0: 13}}},
        "group": {"group": group},
    }
    tables = {
        name: {"topics": [topic], "schema": {"id": "long"}, "start": start}
        for name, start in starts.items()
    }
    held = {"opened": {"topics": [opened], "schema": {"id": "long"}}}
    bench.write({**tables, **held})
    produce(broker, opened, [{"id": n} for n in range(4)])
    open_for = {"transactional_id": f"open-{uuid.uuid4().hex}", "transaction_timeout_ms": 600_000}
    producer = broker.producer(**open_for)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(opened, value=b'{"id": 4}').get(10)
    produce(broker, opened, [{"id": 5}])
    bench.drain()
    first = bench.status()["tables"]
    assert first["bronze.opened"]["partitions"][f"{opened}[0]"]["next"] == 4
    assert offsets(bench.rows("opened")) == [0, 1, 2, 3]
    producer.commit_transaction()
    producer.close()
    produce(broker, topic, [{"id": n} for n in range(FIRST, FIRST + 5)])
    bench.write({**{name: tables[name] for name in GO_ON}, **held})
    bench.drain()
    return World(bench, topic, first | bench.status()["tables"])


@pytest.mark.spec("A7")
@pytest.mark.parametrize(
    ("table", "first"),
    [("earliest", 0), ("latest", FIRST), ("timestamp", 7), ("offsets", 13), ("group", 9)],
)
def test_a_table_begins_where_the_file_says_and_goes_on_where_it_stood(
    world: World, table: str, first: int
) -> None:
    last = FIRST + 5 * (table in GO_ON)
    assert world.bench.rows(table)["id"].to_list() == list(range(first, last))
    end = world.shown[f"bronze.{table}"]["partitions"][f"{world.topic}[0]"]
    assert (end["origin"], end["next"]) == (first, last)


@pytest.mark.spec("A7", "A9")
def test_available_now_ends_at_the_last_stable_offset(world: World) -> None:
    # The fixture saw the first run end before the open transaction; the second one has it all.
    assert world.bench.rows("opened")["id"].to_list() == [0, 1, 2, 3, 4, 5]


@pytest.mark.spec("A3")
def test_all_of_them_balance(world: World) -> None:
    world.bench.verify(*STARTS, "opened")
