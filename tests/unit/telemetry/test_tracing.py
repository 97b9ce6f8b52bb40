"""Spans of hand-overs and commits: who is whose parent, what is linked, and nothing while off."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from raylake.config.observing import Tracing
from raylake.kafka.port import FetchedBatch
from raylake.kafka.records import FETCH_SCHEMA
from raylake.telemetry import tracing
from tests.harness import simulated_kafka
from tests.unit.ingest.pieces import calm_world, consumer, owned, produce, source, turn

LINKS = 3
plain_batch = simulated_kafka.batch


def header(number: int, flags: str = "01") -> str:
    """What the producer of the record at this offset was doing."""
    return f"00-{number + 1:032x}-{number + 1:016x}-{flags}"


def with_headers(*arguments: Any) -> FetchedBatch:
    found = plain_batch(*arguments)
    headers = [
        [{"key": "other", "value": b"x"}, {"key": "traceparent", "value": header(n).encode()}]
        for n in found.records.column("offset").to_pylist()
    ]
    kind = FETCH_SCHEMA.field("headers").type
    more = found.records.append_column("headers", pa.array(headers, kind))
    return replace(found, records=more)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Takes the spans of this process."""
    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracing.use(tracing.Spans(provider, LINKS))
    yield kept
    tracing.use(None)


def of(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def records(*headers: list[tuple[str, bytes | None]] | None) -> pa.RecordBatch:
    kind = FETCH_SCHEMA.field("headers").type
    column = [h and [{"key": k, "value": v} for k, v in h] for h in headers]
    return pa.record_batch([pa.array(column, kind)], ["headers"])


def test_a_commit_is_below_its_hand_over_which_links_to_its_records(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated_kafka, "batch", with_headers)
    world = calm_world()
    owner = owned(world)
    reader = consumer(world)
    produce(world, 20)
    turn(world, reader, 30)
    assert owner.table.ends([source(world)])[source(world)].next == 20

    sent, commits = of(exporter, "raylake.hand_over"), of(exporter, "raylake.commit")
    assert len(sent) == len(commits) > 0
    for one, commit in zip(sent, commits, strict=True):
        assert commit.parent is not None
        assert commit.parent.span_id == one.context.span_id
        assert commit.context.trace_id == one.context.trace_id
        said = told(one)
        assert told(commit)["raylake.correlation_ids"] == (said["raylake.correlation_id"],)
        assert said["raylake.outcome"] == "committed"
        assert said["raylake.commit"] == told(commit)["raylake.commit"]
        assert told(commit)["raylake.units.committed"] == 1
        (event,) = one.events
        assert event.name == "handed over"
    ids = {link.context.trace_id for one in sent for link in one.links}
    assert ids <= set(range(1, 21))
    assert ids
    assert max(len(one.links) for one in sent) == LINKS
    assert sum(told(one)["raylake.rows"] for one in sent) == 20


def test_a_refused_unit_and_one_that_was_never_sent_say_so(exporter: InMemorySpanExporter) -> None:
    world = calm_world()
    owner = owned(world)
    reader = consumer(world)
    produce(world, 4)
    # Told of a newer generation, the owner refuses what is read under the one before.
    owner.table.set_generation([source(world)], 9)
    turn(world, reader, 12)
    refused = [one for one in of(exporter, "raylake.hand_over") if not one.status.is_ok]
    assert {told(one)["raylake.outcome"] for one in refused} == {"refused"}
    assert {one.status.description for one in refused} == {"generation"}
    assert told(of(exporter, "raylake.commit")[0])["raylake.units.refused"] == 1


def test_a_commit_that_fails_is_a_span_of_its_own(exporter: InMemorySpanExporter) -> None:
    world = calm_world()
    owned(world)
    reader = consumer(world)
    produce(world, 4)
    world.lake.plants["commit"] = ["contended"]
    turn(world, reader, 30)
    (sent,) = of(exporter, "raylake.hand_over")
    first, *others = of(exporter, "raylake.commit")
    assert first.status.status_code is StatusCode.ERROR
    assert others[-1].status.status_code is StatusCode.UNSET
    assert {one.parent and one.parent.span_id for one in (first, *others)} == {sent.context.span_id}


def test_while_it_is_off_no_header_is_looked_at_and_units_carry_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looked(*_: object) -> None:
        pytest.fail("tracing is off")

    monkeypatch.setattr(tracing, "traceparents", looked)
    monkeypatch.setattr(simulated_kafka, "batch", with_headers)
    world = calm_world()
    owner = owned(world)
    carried: list[object] = []
    submit = owner.loop.submit
    monkeypatch.setattr(
        owner.loop, "submit", lambda unit: carried.append(unit.trace) or submit(unit)
    )
    reader = consumer(world)
    produce(world, 20)
    turn(world, reader, 30)
    assert tracing.spans() is None
    assert carried
    assert set(map(len, carried)) == {0}  # type: ignore[arg-type]


def test_headers_are_found_wherever_they_stand_and_only_so_many() -> None:
    one, two = header(1).encode(), header(2).encode()
    batch = records(None, [], [("a", b"x"), ("traceparent", one)], [("traceparent", None)])
    assert tracing.traceparents(batch, 16) == (header(1),)
    assert tracing.traceparents(
        records([("traceparent", one)], [("traceparent", two)]).slice(1), 9
    ) == (header(2),)
    many = records(*([("traceparent", header(n).encode())] for n in range(1000)))
    found = tracing.traceparents(many, 3)
    assert found == (header(0), header(499), header(999))
    assert tracing.traceparents(records([("traceparent", b"x" * 300)]), 3) == ()
    assert tracing.traceparents(pa.record_batch([pa.array([1])], ["offset"]), 3) == ()
    assert tracing.traceparents(records(None, None), 3) == ()


def test_only_spans_that_somebody_keeps_are_linked(exporter: InMemorySpanExporter) -> None:
    spans = tracing.spans()
    assert spans is not None
    found = [header(1), "rubbish", header(2, "00"), "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
    spans.hand_over({}, found).end()
    (one,) = of(exporter, "raylake.hand_over")
    assert [link.context.trace_id for link in one.links] == [2]
    # Whoever calls may be within a span of somebody else's.
    assert one.parent is None


@pytest.mark.parametrize(
    ("section", "environ", "on"),
    [
        ({}, {}, False),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({}, {"OTEL_TRACES_EXPORTER": "console"}, True),
        ({}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ({"enabled": True}, {}, True),
        ({"enabled": False}, {"OTEL_TRACES_EXPORTER": "console"}, False),
        ({"enabled": True}, {"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_who_switches_it_on(section: dict[str, bool], environ: dict[str, str], on: bool) -> None:
    assert tracing.wanted(Tracing(**section), environ) is on


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ["otlp_proto_http", "console"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        (
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            ["otlp_proto_http"],
        ),
    ],
)
def test_exporters_are_those_of_the_variables(environ: dict[str, str], names: list[str]) -> None:
    assert tracing.exporter_names(environ) == names


def test_an_exporter_that_is_not_there_is_told_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier_pigeon")
    trouble = tracing.begin(Tracing(), {"process": "consumer-0"})
    assert trouble is not None
    assert "carrier_pigeon" in trouble.message
    assert "raylake[tracing]" in (trouble.hint or "")
    assert tracing.spans() is None


@pytest.mark.parametrize(
    "headers",
    [
        "authorization=Bearer planted;secret",
        'x=1,authorization="planted"',
        "authorization=Bearer%20planted%0Asecret",
        "planted",
    ],
)
def test_a_header_that_an_error_would_repeat_is_refused_without_its_value(
    headers: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
    trouble = tracing.begin(Tracing(), {"process": "consumer-0"})
    assert trouble is not None
    number = 1 + headers.count(",")
    assert f"entry {number} of OTEL_EXPORTER_OTLP_HEADERS is no header" in trouble.message
    assert "planted" not in f"{trouble!r} {trouble} {trouble.hint} {caplog.text}"
    assert tracing.spans() is None


def test_what_opentelemetry_says_stands_in_our_log_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    for _ in range(2):
        assert tracing.begin(Tracing(enabled=True), {"process": "consumer-0"}) is None
    tracing.use(None)
    logging.getLogger("opentelemetry.sdk.trace.export").error("nobody took %d spans", 7)
    said = [one.getMessage() for one in caplog.records if one.name.startswith("raylake")]
    assert said == ["OpenTelemetry: nobody took 7 spans"]


def test_the_sdk_s_own_exporters_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[ReadableSpan] = []

    def export(_: object, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        sent.extend(spans)
        return SpanExportResult.SUCCESS

    # It writes to the standard output that was there when it was imported.
    monkeypatch.setattr(ConsoleSpanExporter, "export", export)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    assert tracing.begin(Tracing(), {"pipeline": "shop", "process": "consumer-0"}) is None
    spans = tracing.spans()
    assert spans is not None
    spans.hand_over({"raylake.table": "bronze.orders"}, []).end()
    tracing.end()
    tracing.use(None)
    (one,) = sent
    assert (one.name, told(one)) == ("raylake.hand_over", {"raylake.table": "bronze.orders"})
    about = one.resource.attributes
    assert about["service.name"] == "raylake"
    assert about["deployment.environment"] == "test"
    assert (about["raylake.pipeline"], about["raylake.process"]) == ("shop", "consumer-0")
