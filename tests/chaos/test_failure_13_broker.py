"""The broker is killed under load, stays away, and comes back."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator

import pytest

from raylake.kafka.dev import DevBroker
from tests.harness import producing
from tests.harness.broker import LiveBroker
from tests.harness.producing import DIRTY
from tests.harness.scope import MakeScope, Scope
from tests.harness.waiting import until


@pytest.fixture
def own_broker() -> Iterator[LiveBroker]:
    """A broker that this test may kill."""
    dev = DevBroker(instance=f"chaos-{uuid.uuid4().hex[:8]}")
    live = LiveBroker(dev.up().bootstrap, dev)
    yield live
    live.close()
    dev.down(wipe=True)


SHORT_S = 4.0
AWAY = [
    pytest.param(SHORT_S, id="4 s"),
    pytest.param(120.0, id="2 minutes", marks=pytest.mark.long),
]


@pytest.mark.spec("A3", "B1", "B2")
@pytest.mark.parametrize("away_s", AWAY)
def test_failure_13_the_broker_is_killed_under_load_and_its_breaker_opens_and_closes(
    make_scope: MakeScope, own_broker: LiveBroker, away_s: float
) -> None:
    """Records are produced all the time, while no broker answers too.

    After the longer outage the broker is also stopped as it should be.
    """
    scope = make_scope(broker=own_broker)
    scope.pipeline(kafka={"bootstrap": own_broker.bootstrap, "connect_timeout": "1s"})
    job = scope.start()
    scope.produce(300, DIRTY)
    scope.until_caught_up()

    record = scope.folder / "steady.parquet"
    with producing.steadily(
        own_broker.bootstrap, scope.topic, record, partitions=[0, 1], mix=DIRTY, seed=7
    ) as steady:
        until(lambda: steady.sent > 100, "records are on their way")
        own_broker.dev.kill()
        scope.fail_once("broker killed")
        down_s, before = time.monotonic(), steady.sent
        scope.run_until(lambda: scope.tripped("broker"), "the broker's breaker opened")
        until(lambda: time.monotonic() > down_s + away_s, "the outage", away_s + 10)
        assert steady.sent > before + 50 * away_s, "nothing was produced in the outage"
        own_broker.dev.up()
        scope.run_until(lambda: not scope.tripped("broker"), "the broker's breaker closed")
        if away_s > SHORT_S:
            own_broker.dev.down()
            scope.fail_once("broker stopped")
            own_broker.dev.up()
        again = steady.sent
        until(lambda: steady.sent > again + 50, "records after the restart")
    scope.records.append(record)
    scope.produced += steady.sent
    scope.produce(300, DIRTY)
    scope.until_caught_up()
    assert sum(scope.status()["restarts"].values()) == 0, "an outage cost a process"
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    assert scope.recovered("broker") >= 1
    scope.audit()
    scope.verify("all")


@pytest.mark.long
@pytest.mark.spec("A3", "A11")
def test_failure_13_40_a_stop_while_the_broker_is_gone_ends_soon_with_4_and_loses_nothing(
    make_scope: MakeScope, own_broker: LiveBroker
) -> None:
    scope = make_scope(broker=own_broker)
    scope.pipeline(
        {"commit_interval": "10m", "max_batch_bytes": "64MiB"},
        kafka={"bootstrap": own_broker.bootstrap, "connect_timeout": "2s"},
    )
    job = scope.start()
    scope.produce(300, DIRTY)
    scope.run_until(scope.ranges_in_log, "the first records, which do not wait")
    scope.produce(300, DIRTY)
    scope.run_until(lambda: _held(scope) > 0, "records are held")

    own_broker.dev.kill()
    scope.run_until(lambda: bool(scope.status().get("errors")), "the supervisor misses Kafka")
    job.signal(signal.SIGTERM)
    began_s = time.monotonic()
    job.ends_with(4)
    assert time.monotonic() - began_s < 20.0, "well within drain_timeout (60 s)"
    assert "the next start reads them again" in job.said
    assert scope.status()["state"] == "stopped"
    own_broker.dev.up()
    scope.drain()
    scope.audit()
    scope.verify("all")


def _held(scope: Scope) -> int:
    tables = scope.status().get("tables", {}).values()
    return sum(int(table.get("held_bytes", 0)) for table in tables)
