"""The broker is killed under load, stays away, and comes back."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator

import pytest

from raylake.kafka.dev import DevBroker
from tests.harness.broker import LiveBroker
from tests.harness.producing import DIRTY
from tests.harness.scope import MakeScope, Scope


@pytest.fixture
def own_broker() -> Iterator[LiveBroker]:
    """A broker that this test may kill."""
    dev = DevBroker(instance=f"chaos-{uuid.uuid4().hex[:8]}")
    live = LiveBroker(dev.up().bootstrap, dev)
    yield live
    live.close()
    dev.down(wipe=True)


@pytest.mark.spec("A3", "B1", "B2")
def test_failure_13_the_broker_is_killed_and_its_breaker_opens_and_closes(
    make_scope: MakeScope, own_broker: LiveBroker
) -> None:
    scope = make_scope(broker=own_broker)
    scope.pipeline(kafka={"bootstrap": own_broker.bootstrap, "connect_timeout": "1s"})
    job = scope.start()
    scope.produce(500, DIRTY)
    scope.until_caught_up()

    own_broker.dev.kill()
    scope.fail_once()
    scope.run_until(lambda: scope.tripped("broker"), "the broker's breaker opened")
    own_broker.dev.up()
    scope.produce(500, DIRTY)
    scope.until_caught_up()
    scope.run_until(lambda: not scope.tripped("broker"), "the broker's breaker closed")

    own_broker.dev.down()
    scope.fail_once()
    own_broker.dev.up()
    scope.produce(500, DIRTY)
    scope.until_caught_up()
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    scope.audit()
    scope.verify("all")


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
