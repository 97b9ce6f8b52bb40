"""A breaker against a model of its rules, over any order of calls and pauses."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raylake.clock import ManualClock
from raylake.ingest.breaker import SETTLED_AFTER_S, Breaker, BreakerPolicy, BreakerState

POLICY = BreakerPolicy(failure_rate=0.5, calls=4, window_s=20, open_s=10, half_open_calls=2)


class BreakerMachine(RuleBasedStateMachine):
    """Each call that is let through is answered at once, later or never."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.breaker = Breaker("store", POLICY, self.clock)
        self.answers: list[tuple[float, bool]] = []
        self.opened_at = 0.0
        self.held = False
        self.probes: list[float] = []
        self.let_through = 0
        self.passed: list[float] = []

    def _outcome(self, failed: bool) -> None:
        before = self.breaker.state
        if failed:
            self.breaker.failure("no")
        else:
            self.breaker.success()
        now = self.clock.monotonic()
        if before is BreakerState.CLOSED:
            self.answers.append((now, failed))
            recent = [f for at, f in self.answers if at > now - POLICY.window_s]
            full = len(recent) >= POLICY.calls and 2 * sum(recent) >= len(recent)
            assert (self.breaker.state is BreakerState.OPEN) == (failed and (full or self._slow()))
        else:
            assert not (before is BreakerState.OPEN and self.breaker.state is not before)
        if before is BreakerState.HALF_OPEN and not failed and len(self.passed) < self.let_through:
            self.passed.append(now)
            enough = len(self.passed) == POLICY.half_open_calls or self._settled()
            assert self.breaker.state is (BreakerState.CLOSED if enough else before)
        if self.breaker.state is not before:
            self._changed()

    def _probe(self) -> None:
        now = self.clock.monotonic()
        if self.probes and now - self.probes[-1] >= POLICY.open_s:
            self.let_through = len(self.passed)
        self.let_through += 1
        self.probes.append(now)

    def _settled(self) -> bool:
        if not self.passed or len(self.passed) < self.let_through:
            return False
        return self.clock.monotonic() >= self.passed[0] + SETTLED_AFTER_S

    def _slow(self) -> bool:
        streak: list[float] = []
        for at, failed in self.answers:
            streak = [*streak, at] if failed else []
        return len(streak) >= 3 and self.clock.monotonic() - streak[0] >= POLICY.window_s

    def _changed(self) -> None:
        self.answers.clear()
        self.probes.clear()
        self.passed.clear()
        self.let_through = 0
        self.held = False
        self.opened_at = self.clock.monotonic()

    @rule(failed=st.booleans(), times=st.integers(1, 3))
    def call(self, failed: bool, times: int) -> None:
        for _ in range(times):
            before = self.breaker.state
            allowed = self.breaker.allow()
            assert allowed or before is not BreakerState.CLOSED
            assert not (allowed and before is BreakerState.OPEN)
            if allowed:
                if before is BreakerState.HALF_OPEN:
                    self._probe()
                self._outcome(failed)

    @rule()
    def call_that_is_never_answered(self) -> None:
        before = self.breaker.state
        if self.breaker.allow() and before is BreakerState.HALF_OPEN:
            self._probe()

    @rule(failed=st.booleans())
    def late_answer(self, failed: bool) -> None:
        self._outcome(failed)

    @rule(seconds=st.sampled_from([0.5, 3, 9, 10, 25]))
    def wait(self, seconds: float) -> None:
        before = self.breaker.state
        was_open = before is BreakerState.OPEN
        self.clock.sleep(seconds)
        if before is BreakerState.HALF_OPEN:
            settled = self._settled()
            assert self.breaker.state is (BreakerState.CLOSED if settled else before)
            if settled:
                self._changed()
        over = self.clock.monotonic() - self.opened_at >= POLICY.open_s
        if was_open:
            expected = BreakerState.HALF_OPEN if over and not self.held else BreakerState.OPEN
            assert self.breaker.state is expected

    @rule(seconds=st.floats(-1e6, 1e6))
    def wall_clock_jumps(self, seconds: float) -> None:
        before = self.breaker.state
        self.clock.jump(seconds)
        assert self.breaker.state is before

    @rule()
    def trip(self) -> None:
        self.breaker.trip("by hand")
        self._changed()
        self.held = True
        assert self.breaker.by_hand

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self._changed()
        assert self.breaker.allow()

    @rule()
    def restart(self) -> None:
        before = self.breaker.state
        successor = Breaker("store", POLICY, self.clock)
        successor.restore(self.breaker.snapshot())
        closed = before is BreakerState.CLOSED
        assert successor.state is (BreakerState.CLOSED if closed else BreakerState.HALF_OPEN)
        assert successor.opened_total == self.breaker.opened_total
        self.breaker = successor
        self._changed()

    @invariant()
    def the_probe_budget_is_respected(self) -> None:
        now = self.clock.monotonic()
        recent = [at for at in self.probes if at > now - POLICY.open_s]
        assert len(recent) <= POLICY.half_open_calls

    @invariant()
    def open_and_only_open_says_when(self) -> None:
        timed = self.breaker.state is BreakerState.OPEN and not self.held
        assert (self.breaker.retry_at is not None) == timed


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
