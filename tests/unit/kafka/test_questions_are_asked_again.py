"""A question that the cluster cannot answer yet is asked again by `retry.broker`, in its time."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import errors as kafka_errors

from raylake.clock import ManualClock
from raylake.errors import DependencyUnreachable, Terminal, UnknownTopic
from raylake.ingest.retry import RetryPolicy
from raylake.kafka import client, connection
from raylake.kafka.client import Cluster


class Admin:
    """Fails as often as it is told, then knows two topics."""

    errors: list[type[kafka_errors.KafkaError]]
    asked: int

    def __init__(self, **_settings: Any) -> None:
        """Connects to nobody."""

    def describe_topics(self) -> list[dict[str, Any]]:
        Admin.asked += 1
        if Admin.errors:
            raise Admin.errors.pop(0)("not now")
        named = {"topic_id": "id", "error_code": 0, "is_internal": False, "partitions": []}
        return [{**named, "name": name} for name in ("a", "b")]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr(client, "SystemClock", lambda: clock)
    monkeypatch.setattr(client, "KafkaAdminClient", Admin)
    monkeypatch.setattr(Cluster, "_advertised", lambda _self: [])
    monkeypatch.setattr(connection, "_probe", lambda _address: "refused")
    Admin.asked = 0
    return clock


def asking(policy: RetryPolicy) -> Cluster:
    return Cluster("localhost:9092", None, 10.0, policy)


def test_passing_errors_are_asked_again_and_counted(clock: ManualClock) -> None:
    Admin.errors = [kafka_errors.LeaderNotAvailableError, kafka_errors.KafkaConnectionError]
    cluster = asking(RetryPolicy("fixed", 5, 1.0, 1.0))
    assert sorted(cluster.topics(pattern=".*")) == ["a", "b"]
    assert clock.monotonic() == 2.0
    count = cluster.retries.of("broker")
    assert (count.retries, count.recovered, count.exhausted) == (2, 1, 0)


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (RetryPolicy("none"), 1),
        (RetryPolicy("fixed", 3, 1.0, 1.0), 3),
        (RetryPolicy("fixed", 99, 3.0, 3.0), 4),
    ],
    ids=["none", "attempts", "connect_timeout"],
)
def test_attempts_and_connect_timeout_bound_it(
    clock: ManualClock, policy: RetryPolicy, asked: int
) -> None:
    Admin.errors = [kafka_errors.LeaderNotAvailableError] * 100
    cluster = asking(policy)
    with pytest.raises(DependencyUnreachable, match="no Kafka broker could be reached"):
        cluster.topics(pattern=".*")
    assert Admin.asked == asked
    assert clock.monotonic() < 10.0
    assert cluster.retries.of("broker").exhausted == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (kafka_errors.TopicAuthorizationFailedError, Terminal),
        (kafka_errors.UnknownTopicOrPartitionError, UnknownTopic),
    ],
)
def test_what_time_cannot_heal_is_not_asked_again(
    clock: ManualClock, error: type[kafka_errors.KafkaError], told: type[Exception]
) -> None:
    Admin.errors = [error]
    with pytest.raises(told):
        asking(RetryPolicy()).topics(pattern=".*")
    assert (Admin.asked, clock.monotonic()) == (1, 0.0)
