"""Where somebody else's ingestion stands: what ``raylake adopt`` takes over (I12)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raylake.config.bronze import FromOffsets
from raylake.delta.ingest_txns import read_ingest_txns
from raylake.delta.spark_checkpoint import read_spark_checkpoint
from raylake.errors import AlreadyRunning, ConfigError
from raylake.ingest.start_positions import Lookups, resolve
from raylake.ingest.unit import SourcePartition
from raylake.storage.place import Place

Ends = Mapping[str, Mapping[int, int]]
"""By topic and partition, the next offset to read."""


class Brokers(Lookups, Protocol):
    """What is asked of Kafka; ``raylake.kafka.client.Cluster`` answers."""

    def group_members(self, group_id: str) -> int:
        """At least so many members a group has now."""
        ...


@dataclass(frozen=True, slots=True)
class SparkCheckpoint:
    """A Spark Structured Streaming query, by its checkpoint.

    Attributes:
        folder: Its checkpointLocation.
        sink: The Delta table that it writes, where it is known.
    """

    folder: Place
    sink: Place | None = None


@dataclass(frozen=True, slots=True)
class ConsumerGroup:
    """A consumer group, by its committed offsets."""

    group: str


@dataclass(frozen=True, slots=True)
class DeltaIngest:
    """A kafka-delta-ingest job, by the txns of its table.

    Attributes:
        table: The table that it writes.
        app_id: Its app id; None where the table knows only one.
        topic: The topic that it reads; None where the table here takes only one.
    """

    table: Place
    app_id: str | None = None
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class GivenOffsets:
    """Offsets that somebody wrote down."""

    ends: Ends


Origin = SparkCheckpoint | ConsumerGroup | DeltaIngest | GivenOffsets


@dataclass(frozen=True, slots=True)
class ForeignPositions:
    """What is taken over.

    Attributes:
        ends: The next offset to read of each partition that it knows.
        note: Whose position it was; plain data.
        fresh: Those of the partitions that it would have begun at their first offset.
        ignored: Topics that it reads and the table does not take.
    """

    ends: Mapping[SourcePartition, int]
    note: Mapping[str, Any]
    fresh: tuple[SourcePartition, ...] = ()
    ignored: tuple[str, ...] = field(default=())

    @property
    def told(self) -> dict[SourcePartition, int]:
        """Without those that it had not read yet."""
        return {s: end for s, end in self.ends.items() if s not in self.fresh}


def foreign_positions(
    origin: Origin, sources: Collection[SourcePartition], brokers: Brokers
) -> ForeignPositions:
    """Where the partitions of a table are to be taken over; those that nobody tells are left out.

    Args:
        origin: Who has read them up to now.
        sources: The partitions that the table takes.
        brokers: Kafka.

    Raises:
        ConfigError: It is not what it is said to be, or of other topics.
        Refused: Its position cannot be told, or Kafka does not have it.
        AccessDenied: It is a group that this user may not see.
        AlreadyRunning: It still reads.
        DependencyUnreachable: No broker answers.
    """
    ends, note = _told(origin, sources, brokers)
    topics = {s.topic for s in sources}
    if not topics & set(ends):
        raise ConfigError(
            f"{describe(note)} stands in {_listed(ends)}; the table takes {_listed(topics)}",
            hint="is it the right one, and the right table?",
            found=sorted(ends),
            wanted=sorted(topics),
        )
    wanted = sorted(s for s in sources if s.topic in ends)
    _refuse_unknown(ends, wanted, note)
    unread = [s for s in wanted if s.partition not in ends[s.topic]]
    # Only of Spark it is known where it begins a partition that its position does not name.
    fresh = tuple(unread) if isinstance(origin, SparkCheckpoint) else ()
    taken = [s for s in wanted if s in fresh or s not in unread]
    kept = {t: of for t, of in ends.items() if t in topics}
    named = FromOffsets(offsets={t: dict(of) for t, of in kept.items()})
    return ForeignPositions(
        resolve(named, taken, brokers), note, fresh, tuple(sorted(set(ends) - topics))
    )


def describe(note: Mapping[str, Any]) -> str:
    """Whose position a note tells of, in some words."""
    match note["from"]:
        case "spark-checkpoint":
            return f"the query of {note['checkpoint']} (batch {note['batch']})"
        case "group":
            return f"consumer group {note['group']!r}"
        case "kafka-delta-ingest":
            return f"the kafka-delta-ingest job {note['app_id']!r} of {note['table']}"
        case _:
            return "what is given"


def _told(
    origin: Origin, sources: Collection[SourcePartition], brokers: Brokers
) -> tuple[Ends, dict[str, Any]]:
    match origin:
        case SparkCheckpoint():
            at = read_spark_checkpoint(origin.folder, origin.sink)
            note = {"checkpoint": str(origin.folder), "query_id": at.query_id, "batch": at.batch}
            return at.ends, {"from": "spark-checkpoint", **note}
        case ConsumerGroup(group=group):
            return _of_group(group, sorted(sources), brokers), {"from": "group", "group": group}
        case DeltaIngest():
            topic = _only_topic(origin, sources)
            job = read_ingest_txns(origin.table, origin.app_id)
            note = {"table": str(origin.table), "app_id": job.app_id}
            return {topic: job.ends}, {"from": "kafka-delta-ingest", **note}
        case GivenOffsets(ends=ends):
            return ends, {"from": "offsets"}


def _of_group(group: str, sources: Sequence[SourcePartition], brokers: Brokers) -> Ends:
    members = brokers.group_members(group)
    if members:
        raise AlreadyRunning(
            f"consumer group {group!r} has at least {members} member{'s' if members > 1 else ''}: "
            "it still reads, and would go on beside this table",
            hint="stop its consumers; they commit where they stand when they close",
            group=group,
            members=members,
        )
    ends: dict[str, dict[int, int]] = {}
    for source, offset in brokers.group(list(sources), group).items():
        if offset >= 0:
            ends.setdefault(source.topic, {})[source.partition] = offset
    if not ends:
        raise ConfigError(
            f"consumer group {group!r} has no committed offset for {_listed(map(str, sources))}",
            hint="is the group's name right? Groups lose their offsets when they are not used",
            group=group,
        )
    return ends


def _only_topic(origin: DeltaIngest, sources: Collection[SourcePartition]) -> str:
    topics = {s.topic for s in sources}
    if origin.topic is not None:
        return origin.topic
    if len(topics) != 1:
        raise ConfigError(
            f"the table takes {_listed(topics)}, and kafka-delta-ingest does not say which of them "
            "it reads",
            hint="name it by --with topic=…",
        )
    return next(iter(topics))


def _refuse_unknown(ends: Ends, wanted: Sequence[SourcePartition], note: Mapping[str, Any]) -> None:
    there = {(s.topic, s.partition) for s in wanted}
    topics = {s.topic for s in wanted}
    named = {(topic, p) for topic, of in ends.items() if topic in topics for p in of}
    unknown = [f"{topic}[{p}]" for topic, p in sorted(named - there)]
    if unknown:
        raise ConfigError(
            f"{describe(note)} names {_listed(unknown)}, which Kafka does not have",
            hint="is it of another topic or another cluster?",
            unknown=unknown,
        )


def _listed(names: Collection[str] | Any) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more
