"""One step of a derived table: what its source brought since, in one commit with the progress.

The commit that holds the rows also says up to which version the source is processed, which rows
were turned away and where they lie, and what the rules found. So a step is done whole or not at
all, whoever dies when; what follows a commit (quarantine, quality history) is done again from what
the commit says (ADR 37).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import pyarrow as pa

from raylake import faults
from raylake.clock import Clock
from raylake.delta.tables_there import is_table
from raylake.layers.derived import (
    NEVER,
    Deed,
    Derivation,
    Rejected,
    SideWrite,
    SourceRows,
    Span,
    progress_app,
)
from raylake.layers.screened import Screen, ScreenedLook, narrowed
from raylake.quality.results import RuleResult
from raylake.quality.side_table import Target as SideTarget
from raylake.tables.alongside import Alongside
from raylake.tables.errors import TableExists, TableMissing
from raylake.tables.requests import Advance, Read
from raylake.tables.results import OperationResult
from raylake.tables.routing import EngineChoice
from raylake.tables.service import TableService

log = logging.getLogger(__name__)

STEP: Final = "step"
"""Where a commit's metadata says what the step was."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What the rules say of rows.

    Attributes:
        keep: True for the rows that stay; None: all do.
        rejected: Those that leave, by rule, as the source brought them.
        results: What each rule found.
    """

    keep: pa.BooleanArray | None = None
    rejected: Sequence[Rejected] = ()
    results: Sequence[RuleResult] = ()


class Gate(Screen, Protocol):
    """The rules of a table."""

    def before(self, changes: SourceRows, look: StepLook) -> Passed:
        """Rules on the source's rows as they came.

        Raises:
            QualityAbort: A rule says that nothing is to be written.
        """
        ...

    def after(
        self, rows: pa.Table, origin: pa.Array, changes: SourceRows, look: StepLook
    ) -> Passed:
        """Rules on the rows in the table's columns; raises as :meth:`before`."""
        ...


class Aside(Protocol):
    """Where turned-away rows and the rules' results go, beside the table."""

    def stash(
        self,
        target: SideTarget,
        rejected: Sequence[Rejected],
        results: Sequence[RuleResult],
        span: Span,
    ) -> Mapping[str, Any]:
        """Write files that no table names yet; what the commit is to say of them."""
        ...

    def follow_up(self, target: SideTarget) -> None:
        """Add to their tables what commits have named since the last time; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step did.

    Attributes:
        span: The versions that it brought in.
        version: The table's version with it.
        came: Rows that the source brought.
        left: Rows that the source took.
        rejected: Rows that were turned away.
        counts: What was written.
        watermark_ms: The source's watermark.
        duration_s: Seconds.
        engine: The engine that wrote.
    """

    span: Span
    version: int
    came: int
    left: int
    rejected: int
    counts: Mapping[str, Any] = field(default_factory=dict)
    watermark_ms: int | None = None
    duration_s: float = 0.0
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The table that is written.

    Attributes:
        name: ``layer.name``.
        address: Where it lies.
        id: Its id.
        version: The version that the step begins with.
        sides: The folder of the tables that its derivation keeps beside it.
        engine: Who is to write.
    """

    name: str
    address: str
    id: str
    version: int
    sides: str
    engine: EngineChoice = "auto"

    @property
    def aside(self) -> SideTarget:
        """The table, for its quarantine and history."""
        return SideTarget(self.name, self.address, self.id)


class StepLook:
    """What a step reads, each table at one version.

    Args:
        tables: Reads.
        target: The table.
        span: What is brought in.
        places: ``layer.name`` to address, for other tables.
        others: Which versions other tables are read at.
    """

    def __init__(
        self,
        tables: TableService,
        target: Target,
        span: Span,
        places: Mapping[str, str],
        others: OtherVersions,
    ) -> None:
        self._tables = tables
        self._target = target
        self.span = span
        self._places = places
        self.others = others
        self._pinned: dict[str, int] = {span.source: span.last, target.name: target.version}

    @property
    def pinned(self) -> Mapping[str, int]:
        """The versions that were read, by table."""
        return dict(self._pinned)

    def source(self, request: Read) -> pa.RecordBatchReader:
        """See :class:`~raylake.layers.derived.Look`."""
        return self._tables.read(self.span.address, replace(request, version=self.span.last))

    def target(self, request: Read) -> pa.RecordBatchReader:
        """See :class:`~raylake.layers.derived.Look`."""
        return self._tables.read(
            self._target.address, replace(request, version=self._target.version)
        )

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :class:`~raylake.layers.derived.Look`."""
        address = self._places[table]
        if table not in self._pinned:
            self._pinned[table] = self.others.newest(table, address)
        return self._tables.read(address, replace(request, version=self._pinned[table]))

    def side(self, name: str, request: Read) -> pa.RecordBatchReader | None:
        """See :class:`~raylake.layers.derived.Look`; it is the step's own, so it is not pinned."""
        try:
            return self._tables.read(f"{self._target.sides}/{name}", request)
        except TableMissing:
            return None


class OtherVersions(Protocol):
    """At which versions a step reads other tables."""

    @property
    def progress(self) -> Mapping[str, tuple[int, int]]:
        """By txn of those that it follows: the version processed with the step, and before."""
        ...

    def newest(self, name: str, address: str) -> int:
        """The version of a table."""
        ...


class Work(Protocol):
    """A table's definition as a step needs it."""

    @property
    def derivation(self) -> Derivation:
        """How its rows come to be."""
        ...

    @property
    def gate(self) -> Gate:
        """Its rules."""
        ...

    @property
    def aside(self) -> Aside:
        """Its quarantine and history."""
        ...


def step(work: Work, target: Target, changes: SourceRows, look: StepLook, by: By) -> Stepped:
    """Bring what a span brought into the table.

    Args:
        work: The table's definition.
        target: The table.
        changes: What the source brought.
        look: What may be read.
        by: Who writes, and the time.

    Raises:
        ProgressMoved: Another process has brought this span in meanwhile; nothing was written.
        QualityAbort: A rule holds the span back; nothing was written.
        RayLakeError: As the table service; the commit is there or it is not.
    """
    started = time.perf_counter()
    made = judged(work, changes, look)
    rejected = made.rejected
    deed = work.derivation.deed(made.rows, made.changes, ScreenedLook(look, work.gate))
    faults.reach("transform.before_files", table=target.name)
    aside = work.aside.stash(target.aside, rejected, made.results, changes.span)
    faults.reach("transform.before_commit", table=target.name)
    turned_away = sum(one.rows.num_rows for one in rejected)
    said = _said(changes, deed, look, turned_away)
    said |= {**aside, "at_ms": by.now_ms()}
    result = _written(target, look, deed, said, by.tables)
    faults.reach("transform.after_commit", table=target.name)
    work.aside.follow_up(target.aside)
    return Stepped(
        span=changes.span,
        version=result.version_after,
        came=changes.came.num_rows,
        left=changes.left.num_rows,
        rejected=turned_away,
        counts=said[STEP],
        watermark_ms=changes.watermark_ms,
        duration_s=time.perf_counter() - started,
        engine=result.engine,
    )


@dataclass(frozen=True, slots=True)
class Made:
    """Rows of a step that its rules have passed, before anything is written.

    Attributes:
        rows: In the table's columns.
        changes: What the source brought, without rows that a rule turned away.
        rejected: Rows that were turned away, by rule.
        results: What each rule found.
    """

    rows: pa.Table
    changes: SourceRows
    rejected: Sequence[Rejected]
    results: Sequence[RuleResult]


def judged(work: Work, changes: SourceRows, look: StepLook) -> Made:
    """Shape a source's rows and hold them against the rules; nothing is written.

    Raises:
        QualityAbort: A rule says that nothing is to be written.
        RayLakeError: The rows do not fit the definition.
    """
    arrived = work.gate.before(changes, look)
    came = changes.came if arrived.keep is None else changes.came.filter(arrived.keep)
    kept = narrowed(changes, came, work.gate, look)
    shaped = work.derivation.shape(kept, ScreenedLook(look, work.gate))
    checked = work.gate.after(shaped.rows, shaped.origin, kept, look)
    rows = shaped.rows if checked.keep is None else shaped.rows.filter(checked.keep)
    return Made(
        rows,
        kept,
        [*arrived.rejected, *shaped.rejected, *checked.rejected],
        [*arrived.results, *checked.results],
    )


@dataclass(frozen=True, slots=True)
class By:
    """Who writes, and the time."""

    tables: TableService
    clock: Clock

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.clock.now() * 1000)


def _said(changes: SourceRows, deed: Deed, look: StepLook, turned_away: int) -> dict[str, Any]:
    span = changes.span
    found: dict[str, Any] = {
        STEP: {
            "source": span.source,
            "source_id": span.table_id,
            "after": span.after,
            "last": span.last,
            "came": changes.came.num_rows,
            "left": changes.left.num_rows,
            "rejected": turned_away,
            "read": look.pinned,
            **deed.counts,
        }
    }
    if changes.watermark_ms is not None:
        found["watermark_ms"] = changes.watermark_ms
    return found


def _written(
    target: Target, look: StepLook, deed: Deed, said: Mapping[str, Any], tables: TableService
) -> OperationResult:
    for one in deed.first:
        if isinstance(one, SideWrite):
            _write_side(f"{target.sides}/{one.name}", one, tables)
        else:
            tables.execute(target.address, one, engine=target.engine)
    span = look.span
    moves = {**look.others.progress, progress_app(span.table_id): (span.last, span.after)}
    alongside = Alongside(
        {app: to for app, (to, _) in moves.items()},
        {app: None if seen == NEVER else seen for app, (_, seen) in moves.items()},
        said,
    )
    last = deed.last if deed.last is not None else Advance()
    return tables.execute(target.address, last, engine=target.engine, alongside=alongside)


def _write_side(address: str, one: SideWrite, tables: TableService) -> None:
    if not is_table(address):
        with suppress(TableExists):
            tables.execute(address, one.create)
    tables.execute(address, one.write)
