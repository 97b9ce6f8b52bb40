"""The further targets of a run's dead letters, each with a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from raylake.clock import Clock, Deadline
from raylake.errors import DependencyUnreachable
from raylake.ingest.breaker import Breaker
from raylake.ingest.letter_targets import Feed, FileTarget, LetterTarget
from raylake.ingest.plan import RunPlan
from raylake.ingest.policies import breaker_policy, retry_policy
from raylake.ingest.retry import Dependency, Pace
from raylake.kafka.connection import Connection
from raylake.kafka.letters import KafkaTarget
from raylake.telemetry.metrics import Metrics

AGAIN_S = 0.5


class LetterFeeds:
    """Feeds targets when there is something new, until it is closed.

    Args:
        feeds: One for each target.
        clock: Time.

    Raises:
        DependencyUnreachable: How far a target is cannot be read now.
    """

    def __init__(self, feeds: Sequence[Feed], clock: Clock) -> None:
        self._feeds = tuple(feeds)
        self._clock = clock
        self._changed = threading.Condition()
        self._news = 0
        self._closing: Deadline | None = None
        try:
            for feed in self._feeds:
                feed.begin()
        except OSError as error:
            raise DependencyUnreachable(f"further targets of dead letters: {error}") from error
        self._threads = [
            threading.Thread(target=self._run, args=(feed,), name="letters", daemon=True)
            for feed in self._feeds
        ]
        for thread in self._threads:
            thread.start()

    def keep_from(self, version: int) -> int:
        """The first version of the dead-letter table whose log entry is still to be read."""
        return min([version, *(feed.keep_from for feed in self._feeds)])

    def wake(self) -> None:
        """The dead-letter table has a new version."""
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Forward what is left, as far as ``timeout_s`` allows; the next run does the rest."""
        with self._changed:
            self._closing = Deadline.after(timeout_s, self._clock)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout_s + AGAIN_S)

    def _run(self, feed: Feed) -> None:
        while True:
            with self._changed:
                seen, closing = self._news, self._closing
            done = feed.step()
            if closing is not None and (done or closing.expired()):
                return
            with self._changed:
                if self._closing is not closing:
                    continue
                if not done:
                    self._changed.wait(AGAIN_S)
                elif self._news == seen:
                    self._changed.wait()


def build_letter_feeds(run: RunPlan, clock: Clock, metrics: Metrics) -> LetterFeeds:
    """The feeds of a pipeline file; raises as :class:`LetterFeeds`."""
    config = run.config
    targets: list[LetterTarget] = []
    if config.dead_letters.also.kafka is not None:
        kafka = config.kafka
        connection = Connection(kafka.bootstrap, kafka.security, kafka.connect_timeout_s)
        targets.append(KafkaTarget(connection, config.dead_letters.also.kafka.topic))
    if config.dead_letters.also.files is not None:
        targets.append(FileTarget(config.dead_letters.also.files.path))
    folder = run.status_file.parent.parent / "dead_letter_targets" / config.pipeline
    feeds = []
    for target in targets:
        breaker = Breaker(f"dead_letters/{target.name}", breaker_policy(config), clock)
        store = Dependency(breaker, Pace(retry_policy(config, "dead_letters"), clock))
        mark = folder / f"{target.name}.json"
        feeds.append(Feed(config.pipeline, run.dead_letters, target, mark, store, metrics))
    return LetterFeeds(feeds, clock)
