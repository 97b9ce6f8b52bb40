"""Rows of the quarantine once more, through today's rules and shape, into their table.

A replay is a step whose rows come from the quarantine. It is one commit of the table, which holds
what passes and names what closes the rows in the quarantine (:mod:`raylake.quality.quarantine`); so
a row is there and closed, or neither. Replays are numbered in the table's own log: one that was
chosen before another one was made lands nowhere, and is chosen again.

Tables with keys stay the fold that they are: an older row does not take the place of a newer one,
nor of a delete. Where the table follows what leaves its source, a row that has left it since stays
in the quarantine: it would come back for good.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.tables_there import is_table
from raylake.layers.aggregates import Aggregates
from raylake.layers.asked_of_logs import OtherSources
from raylake.layers.definition import Definition
from raylake.layers.derived import (
    SOURCE_VERSION,
    Derivation,
    SourceRows,
    Span,
    progress_app,
    replays_app,
)
from raylake.layers.errors import SourceReplaced, TransformRefused
from raylake.layers.gate import SideTables, side_target
from raylake.layers.keyed_rows import KeyedRows
from raylake.layers.ownership import refuse_changed, refuse_others
from raylake.layers.progress import begun
from raylake.layers.row_wise import derivation_of
from raylake.layers.step import By, judged, reasons_of, step
from raylake.layers.step_look import StepLook, Target
from raylake.layers.table_ids import table_id
from raylake.quality.quarantine import Taken, source_rows
from raylake.quality.replaying import Chosen, columns_of, still_there
from raylake.storage.place import place
from raylake.tables.errors import ProgressMoved, TableMissing
from raylake.tables.pins import schema_at

log = logging.getLogger(__name__)

TRIES: Final = 20
"""So many times in a row somebody else may have been quicker."""
GONE: Final = "the source no longer has this row, and the table follows its source"
UNKNOWN: Final = "it was made of several rows, or kept without columns that rules now ask for"
ELSEWHERE: Final = "it came from another source than the table has now"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be replayed.

    Attributes:
        where: A condition on the quarantine's columns; None: all that is open of the table.
        preview: Only say what would happen.
        whole: The :attr:`~raylake.layers.definition.Definition.whole` of who asks; None: who
            replays has the same file.
    """

    where: str | None = None
    preview: bool = False
    whole: str | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did, or would do.

    Attributes:
        table: ``layer.name``.
        selected: Open rows of the quarantine that were asked for, and what agrees with them.
        passed: Rows of the source that the rules let pass.
        rejected: Rows of the source that they turned away again.
        reasons: Why, and of how many rows: ``rule: reason``.
        kept: Why rows were not tried, and how many: they stay as they are.
        version: The table's version with it; None: nothing was committed.
        number: Of the replay, in the table's log and in the quarantine; None as the version.
    """

    table: str
    selected: int = 0
    passed: int = 0
    rejected: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)
    version: int | None = None
    number: int | None = None

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def of_document(cls, said: Mapping[str, Any]) -> Replayed:
        """What :meth:`document` gave."""
        return cls(**{name: said[name] for name in cls.__slots__ if name in said})


def replay(one: Definition, by: By, asked: Asked) -> Replayed:
    """Replay quarantined rows of a table.

    Args:
        one: The table, as the file has it now.
        by: Who writes, and the time.
        asked: Which rows.

    Raises:
        TransformRefused: The table is an aggregate, another pipeline's, or was made by another
            definition; the file has changed since; or a rule aborts. Nothing was changed.
        TableMissing: There is no such table yet.
        BadExpression, UnknownColumn: The condition is none on the quarantine's columns.
        ProgressMoved: Others were always quicker; nothing was changed.
        RayLakeError: As a step.
    """
    if isinstance(one.derivation, Aggregates):
        raise TransformRefused(
            f"{one.name} is an aggregate: its quarantined rows are results of its query",
            hint=f"`raylake transform run FILE --full-refresh {one.name}` judges all of them by "
            "today's rules",
        )
    if asked.whole not in (None, one.whole):
        raise TransformRefused(
            f"{one.name}: the run has the table and its rules as the file had them when it began",
            hint="stop the run and start it again: `raylake stop FILE`, `raylake run FILE`",
        )
    if not is_table(one.address):
        raise TableMissing(
            f"{one.name}: there is no table at {one.address} yet",
            hint="`raylake transform run FILE` makes it",
            path=one.address,
        )
    for _ in range(TRIES - 1):
        try:
            return _Replay(one, by).done(asked)
        except ProgressMoved as error:
            log.info("%s: %s", one.name, error.message)
    return _Replay(one, by).done(asked)


class _Replay:
    """One try: the table as its log is now.

    Args:
        one: The table.
        by: Who writes, and the time.
    """

    def __init__(self, one: Definition, by: By) -> None:
        own = LogReader(one.address).snapshot()
        configuration = own.metadata.configuration
        refuse_others((one.name, one.address), one.pipeline, configuration)
        refuse_changed((one.name, one.address), one.digest, configuration)
        self._by = by
        self._one = replace(one, gate=one.gate.for_replays(), derivation=_by_order(one.derivation))
        self._target = Target(
            one.name,
            one.address,
            own.metadata.id,
            own.version,
            one.sides,
            one.engine,
            own.txns.get(replays_app(own.metadata.id), 0),
            begun(own.txns.get, table_id(place(one.source_address))),
        )
        self._span = _processed(one, own)
        self._look = StepLook(by.tables, self._target, self._span, one.places, OtherSources())

    def done(self, asked: Asked) -> Replayed:
        """Choose rows, and bring in what passes."""
        one, target = self._one, side_target(self._one.name, self._one.address, self._target.id)
        if not isinstance(one.aside, SideTables):
            raise TypeError("a table that is being made anew has no quarantine of its own")
        if not asked.preview:
            # What replays before this one have closed.
            one.aside.follow_up(target)
        chosen = one.aside.chosen(target, asked.where)
        rows, changes, kept = self._changes(chosen)
        told = Replayed(one.name, chosen.closes.num_rows, kept=dict(kept))
        if not changes.came.num_rows:
            return told
        if asked.preview:
            return self._previewed(told, changes)
        number = self._target.replays + 1
        taken = Taken(rows.closes, number)
        stepped = step(one, self._target, changes, self._look, self._by, taken)
        return replace(
            told,
            passed=changes.came.num_rows - stepped.rejected,
            rejected=stepped.rejected,
            reasons=stepped.reasons,
            version=stepped.version,
            number=number,
        )

    def _previewed(self, told: Replayed, changes: SourceRows) -> Replayed:
        made = judged(self._one, changes, self._look)
        if made.refused is not None:
            raise made.refused
        again = sum(each.rows.num_rows for each in made.rejected)
        return replace(
            told,
            passed=changes.came.num_rows - again,
            rejected=again,
            reasons=reasons_of(made.rejected),
        )

    def _changes(self, chosen: Chosen) -> tuple[Chosen, SourceRows, Counter[str]]:
        """The rows of the source that go again; and why others do not."""
        schema = schema_at(place(self._span.address), self._span.last)
        columns = self._one.derivation.columns(schema)
        asked = self._one.gate.reads(schema)
        beside = tuple(name for name in asked if name not in columns)
        kept: Counter[str] = Counter()
        had = columns_of(chosen.rows)
        sources = chosen.rows.column("source_table_id").to_pylist()
        places = []
        for at, (names, source) in enumerate(zip(had, sources, strict=True)):
            if source != self._span.table_id:
                kept[ELSEWHERE] += 1
            elif names >= {SOURCE_VERSION, *beside}:
                places.append(at)
            else:
                kept[UNKNOWN] += 1
        some = chosen.only(places)
        wanted = pa.schema(
            [schema.field(name) for name in (*columns, *beside)] + [(SOURCE_VERSION, pa.int64())]
        )
        came = self._decoded(some, wanted)
        if self._follows and came.num_rows:
            known = frozenset.intersection(*(had[at] for at in places))
            compared = [name for name in wanted.names if name in known]
            there = still_there(came, compared, self._look.source)
            kept[GONE] += there.count(False)
            stay = [at for at, found in enumerate(there) if found]
            some, came = some.only(stay), came.take(pa.array(stay, pa.int64()))
        nothing = came.slice(0, 0)
        return some, SourceRows(self._span, came, nothing, beside=beside), +kept

    def _decoded(self, some: Chosen, wanted: pa.Schema) -> pa.Table:
        try:
            return source_rows(some.rows, wanted)
        except (ValueError, ArithmeticError) as error:
            raise TransformRefused(
                f"{self._one.name}: a row was kept with a value that its column of "
                f"{self._one.source} cannot hold any more: {error}",
                hint="choose other rows with --where, or make the table anew (--full-refresh)",
            ) from error

    @property
    def _follows(self) -> bool:
        spec = getattr(self._one.derivation, "spec", None)
        return spec is not None and spec.when_rows_leave == "follow"


def _by_order(derivation: Derivation) -> Derivation:
    """As a replay takes it: with ``resolve: source`` what comes wins, and this came before."""
    if isinstance(derivation, KeyedRows) and derivation.spec.resolve == "source":
        return derivation_of(replace(derivation.spec, resolve="latest"))
    return derivation


def _processed(one: Definition, own: LogSnapshot) -> Span:
    """What the table has processed of its source: it stays so."""
    root = place(one.source_address)
    source_id = table_id(root)
    done = own.txns.get(progress_app(source_id))
    if done is None:
        raise SourceReplaced(
            f"{one.name}: nothing of {one.source} as it is now was processed yet",
            hint="`raylake transform run FILE` does it first",
            first=0,
            last=0,
            oldest=0,
        )
    return Span(one.source, str(root), source_id, done, done)
