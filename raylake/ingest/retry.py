"""Retries: who is tried again, how often and how long apart (SPEC B1); tenacity does the retrying.

Retries have one owner per operation (DESIGN §7): wrap the outermost call only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

import tenacity
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from raylake.clock import Clock, Deadline
from raylake.errors import Retryable

T = TypeVar("T")
Strategy = Literal["exponential", "fixed", "none"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How one dependency is retried.

    Attributes:
        strategy: ``exponential``: full jitter, uniform between 0 and ``initial_s`` doubled each
            time, at most ``max_s``. ``fixed``: ``initial_s`` each time. ``none``: one attempt.
        attempts: Attempts in all, the first included.
        initial_s: Wait before the second attempt (its upper end, when exponential).
        max_s: The longest wait.
    """

    strategy: Strategy = "exponential"
    attempts: int = 10
    initial_s: float = 0.2
    max_s: float = 30.0

    def __post_init__(self) -> None:
        if self.strategy not in ("exponential", "fixed", "none"):
            raise ValueError(f"no retry strategy is named {self.strategy!r}")
        if self.attempts < 1 or self.initial_s < 0 or self.max_s < self.initial_s:
            raise ValueError(f"{self} cannot be followed")


@dataclass(slots=True)
class RetryCount:
    """What became of one dependency's operations.

    Attributes:
        operations: Operations begun.
        retries: Attempts after the first.
        recovered: Operations that failed at least once and succeeded in the end.
        exhausted: Operations given up on with a retryable error.
        last_error: The text of the last error that was retried.
    """

    operations: int = 0
    retries: int = 0
    recovered: int = 0
    exhausted: int = 0
    last_error: str = ""


@dataclass(slots=True)
class RetryCounters:
    """Counts by dependency, shared by the retriers of one process."""

    by_dependency: dict[str, RetryCount] = field(default_factory=dict)

    def of(self, dependency: str) -> RetryCount:
        """The count of ``dependency``, made when it is new."""
        return self.by_dependency.setdefault(dependency, RetryCount())

    def snapshot(self) -> Mapping[str, Mapping[str, Any]]:
        """Plain data for the status document and the chaos report."""
        return {name: asdict(count) for name, count in sorted(self.by_dependency.items())}


class Retrier:
    """Retries the operations of one dependency.

    Only :class:`~raylake.errors.Retryable` is tried again. ``Terminal`` never is, and neither is
    ``OutcomeUnknown``: its caller reads the log first (I4). Any other exception passes at once.

    Args:
        dependency: Its name in the counters, such as ``broker`` or ``store``.
        policy: How it is retried.
        clock: Sleeps between attempts.
        counters: Where it counts; a set of its own when left out.
    """

    def __init__(
        self,
        dependency: str,
        policy: RetryPolicy,
        clock: Clock,
        counters: RetryCounters | None = None,
    ) -> None:
        self.dependency = dependency
        self.policy = policy
        self.counters = RetryCounters() if counters is None else counters
        self._clock = clock

    def call(self, operation: Callable[[], T], *, deadline: Deadline | None = None) -> T:
        """Run ``operation`` until it succeeds or must not be tried again.

        Args:
            operation: Takes no argument; must raise ``Retryable`` only if it had no effect.
            deadline: The caller's budget: no sleep begins that would spend what is left of it.

        Raises:
            Exception: What the last attempt raised, unchanged.
        """
        count = self.counters.of(self.dependency)
        count.operations += 1

        def before_sleep(state: tenacity.RetryCallState) -> None:
            count.retries += 1
            count.last_error = str(state.outcome.exception()) if state.outcome else ""

        stop: stop_base = tenacity.stop_after_attempt(
            1 if self.policy.strategy == "none" else self.policy.attempts
        )
        if deadline is not None:
            stop = tenacity.stop_any(stop, _StopAtDeadline(deadline))
        retrying = tenacity.Retrying(
            sleep=self._clock.sleep,
            stop=stop,
            wait=self._wait(),
            retry=tenacity.retry_if_exception_type(Retryable),
            before_sleep=before_sleep,
            reraise=True,
        )
        try:
            result = retrying(operation)
        except Retryable:
            count.exhausted += 1
            raise
        if retrying.statistics["attempt_number"] > 1:
            count.recovered += 1
        return result

    def _wait(self) -> wait_base:
        return _waiting(self.policy)


class Pace:
    """Waits between the tries of a loop that never gives up: what waits is kept until it lands.

    Such a loop stands under a breaker, so ``attempts`` does not end it and ``none`` waits as long
    as it may.

    Args:
        dependency: Its name in the counters.
        policy: How long apart.
        clock: Monotonic time decides.
        counters: Where it counts.
    """

    def __init__(
        self, dependency: str, policy: RetryPolicy, clock: Clock, counters: RetryCounters
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._count = counters.of(dependency)
        self._failures = 0
        self._retry_at_s = 0.0

    @property
    def retries(self) -> int:
        """How many tries failed so far."""
        return self._count.retries

    def wait_s(self) -> float:
        """Seconds until the next try; 0 when it may be made now."""
        return max(0.0, self._retry_at_s - self._clock.monotonic())

    def failed(self, error_text: str) -> None:
        """A try failed: the next one waits."""
        if self._failures == 0:
            self._count.operations += 1
        self._failures += 1
        self._count.retries += 1
        self._count.last_error = error_text
        state = tenacity.RetryCallState(_NO_RETRYING, None, (), {})
        state.attempt_number = self._failures
        wait_s = self._policy.max_s
        if self._policy.strategy != "none":
            wait_s = float(_waiting(self._policy)(state))
        self._retry_at_s = self._clock.monotonic() + wait_s

    def succeeded(self) -> None:
        """A try succeeded."""
        if self._failures:
            self._count.recovered += 1
        else:
            self._count.operations += 1
        self._failures = 0
        self._retry_at_s = 0.0


_NO_RETRYING = tenacity.Retrying()


def _waiting(policy: RetryPolicy) -> wait_base:
    if policy.strategy == "fixed":
        return tenacity.wait_fixed(policy.initial_s)
    return tenacity.wait_random_exponential(multiplier=policy.initial_s, max=policy.max_s)


class _StopAtDeadline(stop_base):
    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        return state.upcoming_sleep >= self.deadline.left_s()
