"""One step of a derived table: what its source brought since, in one commit with the progress.

The commit that holds the rows also says up to which version the source is processed, which rows
were turned away and where they lie, and what the rules found. So a step is done whole or not at
all, whoever dies when; what follows a commit (quarantine, quality history) is done again from what
the commit says (ADR 37).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import pyarrow as pa

from raylake import faults
from raylake.clock import Clock
from raylake.errors import RayLakeError
from raylake.layers.derived import (
    NEVER,
    Deed,
    Derivation,
    Rejected,
    SideWrite,
    SourceRows,
    Span,
    part_apps,
    progress_app,
    replays_app,
)
from raylake.layers.screened import Screen, ScreenedLook, narrowed
from raylake.layers.side_writes import write_side
from raylake.layers.step_look import StepLook, Target
from raylake.quality.errors import QualityAbort
from raylake.quality.quarantine import Taken
from raylake.quality.results import RuleResult
from raylake.quality.side_table import Target as SideTarget
from raylake.tables.alongside import Alongside
from raylake.tables.requests import Advance
from raylake.tables.results import OperationResult
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
        refused: Why nothing is to be written; None: nothing is in the way.
    """

    keep: pa.BooleanArray | None = None
    rejected: Sequence[Rejected] = ()
    results: Sequence[RuleResult] = ()
    refused: QualityAbort | None = None


class Gate(Screen, Protocol):
    """The rules of a table."""

    def before(self, changes: SourceRows, look: StepLook) -> Passed:
        """Rules on the source's rows as they came."""
        ...

    def after(
        self, rows: pa.Table, origin: pa.Array, changes: SourceRows, look: StepLook
    ) -> Passed:
        """Rules on the rows in the table's columns."""
        ...


class Aside(Protocol):
    """Where turned-away rows and the rules' results go, beside the table."""

    def stash(
        self,
        target: SideTarget,
        rejected: Sequence[Rejected],
        results: Sequence[RuleResult],
        span: Span,
        taken: Taken | None = None,
    ) -> Mapping[str, Any]:
        """Write files that no table names yet; what the commit is to say of them.

        Args:
            target: The table.
            rejected: Rows that were turned away.
            results: What the rules found.
            span: What the step brings in.
            taken: The rows of the quarantine that it brings in instead, where it is a replay.
        """
        ...

    def record(self, target: SideTarget, results: Sequence[RuleResult], span: Span) -> None:
        """Tell what was found by a step that is not made; once, however often it is tried."""
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
        results: What the rules found.
        reasons: Why rows were turned away, and how many: ``rule: reason``.
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
    results: Sequence[RuleResult] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)


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


def step(
    work: Work,
    target: Target,
    changes: SourceRows,
    look: StepLook,
    by: By,
    taken: Taken | None = None,
) -> Stepped:
    """Bring what a span brought into the table.

    Args:
        work: The table's definition.
        target: The table.
        changes: What the source brought.
        look: What may be read.
        by: Who writes, and the time.
        taken: The rows of the quarantine that the changes were made of, where this is a replay.

    Raises:
        ProgressMoved: Another process has brought this span in meanwhile, or replayed rows;
            nothing was written.
        QualityAbort: A rule holds the span back; nothing was written but a line of the history.
        RayLakeError: As the table service; the commit is there or it is not.
    """
    started = time.perf_counter()
    made = judged(work, changes, look)
    if made.refused is not None:
        _record(work.aside, target, made, changes.span)
        raise made.refused
    rejected = made.rejected
    deed = work.derivation.deed(made.rows, made.changes, ScreenedLook(look, work.gate))
    faults.reach("transform.before_files", table=target.name)
    results = _told(made.results, changes)
    aside = work.aside.stash(target.aside, rejected, results, changes.span, taken)
    faults.reach("transform.before_commit", table=target.name)
    turned_away = sum(one.rows.num_rows for one in rejected)
    said = _said(changes, deed, look, turned_away)
    said |= {**aside, "at_ms": by.now_ms()}
    if taken is not None:
        said[STEP] |= {"replay": taken.replay, "replayed": taken.rows.num_rows}
    result = _written(target, look, deed, said, by)
    faults.reach("transform.after_commit", table=target.name)
    work.aside.follow_up(target.aside)
    if not changes.span.whole:
        faults.reach("transform.between_parts", table=target.name)
    return Stepped(
        span=changes.span,
        version=result.version_after,
        came=changes.brought,
        left=changes.left.num_rows,
        rejected=turned_away,
        counts=said[STEP],
        watermark_ms=changes.watermark_ms,
        duration_s=time.perf_counter() - started,
        engine=result.engine,
        results=results,
        reasons=reasons_of(rejected),
    )


def reasons_of(rejected: Sequence[Rejected]) -> dict[str, int]:
    """Why rows were turned away, and how many: ``rule: reason``."""
    found: Counter[str] = Counter()
    for one in rejected:
        found[f"{one.rule}: {one.reason}"] += one.rows.num_rows
    return dict(found)


def _record(aside: Aside, target: Target, made: Made, span: Span) -> None:
    try:
        aside.record(target.aside, made.results, span)
    except RayLakeError as error:
        # Why the step is refused is what counts.
        log.warning("%s: the history of quality lacks a step: %s", target.name, error.message)


def _told(results: Sequence[RuleResult], changes: SourceRows) -> Sequence[RuleResult]:
    """The results that leave a line: of a step without rows failures, and what is of the table."""
    if changes.brought or changes.left.num_rows:
        return results
    return [one for one in results if one.failed or (one.by_rule and one.rows)]


@dataclass(frozen=True, slots=True)
class Made:
    """Rows of a step that its rules have passed, before anything is written.

    Attributes:
        rows: In the table's columns.
        changes: What the source brought, without rows that a rule turned away.
        rejected: Rows that were turned away, by rule.
        results: What each rule found.
        refused: Why nothing is to be written; None: nothing is in the way.
    """

    rows: pa.Table
    changes: SourceRows
    rejected: Sequence[Rejected]
    results: Sequence[RuleResult]
    refused: QualityAbort | None = None


def judged(work: Work, changes: SourceRows, look: StepLook) -> Made:
    """Shape a source's rows and hold them against the rules; nothing is written.

    Raises:
        RayLakeError: The rows do not fit the definition.
    """
    arrived = work.gate.before(changes, look)
    if arrived.refused is not None:
        none = changes.came.slice(0, 0)
        return Made(none, changes, (), arrived.results, arrived.refused)
    came = changes.came if arrived.keep is None else changes.came.filter(arrived.keep)
    kept = narrowed(changes, came, work.gate, look)
    shaped = work.derivation.shape(kept, ScreenedLook(look, work.gate))
    # As they came, with what only rules read: a replay asks these rules again.
    checked = work.gate.after(shaped.rows, shaped.origin, replace(kept, came=came), look)
    rows = shaped.rows if checked.keep is None else shaped.rows.filter(checked.keep)
    return Made(
        rows,
        kept,
        [*arrived.rejected, *shaped.rejected, *checked.rejected],
        [*arrived.results, *checked.results],
        checked.refused,
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
            "came": changes.brought,
            "left": changes.left.num_rows,
            "rejected": turned_away,
            "read": look.pinned,
            **deed.counts,
        }
    }
    if span.part is not None:
        part = span.part
        found[STEP]["part"] = {"begin": part.begin, "end": part.end, "of": part.total}
    if changes.watermark_ms is not None:
        found["watermark_ms"] = changes.watermark_ms
    return found


def _written(
    target: Target, look: StepLook, deed: Deed, said: Mapping[str, Any], by: By
) -> OperationResult:
    for one in deed.first:
        if isinstance(one, SideWrite):
            write_side(f"{target.sides}/{one.name}", one, by.tables, by.clock.now())
        else:
            by.tables.execute(target.address, one, engine=target.engine)
    txns, expected = _progress(target, look)
    if "replay" in said[STEP]:
        txns[replays_app(target.id)] = said[STEP]["replay"]
    expected[replays_app(target.id)] = target.replays or None
    alongside = Alongside(txns, expected, said)
    last = deed.last if deed.last is not None else Advance()
    return by.tables.execute(target.address, last, engine=target.engine, alongside=alongside)


def _progress(target: Target, look: StepLook) -> tuple[dict[str, int], dict[str, int | None]]:
    """The txns of a step's commit, and those that the log must have for it."""
    span, begun = look.span, target.begun
    moves = {**look.others.progress, progress_app(span.table_id): (span.last, span.after)}
    txns = {app: to for app, (to, _) in moves.items()}
    expected = {app: None if seen == NEVER else seen for app, (_, seen) in moves.items()}
    version, rows = part_apps(span.table_id)
    expected |= {
        version: None if begun is None else begun.version,
        rows: None if begun is None else begun.rows,
    }
    if span.part is not None:
        txns |= {version: span.last, rows: span.part.end}
    if not span.whole:
        del txns[progress_app(span.table_id)]
    return txns, expected
