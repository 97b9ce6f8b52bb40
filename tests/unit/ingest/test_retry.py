"""Only what is known not to have happened is tried again, and not for ever."""

from __future__ import annotations

import pytest

from raylake.clock import Deadline, ManualClock
from raylake.errors import DependencyUnreachable, OutcomeUnknown, RayLakeError, Retryable, Terminal
from raylake.ingest.breaker import Breaker, BreakerPolicy, BreakerState
from raylake.ingest.retry import (
    Dependency,
    Pace,
    Retrier,
    RetryCounters,
    RetryPolicy,
    add_up,
)


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


def test_only_the_kind_that_is_asked_for_is_tried_again(clock: SleepLog) -> None:
    retrier = Retrier("conflicts", RetryPolicy(), clock, only=DependencyUnreachable)
    assert retrier.call(Flaky(2, DependencyUnreachable("no answer"))) == "done"
    flaky = Flaky(1)
    with pytest.raises(Retryable):
        retrier.call(flaky)
    assert flaky.calls == 1


def test_a_loop_that_never_gives_up_waits_longest_after_a_row_of_attempts(clock: SleepLog) -> None:
    pace = Pace(RetryPolicy("fixed", attempts=3, initial_s=1, max_s=20), clock)
    rows = []
    for _ in range(7):
        exhausted = pace.failed("down")
        rows.append((exhausted, pace.wait_s()))
        clock.sleep(pace.wait_s())
    assert rows == [(False, 1), (False, 1), (True, 20)] * 2 + [(False, 1)]
    pace.succeeded()
    pace.succeeded()
    count = pace.count
    assert (count.retries, count.recovered, count.exhausted) == (7, 1, 2)
    assert (pace.wait_s(), count.last_error) == (0, "down")


@pytest.mark.parametrize(
    ("policy", "failures"),
    [(RetryPolicy("fixed", 3, 0.1, 0.1), 3), (RetryPolicy("none"), 1), (RetryPolicy(), 10)],
)
def test_where_files_wait_the_breaker_opens_when_the_attempts_are_used_up(
    clock: SleepLog, policy: RetryPolicy, failures: int
) -> None:
    never_by_itself = BreakerPolicy(calls=1000, window_s=1e6, open_s=30.0, half_open_calls=1)
    store = Dependency(Breaker("store", never_by_itself, clock), Pace(policy, clock))
    for _ in range(failures):
        assert store.breaker.state is BreakerState.CLOSED
        clock.sleep(store.pace.wait_s())
        assert store.allow()
        store.failed("disk full")
        assert store.held_up
    assert store.breaker.state is BreakerState.OPEN
    assert store.breaker.retry_in_s == pytest.approx(30.0)
    clock.sleep(30.1)
    assert store.allow(), "from now on probes are the tries"
    store.failed("disk full")
    assert store.breaker.retry_in_s == pytest.approx(30.0)
    clock.sleep(30.1)
    assert store.allow()
    store.succeeded()
    assert not store.held_up
    assert store.pace.count.recovered == 1


def test_attempts_that_are_used_up_do_not_let_go_what_is_held_by_hand(clock: SleepLog) -> None:
    store = Dependency(Breaker("store", BreakerPolicy(), clock), Pace(RetryPolicy("none"), clock))
    store.breaker.trip("by hand")
    store.failed("an answer from before")
    assert store.breaker.retry_in_s is None


def test_what_several_processes_counted_adds_up(clock: SleepLog) -> None:
    counters = RetryCounters()
    Retrier("store", RetryPolicy(), clock, counters).call(Flaky(2))
    assert add_up([counters.snapshot(), {}, counters.snapshot()]) == {
        "store": {"retries": 4, "recovered": 2, "exhausted": 0}
    }


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "hope"}, {"attempts": 0}, {"initial_s": -1}, {"initial_s": 5, "max_s": 1}],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"hope|cannot be followed"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
