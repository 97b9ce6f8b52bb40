"""A table's rules, judged on rows before or after the transformation (SPEC E1).

====================  ============================  =======================  =====================
``on_failure``        rows that break the rule      the other rows           the step
====================  ============================  =======================  =====================
``continue``          are written                   are written              goes on; the result
                                                                             is counted
``quarantine``        leave for the quarantine      are written              goes on
``abort``             are not written               are not written          :class:`QualityAbort`:
                                                                             table unchanged
====================  ============================  =======================  =====================

``severity`` says how loudly a failure is told and changes nothing else: ``error`` and ``warning``
are logged as such, ``info`` stands in the history alone; a report calls a table failed for errors.

No value (null) passes each rule but ``not_null`` and ``sql`` where its condition is false of it;
NaN is a value, outside of every range and set. Each rule counts all rows that break it; a row that
breaks several leaves under the first one that was written. ``freshness``, and after the
transformation ``unique``, are judged last, on the rows that stay.

``unique`` is about the whole table, with the rows that come: after the transformation the target
without the rows that these replace by its keys, before it the source. Of rows that come and agree,
the first stays. Two rows of one key are one row of the target, and never duplicates of each other.
A row without a value in one of the columns agrees with none, as for UNIQUE in SQL.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, cast

import numpy as np
import pyarrow as pa

from raylake.config.quality import (
    AnyRule,
    CustomRule,
    ForeignKey,
    Freshness,
    InRange,
    InSet,
    NotNull,
    Regex,
    SqlRule,
    Unique,
)
from raylake.layers.derived import Look
from raylake.quality import custom, row_rules, table_rules
from raylake.quality.errors import QualityAbort, RuleRefused
from raylake.quality.named import NamedRule, fit, free_name
from raylake.quality.rejecting import RejectedMask, rejected_rows, sample
from raylake.quality.results import RuleResult
from raylake.quality.row_rules import Mask
from raylake.quality.telling import CATEGORY_OF, advice, reason, stale, told
from raylake.tables.requests import Read

_THREADS: Final = 2
_ROWS_FOR_THREADS: Final = 100_000
log = logging.getLogger(__name__)
LEVELS: Final[Mapping[str, int]] = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.DEBUG,
}
"""How loudly a rule's failures are told, by its severity."""


@dataclass(frozen=True, slots=True)
class Context:
    """What rules are judged with.

    Attributes:
        look: The source, the table and others, each at one version.
        now: The time, with a zone.
        target: The table's name, ``layer.name``.
    """

    look: Look
    now: datetime
    target: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What the rules made of rows.

    Attributes:
        kept: The rows that stay: a boolean each.
        rejected: The rows that leave, each of them once.
        results: One a rule, in the order in which they were written.
    """

    kept: pa.BooleanArray
    rejected: Sequence[RejectedMask]
    results: tuple[RuleResult, ...]


class RuleSet:
    """The rules of one table; make it by :meth:`of`.

    Args:
        rules: The rules, named.
        keys: The table's merge keys; empty: it only grows.
    """

    def __init__(self, rules: Sequence[NamedRule], keys: tuple[str, ...]) -> None:
        self.rules = tuple(rules)
        self.keys = keys

    @classmethod
    def of(cls, rules: Sequence[AnyRule], keys: Sequence[str] = ()) -> RuleSet:
        """The rules of a table as the pipeline file has them; functions are loaded here, once.

        Raises:
            RuleRefused: Two rules have one name.
            CustomRuleFailed: A function cannot be loaded.
        """
        taken = [rule.name for rule in rules if rule.name is not None]
        for name in taken:
            if taken.count(name) > 1:
                raise RuleRefused(f"two rules are named {name!r}", hint="names are unique")
        named = []
        for rule in rules:
            name = rule.name or free_name(rule, taken)
            taken.append(name)
            load = custom.load(rule.function) if isinstance(rule, CustomRule) else None
            named.append(NamedRule(name, rule, load))
        return cls(named, tuple(keys))

    @property
    def before(self) -> RuleSet:
        """Those that are judged before the transformation."""
        return RuleSet([one for one in self.rules if one.rule.when == "before"], self.keys)

    @property
    def after(self) -> RuleSet:
        """Those that are judged after it."""
        return RuleSet([one for one in self.rules if one.rule.when == "after"], self.keys)

    def fits(self, schema: pa.Schema, what: str = "the table") -> None:
        """Whether the rules can be judged on these columns; all of them are looked at.

        Args:
            schema: The source's columns for those of :attr:`before`, else the table's.
            what: Whose columns they are, for messages.

        Raises:
            RuleRefused: A column is not there, or is of another kind; the nearest one is named.
            BadExpression, UnknownColumn, TimeWithoutZone: A condition does not fit.
        """
        for one in self.rules:
            fit(one, schema, what)

    def check(self, rows: pa.Table, context: Context) -> Checked:
        """Judge rows; no rows at all are judged as well, since a table may grow stale.

        Raises:
            QualityAbort: Rows break a rule that aborts; every rule was judged and logged before.
            CustomRuleFailed: A custom rule's function failed.
            TableError: A table that a rule refers to cannot be read.
        """
        self.fits(rows.schema)
        found: dict[str, _Found] = {}
        gone = row_rules.nobody(rows.num_rows)
        early = [one for one in self.rules if not _is_late(one.rule)]
        for one, judged in zip(early, self._judged(early, rows, context), strict=True):
            found[one.name] = judged
            if one.rule.on_failure == "quarantine":
                gone |= judged.failed
        gone |= self._unique(rows, gone, context, found)
        kept = pa.array(~gone)
        for one in self.rules:
            if isinstance(one.rule, Freshness):
                arrived = rows.select([one.rule.column])
                arrived = arrived.filter(kept) if gone.any() else arrived
                found[one.name] = _fresh(one.rule, arrived, context)
        results = tuple(_result(one, found[one.name], rows, context.now) for one in self.rules)
        _tell(results, context.target)
        self._abort(results, context.target)
        return Checked(kept, tuple(self._rejected(rows, found)), results)

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """The columns that the rules are about; of a function nobody knows, so it gets all."""
        found: set[str] = set()
        for one in self.rules:
            found |= set(one.columns)
            if isinstance(one.rule, CustomRule):
                found |= set(schema.names)
            elif isinstance(one.rule, SqlRule):
                tree = row_rules.checked_condition(one.rule, schema, one.where)
                found |= {name for _, name in tree.columns}
        return tuple(name for name in schema.names if name in found)

    def standing(self, rows: pa.Table, context: Context) -> pa.BooleanArray:
        """The rows that no quarantine takes by itself, a boolean each; nothing is told or refused.

        Rules that hold rows against each other are not asked.
        """
        gone = row_rules.nobody(rows.num_rows)
        for one in self.rules:
            alone = not isinstance(one.rule, Unique | Freshness)
            if one.rule.on_failure == "quarantine" and alone:
                gone |= _judge(one, self.keys, rows, context).failed
        return pa.array(~gone)

    def _judged(self, rules: Sequence[NamedRule], rows: pa.Table, context: Context) -> list[_Found]:
        """Judge rules one by one, or several at once where there are rows to be worth it.

        Custom functions, and those who read tables, are called by this thread alone.
        """

        def judge(one: NamedRule) -> _Found:
            return _judge(one, self.keys, rows, context)

        if rows.num_rows < _ROWS_FOR_THREADS:
            return [judge(one) for one in rules]
        begun: dict[str, Future[_Found]] = {}
        with ThreadPoolExecutor(_THREADS) as threads:
            for one in rules:
                if not isinstance(one.rule, CustomRule | ForeignKey | Unique):
                    begun[one.name] = threads.submit(judge, one)
            judged = {one.name: judge(one) for one in rules if one.name not in begun}
        return [begun[o.name].result() if o.name in begun else judged[o.name] for o in rules]

    def _unique(
        self, rows: pa.Table, gone: Mask, context: Context, found: dict[str, _Found]
    ) -> Mask:
        """Judge the rules about uniqueness on the rows that stay; returns what is gone then.

        A row that leaves replaces no other, which then is in the way again: where the table has
        keys they are judged until none leaves any more. Those by which none leaves come last.
        """
        about = [one for one in self.rules if isinstance(one.rule, Unique) and _is_late(one.rule)]
        about.sort(key=lambda one: one.rule.on_failure != "quarantine")
        taken = {one.name: _taken(one, self.keys, rows, context) for one in about}
        for one in about:
            found[one.name] = _Found(row_rules.nobody(rows.num_rows))
        while True:
            before = int(np.count_nonzero(gone))
            for one in about:
                failed = table_rules.duplicates(taken[one.name], ~gone)
                if one.rule.on_failure == "quarantine":
                    gone = gone | failed
                    failed |= found[one.name].failed
                found[one.name] = _Found(failed)
            if not self.keys or int(np.count_nonzero(gone)) == before:
                return gone

    def _abort(self, results: Sequence[RuleResult], target: str) -> None:
        for one in results:
            if one.on_failure == "abort" and not one.passed:
                refused = QualityAbort(
                    f"{target}: rule {one.rule!r}: {one.message}; nothing was written",
                    hint=one.recommendation,
                    table=target,
                    rule=one.rule,
                    failed=one.failed,
                    rows=one.rows,
                    values=list(one.values),
                )
                refused.results = tuple(results)
                raise refused

    def _rejected(self, rows: pa.Table, found: Mapping[str, _Found]) -> Iterator[RejectedMask]:
        seen = row_rules.nobody(rows.num_rows)
        for one in self.rules:
            if one.rule.on_failure == "quarantine":
                for column, failed in found[one.name].by_column(one):
                    places = np.flatnonzero(failed & ~seen)
                    seen |= failed
                    if len(places):
                        yield RejectedMask.of(one, column, reason(one.rule, column), rows, places)


@dataclass(frozen=True, slots=True)
class _Found:
    """Which rows break a rule.

    Attributes:
        failed: A boolean each; of freshness empty.
        columns: Of not_null: by column.
        age: Of freshness.
    """

    failed: Mask
    columns: tuple[tuple[str, Mask], ...] = ()
    age: table_rules.Age | None = None

    def by_column(self, one: NamedRule) -> Sequence[tuple[str, Mask]]:
        """The column that the failure is about; empty: the row."""
        if self.columns:
            return self.columns
        return [(one.columns[0] if len(one.columns) == 1 else "", self.failed)]


def _judge(one: NamedRule, keys: tuple[str, ...], rows: pa.Table, context: Context) -> _Found:
    rule, where = one.rule, one.where
    if isinstance(rule, NotNull):
        columns = tuple(row_rules.no_values(rule, rows))
        failed = row_rules.nobody(rows.num_rows)
        for _, mask in columns:
            failed |= mask
        return _Found(failed, columns)
    if isinstance(rule, ForeignKey):
        column = rows.column(rule.column)
        return _Found(table_rules.orphans(rule, column, _referred(rule, rows, context), where))
    if isinstance(rule, Unique):
        taken = _taken(one, keys, rows, context)
        return _Found(table_rules.duplicates(taken, ~row_rules.nobody(rows.num_rows)))
    if isinstance(rule, InRange):
        return _Found(row_rules.out_of_range(rule, rows, where))
    if isinstance(rule, Regex):
        return _Found(row_rules.unmatched(rule, rows))
    if isinstance(rule, InSet):
        return _Found(row_rules.strangers(rule, rows, where))
    if isinstance(rule, SqlRule):
        return _Found(row_rules.not_holding(rule, rows, where))
    function = cast("custom.Function", one.function)
    return _Found(custom.judged(cast("CustomRule", rule).function, function, rows))


def _is_late(rule: AnyRule) -> bool:
    """Whether a rule is judged on the rows that stay; those of the source are in their table."""
    return isinstance(rule, Freshness) or (isinstance(rule, Unique) and rule.when == "after")


def _taken(
    one: NamedRule, keys: tuple[str, ...], rows: pa.Table, context: Context
) -> table_rules.TakenValues:
    about = table_rules.Uniqueness(one.columns, keys, one.rule.when == "before")
    return table_rules.TakenValues(about, rows, _table_of(one.rule, rows, context))


def _fresh(rule: Freshness, rows: pa.Table, context: Context) -> _Found:
    read = _table_of(rule, rows, context)
    age = table_rules.age(rule, rows.column(rule.column), read, context.now)
    return _Found(row_rules.nobody(0), age=age)


def _table_of(rule: AnyRule, rows: pa.Table, context: Context) -> table_rules.Reader:
    """The table that a rule is about: the source before the transformation, else the target."""
    look = context.look
    return look.source if rule.when == "before" else table_rules.own(look.target, rows.schema)


def _referred(rule: ForeignKey, rows: pa.Table, context: Context) -> list[table_rules.Reader]:
    """What reads the table that is referred to; one that refers to itself has the rows as well."""

    def other(request: Read) -> pa.RecordBatchReader:
        return context.look.other(rule.references, request)

    def arriving(request: Read) -> pa.RecordBatchReader:
        return rows.select(list(request.columns or ())).to_reader()

    if rule.references != context.target or rule.when == "before":
        return [other]
    return [_table_of(rule, rows, context), arriving]


def _result(one: NamedRule, found: _Found, rows: pa.Table, now: datetime) -> RuleResult:
    rule = one.rule
    made = RuleResult(
        one.name, CATEGORY_OF[rule.rule], rule.severity, rule.on_failure, rows.num_rows, 0
    )
    if found.age is not None and isinstance(rule, Freshness):
        said, newest = stale(rule, found.age, now)
        made = replace(made, rows=1, failed=int(found.age.stale), values=newest, message=said)
    else:
        failed = int(np.count_nonzero(found.failed))
        first = sample(one, found.by_column(one), rows) if failed else ()
        made = replace(made, failed=failed, values=first)
        made = replace(made, message=told(rule, made))
    return made if made.passed else replace(made, recommendation=advice(rule))


def _tell(results: Sequence[RuleResult], target: str) -> None:
    for one in results:
        if not one.passed:
            told_of = {"table": target, "rule": one.rule, "failed": one.failed}
            log.log(
                LEVELS[one.severity], "%s: %s: %s", target, one.rule, one.message, extra=told_of
            )


__all__ = ["Checked", "Context", "NamedRule", "RejectedMask", "RuleSet", "rejected_rows"]
