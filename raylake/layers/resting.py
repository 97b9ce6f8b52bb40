"""A derived table at rest: its freshness rules are judged though no step is made."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pyarrow as pa

from raylake.clock import Clock
from raylake.config.quality import Freshness
from raylake.layers.asked_of_logs import newest_version
from raylake.layers.derived import Span
from raylake.layers.gate import SideTables
from raylake.layers.step import Aside
from raylake.quality.freshness_watch import FreshnessWatch, Standing
from raylake.quality.results import RuleResult
from raylake.quality.rules import LEVELS, RuleSet
from raylake.quality.side_table import Target
from raylake.quality.table_rules import Age, age
from raylake.storage.place import place
from raylake.tables.pins import schema_at
from raylake.tables.requests import Read
from raylake.tables.service import TableService

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rest:
    """Where a table rests.

    Attributes:
        target: The table.
        version: Its version.
        span: What it has processed of its source: no version after the last one.
    """

    target: Target
    version: int
    span: Span


class Resting:
    """The freshness rules of one table between its steps.

    Args:
        rules: The table's rules.
        aside: Its history; of a table that is being made anew nothing is judged at rest.
        tables: Reads.
        clock: Time.
    """

    def __init__(
        self, rules: RuleSet, aside: SideTables | Aside, tables: TableService, clock: Clock
    ) -> None:
        self._aside = aside if isinstance(aside, SideTables) else None
        self._rules = [one for one in rules.rules if isinstance(one.rule, Freshness)]
        self._tables = tables
        self._clock = clock
        self._watches: list[FreshnessWatch] | None = None

    def stepped(self, results: Iterable[RuleResult]) -> None:
        """What a step found of the rules."""
        found = {one.rule: one for one in results if one.by_rule}
        if self._watches is None:
            self._watches = [FreshnessWatch(one) for one in self._rules]
        for watch in self._watches:
            if watch.one.name in found:
                watch.stepped(found[watch.one.name], self._now)

    def look(self, at: Callable[[], Rest]) -> tuple[Standing, ...]:
        """How the rules stand, judged where it is time to; what has changed is told.

        Args:
            at: Where the table rests, asked for only then.

        Raises:
            RayLakeError: A table cannot be read, or the history not be written.
        """
        if not self._rules or self._aside is None:
            return ()
        now_s = self._clock.now()
        if self._watches is None or any(one.due(now_s) for one in self._watches):
            self._judge(at(), self._aside)
        standing = (one.standing for one in self._watches or ())
        return tuple(one for one in standing if one is not None)

    def _judge(self, rest: Rest, aside: SideTables) -> None:
        if self._watches is None:
            last = aside.last_freshness(rest.target)
            self._watches = [FreshnessWatch(one, last.get(one.name)) for one in self._rules]
        now = self._now
        told = []
        for watch in self._watches:
            found = self._judged(watch, rest, now) if watch.due(now.timestamp()) else None
            if found is not None:
                level = logging.INFO if found.passed else LEVELS[found.severity]
                log.log(level, "%s: %s: %s", rest.target.name, found.rule, found.message)
                told.append(found)
        if told:
            aside.tell(rest.target, told, rest.span)

    def _judged(self, watch: FreshnessWatch, rest: Rest, now: dt.datetime) -> RuleResult | None:
        before = watch.rule.when == "before"
        address = rest.span.address if before else rest.target.path
        version = newest_version(address) if before else rest.version
        if watch.version == version:
            return watch.again(now)
        found = self._age(watch.rule, address, version, now)
        watch.version = version
        return watch.looked(found, now)

    def _age(self, rule: Freshness, address: str, version: int, now: dt.datetime) -> Age:
        schema = schema_at(place(address), version)
        if rule.column not in schema.names:
            return Age(None, stale=True)

        def read(request: Read) -> pa.RecordBatchReader:
            return self._tables.read(address, replace(request, version=version))

        nothing = pa.chunked_array([], schema.field(rule.column).type)
        return age(rule, nothing, read, now)

    @property
    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)
