"""Tables without a schema: those that wait for a first record, and those that end the start."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence

from raylake.clock import Clock
from raylake.config.bronze import TopicPattern
from raylake.errors import ConfigError
from raylake.ingest.plan import NothingToInfer, TablePlan

log = logging.getLogger(__name__)

NO_RECORD = "no record to infer a schema from"
LOG_INTERVAL_S = 600.0


class Waiting:
    """Tables of topics that a pattern found, which hold no record yet.

    Attributes:
        why: What each one waits for, by its name.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self.why: dict[str, str] = {}
        self._clock = clock
        self._told_at_s: dict[str, float] = {}

    def add(self, table: str) -> None:
        """A table waits; said in the log once, then each :data:`LOG_INTERVAL_S` seconds."""
        now_s = self._clock.monotonic()
        if table not in self.why or now_s >= self._told_at_s[table] + LOG_INTERVAL_S:
            self._told_at_s[table] = now_s
            log.info("%s waits: %s", table, NO_RECORD)
        self.why = {**self.why, table: NO_RECORD}

    def keep(self, tables: Container[str]) -> None:
        """Only these can wait still: the others have started, or their topic is gone."""
        self.why = {name: why for name, why in self.why.items() if name in tables}


def may_wait(plan: TablePlan) -> bool:
    """Whether a table's topic was found by a pattern: nobody named it, so it may come empty."""
    return plan.config.fans_out and isinstance(plan.config.topics, TopicPattern)


def together(faults: Sequence[ConfigError]) -> ConfigError:
    """All that is wrong, as one error."""
    if len(faults) == 1:
        return faults[0]
    kind = NothingToInfer if all(isinstance(f, NothingToInfer) for f in faults) else ConfigError
    hints = dict.fromkeys(f.hint for f in faults if f.hint)
    return kind("\n".join(f.message for f in faults), hint="; ".join(hints))


def nothing_started(waiting: Sequence[str]) -> ConfigError:
    """A run that shall end by itself has no table to fill."""
    why = f"{', '.join(waiting)}: {NO_RECORD}" if waiting else "no topic matches"
    return ConfigError(
        f"there is no table to fill: {why}",
        hint="is the pattern right? Give `schema:`, produce some records first, or leave "
        "--available-now out: then the run waits for them",
    )
