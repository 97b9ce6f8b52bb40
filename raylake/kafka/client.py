"""Facts about a cluster: topics and their ids, offsets, consumer groups."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, OffsetSpec
from kafka.protocol.consumer import IsolationLevel

from raylake.clock import Deadline, SystemClock
from raylake.errors import ConfigError, Retryable, TopicRecreated, UnknownTopic
from raylake.ingest.retry import Retrier, RetryCounters, RetryPolicy
from raylake.ingest.unit import SourcePartition
from raylake.kafka.connection import Connection, explain, is_transient
from raylake.kafka.groups import group_members

_T = TypeVar("_T")
BRIEFLY = RetryPolicy("fixed", attempts=1000, initial_s=0.1, max_s=0.1)
"""For those who ask at a prompt: again and again within ``connect_timeout_s``."""
_CLEANUP_POLICY = "cleanup.policy"
_UNKNOWN_TOPIC = kafka_errors.UnknownTopicOrPartitionError.errno


class _Passing(Retryable):
    """The cluster cannot answer yet; never leaves this module."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One incarnation of a topic.

    Attributes:
        topic: Its name.
        topic_id: Its id (a UUID in text); another one after the topic was created again.
        partitions: Leader epoch of each partition, -1 when unknown.
    """

    topic: str
    topic_id: str
    partitions: Mapping[int, int]

    def sources(self) -> list[SourcePartition]:
        """Its partitions, in order."""
        return [SourcePartition(self.topic, self.topic_id, p) for p in sorted(self.partitions)]


class Cluster:
    """A connection that asks a cluster for facts; made at the first question.

    Every method raises :class:`DependencyUnreachable` when no broker answers within
    ``connect_timeout_s`` (and tells an unreachable bootstrap address from an unreachable advertised
    one), and :class:`Terminal` when the user may not do what was asked.

    Args:
        bootstrap: ``host:port``, several separated by commas.
        security: The pipeline file's ``kafka.security``.
        connect_timeout_s: How long one question may take, asked again included.
        retry: How a question that the cluster cannot answer yet is asked again.
    """

    def __init__(
        self,
        bootstrap: str,
        security: Any = None,
        connect_timeout_s: float = 10.0,
        retry: RetryPolicy = BRIEFLY,
    ) -> None:
        self._connection = Connection(bootstrap, security, connect_timeout_s)
        self._clock = SystemClock()
        self._retrier = Retrier("broker", retry, self._clock, only=_Passing)
        self._admin: KafkaAdminClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def topics(
        self, names: Sequence[str] = (), *, pattern: str | None = None
    ) -> dict[str, TopicInfo]:
        """The topics with these names, or those whose whole name matches ``pattern``.

        Args:
            names: Topics that must exist.
            pattern: A regular expression; internal topics never match. No match is an empty answer.

        Raises:
            UnknownTopic: A name does not exist; the message suggests near ones.
            ConfigError: The pattern is not a regular expression, or a name cannot be a topic's.
        """
        if pattern is not None:
            try:
                matcher = re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"topic pattern {pattern!r}: {error}") from error
            everything = self._ask("listing topics", lambda a: a.describe_topics())
            chosen = [
                t for t in everything if not t["is_internal"] and matcher.fullmatch(t["name"])
            ]
        else:
            if not names:
                return {}
            chosen = self.described(names)
            missing = [t["name"] for t in chosen if t["error_code"] == _UNKNOWN_TOPIC]
            if missing:
                existing = self._ask("listing topics", lambda admin: admin.list_topics())
                raise _unknown(missing, existing, self._connection.bootstrap)
        return {t["name"]: _topic_info(t) for t in sorted(chosen, key=lambda t: str(t["name"]))}

    def described(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """What the metadata says of these topics, in kafka-python's words; see :meth:`topics`."""
        wanted = list(dict.fromkeys(names))
        return self._ask(f"describing {wanted}", lambda a: _described(a, wanted))

    def cleanup_policies(self, names: Sequence[str]) -> dict[str, str | None]:
        """``cleanup.policy`` of each topic; None where the cluster does not tell this user.

        It is told to who has DescribeConfigs on the topic, which nothing else here needs.
        """
        wanted = sorted(set(names))
        asked = [ConfigResource("TOPIC", name, [_CLEANUP_POLICY]) for name in wanted]
        told = self._ask(
            f"asking how {wanted} are cleaned up",
            # kafka-python leaves out what was refused, without a word.
            lambda admin: admin.describe_configs(asked, config_filter="all") if asked else {},
        ).get("topic", {})
        return {name: told.get(name, {}).get(_CLEANUP_POLICY, {}).get("value") for name in wanted}

    def brokers(self) -> list[tuple[str, int]]:
        """The addresses that the cluster's metadata sends its clients to."""
        found = self._ask("listing brokers", lambda a: a.describe_cluster())["brokers"]
        return [(str(broker["host"]), int(broker["port"])) for broker in found]

    def check(self, sources: Iterable[SourcePartition]) -> None:
        """Check that each partition's topic is still the same incarnation.

        Raises:
            UnknownTopic: A topic was deleted.
            TopicRecreated: A topic was deleted and created again under its name.
        """
        wanted = {source.topic: source.topic_id for source in sources}
        for topic, info in self.topics(sorted(wanted)).items():
            if info.topic_id != wanted[topic]:
                raise TopicRecreated(
                    f"topic {topic!r} was deleted and created again: its id was {wanted[topic]}"
                    f" and is {info.topic_id}",
                    hint="nothing was read from the new one; `on_topic_recreated: start` begins it"
                    " at its first offset",
                    topic=topic,
                    was=wanted[topic],
                    now=info.topic_id,
                )

    def earliest(self, sources: Iterable[SourcePartition]) -> dict[SourcePartition, int]:
        """The first offset that each partition still has (its log start offset)."""
        return self._offsets(sources, OffsetSpec.EARLIEST, committed=False)

    def latest(
        self, sources: Iterable[SourcePartition], *, committed: bool = True
    ) -> dict[SourcePartition, int]:
        """The end of each partition.

        Args:
            sources: The partitions.
            committed: The last stable offset, the end of what ``read_committed`` can reach now; an
                open transaction holds it back. Otherwise the high watermark.
        """
        return self._offsets(sources, OffsetSpec.LATEST, committed=committed)

    def at_timestamp(
        self, sources: Iterable[SourcePartition], timestamp_ms: int
    ) -> dict[SourcePartition, int]:
        """The first offset whose record is not older than ``timestamp_ms``, else the end.

        Args:
            sources: The partitions.
            timestamp_ms: Milliseconds since the epoch.

        Raises:
            ConfigError: The time is before 1970.
        """
        if timestamp_ms < 0:
            raise ConfigError(f"a start timestamp of {timestamp_ms} ms is before 1970")
        wanted = list(sources)
        found = self._offsets(wanted, timestamp_ms, committed=True)
        beyond = [source for source in wanted if found[source] < 0]
        return {**found, **self.latest(beyond)}

    def group(
        self, sources: Iterable[SourcePartition], group_id: str
    ) -> dict[SourcePartition, int]:
        """The offsets that a consumer group has committed; partitions without one are left out."""
        wanted = {TopicPartition(s.topic, s.partition): s for s in sources}
        if not wanted:
            return {}
        answer = self._ask(
            f"reading the offsets of group {group_id!r}",
            lambda admin: admin.list_group_offsets({group_id: list(wanted)})[group_id],
        )
        return {wanted[tp]: found.offset for tp, found in answer.items() if found.offset >= 0}

    def group_members(self, group_id: str) -> int:
        """At least so many members a consumer group has now; 0 for one that does not exist."""
        return self._ask(
            f"describing group {group_id!r}", lambda admin: group_members(admin, group_id)
        )

    def commit_group(self, group_id: str, offsets: Mapping[SourcePartition, int]) -> None:
        """Write a group's offsets, for tools that read them; the ledger never does (I2).

        Raises:
            Retryable: The group has active members, or the coordinator refused; nothing or a part
                was written.
        """
        wanted = {
            TopicPartition(s.topic, s.partition): OffsetAndMetadata(offset, "", -1)
            for s, offset in offsets.items()
        }

        def alter(admin: KafkaAdminClient) -> None:
            for tp, outcome in admin.alter_group_offsets(group_id, wanted).items():
                if outcome is not kafka_errors.NoError:
                    raise outcome(f"group {group_id!r}, {tp.topic}[{tp.partition}]")

        self._ask(f"committing the offsets of group {group_id!r}", alter)

    @property
    def retries(self) -> RetryCounters:
        """Counts questions that were asked again."""
        return self._retrier.counters

    def close(self) -> None:
        """Close the connection; the next question makes a new one."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _offsets(
        self, sources: Iterable[SourcePartition], spec: Any, *, committed: bool
    ) -> dict[SourcePartition, int]:
        wanted = {TopicPartition(s.topic, s.partition): s for s in sources}
        if not wanted:
            return {}
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        try:
            answer = self._ask(
                "listing offsets",
                lambda admin: admin.list_partition_offsets(
                    dict.fromkeys(wanted, spec), isolation_level=level
                ),
            )
        except UnknownTopic:
            self.topics(sorted({s.topic for s in wanted.values()}))
            raise
        return {wanted[tp]: int(found.offset) for tp, found in answer.items()}

    def _ask(self, what: str, question: Callable[[KafkaAdminClient], _T]) -> _T:
        deadline = Deadline.after(self._connection.connect_timeout_s, self._clock)
        try:
            return self._retrier.call(lambda: self._ask_once(question), deadline=deadline)
        except kafka_errors.UnknownTopicOrPartitionError as error:
            raise UnknownTopic(f"unknown topic or partition while {what}: {error}") from error
        except (_Passing, kafka_errors.KafkaError) as error:
            advertised = self._advertised()
            self.close()
            cause = error.context["cause"] if isinstance(error, _Passing) else error
            raise explain(cause, self._connection, what, advertised) from cause
        except ConfigError:
            # A secret that cannot be read: kafka-python would keep the error for ever.
            self.close()
            raise

    def _ask_once(self, question: Callable[[KafkaAdminClient], _T]) -> _T:
        try:
            if self._admin is None:
                self._admin = KafkaAdminClient(**self._connection.settings())
            return question(self._admin)
        except kafka_errors.UnknownTopicOrPartitionError:
            raise
        except kafka_errors.KafkaError as error:
            if is_transient(error):
                raise _Passing(f"{type(error).__name__}: {error}", cause=error) from error
            raise

    def _advertised(self) -> list[tuple[str, int]]:
        if self._admin is None:
            return []
        return [(b.host, b.port) for b in self._admin._manager.cluster.brokers()]  # noqa: SLF001


def _unknown(missing: list[str], existing: Sequence[str], bootstrap: str) -> UnknownTopic:
    near = {name: difflib.get_close_matches(name, existing, n=3, cutoff=0.6) for name in missing}
    guesses = list(dict.fromkeys(guess for found in near.values() for guess in found))
    return UnknownTopic(
        f"unknown topic: {', '.join(repr(name) for name in missing)} (cluster {bootstrap})",
        hint=f"did you mean {', '.join(repr(guess) for guess in guesses)}?"
        if guesses
        else "create it, or check the name and the cluster",
        topics=missing,
        near=near,
    )


def _described(admin: KafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    described: list[dict[str, Any]] = admin.describe_topics(names)
    for topic in described:
        kind = kafka_errors.for_code(topic["error_code"])
        if kind is kafka_errors.InvalidTopicError:
            raise ConfigError(f"{topic['name']!r} cannot be a topic's name")
        if kind not in (kafka_errors.NoError, kafka_errors.UnknownTopicOrPartitionError):
            raise kind(topic["name"])
    return described


def _topic_info(topic: Mapping[str, Any]) -> TopicInfo:
    epochs = {
        int(p["partition_index"]): int(p.get("leader_epoch", -1)) for p in topic["partitions"]
    }
    return TopicInfo(str(topic["name"]), str(topic["topic_id"]), epochs)
