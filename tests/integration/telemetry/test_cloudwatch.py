"""Metrics reach a server that speaks CloudWatch's API: growth of counters, observations, gauges."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from raylake.clock import SystemClock
from raylake.config.observing import CloudWatch
from raylake.errors import ConfigError, DependencyUnreachable
from raylake.telemetry.cloudwatch import CloudWatchTarget
from tests.harness.repeater import repeater

LABELS = {"pipeline": "shop", "table": "bronze.orders"}
REGION = "eu-west-1"


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A server of this test alone, in memory."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def section(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CW_KEY", "secret")
    return {
        "endpoint": endpoint,
        "region": REGION,
        "access_key_id": "key",
        "secret_access_key": "env:CW_KEY",
        # The server's memory is that of the whole test process.
        "namespace": f"Shop/{uuid.uuid4().hex}",
    }


def target(section: dict[str, Any]) -> CloudWatchTarget:
    return CloudWatchTarget(CloudWatch.model_validate(section), SystemClock())


def stored(section: dict[str, Any], name: str, statistic: str, **labels: str) -> float | None:
    """A statistic of a series over the last hour; None when nothing arrived."""
    client = boto3.session.Session().client(
        "cloudwatch",
        endpoint_url=section["endpoint"],
        region_name=REGION,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    now = dt.datetime.now(dt.UTC)
    found = client.get_metric_statistics(
        Namespace=section["namespace"],
        MetricName=name,
        Dimensions=[{"Name": k, "Value": v} for k, v in sorted(labels.items())],
        StartTime=now - dt.timedelta(hours=1),
        EndTime=now + dt.timedelta(hours=1),
        Period=7200,
        Statistics=[statistic],
    )["Datapoints"]
    return float(sum(one[statistic] for one in found)) if found else None


@pytest.mark.spec("J1")
def test_what_is_new_is_sent(section: dict[str, Any]) -> None:
    one = target(section)
    one.add("raylake_commits_total", 3, LABELS)
    one.set("raylake_lag_records", 7, LABELS)
    for duration_s in (0.5, 0.25, 0.5):
        one.observe("raylake_commit_seconds", duration_s, LABELS)
    one.push()
    one.add("raylake_commits_total", 2, LABELS)
    one.push()
    assert stored(section, "raylake_commits_total", "Sum", **LABELS) == 5
    assert stored(section, "raylake_lag_records", "Maximum", **LABELS) == 7
    assert stored(section, "raylake_commit_seconds", "Sum", **LABELS) == 1.25
    assert stored(section, "raylake_commit_seconds", "SampleCount", **LABELS) == 3


def test_what_did_not_arrive_is_sent_by_the_next_push(
    section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = target(section)
    one.add("raylake_commits_total", 3, LABELS)
    one.observe("raylake_commit_seconds", 0.5, LABELS)
    monkeypatch.setattr(
        one, "_section", CloudWatch.model_validate({**section, "endpoint": "http://127.0.0.1:9"})
    )
    with pytest.raises(DependencyUnreachable, match="cannot be sent to CloudWatch"):
        one.push()
    one.add("raylake_commits_total", 1, LABELS)
    monkeypatch.setattr(one, "_section", CloudWatch.model_validate(section))
    # A new key is taken up; a client stays as long as its keys.
    monkeypatch.setenv("CW_KEY", "rotated")
    one.push()
    assert stored(section, "raylake_commits_total", "Sum", **LABELS) == 4
    assert stored(section, "raylake_commit_seconds", "SampleCount", **LABELS) == 1


def test_what_cloudwatch_repeats_of_a_key_is_not_told(
    section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CW_TOKEN", "planted-token")
    with repeater() as place:
        one = target({**section, "endpoint": place.url, "session_token": "env:CW_TOKEN"})
        one.add("raylake_commits_total", 3, LABELS)
        with pytest.raises(DependencyUnreachable) as refused:
            one.push()
    assert set(place.values("x-amz-security-token")) == {"planted-token"}
    assert "SignatureDoesNotMatch" in refused.value.message
    assert "planted" not in f"{refused.value.message} {refused.value!r} {refused.value.__cause__}"


def test_more_series_than_one_request_takes(section: dict[str, Any]) -> None:
    one = target(section)
    for number in range(600):
        one.set("raylake_lag_records", number, {"pipeline": "shop", "table": f"t{number}"})
    for number in range(200):
        one.observe("raylake_commit_seconds", number / 8, LABELS)
    one.push()
    assert stored(section, "raylake_lag_records", "Sum", pipeline="shop", table="t599") == 599
    assert stored(section, "raylake_commit_seconds", "SampleCount", **LABELS) == 200


def test_a_key_or_a_region_that_is_not_there_is_told(
    section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CW_KEY")
    with pytest.raises(ConfigError, match="env:CW_KEY"):
        target(section).push()
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("CW_KEY", "secret")
    broken = target({**section, "access_key_id": "key\nbreak"})
    broken.set("raylake_lag_records", 7, LABELS)
    with pytest.raises(ConfigError, match="no header may have") as told:
        broken.push()
    assert "break" not in told.value.message
    without = {name: value for name, value in section.items() if name not in ("region", "endpoint")}
    with pytest.raises(ConfigError, match="region"):
        target(without).push()
