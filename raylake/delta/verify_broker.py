"""The ``broker`` level: the ledger against what the cluster says now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from raylake.delta.verify_model import NOTICE, Finding, FindingList, PartitionAccount
from raylake.errors import UnknownTopic
from raylake.ingest.unit import SourcePartition


class TopicFacts(Protocol):
    """One incarnation of a topic, as :class:`raylake.kafka.client.TopicInfo`."""

    @property
    def topic_id(self) -> str:
        """The topic's id."""
        ...

    @property
    def partitions(self) -> Mapping[int, int]:
        """Leader epoch of each partition."""
        ...


class BrokerLookup(Protocol):
    """What is asked of a cluster; :class:`raylake.kafka.client.Cluster` answers it."""

    def topics(self, names: Sequence[str]) -> Mapping[str, TopicFacts]:
        """The topics of these names.

        Raises:
            UnknownTopic: One does not exist.
        """
        ...

    def earliest(self, sources: Iterable[SourcePartition]) -> Mapping[SourcePartition, int]:
        """The first offset that each partition still has."""
        ...

    def latest(self, sources: Iterable[SourcePartition]) -> Mapping[SourcePartition, int]:
        """The end of what ``read_committed`` can reach."""
        ...


def check_broker(
    partitions: Sequence[PartitionAccount], broker: BrokerLookup, findings: FindingList
) -> dict[str, object]:
    """Compare topic ids, first offsets and ends with the ledger.

    Older incarnations of a topic are compared with nothing as long as the newest one, by the
    broker, is in the ledger too.

    Returns:
        What was asked: topics, partitions, and the offsets between ledger and end (``behind``).

    Raises:
        DependencyUnreachable: No broker answers.
    """
    current: list[PartitionAccount] = []
    names = sorted({one.source.topic for one in partitions})
    for name in names:
        of_topic = [one for one in partitions if one.source.topic == name]
        current += _current(name, of_topic, broker, findings)
    sources = [one.source for one in current]
    earliest, latest = broker.earliest(sources), broker.latest(sources)
    behind = 0
    for one in current:
        end, start = latest[one.source], earliest[one.source]
        behind += max(0, end - one.next)
        where = str(one.source)
        if one.next > end:
            hint = (
                "the topic was truncated or another cluster answers; do not resume before you know"
            )
            expected = f"an end of at least {one.next}, the ledger's next"
            findings.add(Finding("beyond_end", where, expected, f"end {end}", hint))
        if one.next < start:
            gone = f"first offset {start}: {start - one.next} offsets are gone"
            hint = "`on_data_loss: record` counts them as lost; raise the topic's retention"
            findings.add(Finding("expired", where, f"offset {one.next}, the next", gone, hint))
    return {"topics": names, "partitions": len(current), "behind": behind}


def _current(
    name: str, known: list[PartitionAccount], broker: BrokerLookup, findings: FindingList
) -> list[PartitionAccount]:
    try:
        facts = broker.topics([name])[name]
    except UnknownTopic as error:
        hint = "was it deleted, or is this another cluster?"
        findings.add(Finding("topic_missing", name, "the topic", error.message, hint))
        return []
    current = [one for one in known if one.source.topic_id == facts.topic_id]
    if not current:
        ids = ", ".join(sorted({one.source.topic_id for one in known}))
        hint = (
            "it was deleted and created again; `on_topic_recreated: start` begins the new one at 0"
        )
        where = f"topic {name}"
        findings.add(Finding("topic_recreated", where, f"id {ids}", f"id {facts.topic_id}", hint))
        return []
    there = [one for one in current if one.source.partition in facts.partitions]
    for one in current:
        if one not in there:
            where = str(one.source)
            findings.add(Finding("topic_missing", where, "the partition", "no such partition"))
    for number in sorted(set(facts.partitions) - {one.source.partition for one in current}):
        findings.add(
            Finding(
                "not_admitted",
                f"{name}[{number}]",
                "a partition of the ledger",
                "none as yet",
                "the pipeline admits it at its next metadata refresh",
                NOTICE,
            )
        )
    return there
