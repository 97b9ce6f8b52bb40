"""A consumer's loop: fetch, feed the tables, obey the supervisor (DESIGN §1, §5).

A plain class without threads: :meth:`ConsumerLoop.step` does a bounded piece of work. The actor
around it calls it in a loop and passes commands in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raylake import faults
from raylake.clock import Clock
from raylake.errors import (
    OffsetsLost,
    RayLakeError,
    Refused,
    Retryable,
    TopicRecreated,
    UnknownTopic,
)
from raylake.ingest.backpressure import ByteBudget
from raylake.ingest.breaker import Breaker
from raylake.ingest.feed import OwnerLost, TableFeed
from raylake.ingest.unit import SourcePartition
from raylake.kafka.fetch import FetchedBatch, Fetcher, Position

log = logging.getLogger(__name__)

FETCH_WAIT_S = 0.1


class TooManyDeadLetters(Refused):
    """Too large a share of a partition's records cannot be read (DESIGN §7)."""

    code = "too_many_dead_letters"


@dataclass(frozen=True, slots=True)
class Granted:
    """Partitions given to a consumer.

    Attributes:
        generation: The assignment's generation.
        ends: For each table, where it stands in the partitions that it takes.
        leader_epochs: Leader epoch of each partition's last commit, -1 when unknown.
    """

    generation: int
    ends: Mapping[str, Mapping[SourcePartition, int]]
    leader_epochs: Mapping[SourcePartition, int] = field(default_factory=dict)

    @property
    def sources(self) -> set[SourcePartition]:
        """The partitions."""
        return {source for ends in self.ends.values() for source in ends}


@dataclass(slots=True)
class ConsumerReport:
    """What a consumer tells the supervisor; plain data.

    Attributes:
        consumer: Its name.
        state: ``running``, ``paused`` (byte limit), ``waiting`` (a breaker is open), ``drained``.
        sources: The partitions that it holds.
        positions: The next offset to fetch of each.
        stopped: Partitions that are stopped, with the error.
        released: Partitions given up since the last report.
        tables: Counters by table.
        budget: The byte budget.
        breakers: The breakers that are not closed.
        error: The last transient error; empty when all is well.
        failure: A terminal error: the consumer is of no more use.
    """

    consumer: str
    state: str = "running"
    sources: tuple[SourcePartition, ...] = ()
    positions: dict[SourcePartition, int] = field(default_factory=dict)
    stopped: dict[SourcePartition, RayLakeError] = field(default_factory=dict)
    released: tuple[SourcePartition, ...] = ()
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    breakers: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str = ""
    failure: RayLakeError | None = None


LostLetters = Callable[[SourcePartition, int, int, str], pa.Table]


class ConsumerLoop:
    """Reads its partitions and feeds the tables that want them.

    Args:
        name: The consumer's name.
        fetcher: Reads Kafka.
        feeds: The tables, by name.
        budget: Bytes that may be held.
        broker: The breaker of the broker.
        clock: Time.
        lost_letter: Makes the dead-letter row of a lost range; None stops the partition instead
            (``on_data_loss: stop``). By table.
    """

    def __init__(
        self,
        name: str,
        fetcher: Fetcher,
        feeds: Mapping[str, TableFeed],
        *,
        budget: ByteBudget,
        broker: Breaker,
        clock: Clock,
        lost_letter: Mapping[str, LostLetters | None],
    ) -> None:
        self.name = name
        self._fetcher = fetcher
        self._feeds = dict(feeds)
        self._budget = budget
        self._broker = broker
        self._clock = clock
        self._lost_letter = dict(lost_letter)
        self._sources: set[SourcePartition] = set()
        self._stopped: dict[SourcePartition, RayLakeError] = {}
        self._poisoned: set[SourcePartition] = set()
        self._leaving: set[SourcePartition] = set()
        self._released: set[SourcePartition] = set()
        self._paused = False
        self._draining = False
        self._swept = False
        self._error = ""

    def add_table(self, name: str, feed: TableFeed, lost_letter: LostLetters | None) -> None:
        """Feed one more table; no effect when it is fed already."""
        if name not in self._feeds:
            self._feeds[name] = feed
            self._lost_letter[name] = lost_letter

    def grant(self, granted: Granted) -> None:
        """Read these partitions from now on, beside those that are held."""
        for table, ends in granted.ends.items():
            self._feeds[table].grant(ends, granted.generation)
        self._sources |= granted.sources
        self._leaving -= granted.sources
        positions = dict(self._fetcher.positions())
        for source in granted.sources:
            self._stopped.pop(source, None)
            offset = self._wanted(source)
            positions[source] = Position(offset, granted.leader_epochs.get(source, -1))
        self._fetcher.assign(positions)

    def revoke(self, sources: set[SourcePartition]) -> None:
        """Hand over what is held of ``sources`` and read them no more; reported as released."""
        mine = sources & self._sources
        self._leaving |= mine
        self._released |= sources - mine
        positions = {s: p for s, p in self._fetcher.positions().items() if s not in mine}
        self._fetcher.assign(positions)
        for feed in self._feeds.values():
            feed.give_up(sorted(mine & feed.sources))

    def drain(self) -> None:
        """Stop fetching, hand everything over; the state is ``drained`` when it is answered."""
        if not self._draining:
            self._draining, self._swept = True, False
            self._fetcher.pause(sorted(self._sources))

    def step(self) -> None:
        """A bounded piece of work: at most one fetch.

        Raises:
            RayLakeError: An owner stopped for good (fenced, log damaged).
        """
        if self._hand_over_due() and self._same_topics():
            for feed in self._feeds.values():
                feed.flush(drain=self._draining)
        for feed in self._feeds.values():
            feed.push()
        self._settle()
        if self._draining:
            self._clock.sleep(0.01)
            return
        self._revive_poisoned()
        if not self._may_fetch():
            self._clock.sleep(FETCH_WAIT_S / 5)
            return
        for batch in self._fetch():
            self._feed(batch)

    def resume(self) -> None:
        """Take a drain back."""
        if self._draining:
            self._draining = False
            self._fetcher.resume(sorted(self._readable()))

    @property
    def drained(self) -> bool:
        """Whether a drain is complete."""
        return self._draining and self._swept and all(f.idle for f in self._feeds.values())

    def report(self) -> ConsumerReport:
        """What the supervisor wants to know; ``released`` is told once."""
        released, self._released = tuple(sorted(self._released)), set()
        breakers = {"broker": self._broker.snapshot()}
        tables: dict[str, dict[str, Any]] = {}
        for name, feed in self._feeds.items():
            breakers |= {f"{name}/{k}": b.snapshot() for k, b in feed.breakers.items()}
            breakers |= feed.gate.snapshot()
            tables[name] = {
                "records": feed.counters.records,
                "rows": feed.counters.rows,
                "dead": feed.counters.dead,
                "units": feed.counters.units,
                "refused": feed.counters.refused,
                "resets": feed.counters.resets,
                "evolved": feed.counters.evolved,
                "flagged": dict(feed.counters.flagged),
                "held_bytes": feed.held_bytes,
            }
        opened = {k: v for k, v in breakers.items() if v["state"] != "closed"}
        errors = [self._error, *(feed.error for feed in self._feeds.values())]
        return ConsumerReport(
            self.name,
            self._state(bool(opened)),
            tuple(sorted(self._sources)),
            {s: self._wanted(s) for s in sorted(self._sources)},
            dict(self._stopped),
            released,
            tables,
            self._budget.snapshot(),
            opened,
            next((e for e in errors if e), ""),
        )

    def close(self) -> None:
        """Close the connection to Kafka."""
        self._fetcher.close()

    def _state(self, opened: bool) -> str:
        if self.drained:
            return "drained"
        if opened:
            return "waiting"
        return "paused" if self._paused else "running"

    def _wanted(self, source: SourcePartition) -> int:
        """The least offset that a table still wants."""
        return min(
            (f.expected(source) for f in self._feeds.values() if source in f.sources), default=0
        )

    def _seek(self, source: SourcePartition) -> None:
        self._fetcher.seek(source, Position(self._wanted(source), -1))

    def _settle(self) -> None:
        """Seek where a table began again; release what was given up; account for bytes."""
        for feed in self._feeds.values():
            for source in sorted(feed.seeks):
                if source in self._sources and source not in self._leaving:
                    self._seek(source)
            feed.seeks.clear()
        leaving = sorted(self._leaving)
        if leaving and not any(feed.holds(leaving) for feed in self._feeds.values()):
            for feed in self._feeds.values():
                feed.forget(leaving)
            self._sources -= self._leaving
            self._released |= self._leaving
            self._leaving = set()
        held = sum(feed.held_bytes for feed in self._feeds.values())
        if held > self._budget.used_bytes:
            self._budget.charge(held - self._budget.used_bytes)
        else:
            self._budget.release(self._budget.used_bytes - held)

    def _readable(self) -> set[SourcePartition]:
        return self._sources - set(self._stopped) - self._leaving

    def _may_fetch(self) -> bool:
        readable = self._readable()
        if not readable:
            return False
        if self._budget.paused != self._paused:
            self._paused = self._budget.paused
            (self._fetcher.pause if self._paused else self._fetcher.resume)(sorted(readable))
        return not self._paused

    def _fetch(self) -> list[FetchedBatch]:
        if not self._broker.allow():
            self._clock.sleep(FETCH_WAIT_S)
            return []
        try:
            batches = self._fetcher.fetch(FETCH_WAIT_S)
        except Retryable as error:
            self._broker_failed(error)
            return []
        except OffsetsLost as error:
            self._broker.success()
            self._offsets_lost(error)
            return []
        except (TopicRecreated, UnknownTopic) as error:
            self._broker.success()
            self._stop_topic(error)
            return []
        self._broker.success()
        self._error = ""
        return batches

    def _feed(self, batch: FetchedBatch) -> None:
        faults.reach("consumer.fetched", source=str(batch.source), start=batch.start, end=batch.end)
        if batch.source not in self._sources or batch.source in self._leaving:
            return
        for name, feed in self._feeds.items():
            try:
                verdict = feed.take(batch)
            except OwnerLost as error:
                self._error = error.message
                self._seek(batch.source)
                return
            if verdict is not None:
                self._poison(batch.source, f"{name}: {verdict.reason}")
                return

    def _poison(self, source: SourcePartition, reason: str) -> None:
        self._poisoned.add(source)
        self._stopped[source] = TooManyDeadLetters(
            reason,
            hint="look at `raylake preview`; correct `format` or `schema`, or raise "
            "`dead_letters: {stop_above: …}` to make them dead letters",
            partition=str(source),
        )
        log.error("%s", reason)
        self._fetcher.pause([source])
        self._seek(source)

    def _revive_poisoned(self) -> None:
        for source in sorted(self._poisoned):
            feeds = [f for f in self._feeds.values() if source in f.sources]
            if all(f.gate.breaker(source).state.value != "open" for f in feeds):
                self._poisoned.discard(source)
                self._stopped.pop(source, None)
                self._seek(source)
                self._fetcher.resume([source])

    def _broker_failed(self, error: Retryable) -> None:
        self._broker.failure(error.message)
        self._error = error.message
        log.warning("broker: %s", error.message)

    def _hand_over_due(self) -> bool:
        if self._draining:
            return not self._swept
        return any(feed.due for feed in self._feeds.values())

    def _same_topics(self) -> bool:
        """Whether what is held is known to come from the topics that were granted (I6).

        kafka-python fetches by name, so the ids are compared before each hand-over.
        """
        if not self._sources:
            self._swept = self._draining
            return True
        if not self._broker.allow():
            return False
        try:
            self._fetcher.check_topics()
        except Retryable as error:
            self._broker_failed(error)
            return False
        except (TopicRecreated, UnknownTopic) as error:
            self._stop_topic(error)
            return False
        self._broker.success()
        self._swept = self._draining
        return True

    def _stop_topic(self, error: RayLakeError) -> None:
        """Stop the topic and drop what is held of it: it may come from another incarnation."""
        topics = error.context.get("topics") or [error.context.get("topic")]
        sources = [s for s in self._sources if s.topic in topics]
        if not sources:
            raise error
        for source in sources:
            self._stop(source, error)
        for feed in self._feeds.values():
            feed.drop(sources)

    def _stop(self, source: SourcePartition, error: RayLakeError) -> None:
        log.error("%s is stopped: %s", source, error)
        self._stopped[source] = error
        self._fetcher.pause([source])

    def _offsets_lost(self, error: OffsetsLost) -> None:
        named = (error.context["topic"], error.context["partition"])
        source = next((s for s in self._sources if (s.topic, s.partition) == named), None)
        if source is None:
            raise error
        asked, log_start = int(error.context["asked"]), int(error.context["log_start"])
        feeds = {n: f for n, f in self._feeds.items() if source in f.sources}
        letters = {name: self._lost_letter.get(name) for name in feeds}
        if asked >= log_start or any(letter is None for letter in letters.values()):
            self._stop(source, error)
            return
        for name, feed in feeds.items():
            letter = letters[name]
            start = feed.expected(source)
            if letter is not None and start < log_start:
                feed.lose(source, log_start, letter(source, start, log_start, error.message))
        log.error("%s: recorded as lost and going on: %s", source, error.message)
        self._seek(source)
