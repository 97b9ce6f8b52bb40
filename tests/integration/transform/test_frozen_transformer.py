"""A transformer that does not answer holds up neither its run nor the end of it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.harness.broker import LiveBroker
from tests.harness.jobs import pids_of
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import MakeBench
from tests.integration.transform.example import Orders
from tests.integration.transform.orders import events

DRAIN_S = 10


def _freeze(orders: Orders) -> int:
    (pid,) = until(lambda: pids_of(orders.bench.lake, "transformer"), "a transformer", 20)
    os.kill(pid, signal.SIGSTOP)
    return pid


def _brought(orders: Orders) -> int:
    """Rows of bronze that this run's transformer has brought in."""
    found = orders.status.get("tables", {}).get("silver.orders", {}).get("rows", 0)
    return int(found)


@pytest.fixture
def orders(make_bench: MakeBench, broker: LiveBroker) -> Orders:
    """With some orders placed."""
    made = Orders(make_bench(), broker)
    made.produce(events(60, 1))
    return made


@pytest.mark.long
@pytest.mark.spec("A3", "D1")
def test_failure_35_a_frozen_transformer_is_replaced(orders: Orders) -> None:
    job = orders.bench.start(RAYLAKE_SILENT_S="3")
    orders.bench.until(lambda: _brought(orders) == 60, "silver follows")
    frozen = _freeze(orders)
    orders.produce(events(50, 2, first=60))
    orders.bench.until(lambda: _brought(orders) == 50, "another one follows")
    assert frozen not in pids_of(orders.bench.lake, "transformer")
    assert "the transformer has not answered for" in job.said
    job.stop()
    orders.bench.drain()
    orders.check()


@pytest.mark.long
@pytest.mark.spec("A3", "D1")
def test_failure_35_a_run_ends_in_time_without_a_frozen_transformer(orders: Orders) -> None:
    """It is not replaced yet when the run is told to stop."""
    budget = f"ingest: {{drain_timeout: {DRAIN_S}s}}"
    orders.bench.file.write_text(f"{orders.bench.file.read_text()}\n{budget}\n")
    job = orders.bench.start(RAYLAKE_SILENT_S="600")
    orders.bench.until(lambda: orders.status.get("state") == "running", "the run")
    frozen = _freeze(orders)
    began = time.monotonic()
    job.stop()
    assert DRAIN_S / 2 < time.monotonic() - began < DRAIN_S + 20
    assert frozen not in pids_of(orders.bench.lake, "transformer")
    orders.bench.drain()
    orders.check()
