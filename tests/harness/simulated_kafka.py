"""A Kafka in memory: logs that grow, have gaps and lose their head, and their fetcher."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from raylake.errors import DependencyUnreachable, TopicRecreated
from raylake.ingest.unit import SourcePartition
from raylake.kafka.port import FetchedBatch, Lag, Position
from raylake.kafka.silence import offsets_lost

GOOD, WIDER, DEAD, ABSENT = "good", "wider", "dead", "absent"
RECORDS = pa.schema([("offset", pa.int64()), ("kind", pa.string())])


@dataclass
class PartitionLog:
    """One partition: a kind for each offset; what lies before ``start`` is gone.

    Attributes:
        kinds: ``good``; ``wider`` (a row that needs a column more); ``dead``; ``absent`` (a control
            record, an aborted or a compacted one).
        start: The first offset that is still there.
        stable: The last stable offset; an open transaction keeps it behind the end.
    """

    kinds: list[str] = field(default_factory=list)
    start: int = 0
    stable: int = 0


@dataclass
class SimulatedKafka:
    """Topics by name, each with an id and its partitions."""

    ids: dict[str, str] = field(default_factory=dict)
    logs: dict[SourcePartition, PartitionLog] = field(default_factory=dict)
    down: bool = False

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic, or create it again under another id."""
        self.ids[topic] = f"{topic}-id-{len([s for s in self.logs if s.topic == topic])}"
        self.grow(topic, partitions)

    def grow(self, topic: str, partitions: int) -> None:
        """Add partitions."""
        first = len(self.sources(topic))
        for number in range(first, first + partitions):
            self.logs[SourcePartition(topic, self.ids[topic], number)] = PartitionLog()

    def sources(self, topic: str) -> list[SourcePartition]:
        """The topic's partitions, of its present incarnation."""
        return sorted(s for s in self.logs if s.topic == topic and s.topic_id == self.ids[topic])

    def now(self, source: SourcePartition) -> PartitionLog:
        """What a client that asks by name reads: perhaps another topic of that name."""
        return self.logs[replace(source, topic_id=self.ids[source.topic])]

    def produce(
        self, source: SourcePartition, kinds: Iterable[str], *, commit: bool = True
    ) -> None:
        """Append records; those of an open transaction are stable later."""
        log = self.logs[source]
        log.kinds += kinds
        if commit:
            log.stable = len(log.kinds)

    def reachable(self) -> None:
        """Raise as a client does when no broker answers."""
        if self.down:
            raise DependencyUnreachable("no broker answers")


class SimulatedFetcher:
    """``Fetcher`` over a :class:`SimulatedKafka`; batch cuts come from a random source."""

    def __init__(self, kafka: SimulatedKafka, rng: random.Random, most: int = 6) -> None:
        self.closed = False
        self._kafka = kafka
        self._rng = rng
        self._most = most
        self._positions: dict[SourcePartition, Position] = {}
        self._still: set[SourcePartition] = set()
        self._paused: set[SourcePartition] = set()

    def assign(self, positions: Mapping[SourcePartition, Position]) -> None:
        names = {(source.topic, source.partition) for source in positions}
        assert len(names) == len(positions), "two incarnations of one partition"
        self._positions = dict(positions)
        self._still.clear()
        self._paused.clear()

    def seek(self, source: SourcePartition, position: Position) -> None:
        assert source in self._positions, f"{source} is not assigned"
        self._positions[source] = position
        self._still.discard(source)

    def pause(self, sources: Iterable[SourcePartition]) -> None:
        for source in sources:
            assert source in self._positions, f"{source} is not assigned"
            self._paused.add(source)

    def resume(self, sources: Iterable[SourcePartition]) -> None:
        for source in sources:
            assert source in self._positions, f"{source} is not assigned"
            self._paused.discard(source)

    def fetch(self, timeout_s: float) -> list[FetchedBatch]:
        self._kafka.reachable()
        found = []
        read = sorted(self._positions.keys() - self._paused - self._still)
        for source in read:
            log, at = self._kafka.now(source), self._positions[source].offset
            if at < log.start or at > len(log.kinds):
                self.check_topics()
                self._still.add(source)
                raise offsets_lost(source, at, log.start, len(log.kinds), None)
        for source in read:
            log, at = self._kafka.now(source), self._positions[source].offset
            end = min(log.stable, at + self._rng.randint(1, self._most))
            if end > at:
                found.append(batch(source, at, end, log.kinds[at:end]))
                self._positions[source] = Position(end, 0)
        return found

    def positions(self) -> dict[SourcePartition, Position]:
        return dict(self._positions)

    def lag(self, sources: Iterable[SourcePartition]) -> dict[SourcePartition, Lag]:
        logs = {s: self._kafka.now(s) for s in sources}
        at = self._positions
        return {s: Lag(len(one.kinds), one.stable, at[s].offset) for s, one in logs.items()}

    def check_topics(self) -> None:
        self._kafka.reachable()
        for source in self._positions:
            now = self._kafka.ids[source.topic]
            if now != source.topic_id:
                raise TopicRecreated(
                    f"{source.topic} was created again",
                    topic=source.topic,
                    was=source.topic_id,
                    now=now,
                )

    def close(self) -> None:
        self.closed = True


def batch(source: SourcePartition, start: int, end: int, kinds: list[str]) -> FetchedBatch:
    """Records of ``[start, end)``, the absent ones left out."""
    there = [(start + n, kind) for n, kind in enumerate(kinds) if kind != ABSENT]
    records = pa.record_batch(
        [
            pa.array([offset for offset, _ in there], pa.int64()),
            pa.array([kind for _, kind in there], pa.string()),
        ],
        schema=RECORDS,
    )
    return FetchedBatch(source, start, end, records, 0, 64 * len(there))
