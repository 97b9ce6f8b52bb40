"""The sections ``metrics`` and ``tracing``: what fits together, and what is told otherwise."""

from __future__ import annotations

import pytest

from raylake.config import Pipeline, SecretRef, load_bytes
from raylake.errors import ConfigError

START = """
pipeline: shop
lake: /lake
kafka: {bootstrap: 'localhost:9092'}
bronze: {orders: {topics: [orders]}}
"""


def loaded(text: str) -> Pipeline:
    return load_bytes((START + text).encode(), path="/p.yaml", environ={}).config


def test_nothing_is_sent_by_default() -> None:
    config = loaded("")
    assert config.metrics.push_gateway is config.metrics.cloudwatch is None
    assert (config.tracing.enabled, config.tracing.links) == (None, 16)


def test_the_keys_are_read_with_their_units() -> None:
    config = loaded(
        "metrics:\n"
        "  push_gateway: {url: 'https://gw:9091', interval: 30s, timeout: 500ms, token: 'env:GW'}\n"
        "  cloudwatch: {namespace: Shop/Lake, access_key_id: K, secret_access_key: 'file:/k'}\n"
        "tracing: {enabled: true, links: 4}\n"
    )
    gateway, cloudwatch = config.metrics.push_gateway, config.metrics.cloudwatch
    assert gateway is not None
    assert cloudwatch is not None
    assert (gateway.interval_s, gateway.timeout_s, gateway.job) == (30.0, 0.5, "raylake")
    assert gateway.token == SecretRef("env", "GW")
    assert (cloudwatch.namespace, cloudwatch.access_key_id) == ("Shop/Lake", "K")
    assert cloudwatch.interval_s == 60.0
    assert (config.tracing.enabled, config.tracing.links) == (True, 4)


TWO_WAYS = "{url: 'https://gw', token: 'env:T', username: me, password: 'env:P'}"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("metrics: {push_gateway: {url: 'gw:9091'}}", "is not a URL"),
        ("metrics: {push_gateway: {url: 'https://me:pw@gw'}}", "holds no credentials"),
        ("metrics: {push_gateway: {url: 'https://gw', username: me}}", "both: username and"),
        (
            "metrics: {push_gateway: {url: 'http://gw', username: me, password: 'env:P'}}",
            "without TLS",
        ),
        ("metrics: {push_gateway: {url: 'http://gw', token: 'env:T'}}", "without TLS"),
        (f"metrics: {{push_gateway: {TWO_WAYS}}}", "takes the place"),
        ("metrics: {push_gateway: {url: 'https://gw', token: hunter2}}", "is a reference"),
        ("metrics: {push_gateway: {url: 'http://gw', ca: /ca.pem}}", "ca has no effect"),
        ("metrics: {push_gateway: {url: 'https://gw', interval: 30}}", "needs a unit"),
        ("metrics: {cloudwatch: {namespace: AWS/Lake}}", "is not a namespace"),
        ("metrics: {cloudwatch: {access_key_id: K}}", "a key is both"),
        ("metrics: {pushgateway: {url: 'https://gw'}}", "push_gateway"),
        ("tracing: {enabled: perhaps}", "perhaps"),
        ("tracing: {links: 0}", "1"),
    ],
)
def test_what_does_not_fit_is_told_at_its_place(section: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(section)
    assert said in str(caught.value)
    assert "p.yaml:6:" in str(caught.value)
    assert "hunter2" not in str(caught.value.context)


def test_credentials_may_cross_the_network_in_clear_when_it_is_said_by_name() -> None:
    text = "{url: 'http://gw', token: 'env:T', allow_password_without_tls: true}"
    assert loaded(f"metrics: {{push_gateway: {text}}}").metrics.push_gateway is not None
