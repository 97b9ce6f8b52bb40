"""A table's rules and what follows from them, as a step needs them.

Rules are judged before and after the transformation; where no rule is written the seven categories
are judged all the same. Rows that leave become files of the quarantine, results lines of the
quality history; both are named by the step's commit, and added after it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from raylake.clock import Clock
from raylake.layers.derived import Look, Rejected, SourceRows, Span
from raylake.layers.step import Passed, StepLook
from raylake.quality import categories, history, quarantine
from raylake.quality.past import Past
from raylake.quality.quarantine import Origin
from raylake.quality.results import RuleResult
from raylake.quality.rules import Context, RuleSet, rejected_rows
from raylake.quality.side_table import Target
from raylake.storage.place import place
from raylake.tables.errors import TableMissing
from raylake.tables.requests import Read
from raylake.tables.service import TableService

JUDGED_ROWS: Final = 100_000
"""Of a larger step so many rows are profiled for the categories."""


class RuleGate:
    """:class:`raylake.layers.step.Gate` by the rules of a table.

    Args:
        name: ``layer.name``.
        rules: Its rules.
        clock: Time, for freshness.
    """

    def __init__(self, name: str, rules: RuleSet, clock: Clock) -> None:
        self._name = name
        self._before, self._after = rules.before, rules.after
        self._clock = clock
        self.past = Past()

    def before(self, changes: SourceRows, look: StepLook) -> Passed:
        """See :class:`raylake.layers.step.Gate`."""
        if not self._before.rules:
            return Passed()
        checked = self._before.check(changes.came, self._context(look))
        rejected = rejected_rows(checked.rejected, changes.came)
        return Passed(checked.kept, rejected, checked.results)

    def after(
        self, rows: pa.Table, origin: pa.Array, changes: SourceRows, look: StepLook
    ) -> Passed:
        """See :class:`raylake.layers.step.Gate`."""
        context = self._context(look)
        judged = categories.check(rows.slice(0, JUDGED_ROWS), self.past, context.now)
        self.past = self.past.then(judged)
        if not self._after.rules:
            return Passed(results=judged)
        checked = self._after.check(rows, context)
        rejected = rejected_rows(checked.rejected, rows, changes.came, origin)
        return Passed(checked.kept, rejected, (*checked.results, *judged))

    @property
    def screens(self) -> bool:
        """See :class:`raylake.layers.screened.Screen`."""
        return bool(self._before.rules)

    def reads(self, source: pa.Schema) -> tuple[str, ...]:
        """See :class:`raylake.layers.screened.Screen`."""
        return self._before.reads(source)

    def screened(self, rows: pa.Table, look: Look) -> pa.Table:
        """See :class:`raylake.layers.screened.Screen`."""
        if not self._before.rules:
            return rows
        return rows.filter(self._before.standing(rows, self._context(look)))

    def _context(self, look: Look) -> Context:
        return Context(look, dt.datetime.fromtimestamp(self._clock.now(), dt.UTC), self._name)


class SideTables:
    """:class:`raylake.layers.step.Aside`: the pipeline's quarantine and quality history.

    Args:
        quarantine_path: The quarantine's address.
        history_path: The history's.
        clock: Time.
    """

    def __init__(self, quarantine_path: str, history_path: str, clock: Clock) -> None:
        self._quarantine = quarantine.quarantine_table(quarantine_path)
        self._history = history.history_table(history_path)
        self._clock = clock

    def stash(
        self,
        target: Target,
        rejected: Sequence[Rejected],
        results: Sequence[RuleResult],
        span: Span,
    ) -> Mapping[str, Any]:
        """See :class:`raylake.layers.step.Aside`."""
        now = dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)
        found: dict[str, Any] = {}
        if rejected:
            letters = quarantine.letters(Origin(target, span, now), rejected)
            found[quarantine.METADATA] = quarantine.write(self._quarantine, [letters])
        if results:
            found[history.METADATA] = history.entry(span, results, now)
        return found

    def follow_up(self, target: Target) -> None:
        """See :class:`raylake.layers.step.Aside`."""
        quarantine.follow_up(self._quarantine, target, self._clock)
        history.follow_up(self._history, target, self._clock)

    def past(self, target: Target, tables: TableService) -> Past:
        """What was measured of a table before."""

        def read(request: Read) -> pa.RecordBatchReader:
            return tables.read(self._history.path, request)

        try:
            return history.past(read, target)
        except TableMissing:
            return Past()


def side_target(name: str, address: str, table_id: str) -> Target:
    """A derived table, for its side tables."""
    return Target(name, str(place(address)), table_id)
