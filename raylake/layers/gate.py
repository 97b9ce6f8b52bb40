"""A table's rules and what follows from them, as a step needs them.

Rules are judged before and after the transformation; where no rule is written the seven categories
are judged all the same. Rows that leave become files of the quarantine, results lines of the
quality history; both are named by the step's commit, and added after it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import pyarrow as pa

from raylake.clock import Clock
from raylake.config.quality import Freshness
from raylake.layers.derived import Look, Rejected, SourceRows, Span
from raylake.layers.step import Passed
from raylake.layers.step_look import StepLook
from raylake.quality import categories, history, quarantine
from raylake.quality.errors import QualityAbort
from raylake.quality.past import Past
from raylake.quality.quarantine import Origin, Taken
from raylake.quality.replaying import Chosen, choose, open_rows
from raylake.quality.results import RuleResult
from raylake.quality.rules import Context, RuleSet, rejected_rows
from raylake.quality.side_table import Target
from raylake.storage.place import place
from raylake.tables.errors import TableMissing
from raylake.tables.requests import Read
from raylake.tables.service import DirectTables
from raylake.tables.versions import Versions

JUDGED_ROWS: Final = 100_000
"""Of a larger step so many rows are profiled for the categories."""
T = TypeVar("T")


class RuleGate:
    """:class:`raylake.layers.step.Gate` by the rules of a table.

    Args:
        name: ``layer.name``.
        rules: Its rules.
        clock: Time, for freshness.
        categories: Whether the seven categories are judged as well.
    """

    def __init__(self, name: str, rules: RuleSet, clock: Clock, *, categories: bool = True) -> None:
        self._name = name
        self.rules = rules
        self._before, self._after = rules.before, rules.after
        self._clock = clock
        self._categories = categories
        self.past = Past()

    def for_replays(self) -> RuleGate:
        """The same rules for some rows again: nothing is said of the table as a whole."""
        rules = [one for one in self.rules.rules if not isinstance(one.rule, Freshness)]
        return RuleGate(self._name, RuleSet(rules, self.rules.keys), self._clock, categories=False)

    def before(self, changes: SourceRows, look: StepLook) -> Passed:
        """See :class:`raylake.layers.step.Gate`."""
        if not self._before.rules:
            return Passed()
        try:
            checked = self._before.check(changes.came, self._context(look))
        except QualityAbort as refused:
            return Passed(results=refused.results, refused=refused)
        rejected = rejected_rows(checked.rejected, changes.came)
        return Passed(checked.kept, rejected, checked.results)

    def after(
        self, rows: pa.Table, origin: pa.Array, changes: SourceRows, look: StepLook
    ) -> Passed:
        """See :class:`raylake.layers.step.Gate`."""
        context = self._context(look)
        judged: tuple[RuleResult, ...] = ()
        if self._categories:
            judged = categories.check(rows.slice(0, JUDGED_ROWS), self.past, context.now)
        if not self._after.rules:
            return Passed(results=judged)
        try:
            checked = self._after.check(rows, context)
        except QualityAbort as refused:
            # What is not written is no measure of what is usual.
            return Passed(results=refused.results, refused=refused)
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
        self._tables = DirectTables()

    def stash(
        self,
        target: Target,
        rejected: Sequence[Rejected],
        results: Sequence[RuleResult],
        span: Span,
        taken: Taken | None = None,
    ) -> Mapping[str, Any]:
        """See :class:`raylake.layers.step.Aside`."""
        made = self.letters(target, rejected, span, taken)
        if taken is not None:
            made = [*made, self.closing(taken, made)]
        return self.written(made, results, span)

    def letters(
        self,
        target: Target,
        rejected: Sequence[Rejected],
        span: Span,
        taken: Taken | None = None,
    ) -> list[pa.Table]:
        """Rejected rows as rows of the quarantine, before they are written."""
        if not rejected:
            return []
        now = self._now if taken is None else quarantine.not_before(self._now, taken)
        number = None if taken is None else taken.replay
        return [quarantine.letters(Origin(target, span, now, number), rejected)]

    def closing(self, taken: Taken, letters: Sequence[pa.Table]) -> pa.Table:
        """What closes rows that were taken and are not among those rejected since."""
        ids = [one.select(["quarantine_id"]) for one in (taken.rows.slice(0, 0), *letters)]
        again = pa.concat_tables(ids)
        return quarantine.markers(taken, again, quarantine.not_before(self._now, taken))

    def written(
        self, made: Sequence[pa.Table], results: Sequence[RuleResult], span: Span
    ) -> Mapping[str, Any]:
        """Write rows of the quarantine; what a commit is to say of them and of results."""
        found: dict[str, Any] = {}
        if any(one.num_rows for one in made):
            found[quarantine.METADATA] = quarantine.write(self._quarantine, made)
        if results:
            found[history.METADATA] = history.entry(span, results, self._now)
        return found

    def record(self, target: Target, results: Sequence[RuleResult], span: Span) -> None:
        """See :class:`raylake.layers.step.Aside`."""
        if not results or self._asked(False, lambda: self._known(target, results, span)):
            return
        self.tell(target, results, span)

    def tell(self, target: Target, results: Sequence[RuleResult], span: Span) -> None:
        """Add lines to the history that no commit tells."""
        history.record(self._history, target, history.entry(span, results, self._now), self._clock)

    def follow_up(self, target: Target) -> None:
        """See :class:`raylake.layers.step.Aside`."""
        quarantine.follow_up(self._quarantine, target, self._clock)
        history.follow_up(self._history, target, self._clock)

    def past(self, target: Target) -> Past:
        """What was measured of a table before."""
        return self._asked(Past(), lambda: history.past(self._read, target))

    def last_freshness(self, target: Target) -> Mapping[str, tuple[bool, float]]:
        """Whether each freshness rule held when it was last told, and when that was."""
        return self._asked({}, lambda: history.last_freshness(self._read, target))

    def open_rows(self, target: Target) -> pa.Table:
        """What is open of a table in the quarantine."""
        nothing = quarantine.SCHEMA.empty_table()
        return self._asked(nothing, lambda: open_rows(self.quarantined(), target.table_id))

    def chosen(self, target: Target, where: str | None) -> Chosen:
        """What a replay takes; raises as :func:`raylake.quality.replaying.choose`."""
        nothing = quarantine.SCHEMA.empty_table()
        return self._asked(
            Chosen(nothing, nothing), lambda: choose(self.quarantined(), target.table_id, where)
        )

    def quarantined(self) -> Callable[[Read], pa.RecordBatchReader]:
        """Reads the quarantine as it is now, each time at the same version.

        Raises:
            TableMissing: Nothing was ever set aside.
        """
        path = self._quarantine.path
        version = Versions(self._quarantine.root).latest
        return lambda request: self._tables.read(path, replace(request, version=version))

    def _known(self, target: Target, results: Sequence[RuleResult], span: Span) -> bool:
        return history.known(self._read, target, span, results)

    def _read(self, request: Read) -> pa.RecordBatchReader:
        return self._tables.read(self._history.path, request)

    def _asked(self, nothing: T, ask: Callable[[], T]) -> T:
        """What a side table says; nothing where it is not there yet."""
        try:
            return ask()
        except TableMissing:
            return nothing

    @property
    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)


def side_target(name: str, address: str, table_id: str) -> Target:
    """A derived table, for its side tables."""
    return Target(name, str(place(address)), table_id)
