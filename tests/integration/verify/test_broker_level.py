"""The ``broker`` level against a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import TopicPartition

from raylake.delta.verify import VerifyReport, verify
from raylake.kafka.client import Cluster
from tests.harness.broker import LiveBroker
from tests.integration.verify.lake import PIPELINE, Lake, Span

pytestmark = pytest.mark.spec("A3")


@pytest.fixture
def cluster(broker: LiveBroker) -> Iterator[Cluster]:
    with Cluster(broker.bootstrap) as found:
        yield found


@pytest.fixture
def topic(broker: LiveBroker) -> str:
    name = broker.create_topic("verify", partitions=2)
    produce(broker, name, 50)
    return name


def produce(broker: LiveBroker, topic: str, count: int) -> None:
    producer = broker.producer()
    for number in range(count):
        producer.send(topic, b"{}", partition=0, key=str(number).encode())
    producer.flush()
    producer.close()


@pytest.fixture
def lake(tmp_path: Path, cluster: Cluster, topic: str) -> Lake:
    """The first 40 of 50 offsets are in the table."""
    found = Lake(tmp_path)
    identity = cluster.topics([topic])[topic].topic_id
    found.admit(Span(0, 0, 0, topic=topic, topic_id=identity))
    found.ingest(Span(0, 0, 40, frozenset({4}), topic=topic, topic_id=identity))
    return found


def asked(lake: Lake, cluster: Cluster, level: str = "all") -> VerifyReport:
    return verify(str(lake.table), str(lake.letters), PIPELINE, level, cluster)


def kinds(report: VerifyReport) -> list[str]:
    return [f.kind for f in report.findings if f.is_difference]


def test_undamaged_table_is_ok_at_all_levels_before_and_after_upkeep(
    lake: Lake, cluster: Cluster
) -> None:
    for _ in range(2):
        report = asked(lake, cluster)
        assert report.ok, report.findings
        assert report.relied_on["broker"]["behind"] == 10
        # Partition 1 was never admitted: said, and harmless.
        assert "not_admitted" in {f.kind for f in report.findings}
        lake.maintain()


def test_10_a_topic_created_again(
    lake: Lake, cluster: Cluster, broker: LiveBroker, topic: str
) -> None:
    before = cluster.topics([topic])[topic].topic_id
    broker.admin.delete_topics([topic])
    broker.create_named_topic(topic, 2)
    produce(broker, topic, 60)
    report = asked(lake, cluster, "broker")
    (finding,) = (f for f in report.findings if f.is_difference)
    assert finding.kind == "topic_recreated"
    assert before in finding.expected
    assert cluster.topics([topic])[topic].topic_id in finding.found
    assert lake.verify("data").ok


def test_a_topic_deleted(lake: Lake, cluster: Cluster, broker: LiveBroker, topic: str) -> None:
    broker.admin.delete_topics([topic])
    assert kinds(asked(lake, cluster, "broker")) == ["topic_missing"]


def test_offsets_that_the_broker_deleted_before_they_were_read(
    lake: Lake, cluster: Cluster, broker: LiveBroker, topic: str
) -> None:
    broker.admin.delete_records({TopicPartition(topic, 0): 45})
    report = asked(lake, cluster, "broker")
    assert kinds(report) == ["expired"]
    assert "5 offsets are gone" in report.findings[0].found + report.findings[-1].found


def test_a_ledger_ahead_of_the_broker(lake: Lake, cluster: Cluster, topic: str) -> None:
    identity = cluster.topics([topic])[topic].topic_id
    lake.ingest(Span(0, 40, 70, topic=topic, topic_id=identity))
    assert lake.verify("data").ok
    assert kinds(asked(lake, cluster, "broker")) == ["beyond_end"]
