"""When a table's consumers hand over, and when its owner commits (docs/adr/0013)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raylake.clock import Clock

QUIET_S = 0.1
QUIET_SHARE = 1 / 20
LONGEST_S = 0.5
LONGEST_SHARE = 1 / 5
MANY_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Moments:
    """Multiples of an interval on the wall clock: common to all processes without a word.

    Each table has its own shift, so that many tables do not write all at once.

    Attributes:
        table: The table's name.
        interval_s: The time between two moments, in seconds; 0 for "always".
    """

    table: str
    interval_s: float

    def next_in_s(self, clock: Clock) -> float:
        """Seconds until the next moment, at most the interval; from one moment the whole of it."""
        if not self.interval_s:
            return 0.0
        shift_s = self.interval_s * zlib.crc32(self.table.encode()) / 2**32
        return self.interval_s - (clock.now() - shift_s) % self.interval_s


class Arrived(Protocol):
    """A unit that waits."""

    @property
    def consumer(self) -> str:
        """Whose it is."""
        ...

    @property
    def rows(self) -> int:
        """How many rows it has."""
        ...

    @property
    def arrived_s(self) -> float:
        """When it came, on the monotonic clock."""
        ...


class Gathering:
    """How long an owner waits for more units before it commits those that it has.

    At most one commit between two moments. After a moment (or, where there was no commit since the
    last one, after the first unit) it waits until nothing came for :data:`QUIET_S` and everyone is
    there who had many rows the last time, :data:`LONGEST_S` at most; less where the interval is
    short. A unit that comes later waits for the next moment. Not thread-safe.

    Args:
        moments: The moments at which consumers hand over.
        clock: Time.
    """

    def __init__(self, moments: Moments, clock: Clock) -> None:
        self._hurry_until_s = 0.0
        self._moments = moments
        self._clock = clock
        self._quiet_s = min(QUIET_S, QUIET_SHARE * moments.interval_s)
        self._longest_s = min(LONGEST_S, LONGEST_SHARE * moments.interval_s)
        self._open_s = self._following_s = clock.monotonic()
        self._expected: set[str] = set()

    def hurry(self, for_s: float) -> None:
        """For so long commit whatever waits at once."""
        self._hurry_until_s = max(self._hurry_until_s, self._clock.monotonic() + for_s)

    def due_in_s(self, waiting: Sequence[Arrived]) -> float:
        """Seconds until these units, at least one, should be committed."""
        if self._clock.monotonic() < self._hurry_until_s:
            return 0.0
        begun_s = max(waiting[0].arrived_s, self._open_s)
        due_s = begun_s + self._longest_s
        # A clock that is a little ahead of this one's hands over before the moment.
        here = {one.consumer for one in waiting if one.arrived_s >= begun_s - self._longest_s}
        if self._expected <= here:
            due_s = min(due_s, max(waiting[-1].arrived_s, self._open_s) + self._quiet_s)
        return max(0.0, round(due_s - self._clock.monotonic(), 6))

    def begins(self) -> None:
        """A commit is tried now."""
        self._following_s = self._clock.monotonic() + self._moments.next_in_s(self._clock)

    def committed(self, units: Sequence[Arrived]) -> None:
        """The commit landed, with these units."""
        self._open_s = self._following_s
        self._expected = {one.consumer for one in units if one.rows >= MANY_ROWS}
