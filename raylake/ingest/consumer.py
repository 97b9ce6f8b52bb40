"""A consumer's loop: fetch, feed the tables, obey the supervisor (DESIGN §1, §5).

A plain class without threads: :meth:`ConsumerLoop.step` does a bounded piece of work. The actor
around it calls it in a loop and passes commands in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from raylake import faults
from raylake.clock import Clock, Deadline
from raylake.errors import OffsetsLost, OutcomeUnknown, Retryable
from raylake.ingest.backpressure import ByteBudget
from raylake.ingest.breaker import BreakerState
from raylake.ingest.feed import TableFeed
from raylake.ingest.intake import FETCH_WAIT_S, Intake
from raylake.ingest.reports import ConsumerReport, Granted
from raylake.ingest.retry import Dependency
from raylake.ingest.switches import Switches
from raylake.ingest.unit import SourcePartition
from raylake.kafka.port import FetchedBatch, Fetcher

log = logging.getLogger(__name__)

DRAIN_PATIENCE_S = 5.0
"""What is held waits so long for a broker to answer while draining; then it is left."""

LostLetters = Callable[[SourcePartition, int, int, str], pa.Table]


class ConsumerLoop:
    """Reads its partitions and feeds the tables that want them. Not thread-safe.

    Args:
        name: The consumer's name.
        fetcher: Reads Kafka.
        feeds: The tables, by name.
        budget: Bytes that may be held.
        broker: The breaker of the broker, and the pace of tries.
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
        broker: Dependency,
        clock: Clock,
        lost_letter: Mapping[str, LostLetters | None],
    ) -> None:
        self.name = name
        self._intake = Intake(fetcher, broker, self._wanted, self._take_loss)
        self._feeds = dict(feeds)
        self._budget = budget
        self._clock = clock
        self._lost_letter = dict(lost_letter)
        self._switches = Switches()
        self._leaving: set[SourcePartition] = set()
        self._released: set[SourcePartition] = set()
        self._paused = False
        self._draining = self._swept = False
        self._patience = Deadline.after(0.0, clock)
        self._left: dict[SourcePartition, int] = {}
        self._fetch_again_s = 0.0
        self._error = ""

    def add_table(self, name: str, feed: TableFeed, lost_letter: LostLetters | None) -> None:
        """Feed one more table; no effect when it is fed already."""
        if name not in self._feeds:
            self._feeds[name] = feed
            self._lost_letter[name] = lost_letter
            self._switch(name, feed, Switches(self._switches.held))

    def switch(self, switches: Switches) -> None:
        """Trip and close breakers by hand, those of tables that come later too."""
        self._switches = switches
        switches.apply("broker", self._intake.broker.breaker)
        for name, feed in self._feeds.items():
            self._switch(name, feed, switches)

    def _switch(self, table: str, feed: TableFeed, switches: Switches) -> None:
        switches.apply_to_stores(table, feed.stores)
        feed.gate.switch(switches)

    def grant(self, granted: Granted) -> None:
        """Read these partitions from now on, beside those that are held."""
        faults.reach("consumer.granted", consumer=self.name, generation=granted.generation)
        for table, ends in granted.ends.items():
            self._feeds[table].grant(ends, granted.generation)
        self._leaving -= granted.sources
        self._intake.add(sorted(granted.sources), granted.leader_epochs)
        if self._paused or self._draining:
            self._intake.pause()

    def revoke(self, sources: set[SourcePartition]) -> None:
        """Hand over what is held of ``sources`` and read them no more; reported as released."""
        mine = sources & self._intake.sources
        self._released |= sources - mine - self._leaving
        self._leaving |= mine
        same = self._same_topics()
        self._intake.remove(mine)
        for feed in self._feeds.values():
            if same:
                feed.give_up(sorted(mine & feed.sources))
            else:
                feed.drop(sorted(mine & feed.sources))
        faults.reach("consumer.releasing", consumer=self.name)

    def drain(self) -> None:
        """Stop fetching, hand everything over; the state is ``drained`` when it is answered."""
        if not self._draining:
            self._draining, self._swept = True, False
            self._patience = Deadline.after(DRAIN_PATIENCE_S, self._clock)
            self._intake.pause()

    def resume(self) -> None:
        """Take a drain back."""
        if self._draining:
            self._draining = False
            self._left.clear()
            self._intake.resume()

    def step(self) -> None:
        """A bounded piece of work: at most one fetch.

        Raises:
            RayLakeError: An owner stopped for good (fenced, log damaged).
        """
        if self._hand_over_due():
            self._hand_over()
        for feed in self._feeds.values():
            feed.push()
        self._settle()
        if self._draining:
            self._clock.sleep(FETCH_WAIT_S / 10)
            return
        self._revive_poisoned()
        if not self._may_fetch():
            self._clock.sleep(FETCH_WAIT_S / 5)
            return
        for batch in self._intake.fetch(_fetch_wait_s(self._feeds.values())):
            self._feed(batch)
        if self._intake.broker.held_up:
            self._clock.sleep(FETCH_WAIT_S)

    @property
    def drained(self) -> bool:
        """Whether a drain is complete."""
        return self._draining and self._swept and all(f.idle for f in self._feeds.values())

    def report(self) -> ConsumerReport:
        """What the supervisor wants to know; ``released`` is told once."""
        released, self._released = tuple(sorted(self._released)), set()
        breakers = {"broker": self._intake.broker.breaker.snapshot()}
        for name, feed in self._feeds.items():
            breakers |= {f"{name}/{k}": s.breaker.snapshot() for k, s in feed.stores.items()}
            breakers |= feed.gate.snapshot()
        opened = {k: v for k, v in breakers.items() if v["state"] != BreakerState.CLOSED.value}
        errors = [self._error, self._intake.error, *(f.error for f in self._feeds.values())]
        return ConsumerReport(
            self.name,
            self._state(bool(opened)),
            tuple(sorted(self._intake.sources)),
            {s: self._wanted(s) for s in sorted(self._intake.sources)},
            dict(self._intake.stopped),
            released,
            {name: _shown(feed) for name, feed in self._feeds.items()},
            self._budget.snapshot(),
            opened,
            next((e for e in errors if e), ""),
            left=dict(self._left),
            retries={"broker": asdict(self._intake.broker.pace.count)},
        )

    def close(self) -> None:
        """Close the connection to Kafka."""
        self._intake.close()

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

    def _hand_over_due(self) -> bool:
        if self._draining:
            return not self._swept
        return any(feed.due for feed in self._feeds.values())

    def _hand_over(self) -> None:
        if self._same_topics():
            for feed in self._feeds.values():
                feed.flush(drain=self._draining)
            self._swept = self._draining
        elif self._draining and self._patience.expired():
            self._leave_unchecked()
            self._swept = True

    def _leave_unchecked(self) -> None:
        """Drop what nobody says the topic of; it is read again (docs/adr/0004)."""
        left = [feed.leave() for feed in self._feeds.values()]
        self._left = {source: count for counts in left for source, count in counts.items()}
        for source in sorted(self._left):
            self._intake.seek(source)

    def _same_topics(self) -> bool:
        """Whether what is held may be handed over; drops what may be of another incarnation."""
        if not any(feed.holding for feed in self._feeds.values()):
            return True
        same = self._intake.same_topics()
        other = self._intake.other_topics
        for feed in self._feeds.values():
            feed.drop(sorted(other & feed.sources))
        return same

    def _settle(self) -> None:
        """Seek where a table began again; release what was given up; account for bytes."""
        for feed in self._feeds.values():
            for source in sorted(feed.seeks):
                self._intake.seek(source)
            feed.seeks.clear()
        leaving = sorted(self._leaving)
        if leaving and not any(feed.holds(leaving) for feed in self._feeds.values()):
            for feed in self._feeds.values():
                feed.forget(leaving)
            faults.reach("consumer.released", consumer=self.name)
            self._released |= self._leaving
            self._leaving = set()
        self._budget.hold(sum(feed.held_bytes for feed in self._feeds.values()))

    def _may_fetch(self) -> bool:
        if self._budget.paused != self._paused:
            self._paused = self._budget.paused
            if self._paused:
                self._intake.pause()
            else:
                self._intake.resume()
        waiting = self._paused or self._clock.monotonic() < self._fetch_again_s
        return not waiting and bool(self._intake.readable)

    def _feed(self, batch: FetchedBatch) -> None:
        faults.reach("consumer.fetched", source=str(batch.source), start=batch.start, end=batch.end)
        if batch.source not in self._intake.readable:
            return
        for name, feed in self._feeds.items():
            try:
                verdict = feed.take(batch)
            except (Retryable, OutcomeUnknown) as error:
                self._error = error.message
                self._intake.seek(batch.source)
                self._fetch_again_s = self._clock.monotonic() + feed.take_again_in_s
                return
            if verdict is not None:
                reason = f"{name}: {verdict.reason}"
                self._intake.poison(batch.source, reason, by_hand=verdict.by_hand)
                return
        self._error = ""

    def _revive_poisoned(self) -> None:
        for source in sorted(self._intake.poisoned):
            gates = [f.gate for f in self._feeds.values() if source in f.sources]
            if all(g.breaker(source).state is not BreakerState.OPEN for g in gates):
                self._intake.revive(source)

    def _take_loss(self, source: SourcePartition, error: OffsetsLost) -> bool:
        feeds = {name: f for name, f in self._feeds.items() if source in f.sources}
        return _recorded_as_lost(feeds, self._lost_letter, source, error)


def _fetch_wait_s(feeds: Iterable[TableFeed]) -> float:
    """Until something must be handed over: all consumers do that at the same moment."""
    dues = [due_s for feed in feeds if (due_s := feed.due_in_s) is not None]
    if any(feed.writing for feed in feeds):
        return FETCH_WAIT_S / 10
    return max(FETCH_WAIT_S / 10, min((FETCH_WAIT_S, *dues)))


def _recorded_as_lost(
    feeds: Mapping[str, TableFeed],
    lost_letter: Mapping[str, LostLetters | None],
    source: SourcePartition,
    error: OffsetsLost,
) -> bool:
    """Record lost offsets where every table of the partition wants that."""
    asked, log_start = int(error.context["asked"]), int(error.context["log_start"])
    letters = {name: lost_letter.get(name) for name in feeds}
    if asked >= log_start or any(letter is None for letter in letters.values()):
        return False
    for name, feed in feeds.items():
        letter, start = letters[name], feed.expected(source)
        if letter is not None and start < log_start:
            feed.lose(source, log_start, letter(source, start, log_start, error.message))
    log.error("%s: recorded as lost and going on: %s", source, error.message)
    return True


def _shown(feed: TableFeed) -> dict[str, Any]:
    retries = {name: asdict(store.pace.count) for name, store in feed.stores.items()}
    return {**asdict(feed.counters), "held_bytes": feed.held_bytes, "retries": retries}
