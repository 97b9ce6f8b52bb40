"""Metrics reach a push gateway over HTTP, with credentials; what it answers is told."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from raylake.config.observing import PushGateway
from raylake.errors import AccessDenied, ConfigError, DependencyUnreachable
from raylake.telemetry.prometheus import PrometheusMetrics
from raylake.telemetry.push_gateway import GatewayTarget
from tests.harness.gateway import Gateway, gateway
from tests.harness.repeater import repeater

GROUP = {"job": "raylake", "pipeline": "shop"}
LABELS = {"pipeline": "shop", "table": "bronze.orders"}
CLEAR = {"allow_password_without_tls": True}


@pytest.fixture
def place() -> Iterator[Gateway]:
    with gateway() as found:
        yield found


def target(url: str, metrics: PrometheusMetrics, **more: object) -> GatewayTarget:
    section = PushGateway.model_validate({"url": url, "timeout_s": 2.0, **more})
    return GatewayTarget(section, metrics.registry, "shop")


def pushed(place: Gateway, **more: object) -> PrometheusMetrics:
    metrics = PrometheusMetrics()
    metrics.add("raylake_commits_total", 3, LABELS)
    metrics.observe("raylake_commit_seconds", 0.3, LABELS)
    target(place.url, metrics, **more).push()
    return metrics


@pytest.mark.spec("J1")
def test_a_push_takes_the_place_of_the_one_before(place: Gateway) -> None:
    metrics = pushed(place)
    assert place.value(GROUP, "raylake_commits_total", **LABELS) == 3
    assert place.value(GROUP, "raylake_commit_seconds_bucket", **LABELS, le="0.5") == 1
    assert place.value(GROUP, "raylake_commit_seconds_bucket", **LABELS, le="0.25") == 0
    metrics.add("raylake_commits_total", 1, LABELS)
    target(place.url, metrics).push()
    assert place.value(GROUP, "raylake_commits_total", **LABELS) == 4
    assert (len(place.groups), place.pushes) == (1, 2)
    assert set(place.seen) == {""}
    target(place.url, PrometheusMetrics(), job="nightly/x").push()
    assert place.value({**GROUP, "job": "nightly/x"}, "raylake_commits_total", **LABELS) is None
    assert len(place.groups) == 2


def test_credentials_are_read_anew_at_each_push(
    place: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "token"
    place.authorization = "Bearer first"
    secret.write_text("first\n")
    metrics = PrometheusMetrics()
    one = target(place.url, metrics, token=f"file:{secret}", **CLEAR)
    one.push()
    place.authorization = "Bearer second"
    with pytest.raises(AccessDenied, match=r"401 .*who are you") as denied:
        one.push()
    assert "first" not in str(denied.value)
    secret.write_text("sec\nond\n")
    with pytest.raises(ConfigError, match="no header may have") as broken:
        one.push()
    assert "ond" not in broken.value.message
    secret.write_text("second\n")
    one.push()
    assert place.pushes == 2

    monkeypatch.setenv("GW_PASSWORD", "pass:word")
    both = base64.b64encode(b"me:pass:word").decode()
    place.authorization = f"Basic {both}"
    pushed(place, username="me", password="env:GW_PASSWORD", **CLEAR)
    monkeypatch.delenv("GW_PASSWORD")
    with pytest.raises(ConfigError, match="env:GW_PASSWORD"):
        pushed(place, username="me", password="env:GW_PASSWORD", **CLEAR)


def test_what_a_gateway_repeats_of_a_credential_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GW_TOKEN", "planted-token")
    monkeypatch.setenv("GW_PASSWORD", "planted-password")
    both = base64.b64encode(b"somebody:planted-password").decode()
    for known in (
        {"token": "env:GW_TOKEN"},
        {"username": "somebody", "password": "env:GW_PASSWORD"},
    ):
        with repeater() as place, pytest.raises(AccessDenied) as denied:
            target(place.url, PrometheusMetrics(), **known, **CLEAR).push()
        (header,) = place.values("authorization")
        assert header in ("Bearer planted-token", f"Basic {both}")
        assert "authorization: " in denied.value.message
        for secret in ("planted", both, both[:8]):
            assert secret not in f"{denied.value.message} {denied.value!r}"


def test_a_gateway_that_is_away_or_out_of_order_is_told(place: Gateway) -> None:
    place.status = 503
    with pytest.raises(
        DependencyUnreachable, match=r"does not take the metrics: 503 .*out of order"
    ):
        pushed(place)
    nobody = target("http://127.0.0.1:9", PrometheusMetrics())
    with pytest.raises(DependencyUnreachable, match=r"cannot be pushed to http://127\.0\.0\.1:9"):
        nobody.push()
    nowhere = target(f"http://{'a' * 64}:9", PrometheusMetrics())
    with pytest.raises(DependencyUnreachable, match="cannot be pushed"):
        nowhere.push()


def test_a_certificate_of_an_authority_that_is_not_ours_is_refused(
    place: Gateway, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="cannot be read"):
        target("https://127.0.0.1:9", PrometheusMetrics(), ca=str(authority)).push()
    trusted = ssl.get_default_verify_paths().cafile
    assert trusted
    authority.write_bytes(Path(trusted).read_bytes())
    # The port speaks no TLS at all.
    plain = place.url.replace("http:", "https:")
    with pytest.raises(DependencyUnreachable, match="cannot be pushed"):
        target(plain, PrometheusMetrics(), ca=str(authority)).push()
