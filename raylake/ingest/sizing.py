"""Keeps a run's crew at the size that its lag asks for, and its partitions changing hands."""

from __future__ import annotations

import logging
from typing import Any

from raylake.clock import Clock
from raylake.config import Scaled
from raylake.ingest.crew import Crew
from raylake.ingest.plan import RunPlan
from raylake.ingest.scaling import Change, Place, Sample, Scaling
from raylake.ingest.topic_watch import TopicWatch
from raylake.ingest.unit import SourcePartition

log = logging.getLogger(__name__)

SAMPLE_S = 2.0
LATE_S = 30.0
"""A consumer that has not released by then what it was asked for is written off."""


class Sizing:
    """Takes samples of a run and lets consumers come and go. Not thread-safe.

    A further consumer is asked for as an actor that waits for a CPU, which an autoscaler sees; it
    gets partitions when it has started. One that leaves hands over what it has first.

    Args:
        run: The run.
        crew: Its consumers.
        topics: Tells where the partitions end.
        clock: Time.
    """

    def __init__(self, run: RunPlan, crew: Crew, topics: TopicWatch, clock: Clock) -> None:
        self._crew = crew
        self._topics = topics
        self._clock = clock
        self._bounds = run.config.ingest.consumers
        self._scaling: Scaling | None = None
        self._next_s = 0.0
        self._last: Change | None = None
        self._changed_at_s = 0.0
        self._changes = 0
        self._asked_s: dict[str, float] = {}

    @property
    def sample_s(self) -> float | None:
        """How often the ends of the partitions should be looked at; None: it does not matter."""
        return SAMPLE_S if isinstance(self._bounds, Scaled) else None

    def late(self) -> set[str]:
        """The consumers that keep partitions which they were to release for too long.

        One whose breaker is open is not late: the others would get no further than it does.
        """
        now_s, releasing = self._clock.monotonic(), self._crew.releasing
        self._asked_s = {name: self._asked_s.get(name, now_s) for name in releasing}
        found = set()
        for name, asked_s in self._asked_s.items():
            report = self._crew.reports.get(name)
            if report is not None and report.state == "waiting":
                self._asked_s[name] = now_s
            elif now_s - asked_s > LATE_S:
                log.warning("%s has not released its partitions for %.0f s", name, LATE_S)
                found.add(name)
        return found

    def step(self) -> None:
        """Take a sample when it is time, and let a consumer come or go when that is wanted."""
        if not isinstance(self._bounds, Scaled) or self._clock.monotonic() < self._next_s:
            return
        self._next_s = self._clock.monotonic() + SAMPLE_S
        scaling = self._scaling = self._scaling or Scaling(self._bounds, len(self._crew.staying))
        if self._measurable:
            change = scaling.take(self._sample())
            if change is not None:
                self._note(change)
        else:
            scaling.interrupt()
        while len(self._crew.staying) < scaling.wanted:
            self._crew.add()
        while len(self._crew.staying) > scaling.wanted:
            self._crew.retire()

    def counts(self) -> dict[str, int]:
        """How many consumers there are, by state."""
        crew = self._crew
        return {"running": len(crew.names - crew.unstarted), "wanted": len(crew.staying)}

    def status(self) -> dict[str, Any] | None:
        """For the status document; None where the number of consumers is fixed."""
        if not isinstance(self._bounds, Scaled):
            return None
        last = self._last
        return {
            "min": self._bounds.min,
            "max": self._bounds.max,
            **self.counts(),
            "lag_s": 0.0 if self._scaling is None else round(self._scaling.lag_s, 1),
            "changes": self._changes,
            "why": "" if last is None else last.why,
            "changed_at": None if last is None else self._changed_at_s,
        }

    @property
    def _measurable(self) -> bool:
        waiting = any(report.state == "waiting" for report in self._crew.reports.values())
        return self._crew.settled and not waiting and bool(self._crew.reports)

    def _sample(self) -> Sample:
        crew, ends, stopped = self._crew, self._topics.stable_ends, self._crew.stopped
        places: dict[SourcePartition, Place] = {}
        records = nbytes = 0
        for name, report in crew.reports.items():
            for source, at in report.positions.items():
                if source not in stopped and source in ends:
                    places[source] = Place(name, ends[source], at)
            for table in report.tables.values():
                records += table["records"]
                nbytes += table["bytes"]
        running = len(crew.names - crew.unstarted)
        mean = nbytes / records if records else 0.0
        return Sample(self._clock.monotonic(), running, places, mean)

    def _note(self, change: Change) -> None:
        log.info("%s", change.why)
        self._last = change
        self._changes += 1
        self._changed_at_s = self._clock.now()
