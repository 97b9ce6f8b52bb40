"""What a cluster tells: topics and ids, offsets, groups."""

from __future__ import annotations

import time
import uuid

import pytest

from raylake.errors import ConfigError, UnknownTopic
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster
from tests.harness.broker import LiveBroker


def test_topics_have_ids_and_leader_epochs(broker: LiveBroker) -> None:
    topic = broker.create_topic(partitions=3)
    with Cluster(broker.bootstrap) as cluster:
        info = cluster.topics([topic])[topic]
        assert str(uuid.UUID(info.topic_id)) == info.topic_id
        assert sorted(info.partitions) == [0, 1, 2]
        assert all(epoch >= 0 for epoch in info.partitions.values())
        assert info.sources()[2] == SourcePartition(topic, info.topic_id, 2)


def test_a_pattern_matches_whole_names_and_no_internal_topic(broker: LiveBroker) -> None:
    mark = uuid.uuid4().hex[:8]
    for name in (f"orders.{mark}.eu", f"orders.{mark}.us", f"x.orders.{mark}.eu"):
        broker.create_named_topic(name)
    with Cluster(broker.bootstrap) as cluster:
        found = cluster.topics(pattern=rf"orders\.{mark}\..*")
        assert sorted(found) == [f"orders.{mark}.eu", f"orders.{mark}.us"]
        assert not any(name.startswith("__") for name in cluster.topics(pattern=".*"))
        assert cluster.topics(pattern=f"none-{mark}") == {}
        with pytest.raises(ConfigError, match="pattern"):
            cluster.topics(pattern="(")


def test_an_unknown_topic_comes_with_a_suggestion(broker: LiveBroker) -> None:
    topic = broker.create_topic(prefix="payments")
    with Cluster(broker.bootstrap) as cluster:
        with pytest.raises(UnknownTopic) as caught:
            cluster.topics([topic[:-1]])
        # The nearest first; other tests' topics may be near, too.
        assert caught.value.hint.startswith(f"did you mean {topic!r}")
        assert caught.value.exit_code == 2
        lost = SourcePartition(topic[:-1], str(uuid.uuid4()), 0)
        with pytest.raises(UnknownTopic):
            cluster.earliest([lost])


@pytest.mark.spec("A7")
def test_offsets_by_place_and_by_time(broker: LiveBroker) -> None:
    topic = broker.create_topic(partitions=2)
    now_ms = int(time.time() * 1000)
    producer = broker.producer()
    for n in range(10):
        producer.send(topic, value=b"x", partition=0, timestamp_ms=now_ms - 10_000 + n * 1000)
    producer.close()
    with Cluster(broker.bootstrap) as cluster:
        first, second = cluster.topics([topic])[topic].sources()
        both = [first, second]
        assert cluster.earliest(both) == {first: 0, second: 0}
        assert cluster.latest(both) == {first: 10, second: 0}
        assert cluster.at_timestamp(both, now_ms - 10_000 + 3500) == {first: 4, second: 0}
        assert cluster.at_timestamp(both, now_ms + 60_000) == {first: 10, second: 0}
        with pytest.raises(ConfigError, match="1970"):
            cluster.at_timestamp(both, -1)
        assert cluster.latest([]) == {}


@pytest.mark.spec("A7")
def test_group_offsets_are_read_and_written(broker: LiveBroker) -> None:
    topic = broker.create_topic(partitions=2)
    group = f"g-{uuid.uuid4().hex[:8]}"
    with Cluster(broker.bootstrap) as cluster:
        first, second = cluster.topics([topic])[topic].sources()
        assert cluster.group([first, second], group) == {}
        cluster.commit_group(group, {first: 7})
        assert cluster.group([first, second], group) == {first: 7}
