"""Spans reach a collector over OTLP, with nothing but OpenTelemetry's own variables."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from raylake.config.observing import Tracing
from raylake.telemetry import tracing
from tests.harness.collector import Collector, collector

PRODUCER = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def place() -> Iterator[Collector]:
    with collector() as found:
        yield found
        tracing.use(None)


@pytest.mark.spec("J3")
def test_a_hand_over_and_its_commit_arrive(
    place: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders")
    assert tracing.begin(Tracing(), {"pipeline": "shop", "process": "consumer-0"}) is None
    spans = tracing.spans()
    assert spans is not None
    sent = spans.hand_over({"raylake.correlation_id": "u1"}, [PRODUCER])
    commit = spans.commit({"raylake.correlation_ids": ["u1"]}, [sent.carrier()])
    commit.end()
    sent.end()
    tracing.end()

    (one,), (below,) = place.of("raylake.hand_over"), place.of("raylake.commit")
    assert one.links == ("a" * 32,)
    assert one.ids[2] == ""
    assert below.ids[:1] == one.ids[:1]
    assert below.ids[2] == one.ids[1]
    assert below.links == (one.ids[0],)
    assert (one.told["raylake.correlation_id"], below.told["raylake.correlation_ids"]) == (
        "u1",
        ["u1"],
    )
    assert one.about["service.name"] == "orders"
    assert one.about["raylake.process"] == "consumer-0"
    assert {request["authorization"] for request in place.headers} == {"Bearer secret"}


def test_a_collector_that_is_away_costs_nothing_but_the_spans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert tracing.begin(Tracing(), {"process": "consumer-0"}) is None
    spans = tracing.spans()
    assert spans is not None
    spans.hand_over({}, []).end()
    began_s = time.monotonic()
    tracing.end()
    assert time.monotonic() - began_s < 2 * tracing.FLUSH_S
    tracing.use(None)
