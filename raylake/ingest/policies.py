"""A pipeline file's rules as the policies of the machines that keep them."""

from __future__ import annotations

from raylake.clock import Clock
from raylake.config.models import DependencyName, Pipeline
from raylake.ingest.breaker import Breaker, BreakerPolicy
from raylake.ingest.earlier import Snapshots, restored
from raylake.ingest.plan import TablePlan
from raylake.ingest.poison import MIN_JUDGED_RECORDS, PoisonPolicy
from raylake.ingest.retry import Dependency, Pace, RetryCounters, RetryPolicy
from raylake.ingest.watermark import WatermarkPolicy

STORES: tuple[DependencyName, ...] = ("store", "dead_letters")


def breaker_policy(config: Pipeline) -> BreakerPolicy:
    """The breakers' policy of a pipeline."""
    b = config.breaker
    return BreakerPolicy(b.failure_rate, b.calls, b.window_s, b.open_s, b.half_open_calls)


def retry_policy(config: Pipeline, of: DependencyName) -> RetryPolicy:
    """How a dependency's failed operations are tried again."""
    rule = config.retry.of(of)
    return RetryPolicy(rule.strategy, rule.attempts, rule.initial_s, rule.max_s)


def watermark_policy(table: TablePlan) -> WatermarkPolicy | None:
    """The watermark's policy of a table; None when it watches no event time."""
    rule = table.config.event_time
    if rule is None:
        return None
    return WatermarkPolicy(rule.lateness_s, rule.idle_timeout_s, rule.max_ahead_s, rule.late)


def poison_policy(config: Pipeline, table: TablePlan) -> PoisonPolicy:
    """When a partition of a table is stopped; ``on_failure: abort`` stops at the first record."""
    letters = config.dead_letters
    abort = table.config.on_failure == "abort"
    return PoisonPolicy(
        0.0 if abort else letters.stop_above,
        letters.window_records,
        min_records=1 if abort else min(MIN_JUDGED_RECORDS, letters.window_records),
        open_s=config.breaker.open_s,
    )


def stores(
    config: Pipeline, clock: Clock, earlier: Snapshots, counters: RetryCounters
) -> dict[str, Dependency]:
    """The breakers and paces of :data:`STORES`, as an earlier run left them."""
    found: dict[str, Dependency] = {}
    for name in STORES:
        breaker = restored(Breaker(name, breaker_policy(config), clock), earlier, name)
        pace = Pace(retry_policy(config, name), clock, counters.of(name))
        found[name] = Dependency(breaker, pace)
    return found
