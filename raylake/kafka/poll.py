"""The plain fetcher: kafka-python's ``poll()``, one Python object a record."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from kafka import TopicPartition
from kafka import errors as kafka_errors

from raylake.ingest.retry import RetryPolicy
from raylake.ingest.unit import SourcePartition
from raylake.kafka.bounded import PLAIN, RecordForm
from raylake.kafka.client import Cluster
from raylake.kafka.connection import Connection, explain, is_transient, unreachable
from raylake.kafka.port import FetchedBatch, FetchSettings, Lag, Position
from raylake.kafka.session import PollSession
from raylake.kafka.silence import SilenceWatch, loss_of

ONCE = RetryPolicy("none")
"""Whoever fetches decides when it is tried again."""


class PollFetcher:
    """:class:`Fetcher` on kafka-python's ``poll()``: ``read_committed``, assigned by hand.

    A range ends at the consumer's position, so control records, aborted transactions and compacted
    gaps lie within ranges, and a stretch that holds nothing else is an empty batch.

    Memory: one call delivers at most ``max_bytes`` and one more record; an answer holds at most
    ``fetch_max_bytes`` or one record batch; what reading one takes is its form's (docs/adr/0014).

    Args:
        connection: The cluster.
        settings: Bounds.
        form: What records become.
    """

    def __init__(
        self,
        connection: Connection,
        settings: FetchSettings | None = None,
        form: RecordForm = PLAIN,
    ) -> None:
        self._connection = connection
        self._settings = settings or FetchSettings()
        self._positions: dict[SourcePartition, Position] = {}
        self._sources: dict[TopicPartition, SourcePartition] = {}
        self._paused: set[SourcePartition] = set()
        self._stopped: set[SourcePartition] = set()
        self._losses: deque[tuple[SourcePartition, int | None]] = deque()
        self._silence = SilenceWatch(connection.connect_timeout_s)
        self._session = PollSession(connection, self._settings, form)
        self._form = form
        self._cluster = Cluster(
            connection.bootstrap, connection.security, connection.connect_timeout_s, ONCE
        )

    def assign(self, positions: Mapping[SourcePartition, Position]) -> None:
        """Read exactly these partitions, from these positions; nothing is paused.

        No broker is asked; call :meth:`check_topics` before the first records are used.

        Raises:
            ValueError: Two incarnations of one topic partition.
        """
        sources = {TopicPartition(s.topic, s.partition): s for s in positions}
        if len(sources) != len(positions):
            raise ValueError("two incarnations of one partition cannot be read at once")
        if {s.topic_id for s in positions} - {s.topic_id for s in self._positions}:
            self._session.drop()
        self._sources = sources
        self._paused.clear()
        self._stopped.clear()
        self._losses.clear()
        kept = {s: p for s, p in self._positions.items() if positions.get(s) == p}
        self._positions = dict(positions)
        if not positions:
            self._session.drop()
        else:
            self._apply_assignment(keep=kept)

    def seek(self, source: SourcePartition, position: Position) -> None:
        """Continue one partition elsewhere; what was fetched and not delivered is dropped.

        Raises:
            KeyError: It is not assigned.
        """
        tp = self._partition(source)
        self._positions[source] = position
        self._stopped.discard(source)
        self._losses = deque(loss for loss in self._losses if loss[0] != source)
        self._session.seek(tp, position)
        self._apply_pause(source)

    def pause(self, sources: Iterable[SourcePartition]) -> None:
        """Deliver nothing of these partitions until they are resumed; positions stay.

        Raises:
            KeyError: One is not assigned.
        """
        for source in sources:
            self._partition(source)
            self._paused.add(source)
            self._apply_pause(source)

    def resume(self, sources: Iterable[SourcePartition]) -> None:
        """Deliver these partitions again.

        Raises:
            KeyError: One is not assigned.
        """
        for source in sources:
            self._partition(source)
            self._paused.discard(source)
            self._apply_pause(source)

    def positions(self) -> dict[SourcePartition, Position]:
        """The next offset to deliver of each assigned partition."""
        return dict(self._positions)

    def fetch(self, timeout_s: float) -> list[FetchedBatch]:
        """What arrived, one batch a partition; an empty list when nothing did in ``timeout_s``.

        An error about one partition is raised once; that partition then stands still until it is
        seeked or assigned, and the next call goes on with the others. Positions never move past
        what was delivered.

        Raises:
            OffsetsLost: Kafka does not have the offset asked for, or its log was cut off before it.
            TopicRecreated: A topic was deleted and created again.
            UnknownTopic: A topic was deleted.
            DependencyUnreachable: The brokers of a partition have not answered for
                ``connect_timeout_s`` of waiting.
            AccessDenied: The brokers do not let us in, or not read a topic.
            Retryable: A damaged answer (its checksum is wrong), or another passing failure.
        """
        if self._losses:
            self._raise_loss()
        if not self._positions:
            return []
        started_s = time.monotonic()
        polled: Mapping[TopicPartition, list[Any]] = {}
        try:
            if not self._session.is_open:
                self._session.open(timeout_s)
                self._apply_assignment(keep={})
            polled = self._session.poll(started_s + timeout_s)
        except kafka_errors.KafkaError as error:
            self._handle(error, started_s)
        self._check_known_topics()
        batches = self._deliver(polled)
        self._watch(batches, started_s)
        return batches

    def lag(self, sources: Iterable[SourcePartition]) -> dict[SourcePartition, Lag]:
        """Ends of assigned partitions, asked from the brokers now (two requests).

        Raises:
            DependencyUnreachable: No broker answers.
            UnknownTopic: A topic was deleted.
            KeyError: One is not assigned.
        """
        wanted = list(sources)
        stable = self._cluster.latest(wanted, committed=True)
        ends = self._cluster.latest(wanted, committed=False)
        return {s: Lag(ends[s], stable[s], self._positions[s].offset) for s in wanted}

    def check_topics(self) -> None:
        """Check that every assigned topic is the incarnation that was assigned (one request).

        kafka-python fetches by name: only what was fetched before a check that passes is known to
        be of this incarnation, so check before each hand-over.

        Raises:
            TopicRecreated: A topic was deleted and created again.
            UnknownTopic: A topic was deleted.
            DependencyUnreachable: No broker answers.
        """
        self._cluster.check(self._positions)

    def close(self) -> None:
        """Release connections; closing twice is harmless."""
        self._session.drop()
        self._cluster.close()

    def _partition(self, source: SourcePartition) -> TopicPartition:
        if source not in self._positions:
            raise KeyError(f"{source} is not assigned")
        return TopicPartition(source.topic, source.partition)

    def _apply_assignment(self, keep: Mapping[SourcePartition, Position]) -> None:
        self._session.assign(list(self._sources))
        for tp, source in self._sources.items():
            if source not in keep:
                self._session.seek(tp, self._positions[source])
            self._apply_pause(source)

    def _apply_pause(self, source: SourcePartition) -> None:
        tp = TopicPartition(source.topic, source.partition)
        self._session.hold(tp, still=source in self._paused or source in self._stopped)

    def _deliver(self, polled: Mapping[TopicPartition, list[Any]]) -> list[FetchedBatch]:
        batches = []
        reached = self._session.reached()
        for tp, source in self._sources.items():
            now = reached.get(tp)
            was = self._positions[source]
            if now is None or now.offset <= was.offset:
                continue
            records = self._form.batch(polled.get(tp, []), was.offset)
            epoch = max(now.leader_epoch, was.leader_epoch)
            self._positions[source] = Position(now.offset, epoch)
            size = int(records.nbytes)
            batches.append(FetchedBatch(source, was.offset, now.offset, records, epoch, size))
        return batches

    def _watch(self, batches: list[FetchedBatch], started_s: float) -> None:
        if not self._session.is_open:
            return
        spent_s = time.monotonic() - started_s
        delivered = {batch.source for batch in batches}
        for tp, source in self._sources.items():
            if source in delivered or source in self._paused or source in self._stopped:
                self._silence.excuse(source)
            else:
                self._silence.waited(source, spent_s)
            self._silence.answered(source, self._session.answered_s(tp))
        if not batches:
            self._raise_if_silent()

    def _raise_if_silent(self) -> None:
        overdue = self._silence.overdue()
        if overdue:
            advertised = self._session.advertised()
            self._session.drop()
            named = ", ".join(str(source) for source in overdue[:5])
            raise unreachable(self._connection, f"fetching {named}", advertised)

    def _check_known_topics(self) -> None:
        unknown = self._session.met_unknown()
        known = {s.topic: self._session.topic_id(s.topic) for s in self._positions}
        if unknown or any(known[s.topic] not in (None, s.topic_id) for s in self._positions):
            self.check_topics()

    def _handle(self, error: kafka_errors.KafkaError, started_s: float) -> None:
        if isinstance(error, kafka_errors.OffsetOutOfRangeError):
            self._stop(dict.fromkeys(error.args[0]))
            self._raise_loss()
        if isinstance(error, kafka_errors.LogTruncationError):
            self._stop(error.divergent_offsets)
            self._raise_loss()
        advertised = self._session.advertised()
        # After an error inside a batch kafka-python would hand out nothing more, for ever.
        self._session.drop()
        if not is_transient(error):
            raise explain(error, self._connection, "fetching", advertised) from error
        for source in self._positions.keys() - self._paused - self._stopped:
            self._silence.waited(source, time.monotonic() - started_s)
        self._raise_if_silent()

    def _stop(self, divergent: Mapping[TopicPartition, Any]) -> None:
        for tp, cut in divergent.items():
            source = self._sources[tp]
            self._stopped.add(source)
            self._losses.append((source, None if cut is None else cut.offset))
            self._apply_pause(source)

    def _raise_loss(self) -> NoReturn:
        source, divergent = self._losses[0]
        error = loss_of(self._cluster, source, self._positions[source].offset, divergent)
        self._losses.popleft()
        raise error
