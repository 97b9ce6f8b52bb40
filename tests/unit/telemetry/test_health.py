"""What the endpoints say: 200 or 503, and why."""

from __future__ import annotations

import json
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client import generate_latest

from raylake.config.findings import Invalid
from raylake.config.listen import host_and_port
from raylake.telemetry.endpoints import Endpoints
from raylake.telemetry.health import Health, liveness, missing_processes, readiness
from raylake.telemetry.prometheus import PrometheusMetrics

TABLE = "bronze.orders"
OPEN = {"state": "open"}


def document(**more: Any) -> dict[str, Any]:
    table = {"partitions": {"orders[0]": {}, "orders[1]": {}}, "breakers": {"store": {}}}
    calm = {"state": "running", "tables": {TABLE: table}, "consumers": {"consumer-0": {}}}
    return {**calm, "missing": [], "held": {}, "stopped": {}, **more}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"state": "draining"}, ["the run is draining"]),
        ({"missing": ["consumer-1"]}, ["consumer-1 is missing"]),
        (
            {"consumers": {"consumer-0": {"breakers": {"broker": OPEN}}}},
            ["the broker's breaker is open"],
        ),
        (
            {"held": {"broker": {"reason": "moved"}}},
            ["the broker's breaker is open, by hand: moved"],
        ),
        (
            {"tables": {TABLE: {"breakers": {"store": OPEN}}}},
            [f"{TABLE}: the breaker of store is open"],
        ),
        (
            {"consumers": {"consumer-0": {"breakers": {f"{TABLE}/dead_letters": OPEN}}}},
            [f"{TABLE}: the breaker of dead_letters is open"],
        ),
        (
            {"stopped": {name: {"message": "id changed"} for name in ("orders[0]", "orders[1]")}},
            [f"{TABLE}: every partition is stopped: id changed"],
        ),
    ],
)
def test_a_run_that_makes_no_progress_is_not_ready(changed: dict[str, Any], why: list[str]) -> None:
    said = readiness(document(**changed))
    assert (said.ok, said.body["why"]) == (False, why)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"consumers": {"a": {"breakers": {"broker": OPEN}}, "b": {"breakers": {}}}},
        {"consumers": {"a": {"breakers": {"broker": {"state": "half_open"}}}}},
        {"tables": {TABLE: {"breakers": {"store": OPEN}}, "bronze.b": {"breakers": {}}}},
        {"stopped": {"orders[0]": {"message": "id changed"}}},
    ],
)
def test_a_run_that_makes_progress_is_ready(changed: dict[str, Any]) -> None:
    assert readiness(document(**changed)).ok


def test_before_the_first_document_nothing_is_ready() -> None:
    assert readiness({}).body["why"] == ["the run is starting"]


@pytest.mark.parametrize(
    ("state", "age_s", "ok"),
    [
        ("running", 60, True),
        ("running", 61, False),
        ("starting", 299, True),
        ("starting", 301, False),
        ("draining", 89, True),
        ("draining", 91, False),
    ],
)
def test_a_loop_that_stands_still_is_not_alive(state: str, age_s: float, ok: bool) -> None:
    said = liveness(state, age_s, drain_timeout_s=30)
    assert said.ok is ok
    assert bool(said.body.get("why")) is not ok


def test_who_is_missing() -> None:
    found = missing_processes(["c-0", "c-1"], ["c-1"], ["bronze.a", "bronze.b"], ["bronze.a"])
    assert found == ["c-0", "the owner of bronze.b"]


def ask(endpoints: Endpoints, path: str, method: str = "GET") -> tuple[int, str]:
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method}
    setup_testing_defaults(environ)
    begun: list[str] = []
    body = endpoints.answer(environ, lambda status, _headers, _exc=None: begun.append(status))
    return int(begun[0].split()[0]), b"".join(body).decode()


def test_paths_answer_with_json_and_the_registry() -> None:
    metrics = PrometheusMetrics()
    metrics.set("raylake_lag_records", 7, {"pipeline": "shop", "table": TABLE})
    checks = {
        "/healthz": lambda: Health(True, {"ok": True}),
        "/readyz": lambda: Health(False, {"why": ["x"]}),
    }
    endpoints = Endpoints("off", metrics.registry, checks)
    endpoints.start()
    assert endpoints.url is None
    assert ask(endpoints, "/healthz") == (200, '{"ok": true}\n')
    code, text = ask(endpoints, "/readyz")
    assert (code, json.loads(text)) == (503, {"why": ["x"]})
    assert ask(endpoints, "/nowhere")[0] == 404
    assert ask(endpoints, "/healthz", "POST")[0] == 405
    code, text = ask(endpoints, "/metrics")
    assert code == 200
    assert 'raylake_lag_records{pipeline="shop",table="bronze.orders"} 7.0' in text
    endpoints.close()


def test_metrics_have_their_declared_names_and_kinds() -> None:
    metrics = PrometheusMetrics()
    labels = {"pipeline": "shop", "table": TABLE}
    metrics.add("raylake_commits_total", 2, labels)
    metrics.observe("raylake_commit_seconds", 0.3, labels)
    shown = generate_latest(metrics.registry).decode()
    assert 'raylake_commits_total{pipeline="shop",table="bronze.orders"} 2.0' in shown
    assert (
        'raylake_commit_seconds_bucket{le="0.5",pipeline="shop",table="bronze.orders"} 1' in shown
    )
    assert "python_info" not in shown
    with pytest.raises(ValueError, match="is a counter"):
        metrics.set("raylake_commits_total", 1, labels)


def test_where_to_listen() -> None:
    assert host_and_port("off") is None
    assert host_and_port("0.0.0.0:9464") == ("0.0.0.0", 9464)
    assert host_and_port("[::1]:0") == ("::1", 0)
    for wrong in ("9464", "localhost", ":1", "a:b", "127.0.0.1:70000", "http://x:1"):
        with pytest.raises(Invalid, match="not an address"):
            host_and_port(wrong)
