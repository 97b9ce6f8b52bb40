"""A consumer's side towards Kafka: fetches under a breaker, knows which partitions stand still."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from raylake.errors import (
    OffsetsLost,
    OutcomeUnknown,
    RayLakeError,
    Refused,
    Retryable,
    TopicRecreated,
    UnknownTopic,
)
from raylake.ingest.retry import Dependency
from raylake.ingest.unit import SourcePartition
from raylake.kafka.port import FetchedBatch, Fetcher, Position

log = logging.getLogger(__name__)

FETCH_WAIT_S = 0.1


class TooManyDeadLetters(Refused):
    """Too large a share of a partition's records cannot be read (DESIGN §7)."""

    code = "too_many_dead_letters"


class HeldByHand(Refused):
    """A partition that somebody stopped until it is let go on."""

    code = "held_by_hand"


class Intake:
    """The partitions of one consumer. Not thread-safe.

    Args:
        fetcher: Reads Kafka.
        broker: The breaker of the broker, and the pace of tries.
        wanted: The next offset that a partition's tables want.
        lost: Takes a loss; false when the partition must stop instead.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        broker: Dependency,
        wanted: Callable[[SourcePartition], int],
        lost: Callable[[SourcePartition, OffsetsLost], bool],
    ) -> None:
        self.sources: set[SourcePartition] = set()
        self.stopped: dict[SourcePartition, RayLakeError] = {}
        self.poisoned: set[SourcePartition] = set()
        self.broker = broker
        self.error = ""
        self._fetcher = fetcher
        self._wanted = wanted
        self._lost = lost

    @property
    def readable(self) -> set[SourcePartition]:
        """The partitions that are read now."""
        return self.sources - self.stopped.keys()

    @property
    def other_topics(self) -> set[SourcePartition]:
        """The partitions whose topic is gone or another one: what is held may not be theirs."""
        kinds = (TopicRecreated, UnknownTopic)
        return {source for source, error in self.stopped.items() if isinstance(error, kinds)}

    @property
    def stopped_for_good(self) -> set[SourcePartition]:
        """The partitions that are not read until they are granted again."""
        return self.stopped.keys() - self.poisoned

    def add(
        self, sources: Iterable[SourcePartition], leader_epochs: Mapping[SourcePartition, int]
    ) -> None:
        """Read these partitions from where their tables stand, beside those that are read.

        Those of an earlier topic of the same name are stopped: Kafka is read by name.
        """
        added = set(sources)
        self._stop_earlier(added)
        positions = dict(self._fetcher.positions())
        for source in sorted(added):
            self.sources.add(source)
            self.stopped.pop(source, None)
            self.poisoned.discard(source)
            positions[source] = Position(self._wanted(source), leader_epochs.get(source, -1))
        self._assign(positions)

    def remove(self, sources: set[SourcePartition]) -> None:
        """Read these partitions no more."""
        self.sources -= sources
        self.poisoned -= sources
        for source in sources:
            self.stopped.pop(source, None)
        kept = {s: p for s, p in self._fetcher.positions().items() if s not in sources}
        self._assign(kept)

    def seek(self, source: SourcePartition) -> None:
        """Continue a partition where its tables stand."""
        if source in self._fetcher.positions():
            self._fetcher.seek(source, Position(self._wanted(source), -1))

    def pause(self) -> None:
        """Deliver nothing until :meth:`resume`."""
        self._fetcher.pause(sorted(self._fetcher.positions()))

    def resume(self) -> None:
        """Deliver what is readable again."""
        self._fetcher.resume(sorted(self.readable))

    def fetch(self, wait_s: float) -> list[FetchedBatch]:
        """What arrived in ``wait_s``; nothing while the breaker is open or when one is stopped."""
        if not self.readable:
            return []
        # An empty fetch says nothing of the broker, so that after an error it is asked something
        # that it must answer.
        doubted = bool(self.error) or self.broker.held_up
        if doubted and not (self.same_topics() and not self.broker.held_up):
            return []
        try:
            batches = self._fetcher.fetch(wait_s)
        except Retryable as error:
            self._broker_failed(error)
            return []
        except OffsetsLost as error:
            self.broker.succeeded()
            self._offsets_lost(error)
            return []
        except (TopicRecreated, UnknownTopic) as error:
            self.broker.succeeded()
            self._stop_topic(error)
            return []
        if batches:
            self.broker.succeeded()
        return batches

    def same_topics(self) -> bool:
        """Whether what was fetched is known to come from the topics that were granted (I6).

        kafka-python fetches by name, so the ids are compared before each hand-over.

        Returns:
            False when it is not known; what changed is in :attr:`stopped`.
        """
        if not self._fetcher.positions():
            return True
        if not self.broker.allow():
            return False
        try:
            self._fetcher.check_topics()
        except Retryable as error:
            self._broker_failed(error)
            return False
        except (TopicRecreated, UnknownTopic) as error:
            self.broker.succeeded()
            self._stop_topic(error)
            return False
        self.broker.succeeded()
        self.error = ""
        return True

    def poison(self, source: SourcePartition, reason: str, *, by_hand: bool = False) -> None:
        """Stop a partition until the gate lets it through again."""
        hint = (
            "look at `raylake preview`; correct `format` or `schema`, or let them be dead letters: "
            "raise `dead_letters: {stop_above: …}`, with `on_failure: continue`"
        )
        log.error("%s", reason)
        self.poisoned.add(source)
        if by_hand:
            release = "`raylake breaker reset` lets it go on"
            self.stopped[source] = HeldByHand(reason, hint=release, partition=str(source))
        else:
            self.stopped[source] = TooManyDeadLetters(reason, hint=hint, partition=str(source))
        self._fetcher.pause([source])
        self.seek(source)

    def revive(self, source: SourcePartition) -> None:
        """Read a poisoned partition again."""
        self.poisoned.discard(source)
        self.stopped.pop(source, None)
        self.seek(source)
        self._fetcher.resume([source])

    def stop(self, sources: Iterable[SourcePartition], error: RayLakeError) -> None:
        """Stop partitions until they are granted again; the others go on."""
        for source in sources:
            log.error("%s is stopped: %s", source, error)
            self.stopped[source] = error
        positions = self._fetcher.positions()
        self._assign({s: p for s, p in positions.items() if s not in self.stopped_for_good})

    def close(self) -> None:
        """Close the connection."""
        self._fetcher.close()

    def _stop_earlier(self, added: set[SourcePartition]) -> None:
        ids = {source.topic: source.topic_id for source in added}
        for source in sorted(self.sources - self.stopped_for_good):
            now = ids.get(source.topic, source.topic_id)
            if now != source.topic_id:
                message = f"topic {source.topic!r} was deleted and created again"
                self.stop([source], TopicRecreated(message, was=source.topic_id, now=now))

    def _assign(self, positions: Mapping[SourcePartition, Position]) -> None:
        self._fetcher.assign(positions)
        self._fetcher.pause(sorted(self.poisoned & positions.keys()))

    def _broker_failed(self, error: Retryable) -> None:
        self.broker.failed(error.message)
        self.error = error.message
        log.warning("broker: %s", error.message)

    def _stop_topic(self, error: RayLakeError) -> None:
        topics = error.context.get("topics") or [error.context.get("topic")]
        was = error.context.get("was")
        sources = [s for s in self.sources if s.topic in topics and was in (None, s.topic_id)]
        if not sources:
            raise error
        self.stop(sources, error)

    def _offsets_lost(self, error: OffsetsLost) -> None:
        named = (error.context["topic"], error.context["partition"])
        source = next((s for s in self.sources if (s.topic, s.partition) == named), None)
        if source is None:
            raise error
        try:
            recorded = self._lost(source, error)
        except (Retryable, OutcomeUnknown) as later:
            # Seeking lets the fetcher say it again.
            self.error = later.message
            self.seek(source)
            return
        if recorded:
            self.seek(source)
        else:
            self.stop([source], error)
