"""Circuit breakers, one per dependency and partition, and a gate for poison (DESIGN §7)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from raylake.clock import Clock
from raylake.ingest.unit import SourcePartition

FEWEST_SLOW_FAILURES = 3
MIN_JUDGED_RECORDS = 100


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
        half_open_calls: Probes; all of them must succeed, the first failure opens again.
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

    @property
    def state(self) -> BreakerState:
        """The state; an open breaker turns half-open when ``open_s`` is over."""
        with self._lock:
            if (
                self._state is BreakerState.OPEN
                and self._retry_at is not None
                and self._clock.monotonic() >= self._retry_at
            ):
                self._become(BreakerState.HALF_OPEN)
            return self._state

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
                "since": self._since,
                "retry_at": self.retry_at,
                "opened_total": self.opened_total,
                "rejected_total": self.rejected_total,
            }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Start from a snapshot of an earlier process: what was not closed starts half-open."""
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


@dataclass(frozen=True, slots=True)
class PoisonPolicy:
    """When a partition holds too much poison to go on.

    Attributes:
        stop_above: The share of dead letters that still passes, 0 to 1 (1 never stops).
        window_records: The records over which the share is taken.
        min_records: Below this many records seen the share means nothing.
        open_s: Time until the partition's next batch is judged again.
    """

    stop_above: float = 0.2
    window_records: int = 10_000
    min_records: int = MIN_JUDGED_RECORDS
    open_s: float = 30.0

    @property
    def limit(self) -> str:
        """The limit, for people."""
        abort = self.stop_above == 0.0 and self.min_records == 1
        return "on_failure is abort" if abort else f"stop_above is {self.stop_above:.0%}"

    def __post_init__(self) -> None:
        if not 0.0 <= self.stop_above <= 1.0:
            raise ValueError(f"stop_above {self.stop_above} is not in [0, 1]")
        if not 1 <= self.min_records <= self.window_records:
            raise ValueError("1 <= min_records <= window_records")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says about one batch.

    Attributes:
        allowed: False: commit nothing of the batch, neither rows nor dead letters; hold the
            partition at the batch's start.
        seen: Records over which the share was taken.
        dead: Dead letters among them.
        reason: Why not, for people; empty when allowed.
    """

    allowed: bool
    seen: int
    dead: int
    reason: str = ""


@dataclass(slots=True)
class _Judged:
    breaker: Breaker
    offsets: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    dead: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    unjudged: int = 0


class PoisonGate:
    """Stops a partition that is nearly all poison before its dead letters are committed.

    One for a table. Ask :meth:`judge` about every decoded batch before it goes into a unit. The
    share is taken over the last ``window_records`` records of the partition, the batch included: at
    the batch's end (once ``min_records`` were seen), and inside it wherever a full window ends. A
    topic with fewer than ``min_records`` records never stops: its poison becomes dead letters.

    A stopped batch is not counted and must not be committed: the ledger stays at its start and a
    restart reads it again, so nothing is doubled. Records read again replace what the window holds
    from their first offset on. Restored as stopped, it judges from the first record on, so restarts
    let no poison through. ``accept`` is the operator's "these are dead letters indeed".
    """

    def __init__(self, policy: PoisonPolicy, clock: Clock, *, table: str = "") -> None:
        self.policy = policy
        self._prefix = f"poison/{table}/" if table else "poison/"
        self._clock = clock
        self._breaker_policy = BreakerPolicy(open_s=policy.open_s, half_open_calls=1)
        self._partitions: dict[SourcePartition, _Judged] = {}

    def judge(
        self, source: SourcePartition, offsets: npt.NDArray[np.int64], dead_rows: Sequence[int]
    ) -> Verdict:
        """Decide on one batch.

        Args:
            source: The partition.
            offsets: The offset of each record of the batch, ascending; gaps are not records.
            dead_rows: Positions in ``offsets`` of the records that would become dead letters.
        """
        judged = self._judged(source)
        if not len(offsets):
            return Verdict(True, len(judged.dead), int(judged.dead.sum()))
        probing = judged.breaker.state is not BreakerState.CLOSED
        if not judged.breaker.allow():
            return Verdict(False, 0, 0, judged.breaker.reason)
        kept = int(np.searchsorted(judged.offsets, offsets[0]))
        fresh = np.zeros(len(offsets), np.bool_)
        fresh[np.asarray(dead_rows, np.intp)] = True
        dead = np.concatenate([judged.dead[:kept], fresh])
        verdict = self._verdict(source, dead, 1 if probing else self.policy.min_records)
        if judged.unjudged:
            judged.unjudged = max(0, judged.unjudged - len(offsets))
            verdict = Verdict(True, verdict.seen, verdict.dead)
        if verdict.allowed:
            window = self.policy.window_records
            judged.dead = dead[-window:]
            judged.offsets = np.concatenate([judged.offsets[:kept], offsets])[-window:]
            judged.breaker.success()
        else:
            judged.breaker.trip(verdict.reason, for_s=self.policy.open_s)
        return verdict

    def breaker(self, source: SourcePartition) -> Breaker:
        """The partition's breaker: its state, when it is judged again, manual trip."""
        return self._judged(source).breaker

    def accept(self, source: SourcePartition) -> None:
        """Close it, and let the next ``window_records`` records pass whatever they are."""
        self.forget(source)
        self._judged(source).unjudged = self.policy.window_records

    def forget(self, source: SourcePartition) -> None:
        """Drop what is known of a partition that was given away."""
        self._partitions.pop(source, None)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """The breakers that are not closed, by name, for the status document."""
        found = (judged.breaker.snapshot() for judged in self._partitions.values())
        return {s["name"]: s for s in found if s["state"] != BreakerState.CLOSED.value}

    def restore(
        self, snapshot: Mapping[str, Mapping[str, Any]], sources: Sequence[SourcePartition]
    ) -> None:
        """Start from a snapshot; of it, only what concerns ``sources`` is taken."""
        for source in sources:
            stopped = snapshot.get(self._name(source))
            if stopped is not None:
                self._judged(source).breaker.restore(stopped)

    def _name(self, source: SourcePartition) -> str:
        return f"{self._prefix}{source.topic}/{source.topic_id}/{source.partition}"

    def _judged(self, source: SourcePartition) -> _Judged:
        if source not in self._partitions:
            breaker = Breaker(self._name(source), self._breaker_policy, self._clock)
            self._partitions[source] = _Judged(breaker)
        return self._partitions[source]

    def _verdict(
        self, source: SourcePartition, dead: npt.NDArray[np.bool_], at_least: int
    ) -> Verdict:
        window = self.policy.window_records
        total = np.concatenate([[0], np.cumsum(dead)])
        seen = min(len(dead), window)
        found = int(total[-1] - total[len(dead) - seen])
        if len(dead) > window:
            worst = int((total[window:] - total[:-window]).max())
            if worst > self.policy.stop_above * window:
                seen, found = window, worst
        if seen < at_least or found <= self.policy.stop_above * seen:
            return Verdict(True, seen, found)
        reason = f"{source}: {found} of {seen} records cannot be read ({self.policy.limit})"
        return Verdict(False, seen, found, f"{reason}: is `format` right?")
