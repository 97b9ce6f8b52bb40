"""What rules say in plain words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from raylake.config.quality import (
    AnyRule,
    CustomRule,
    ForeignKey,
    Freshness,
    InRange,
    InSet,
    Regex,
    SqlRule,
    Unique,
)
from raylake.config.units import format_duration
from raylake.quality.results import RuleResult, clipped
from raylake.quality.table_rules import Age

CATEGORY_OF: Final[Mapping[str, str]] = {
    "not_null": "completeness",
    "unique": "uniqueness",
    "range": "accuracy",
    "regex": "validity",
    "in_set": "validity",
    "freshness": "freshness",
    "foreign_key": "consistency",
    "sql": "business_rules",
    "custom": "business_rules",
}
"""The category that each kind of rule belongs to."""
_SHOWN_VALUES: Final = 5
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_ADVICE: Final[Mapping[str, str]] = {
    "not_null": "find out why the producer leaves it out, or allow null in this column",
    "unique": "find the writer that repeats rows, or deduplicate by these columns (keys:)",
    "range": "correct the values at their source, or widen the range if they are right",
    "regex": "correct the format at the source, or the pattern if the values are right",
    "in_set": "add the new values to the list if they are right, else correct them at the source",
    "freshness": "look whether the source still sends: raylake status tells its lag",
    "foreign_key": "load the table that is referred to first, or look for deleted keys in it",
    "sql": "look at the rows with this condition negated",
    "custom": "look at the rows that the function marks",
}


def reason(rule: AnyRule, column: str) -> str:
    """What is wrong with a row that breaks a rule.

    Args:
        rule: The rule.
        column: Which of the rule's columns; empty: the row.
    """
    if isinstance(rule, Unique):
        return f"another row has the same {', '.join(rule.columns)}"
    if isinstance(rule, InRange):
        return f"{column} is not {_range(rule)}"
    if isinstance(rule, Regex):
        return f"{column} does not match {clipped(rule.pattern)!r}"
    if isinstance(rule, InSet):
        listed = ", ".join(str(value) for value in rule.values)
        return f"{column} is none of {clipped(listed)}"
    if isinstance(rule, ForeignKey):
        there = rule.references_column or rule.column
        return f"{rule.references} has no row with this value in {there}"
    if isinstance(rule, SqlRule):
        return f"the condition {clipped(rule.condition)!r} does not hold"
    if isinstance(rule, CustomRule):
        return f"the function {rule.function} refuses it"
    return f"{column} has no value"


def told(rule: AnyRule, found: RuleResult) -> str:
    """The result of a rule that counts rows, as one sentence."""
    if found.passed:
        return f"all {found.rows} rows keep it" if found.rows else "no rows came"
    column = getattr(rule, "column", "") or ", ".join(getattr(rule, "columns", ()))
    what = f"{column} has no value" if rule.rule == "not_null" else reason(rule, column)
    first = ", ".join(found.values)
    said = f"{found.failed} of {found.rows} rows ({100 * found.share:.3g} %): {what}"
    return f"{said}; first: {first}" if first else said


def stale(rule: Freshness, age: Age, now: dt.datetime) -> tuple[str, tuple[str, ...]]:
    """The result of a freshness rule as one sentence, and the newest value."""
    if age.newest_us is None:
        return f"{rule.column} has no value yet", ()
    newest = instant(age.newest_us)
    old_s = max(0, round((now - _EPOCH).total_seconds() - age.newest_us / 1e6))
    limit = format_duration(rule.max_age_s)
    word = "older than" if age.stale else "within"
    said = f"the newest {rule.column} is {newest}, {format_duration(old_s)} ago: {word} {limit}"
    return said, (newest,)


def advice(rule: AnyRule) -> str:
    """What to do about rows that break a rule."""
    if rule.on_failure == "quarantine":
        return f"{_ADVICE[rule.rule]}; the rows lie in the quarantine and can be replayed"
    return _ADVICE[rule.rule]


def instant(time_us: int) -> str:
    """Microseconds since the epoch as people write a time."""
    try:
        moment = _EPOCH + dt.timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us} us after 1970"
    return moment.isoformat().replace("+00:00", "Z")


def _range(rule: InRange) -> str:
    if rule.min is None:
        return f"at most {rule.max}"
    if rule.max is None:
        return f"at least {rule.min}"
    return f"between {rule.min} and {rule.max}"
