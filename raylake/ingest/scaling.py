"""How many consumers a run should have: by lag, bytes and rates, with hysteresis (SPEC A8).

Up quickly: when a consumer was behind in two samples, one after the other. Down slowly: to the
most that any moment of ``down_after`` asked for. What so many consumers read while they were behind
is kept, so that a number that did not suffice is not gone back to for the same load.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from raylake.config import Scaled
from raylake.ingest.unit import SourcePartition

WINDOW_S = 12.0
"""Rates are measured over so long."""
HEADROOM = 0.7
"""Of what a consumer can read, so much is asked of it at most where there are fewer."""
LONGEST_PATIENCE = 16
"""Times ``down_after``: fewer consumers that turned out too few are tried ever less often."""
IN_A_ROW = 2


@dataclass(frozen=True, slots=True)
class Place:
    """One partition at one moment.

    Attributes:
        consumer: Who reads it.
        end: The last stable offset in Kafka.
        next: The next offset that is read.
    """

    consumer: str
    end: int
    next: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A run at one moment.

    Attributes:
        at_s: When, on the monotonic clock.
        running: Consumers that read.
        places: The partitions that are read; stopped ones are left out.
        record_bytes: The mean size of a record, decompressed; 0 when unknown.
    """

    at_s: float
    running: int
    places: Mapping[SourcePartition, Place]
    record_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a consumer has before it.

    Attributes:
        records: Unread ones.
        rate: Records a second that it was seen to read at best, lately.
        partitions: How many it has.
        behind: How many of them hold unread records.
    """

    records: int
    rate: float
    partitions: int
    behind: int

    @property
    def lag_s(self) -> float:
        """How long it needs for what is there; 0 while nothing is read, so that nobody knows."""
        return self.records / self.rate if self.rate else 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """Another number of consumers is wanted.

    Attributes:
        wanted: How many now.
        why: In one line.
    """

    wanted: int
    why: str


class Scaling:
    """Samples in, the wanted number of consumers out. Not thread-safe; the same for the same input.

    Never outside ``min`` to ``max``. Under a constant load it goes up until the load is read, and
    at most once down from there.

    Args:
        bounds: The configuration.
        wanted: How many there are.
    """

    def __init__(self, bounds: Scaled, wanted: int) -> None:
        self.wanted = min(bounds.max, max(bounds.min, wanted))
        self.lag_s = 0.0
        self._bounds = bounds
        self._samples: deque[Sample] = deque()
        self._behind = 0
        self._needs: deque[tuple[float, int]] = deque()
        self._since_s: float | None = None
        self._taken_s = 0.0
        self._patience_s = bounds.down_after_s
        self._went_down_s: float | None = None
        self._can_read: dict[int, float] = {}

    def interrupt(self) -> None:
        """What was measured says nothing of what comes: partitions move, or nobody reads."""
        self._samples.clear()
        self._behind = 0

    def take(self, sample: Sample) -> Change | None:
        """Take a sample; returns a change, if one is wanted."""
        if self._since_s is None or sample.at_s - self._taken_s > WINDOW_S:
            # What was not looked at is not known to have sufficed.
            self._since_s = sample.at_s
            self._needs.clear()
        self._taken_s = sample.at_s
        self._samples.append(sample)
        while self._samples[0].at_s < sample.at_s - WINDOW_S:
            self._samples.popleft()
        if len(self._samples) < IN_A_ROW:
            return None
        loads = self._loads()
        self.lag_s = max((load.lag_s for load in loads.values()), default=0.0)
        late = [load for load in loads.values() if self._too_much(load, sample)]
        if late:
            # Only one that is behind shows what it can do.
            known = self._can_read.get(sample.running, 0.0)
            self._can_read[sample.running] = max(known, *(load.rate for load in late))
        # One that has a single partition has nothing to give away.
        late = [load for load in late if load.partitions > 1]
        self._behind = self._behind + 1 if late else 0
        stuck = any(load.records and not load.rate for load in loads.values())
        holds = bool(late) or stuck or self.lag_s > self._bounds.lag_s / 2
        self._needs.append((sample.at_s, self.wanted if holds else self._enough()))
        if self._behind >= IN_A_ROW and sample.running >= self.wanted:
            return self._up(sample, late)
        return self._down(sample)

    def _loads(self) -> dict[str, Load]:
        last = self._samples[-1]
        best: dict[str, float] = {}
        for one, two in itertools.pairwise(self._samples):
            took_s = two.at_s - one.at_s
            if took_s <= 0:
                continue
            read: dict[str, int] = {}
            for source, now in two.places.items():
                was = one.places.get(source)
                if was is not None and was.consumer == now.consumer:
                    read[now.consumer] = read.get(now.consumer, 0) + max(0, now.next - was.next)
            for consumer, records in read.items():
                best[consumer] = max(best.get(consumer, 0.0), records / took_s)
        unread: dict[str, list[int]] = {}
        for place in last.places.values():
            unread.setdefault(place.consumer, []).append(max(0, place.end - place.next))
        return {
            name: Load(sum(lags), best.get(name, 0.0), len(lags), sum(lag > 0 for lag in lags))
            for name, lags in unread.items()
        }

    def _too_much(self, load: Load, sample: Sample) -> bool:
        unread_bytes = load.records * sample.record_bytes
        large = load.rate > 0 and unread_bytes > self._bounds.lag_bytes
        return large or load.lag_s > self._bounds.lag_s

    def _arriving(self) -> list[float]:
        """Records a second that came into each partition, the most first."""
        first, last = self._samples[0], self._samples[-1]
        took_s = last.at_s - first.at_s
        came = (
            max(0, now.end - first.places[source].end) / took_s
            for source, now in last.places.items()
            if source in first.places and took_s > 0
        )
        return sorted(came, reverse=True)

    def _enough(self) -> int:
        """The least that can read what arrives; at most as many as there are."""
        arriving = self._arriving()
        for number in range(self._bounds.min, self.wanted):
            # They differ by one partition at most, and one of them may get the fullest.
            fullest = sum(arriving[: math.ceil(len(arriving) / number)])
            if fullest <= HEADROOM * self._each(number):
                return number
        return self.wanted

    def _each(self, number: int) -> float:
        """Records a second that each of so many consumers can read; 0 while nothing is known."""
        if not self._can_read:
            return 0.0
        near = min(self._can_read, key=lambda known: (abs(known - number), known))
        return self._can_read[near]

    def _up(self, sample: Sample, late: list[Load]) -> Change | None:
        worst = max(
            max(
                load.lag_s / self._bounds.lag_s,
                load.records * sample.record_bytes / self._bounds.lag_bytes,
            )
            for load in late
        )
        more = math.ceil(self.wanted * min(1.0, max(0.0, worst - 1)))
        limit = min(self._bounds.max, len(sample.places))
        wanted = min(limit, self.wanted + max(1, more))
        if wanted <= self.wanted:
            return None
        soon_s = 4 * self._patience_s
        if self._went_down_s is not None and sample.at_s - self._went_down_s < soon_s:
            longest_s = LONGEST_PATIENCE * self._bounds.down_after_s
            self._patience_s = min(longest_s, 2 * self._patience_s)
        else:
            self._patience_s = self._bounds.down_after_s
        partitions = sum(load.behind for load in late)
        unread = sum(load.records for load in late)
        return self._changed(
            sample,
            wanted,
            f"lag {self.lag_s:.0f} s ({unread:,} records) on {partitions} "
            f"partition{'s' if partitions > 1 else ''}",
        )

    def _down(self, sample: Sample) -> Change | None:
        begun_s = sample.at_s - self._patience_s
        while self._needs[0][0] < begun_s:
            self._needs.popleft()
        if self._since_s is None or self._since_s > begun_s:
            return None
        wanted = max(self._bounds.min, *(need for _, need in self._needs))
        if wanted >= self.wanted:
            return None
        self._went_down_s = sample.at_s
        arriving = sum(self._arriving())
        why = f"{wanted} suffice for {arriving:,.0f} records/s since {self._patience_s:g} s"
        return self._changed(sample, wanted, why)

    def _changed(self, sample: Sample, wanted: int, why: str) -> Change:
        was, self.wanted = self.wanted, wanted
        self._since_s = sample.at_s
        self._needs.clear()
        self.interrupt()
        return Change(wanted, f"{why}: {was} -> {wanted} consumers")
