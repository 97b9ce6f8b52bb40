"""Only what is known not to have happened is tried again, and not for ever."""

from __future__ import annotations

import pytest

from raylake.clock import Deadline, ManualClock
from raylake.errors import DependencyUnreachable, OutcomeUnknown, RayLakeError, Retryable, Terminal
from raylake.ingest.retry import Retrier, RetryCounters, RetryPolicy


class SleepLog(ManualClock):
    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)


class Flaky:
    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.calls = 0
        self.failures = failures
        self.error = error or Retryable("busy")

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


@pytest.fixture
def clock() -> SleepLog:
    return SleepLog()


def test_recovers_and_counts(clock: SleepLog) -> None:
    retrier = Retrier("store", RetryPolicy(), clock)
    assert retrier.call(Flaky(3)) == "done"
    assert retrier.call(Flaky(0)) == "done"
    assert retrier.counters.snapshot() == {
        "store": {
            "retries": 3,
            "recovered": 1,
            "exhausted": 0,
            "last_error": "busy",
        }
    }


def test_gives_up_with_the_last_error_unchanged(clock: SleepLog) -> None:
    retrier = Retrier("store", RetryPolicy(attempts=4), clock)
    flaky = Flaky(99, DependencyUnreachable("no broker", hint="start it", host="h"))
    with pytest.raises(DependencyUnreachable) as caught:
        retrier.call(flaky)
    assert caught.value is flaky.error
    assert (flaky.calls, len(clock.slept)) == (4, 3)
    count = retrier.counters.of("store")
    assert (count.retries, count.recovered, count.exhausted) == (3, 0, 1)


@pytest.mark.parametrize(
    "error", [Terminal("no"), OutcomeUnknown("perhaps"), RayLakeError("x"), OSError("raw")]
)
def test_everything_else_passes_at_once(clock: SleepLog, error: Exception) -> None:
    retrier = Retrier("store", RetryPolicy(), clock)
    flaky = Flaky(1, error)
    with pytest.raises(type(error)):
        retrier.call(flaky)
    assert (flaky.calls, clock.slept) == (1, [])
    assert retrier.counters.of("store").exhausted == 0


def test_a_terminal_error_after_a_retry_is_not_retried_again(clock: SleepLog) -> None:
    errors: list[Exception] = [Retryable("busy"), Terminal("gone")]

    def operation() -> None:
        raise errors.pop(0)

    with pytest.raises(Terminal):
        Retrier("store", RetryPolicy(), clock).call(operation)
    assert len(clock.slept) == 1


def test_property_44_exponential_waits_have_full_jitter_and_a_cap(clock: SleepLog) -> None:
    policy = RetryPolicy(attempts=40, initial_s=0.5, max_s=8)
    with pytest.raises(Retryable):
        Retrier("store", policy, clock).call(Flaky(99))
    ceilings = [min(8.0, 0.5 * 2**n) for n in range(39)]
    assert all(0 <= wait <= top for wait, top in zip(clock.slept, ceilings, strict=True))
    assert len(set(clock.slept)) > 30
    assert min(clock.slept[5:]) < 4 < max(clock.slept)


def test_fixed_waits_are_all_the_same(clock: SleepLog) -> None:
    policy = RetryPolicy("fixed", attempts=5, initial_s=2)
    with pytest.raises(Retryable):
        Retrier("store", policy, clock).call(Flaky(99))
    assert clock.slept == [2, 2, 2, 2]


def test_none_tries_once(clock: SleepLog) -> None:
    flaky = Flaky(1)
    with pytest.raises(Retryable):
        Retrier("store", RetryPolicy("none"), clock).call(flaky)
    assert (flaky.calls, clock.slept) == (1, [])


def test_no_sleep_begins_that_spends_the_deadline(clock: SleepLog) -> None:
    policy = RetryPolicy("fixed", attempts=100, initial_s=3)
    deadline = Deadline.after(10, clock)
    with pytest.raises(Retryable):
        Retrier("store", policy, clock).call(Flaky(999), deadline=deadline)
    assert clock.slept == [3, 3, 3]
    assert not deadline.expired()


def test_attempts_bound_it_within_a_long_deadline(clock: SleepLog) -> None:
    policy = RetryPolicy("fixed", attempts=2, initial_s=1)
    with pytest.raises(Retryable):
        Retrier("s", policy, clock).call(Flaky(9), deadline=Deadline.after(1e6, clock))
    assert clock.slept == [1]


def test_dependencies_are_counted_apart(clock: SleepLog) -> None:
    counters = RetryCounters()
    Retrier("store", RetryPolicy(), clock, counters).call(Flaky(1))
    Retrier("broker", RetryPolicy(), clock, counters).call(Flaky(0))
    assert [(k, v["retries"]) for k, v in counters.snapshot().items()] == [
        ("broker", 0),
        ("store", 1),
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "hope"}, {"attempts": 0}, {"initial_s": -1}, {"initial_s": 5, "max_s": 1}],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"hope|cannot be followed"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
