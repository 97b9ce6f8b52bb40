"""Circuit breakers, one per dependency (DESIGN §7)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from raylake.clock import Clock

FEWEST_SLOW_FAILURES = 3
SETTLED_AFTER_S = 3.0
"""A half-open breaker closes this long after a first good probe when none failed since."""


class BreakerState(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and how it closes again.

    Attributes:
        failure_rate: Opens at this share of failures, 0 < rate <= 1.
        calls: Calls that the window must hold before the share means anything.
        window_s: Length of the sliding window.
        open_s: Time from opening to the first probe.
        half_open_calls: The most probes that are let through; the first failure opens again.
    """

    failure_rate: float = 0.5
    calls: int = 20
    window_s: float = 30.0
    open_s: float = 30.0
    half_open_calls: int = 3

    def __post_init__(self) -> None:
        if not 0.0 < self.failure_rate <= 1.0:
            raise ValueError(f"failure_rate {self.failure_rate} is not in (0, 1]")
        if self.calls < 1 or self.half_open_calls < 1:
            raise ValueError("calls and half_open_calls are at least 1")
        if self.window_s <= 0 or self.open_s <= 0:
            raise ValueError("window_s and open_s are positive")


class Breaker:
    """A circuit breaker; its methods may be called from several threads.

    It opens when the last ``window_s`` seconds hold at least ``calls`` calls with a share of
    failures of ``failure_rate`` or more. A caller that backs off makes fewer calls than that, so it
    opens too when nothing succeeded for ``window_s`` and at least three calls failed in that time.
    Answers to calls that were let through before it opened are ignored.

    Half-open, it closes when ``half_open_calls`` probes succeeded. Where there is too little to do
    for that many, it closes ``SETTLED_AFTER_S`` after the first success, once every probe that was
    let through succeeded: the dependency works, and more evidence would only come with more work.

    Args:
        name: For messages and metrics, such as ``broker/orders[3]``.
        policy: When it opens and closes.
        clock: Its monotonic time decides; wall time is only shown.
    """

    def __init__(self, name: str, policy: BreakerPolicy, clock: Clock) -> None:
        self.name = name
        self.policy = policy
        self.opened_total = 0
        self.rejected_total = 0
        self.reason = ""
        self._clock = clock
        self._lock = threading.RLock()
        self._state = BreakerState.CLOSED
        self._since = clock.now()
        self._retry_at: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._streak = 0
        self._streak_from = 0.0
        self._probes = 0
        self._passed = 0
        self._probed_at = 0.0
        self._passed_at = 0.0

    @property
    def state(self) -> BreakerState:
        """The state; an open breaker turns half-open when ``open_s`` is over."""
        with self._lock:
            now = self._clock.monotonic()
            if self._state is BreakerState.HALF_OPEN:
                if 0 < self._passed == self._probes and now >= self._passed_at + SETTLED_AFTER_S:
                    self.reset()
            elif self._retry_at is not None and now >= self._retry_at:
                self._become(BreakerState.HALF_OPEN)
            return self._state

    @property
    def by_hand(self) -> bool:
        """Whether it was tripped until :meth:`reset`."""
        with self._lock:
            return self._state is BreakerState.OPEN and self._retry_at is None

    @property
    def retry_in_s(self) -> float | None:
        """Seconds until it lets a probe through: 0 unless open, None when open until ``reset``."""
        with self._lock:
            if self.state is not BreakerState.OPEN:
                return 0.0
            if self._retry_at is None:
                return None
            return max(0.0, self._retry_at - self._clock.monotonic())

    @property
    def retry_at(self) -> float | None:
        """Wall time of the next probe while open, in seconds since the epoch; else None."""
        with self._lock:
            left_s = self.retry_in_s
            if self.state is not BreakerState.OPEN or left_s is None:
                return None
            return self._clock.now() + left_s

    def allow(self) -> bool:
        """Whether a call may be made now; a call let through must be answered.

        Half-open, at most ``half_open_calls`` probes are let through. A probe whose caller died
        without an answer does not block it for good: after ``open_s`` without any answer, the
        budget is granted again.
        """
        with self._lock:
            state = self.state
            if state is BreakerState.CLOSED:
                return True
            if state is BreakerState.HALF_OPEN:
                now = self._clock.monotonic()
                if self._probes and now - self._probed_at >= self.policy.open_s:
                    self._probes = self._passed
                if self._probes < self.policy.half_open_calls:
                    self._probes += 1
                    self._probed_at = now
                    return True
            self.rejected_total += 1
            return False

    def success(self) -> None:
        """A call that was let through succeeded."""
        with self._lock:
            state = self.state
            if state is BreakerState.CLOSED:
                self._streak = 0
                self._record(failed=False)
            elif state is BreakerState.HALF_OPEN and self._passed < self._probes:
                if not self._passed:
                    self._passed_at = self._clock.monotonic()
                self._passed += 1
                if self._passed >= self.policy.half_open_calls:
                    self.reset()

    def failure(self, error_text: str) -> None:
        """A call that was let through failed.

        Args:
            error_text: Why; shown as the reason when the breaker opens. Never a payload or secret.
        """
        with self._lock:
            state = self.state
            if state is BreakerState.CLOSED:
                if not self._streak:
                    self._streak_from = self._clock.monotonic()
                self._streak += 1
                self._record(failed=True)
                if self._too_many():
                    self._open(error_text, self.policy.open_s)
            elif state is BreakerState.HALF_OPEN and self._passed < self._probes:
                self._open(error_text, self.policy.open_s)

    def trip(self, reason: str, *, for_s: float | None = None) -> None:
        """Open it by decision, for ``for_s`` seconds or (None) until :meth:`reset`."""
        with self._lock:
            self._open(reason, for_s)

    def reset(self) -> None:
        """Close it and forget the window."""
        with self._lock:
            self.reason = ""
            self._become(BreakerState.CLOSED)

    def snapshot(self) -> dict[str, Any]:
        """Its state as plain data for the status document and for :meth:`restore`."""
        with self._lock:
            state = self.state
            return {
                "name": self.name,
                "state": state.value,
                "reason": self.reason,
                "by_hand": self.by_hand,
                "since": self._since,
                "retry_at": self.retry_at,
                "opened_total": self.opened_total,
                "rejected_total": self.rejected_total,
            }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Start from a snapshot of an earlier process: what was not closed starts half-open.

        Whoever keeps what was tripped by hand trips it again.
        """
        with self._lock:
            self.opened_total = int(snapshot.get("opened_total", 0))
            self.rejected_total = int(snapshot.get("rejected_total", 0))
            if snapshot.get("state", BreakerState.CLOSED.value) == BreakerState.CLOSED.value:
                self.reset()
            else:
                self.reason = str(snapshot.get("reason", ""))
                self._become(BreakerState.HALF_OPEN)

    def _become(self, state: BreakerState) -> None:
        if state is not self._state:
            self._since = self._clock.now()
        self._state = state
        self._retry_at = None
        self._clear()

    def _open(self, reason: str, for_s: float | None) -> None:
        if self._state is not BreakerState.OPEN:
            self.opened_total += 1
        self.reason = reason
        self._become(BreakerState.OPEN)
        self._retry_at = None if for_s is None else self._clock.monotonic() + for_s

    def _record(self, *, failed: bool) -> None:
        now = self._clock.monotonic()
        self._calls.append((now, failed))
        self._failures += failed
        while self._calls[0][0] <= now - self.policy.window_s:
            self._failures -= self._calls.popleft()[1]

    def _too_many(self) -> bool:
        seen = len(self._calls)
        if seen >= self.policy.calls and self._failures >= self.policy.failure_rate * seen:
            return True
        silent_s = self._clock.monotonic() - self._streak_from
        return self._streak >= FEWEST_SLOW_FAILURES and silent_s >= self.policy.window_s
