"""A broker that a test may stop, kill and break."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from raylake.kafka.dev import DevBroker
from tests.harness.broker import LiveBroker
from tests.integration.kafka import reading


@pytest.fixture(params=sorted(reading.KINDS))
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test of a fetcher runs with each implementation."""
    name: str = request.param
    monkeypatch.setattr(reading, "chosen", name)
    return name


@pytest.fixture
def own_broker() -> Iterator[LiveBroker]:
    """A broker of this test's own, gone afterwards with its data."""
    dev = DevBroker(instance=f"own-{uuid.uuid4().hex[:8]}")
    live = LiveBroker(dev.up().bootstrap, dev)
    try:
        yield live
    finally:
        live.close()
        dev.down(wipe=True)
