"""``raylake run FILE`` without a cluster of one's own: bronze, silver and gold, and how it ends.

These runs start the clusters that they are about.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from deltalake import DeltaTable

from tests.harness.broker import LiveBroker
from tests.harness.cluster import ROOT
from tests.harness.jobs import EXIT_TIMEOUT_S
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import MakeBench
from tests.integration.transform.example import Orders
from tests.integration.transform.orders import events


@contextmanager
def _run(orders: Orders, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "raylake", "run", str(orders.bench.file), *arguments],
        env={**inherited, "PYTHONPATH": str(ROOT), "RAYLAKE_RAY_DIR": "/tmp/rl-derived"},
        cwd=orders.bench.folder,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _silver(orders: Orders) -> dict[str, Any]:
    found: dict[str, Any] = orders.status.get("tables", {}).get("silver.orders", {})
    return found


def _newest(orders: Orders) -> int:
    return int(DeltaTable(str(orders.bench.lake / "bronze" / "orders")).version())


@pytest.mark.long
@pytest.mark.spec("D1", "D2", "A3")
def test_an_embedded_run_makes_all_tables_and_ends_with_what_bronze_ended_with(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    orders = Orders(make_bench(cluster=None), broker)
    orders.produce(events(200, 1))
    with _run(orders, "--available-now") as process:
        assert process.wait(EXIT_TIMEOUT_S) == 0
    orders.check()
    document = orders.status
    assert document["state"] == "ended"
    assert document["tables"]["silver.orders"]["processed"] == _newest(orders)


@pytest.mark.long
@pytest.mark.spec("D1", "D2", "A3", "A11")
def test_an_embedded_run_that_is_told_to_stop_ends_with_what_bronze_ended_with(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    orders = Orders(make_bench(cluster=None), broker)
    orders.produce(events(100, 2))
    with _run(orders) as process:
        until(lambda: _silver(orders).get("rows"), "rows", 120)
        orders.produce(events(100, 3, first=100))
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_TIMEOUT_S) == 0
    ended = orders.status
    assert ended["state"] == "ended"
    assert ended["tables"]["silver.orders"]["processed"] == _newest(orders)
    with _run(orders, "--available-now") as process:
        assert process.wait(EXIT_TIMEOUT_S) == 0
    orders.check()
