"""A table made anew beside its readers: computed aside, then one commit takes its place.

Everything that its source has is brought into a table of its own, step by step, by today's
definition. Then one overwrite with the progress makes it the table's newest version: who reads
sees the old rows or the new ones. Killed before that, nothing has changed; killed after it, what
is left to do is the definition's mark, which the next refresh sets.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from raylake.delta.tables_there import is_table
from raylake.layers.derived import NEVER, Rejected, Span, progress_app, replays_app
from raylake.layers.gate import SideTables
from raylake.layers.step import STEP, By, Stepped
from raylake.quality.quarantine import Taken
from raylake.quality.results import RuleResult
from raylake.quality.side_table import Target
from raylake.storage.place import delete_tree, folders, place
from raylake.tables.alongside import Alongside
from raylake.tables.requests import Create, Overwrite, Read
from raylake.tables.service import TableService

REFRESH: Final = "refresh-"
"""What the folder's name begins with in which a table is made anew."""


@dataclass(slots=True)
class Gathered:
    """:class:`raylake.layers.step.Aside` that keeps what steps say, for one commit at the end.

    Attributes:
        real: Writes the files.
        target: The table that is made anew.
        said: By kind, what the commit is to say.
        again: Of the rows that were rejected, what they are in the quarantine.
    """

    real: SideTables
    target: Target
    said: dict[str, list[Any]] = field(default_factory=dict)
    again: list[pa.Table] = field(default_factory=list)

    def stash(
        self,
        target: Target,
        rejected: Sequence[Rejected],
        results: Sequence[RuleResult],
        span: Span,
        taken: Taken | None = None,
    ) -> Mapping[str, Any]:
        """See :class:`raylake.layers.step.Aside`."""
        del target, taken
        made = self.real.letters(self.target, rejected, span)
        self.again += [one.select(["quarantine_id"]) for one in made]
        self._keep(self.real.written(made, results, span))
        return {}

    def record(self, target: Target, results: Sequence[RuleResult], span: Span) -> None:
        """See :class:`raylake.layers.step.Aside`."""
        del target
        self.real.record(self.target, results, span)

    def close(self, replay: int, span: Span) -> None:
        """Close what is open of the table: all that the source has was judged again.

        Args:
            replay: The number that this counts as.
            span: What was read of the source.
        """
        self.real.follow_up(self.target)
        rows = self.real.open_rows(self.target)
        if rows.num_rows:
            closing = self.real.closing(Taken(rows, replay), self.again)
            self._keep(self.real.written([closing], (), span))

    def _keep(self, told: Mapping[str, Any]) -> None:
        for kind, entries in told.items():
            self.said.setdefault(kind, []).extend(entries)

    def follow_up(self, target: Target) -> None:
        """Nothing is added before the commit that says so."""


@dataclass(frozen=True, slots=True)
class Anew:
    """A table that is to be made anew.

    Attributes:
        target: The table.
        sides: The folder of the tables that its derivation keeps beside it.
        processed: By source, the version that it has processed.
        engine: Who writes it.
        replays: The number of the last replay into it; 0: there was none.
    """

    target: Target
    sides: str
    processed: Mapping[str, int]
    engine: Any = "auto"
    replays: int = 0


def refreshed(
    anew: Anew,
    aside: SideTables,
    by: By,
    fill: Callable[[str, str, Gathered], Stepped | None],
) -> Stepped | None:
    """Make a table anew.

    Args:
        anew: The table.
        aside: Its quarantine and history.
        by: Who writes, and the time.
        fill: Brings all of the source into a table at an address, with a folder for its side
            tables and what its steps say; the last step, None where the source is empty.

    Returns:
        The last step, with the version that the table has now.

    Raises:
        ProgressMoved: Another process brought something in meanwhile; nothing was changed.
        RayLakeError: As a step.
    """
    folder = f"{anew.sides}/{REFRESH}{uuid.uuid4().hex[:12]}"
    gathered = Gathered(aside, anew.target)
    try:
        last = fill(f"{folder}/table", f"{folder}/sides", gathered)
        if last is None:
            return None
        _take_sides(f"{folder}/sides", anew.sides, by.tables)
        gathered.close(anew.replays + 1, last.span)
        rows = by.tables.read(f"{folder}/table", Read()).read_all()
        said: dict[str, Any] = {STEP: {**last.counts, "full_refresh": True}, **gathered.said}
        said |= {"at_ms": by.now_ms()}
        if last.watermark_ms is not None:
            said["watermark_ms"] = last.watermark_ms
        app = progress_app(last.span.table_id)
        seen = anew.processed.get(last.span.table_id, NEVER)
        replays = replays_app(anew.target.table_id)
        alongside = Alongside(
            {app: last.span.last, replays: anew.replays + 1},
            {app: None if seen == NEVER else seen, replays: anew.replays or None},
            said,
        )
        overwrite = Overwrite(rows, schema="overwrite")
        done = by.tables.execute(
            anew.target.path, overwrite, engine=anew.engine, alongside=alongside
        )
    finally:
        delete_tree(place(folder))
    aside.follow_up(anew.target)
    return replace(last, version=done.version_after, engine=done.engine)


def _take_sides(new: str, old: str, tables: TableService) -> None:
    """Give the table the side tables that its new rows were made with.

    Before its rows: they know all that the old ones know of the same rows.
    """
    for one in folders(place(new)):
        rows = tables.read(str(one), Read()).read_all()
        address = f"{old}/{one.name}"
        if not is_table(address):
            tables.execute(address, Create(rows.schema))
        tables.execute(address, Overwrite(rows, schema="overwrite"))
