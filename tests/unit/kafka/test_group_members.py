"""How many read by a group, from the answers of a broker as kafka-python gives them."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import errors as kafka_errors

from raylake.clock import ManualClock
from raylake.errors import AccessDenied, DependencyUnreachable
from raylake.kafka import client
from raylake.kafka.client import Cluster


class Admin:
    """Answers with one description and a list of groups."""

    answers: list[dict[str, Any]]
    listed: list[dict[str, Any]]

    def __init__(self, **_settings: Any) -> None:
        """Connects to nobody."""

    def describe_groups(self, names: list[str]) -> dict[str, Any]:
        answer = Admin.answers.pop(0) if len(Admin.answers) > 1 else Admin.answers[0]
        return {names[0]: {"members": [], "group_state": "", "error": None, **answer}}

    def list_groups(self) -> list[dict[str, Any]]:
        return Admin.listed

    def close(self) -> None:
        """Nothing is open."""


def text(kind: type[kafka_errors.BrokerResponseError], message: str | None = None) -> str:
    """An error as kafka-python puts it into a description."""
    return str(kafka_errors.for_code(kind.errno)(message))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(client, "SystemClock", ManualClock)
    monkeypatch.setattr(client, "KafkaAdminClient", Admin)
    monkeypatch.setattr(Cluster, "_advertised", lambda _self: [])
    Admin.listed = []
    return Cluster("localhost:9092", None, 2.0)


LOADING = {"error": text(kafka_errors.CoordinatorLoadInProgressError)}
NOT_FOUND = {"group_state": "Dead", "error": text(kafka_errors.GroupIdNotFoundError, "no group")}


@pytest.mark.parametrize(
    ("answer", "listed", "members"),
    [
        ({"members": ["a", "b"], "group_state": "Stable"}, None, 2),
        ({"group_state": "Empty"}, "Stable", 0),
        ({"group_state": "Dead"}, None, 0),
        (NOT_FOUND, None, 0),
        (NOT_FOUND, "Empty", 0),
        (NOT_FOUND, "Stable", 1),
        (NOT_FOUND, "Reconciling", 1),
        ({"group_state": "Dead"}, "Stable", 1),
    ],
)
def test_members_are_counted_also_of_a_group_of_the_newer_protocol(
    cluster: Cluster, answer: dict[str, Any], listed: str | None, members: int
) -> None:
    Admin.answers = [answer]
    other = {"group_id": "other", "group_state": "Stable"}
    Admin.listed = [other, *([{"group_id": "etl", "group_state": listed}] if listed else [])]
    assert cluster.group_members("etl") == members


def test_a_group_that_may_not_be_described_is_not_one_without_members(cluster: Cluster) -> None:
    Admin.answers = [{"error": text(kafka_errors.GroupAuthorizationFailedError)}]
    with pytest.raises(AccessDenied, match="no right on group 'etl'") as caught:
        cluster.group_members("etl")
    assert "--operation Read --group 'etl'" in caught.value.hint


def test_a_coordinator_that_loads_is_asked_again_and_then_named(cluster: Cluster) -> None:
    Admin.answers = [LOADING, LOADING, {"members": ["a"], "group_state": "Stable"}]
    assert cluster.group_members("etl") == 1
    Admin.answers = [LOADING]
    with pytest.raises(DependencyUnreachable, match="coordinator was not ready within 2 s") as last:
        cluster.group_members("etl")
    assert "try again" in last.value.hint
