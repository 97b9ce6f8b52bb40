"""Time as a port: everything that waits or reads a clock takes a :class:`Clock`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time and sleep."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never moves back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; a manual clock only advances."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that never moves back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        time.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to; for tests and simulations."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Advance both clocks."""
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or NTP does."""
        self._now += seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """A budget of time that one operation hands on to the next.

    Attributes:
        at_s: The monotonic time at which the budget is spent.
        clock: The clock that it is measured on.
    """

    at_s: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Deadline:
        """A deadline ``seconds`` from now."""
        return cls(clock.monotonic() + seconds, clock)

    def left_s(self) -> float:
        """Seconds that are left, never negative."""
        return max(0.0, self.at_s - self.clock.monotonic())

    def expired(self) -> bool:
        """Whether the budget is spent."""
        return self.left_s() <= 0.0
