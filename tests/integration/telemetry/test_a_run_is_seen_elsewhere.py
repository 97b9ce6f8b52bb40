"""A run's metrics reach a push gateway, its spans a collector; neither is needed for the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable

from raylake.delta.verify import TableToVerify, VerifyOptions, verify_pipeline
from tests.harness.collector import collector
from tests.harness.gateway import gateway
from tests.harness.producing import DIRTY
from tests.harness.scope import TABLE, MakeScope
from tests.integration.telemetry.logged import check_logs

AWAY = "http://127.0.0.1:9"
NAME = f"bronze.{TABLE}"
RECORDS = 400


@pytest.mark.long
@pytest.mark.spec("J1")
def test_a_run_that_ends_leaves_its_metrics_at_a_push_gateway(
    make_scope: MakeScope, tmp_path: Path
) -> None:
    scope = make_scope(folder=tmp_path)
    with gateway() as place:
        scope.pipeline(metrics={"push_gateway": {"url": place.url, "interval": "300ms"}})
        scope.produce(1000, DIRTY)
        scope.drain()
    group = {"job": "raylake", "pipeline": scope.name}
    labels = {"pipeline": scope.name, "table": NAME}
    status = scope.status()
    totals = status["tables"][NAME]["totals"]
    for outcome, name in {"row": "rows", "dead": "dead", "absent": "absent"}.items():
        found = place.value(
            group, "raylake_records_total", **labels, stage="committed", outcome=outcome
        )
        assert found == totals[name]
    assert place.value(group, "raylake_run_ended_seconds", pipeline=scope.name, outcome="done")
    for process in ("supervisor", "consumer", "owner", "dead_letters"):
        used = {"pipeline": scope.name, "process": process}
        assert (place.value(group, "raylake_process_memory_bytes", **used) or 0) > 10_000_000
        assert (place.value(group, "raylake_process_cpu_seconds_total", **used) or 0) > 0

    table = DeltaTable(str(scope.table()))
    files = [Path(uri.removeprefix("file://")) for uri in table.file_uris()]
    log = list((scope.table() / "_delta_log").iterdir())
    assert place.value(group, "raylake_table_files", **labels, kind="live") == len(files)
    assert place.value(group, "raylake_table_bytes", **labels, kind="live") == sum(
        one.stat().st_size for one in files
    )
    assert place.value(group, "raylake_table_bytes", **labels, kind="log") == sum(
        one.stat().st_size for one in log
    )
    assert place.value(group, "raylake_commit_age_seconds", **labels) is not None
    pushes = status["pushes"]["push_gateway"]
    assert pushes["pushed"] == place.pushes >= 1
    assert (pushes["failed"], pushes["error"]) == (0, "")
    assert not any(place.url in error["message"] for error in status["errors"])


@pytest.mark.long
@pytest.mark.spec("J1")
def test_a_gateway_that_is_away_is_named_in_the_status_and_fails_no_run(
    make_scope: MakeScope, tmp_path: Path
) -> None:
    scope = make_scope(folder=tmp_path)
    scope.pipeline(metrics={"push_gateway": {"url": AWAY, "interval": "300ms"}})
    scope.produce(1000)
    scope.drain()
    status = scope.status()
    assert status["state"] == "done"
    assert any(AWAY in error["message"] for error in status["errors"])
    assert status["pushes"]["push_gateway"]["failed"] >= 1


@pytest.mark.spec("J3")
def test_a_record_s_trace_and_the_logs_lead_to_its_hand_over_and_commit(
    make_scope: MakeScope, tmp_path: Path
) -> None:
    # An embedded cluster, whose processes have the variables of the job.
    scope = make_scope(folder=tmp_path, cluster=None)
    scope.pipeline(tracing={"links": 1000})
    producer = scope.broker.producer()
    for number in range(RECORDS):
        value = {"id": number, "at": "2026-01-01T00:00:00Z", "note": "n"}
        trace = f"00-{number + 1:032x}-{number + 1:016x}-01"
        producer.send(
            scope.topic,
            json.dumps(value).encode(),
            partition=number % scope.partitions,
            headers=[("traceparent", trace.encode())],
        )
    producer.flush()
    producer.close()
    scope.produce(2000, DIRTY)
    with collector() as place:
        # The SDK's own bound is 128 a span.
        more = {**place.environment, "OTEL_SPAN_LINK_COUNT_LIMIT": "1000"}
        scope.start("--available-now", **more).ends_with(0)

    sent, commits = place.of("raylake.hand_over"), place.of("raylake.commit")
    linked = {trace for one in sent for trace in one.links}
    assert linked == {f"{number + 1:032x}" for number in range(RECORDS)}
    units = {unit: version for version, ours in scope.commits() for unit in ours.get("units", ())}
    assert {one.told["raylake.correlation_id"] for one in sent} == units.keys()
    spans = {one.ids[1]: one for one in sent}
    for one in sent:
        assert one.told["raylake.commit"] == units[one.told["raylake.correlation_id"]]
    for commit in commits:
        above = spans[commit.ids[2]]
        assert above.ids[0] == commit.ids[0]
        assert above.told["raylake.correlation_id"] in commit.told["raylake.correlation_ids"]
    said = {unit for one in commits for unit in one.told["raylake.correlation_ids"]}
    assert said == units.keys()
    assert {one.about["raylake.process"] for one in commits} == {f"owner-{NAME}"}
    assert {one.about["raylake.pipeline"] for one in place.spans} == {scope.name}
    check_logs(scope)


@pytest.mark.long
@pytest.mark.spec("J3")
def test_a_collector_that_is_away_fails_no_run(make_scope: MakeScope, tmp_path: Path) -> None:
    scope = make_scope(folder=tmp_path, cluster=None)
    scope.produce(1000)
    scope.start("--available-now", OTEL_EXPORTER_OTLP_ENDPOINT=AWAY).ends_with(0)
    table, options = TableToVerify(str(scope.table()), NAME), VerifyOptions(level="data")
    report = verify_pipeline([table], str(scope.letters), scope.name, options)
    assert report.ok
