"""What a run learns of Kafka while it goes on: asked beside its loop, taken by it.

A broker that does not answer keeps a question for up to ``connect_timeout``; meanwhile the
supervisor replaces processes, writes its status and obeys a stop.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from raylake.clock import Clock
from raylake.errors import OutcomeUnknown, RayLakeError, Retryable, UnknownTopic
from raylake.ingest.fleet import Discovery
from raylake.ingest.lake_tables import LakeTables, Question
from raylake.ingest.plan import TablePlan
from raylake.ingest.ports import OwnerLost
from raylake.ingest.unit import SourcePartition

log = logging.getLogger(__name__)

METADATA_REFRESH_S = 5.0
PUBLISH_WAIT_S = 2.0

Walk = Generator[Question, Any, None]
Ask = Callable[[Question], "Future[Any]"]
Note = Callable[[RayLakeError], None]
Offsets = Callable[[], Mapping[SourcePartition, int]]


def answer_now(question: Question) -> Future[Any]:
    """Answer a question where it is asked, for loops that may wait."""
    answer: Future[Any] = Future()
    try:
        answer.set_result(question())
    except RayLakeError as error:
        answer.set_exception(error)
    return answer


class TopicWatch:
    """Looks every :attr:`every_s` seconds; one question is under way at a time.

    Not thread-safe: only ``ask`` may work elsewhere.

    Attributes:
        missing: Listed topics that do not exist any more, with the error.
        stable_ends: The last stable offsets when it looked last.
        high_ends: The high watermarks then; beyond the stable end while a transaction is open.
        every_s: How often it looks, seconds.
        ends_at_s: When it asked for them, seconds since the epoch; None: not yet.

    Args:
        tables: The run's tables; they take what is new.
        discovery: Topics and offsets.
        ask: Answers one question after the other, in order.
        committed: The offsets that lag tools shall see.
        clock: Time.
    """

    every_s = METADATA_REFRESH_S

    def __init__(
        self,
        tables: LakeTables,
        discovery: Discovery,
        ask: Ask,
        committed: Offsets,
        clock: Clock,
    ) -> None:
        self.missing: dict[str, UnknownTopic] = {}
        self.stable_ends: dict[SourcePartition, int] = {}
        self.high_ends: dict[SourcePartition, int] = {}
        self.ends_at_s: float | None = None
        self._tables = tables
        self._discovery = discovery
        self._ask = ask
        self._committed = committed
        self._clock = clock
        self._walk: Walk | None = None
        self._answer: Future[Any] = Future()
        self._looked_at_s = clock.monotonic()

    def begin(self) -> list[TablePlan]:
        """The tables as they are now, waited for; raises when a listed topic is missing."""
        plans: list[TablePlan] = self._ask(self._discovery.tables).result()
        return plans

    def run(self, walk: Walk) -> None:
        """Take a walk to its end, waiting for each answer; raises as the walk."""
        answer = answer_now(lambda: None)
        with contextlib.suppress(StopIteration):
            while True:
                answer = self._ask(_resumed(walk, answer))

    def look_at_ends(self, there: Iterable[SourcePartition]) -> Walk:
        """Ask for the ends of those partitions of the tables that are there."""
        sources = sorted(self._tables.sources.intersection(there))
        asked_at_s = self._clock.now()
        # In this order a partition that grows meanwhile does not look held back for long.
        high = yield partial(self._discovery.high_ends, sources)
        stable = yield partial(self._discovery.stable_ends, sources)
        self.high_ends, self.stable_ends = dict(high), dict(stable)
        self.ends_at_s = asked_at_s

    def advance(self, note: Note) -> bool:
        """Take what was answered and ask what comes next; never waits for Kafka.

        Args:
            note: Keeps an error for the status document.

        Returns:
            Whether tables may have changed.

        Raises:
            RayLakeError: The run cannot go on.
        """
        if self._walk is None:
            if self._clock.monotonic() < self._looked_at_s + self.every_s:
                return False
            self._looked_at_s = self._clock.monotonic()
            self._walk = self._look(note)
            self._answer = answer_now(lambda: None)
        elif not self._answer.done():
            return False
        try:
            while self._answer.done():
                self._answer = self._ask(_resumed(self._walk, self._answer))
        except StopIteration:
            self._walk = None
        except (Retryable, OutcomeUnknown, UnknownTopic) as error:
            self._walk = None
            note(error)
        return True

    def publish_last(self) -> None:
        """Show the last offsets to lag tools, if that is done within a moment."""
        try:
            offsets = self._tables.reached(self._tables.ends())
            self._ask(partial(self._discovery.publish, offsets)).result(PUBLISH_WAIT_S)
        except OwnerLost as error:
            log.info("the last offsets are not published: %s", error.message)
        except TimeoutError:
            log.warning("the last offsets are not published: Kafka has not answered in time")

    def _look(self, note: Note) -> Walk:
        seen = yield self._discovery.look
        for topic in sorted(seen.missing.keys() - self.missing.keys()):
            note(seen.missing[topic])
        self.missing = dict(seen.missing)
        self._tables.waiting.keep({p.name for p in seen.plans} - self._tables.plans.keys())
        for plan in seen.plans:
            try:
                yield from self._tables.ensure(self._tables.with_missing(plan, self.missing))
            except (Retryable, OutcomeUnknown) as error:
                # The other tables go on; this is tried again with the next look.
                note(error)
        yield from self.look_at_ends(s for plan in seen.plans for s in plan.sources)
        yield partial(self._discovery.publish, self._committed())


def _resumed(walk: Walk, answer: Future[Any]) -> Question:
    """The next question of a walk that got its answer."""
    try:
        found = answer.result()
    except RayLakeError as error:
        return walk.throw(error)
    return walk.send(found)
