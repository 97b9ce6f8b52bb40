"""Retries: what is tried again, how often and how far apart (SPEC B1, ADR 0011).

Retries have one owner per operation (DESIGN §7): :class:`Retrier` where somebody waits for the
answer, :class:`Dependency` where what waits is kept until it lands. The waits are tenacity's.
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
from raylake.ingest.breaker import Breaker, BreakerState

T = TypeVar("T")
Strategy = Literal["exponential", "fixed", "none"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How one dependency is retried.

    Attributes:
        strategy: ``exponential``: full jitter, uniform between 0 and ``initial_s`` doubled each
            time, at most ``max_s``. ``fixed``: ``initial_s`` each time. ``none``: one attempt.
        attempts: Attempts in a row, the first included; then whoever waits gets the error, and
            where nobody waits the breaker opens.
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

    def exhausted(self, failures: int) -> bool:
        """Whether nothing is tried again after so many failures in a row."""
        return failures >= (1 if self.strategy == "none" else self.attempts)

    def wait_s(self, failures: int) -> float:
        """Seconds until the next attempt, after so many failures in a row."""
        state = tenacity.RetryCallState(_NO_RETRYING, None, (), {})
        state.attempt_number = failures
        return float(self.waiting(state))

    @property
    def waiting(self) -> wait_base:
        """The waits between attempts, as tenacity knows them."""
        if self.strategy == "fixed":
            return tenacity.wait_fixed(self.initial_s)
        return tenacity.wait_random_exponential(multiplier=self.initial_s, max=self.max_s)


@dataclass(slots=True)
class RetryCount:
    """What became of one dependency's operations that failed and may be tried again.

    Attributes:
        retries: Failures after which the operation was tried again.
        recovered: Operations that failed at least once and succeeded in the end.
        exhausted: How often all attempts were used up.
        last_error: The text of the last such failure.
    """

    retries: int = 0
    recovered: int = 0
    exhausted: int = 0
    last_error: str = ""


@dataclass(slots=True)
class RetryCounters:
    """Counts by dependency, shared by what retries for one owner, consumer or supervisor."""

    by_dependency: dict[str, RetryCount] = field(default_factory=dict)

    def of(self, dependency: str) -> RetryCount:
        """The count of ``dependency``, made when it is new."""
        return self.by_dependency.setdefault(dependency, RetryCount())

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Plain data for the status document and the metrics."""
        return {name: asdict(count) for name, count in sorted(self.by_dependency.items())}


def add_up(snapshots: list[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, int]]:
    """What several processes counted, by dependency, without the errors' texts."""
    found: dict[str, dict[str, int]] = {}
    for one in snapshots:
        for dependency, count in one.items():
            total = found.setdefault(dependency, {"retries": 0, "recovered": 0, "exhausted": 0})
            for key in total:
                total[key] += count[key]
    return dict(sorted(found.items()))


class Retrier:
    """Tries an operation again while its caller waits.

    Only :class:`~raylake.errors.Retryable` is tried again. ``Terminal`` never is, and neither is
    ``OutcomeUnknown``: its caller reads the log first (I4). Any other exception passes at once.

    Args:
        dependency: Its name in the counters, such as ``broker`` or ``conflicts``.
        policy: How it is retried.
        clock: Sleeps between attempts.
        counters: Where it counts; a set of its own when left out.
        only: The kind of ``Retryable`` that is tried again; others pass at once.
    """

    def __init__(
        self,
        dependency: str,
        policy: RetryPolicy,
        clock: Clock,
        counters: RetryCounters | None = None,
        *,
        only: type[Retryable] = Retryable,
    ) -> None:
        self.policy = policy
        self.counters = RetryCounters() if counters is None else counters
        self._clock = clock
        self._only = only
        self._count = self.counters.of(dependency)

    def call(self, operation: Callable[[], T], *, deadline: Deadline | None = None) -> T:
        """Run ``operation`` until it succeeds or must not be tried again.

        Args:
            operation: Takes no argument; must raise ``Retryable`` only if it had no effect.
            deadline: The caller's budget: no sleep begins that would spend what is left of it.

        Raises:
            Exception: What the last attempt raised, unchanged.
        """
        count = self._count

        def before_sleep(state: tenacity.RetryCallState) -> None:
            count.retries += 1
            count.last_error = str(state.outcome.exception()) if state.outcome else ""

        retrying = tenacity.Retrying(
            sleep=self._clock.sleep,
            stop=_Stop(self.policy, deadline),
            wait=self.policy.waiting,
            retry=tenacity.retry_if_exception_type(self._only),
            before_sleep=before_sleep,
            reraise=True,
        )
        try:
            result = retrying(operation)
        except self._only as error:
            count.exhausted += 1
            count.last_error = error.message
            raise
        count.recovered += retrying.statistics["attempt_number"] > 1
        return result


_NO_RETRYING = tenacity.Retrying()


class _Stop(stop_base):
    def __init__(self, policy: RetryPolicy, deadline: Deadline | None) -> None:
        self.policy = policy
        self.deadline = deadline

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        late = self.deadline is not None and state.upcoming_sleep >= self.deadline.left_s()
        return late or self.policy.exhausted(state.attempt_number)


class Pace:
    """Waits between the tries of a loop that never gives up: what waits is kept until it lands.

    Args:
        policy: How far apart.
        clock: Monotonic time decides.
        count: Where it counts; one of its own when left out.
    """

    def __init__(self, policy: RetryPolicy, clock: Clock, count: RetryCount | None = None) -> None:
        self.policy = policy
        self.count = RetryCount() if count is None else count
        self._clock = clock
        self._failed = False
        self._in_a_row = 0
        self._retry_at_s = 0.0

    def wait_s(self) -> float:
        """Seconds until the next try; 0 when it may be made now."""
        return max(0.0, self._retry_at_s - self._clock.monotonic())

    def failed(self, error_text: str) -> bool:
        """A try failed: the next one waits.

        Returns:
            Whether the attempts in a row are used up. The next try then begins a new row, after
            the longest wait.
        """
        self._failed = True
        self._in_a_row += 1
        self.count.retries += 1
        self.count.last_error = error_text
        exhausted = self.policy.exhausted(self._in_a_row)
        wait_s = self.policy.max_s if exhausted else self.policy.wait_s(self._in_a_row)
        if exhausted:
            self.count.exhausted += 1
            self._in_a_row = 0
        self._retry_at_s = self._clock.monotonic() + wait_s
        return exhausted

    def succeeded(self) -> None:
        """A try succeeded."""
        self.count.recovered += self._failed
        self.begin_anew()
        self._failed = False

    def begin_anew(self) -> None:
        """Let something else decide when the next try is made."""
        self._in_a_row = 0
        self._retry_at_s = 0.0


@dataclass(frozen=True, slots=True)
class Dependency:
    """What stands between us and a broker or store: its breaker and the pace of tries.

    The breaker opens by its own rule, and when the attempts in a row are used up; from then on its
    probes are the tries.
    """

    breaker: Breaker
    pace: Pace

    @property
    def held_up(self) -> bool:
        """Whether the next try has to wait."""
        return self.breaker.state is not BreakerState.CLOSED or self.pace.wait_s() > 0

    def allow(self) -> bool:
        """Whether a try may be made now; one that is let through must be answered."""
        return not self.pace.wait_s() and self.breaker.allow()

    def failed(self, error_text: str) -> None:
        """A try failed."""
        exhausted = self.pace.failed(error_text)
        self.breaker.failure(error_text)
        if exhausted and self.breaker.state is BreakerState.CLOSED:
            self.breaker.trip(error_text, for_s=self.breaker.policy.open_s)
        if self.breaker.state is BreakerState.OPEN:
            self.pace.begin_anew()

    def succeeded(self) -> None:
        """A try succeeded."""
        self.breaker.success()
        self.pace.succeeded()
