"""Rules with their names, and whether they fit a table's columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import pyarrow as pa

from raylake.config.findings import did_you_mean
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
from raylake.quality import custom, row_rules
from raylake.quality.errors import RuleRefused


@dataclass(frozen=True, slots=True)
class NamedRule:
    """A rule with its name.

    Attributes:
        name: Unique in the table.
        rule: The rule.
        function: Of a custom rule.
    """

    name: str
    rule: AnyRule
    function: custom.Function | None = None

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"rule {self.name!r}"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names; those of a condition are in its text."""
        if isinstance(self.rule, NotNull | Unique):
            return self.rule.columns
        column = getattr(self.rule, "column", None)
        return () if column is None else (column,)


def free_name(rule: AnyRule, taken: Sequence[str]) -> str:
    """A name for a rule that was given none: what it is and its columns, numbered if taken."""
    about = ", ".join(NamedRule("", rule).columns)
    if isinstance(rule, CustomRule):
        about = rule.function
    if isinstance(rule, SqlRule):
        about = rule.condition if len(rule.condition) <= 60 else f"{rule.condition[:60]}…"
    name = f"{rule.rule}({about})"
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}#{number}", number + 1
    return found


def fit(one: NamedRule, schema: pa.Schema, what: str) -> None:
    """Whether a rule can be judged on these columns.

    Args:
        one: The rule.
        schema: The columns.
        what: Whose they are, for messages.

    Raises:
        RuleRefused: A column is not there, or is of another kind; the nearest one is named.
        BadExpression, UnknownColumn, TimeWithoutZone: A condition does not fit.
    """
    for name in one.columns:
        if name not in schema.names:
            raise RuleRefused(
                f"{one.where}: {what} has no column {name!r}",
                hint=did_you_mean(name, schema.names),
                rule=one.name,
                column=name,
            )
    _FITS[type(one.rule)](one, schema)


def _fits_always(one: NamedRule, schema: pa.Schema) -> None:
    """Values of any kind are judged."""


def _fits_unique(one: NamedRule, schema: pa.Schema) -> None:
    row_rules.require_comparable([schema.field(name).type for name in one.columns], one.where)


def _fits_condition(one: NamedRule, schema: pa.Schema) -> None:
    row_rules.checked_condition(cast("SqlRule", one.rule), schema, one.where)


def _fits_column(one: NamedRule, schema: pa.Schema) -> None:
    rule, kind, where = one.rule, schema.field(one.columns[0]).type, one.where
    if isinstance(rule, InRange):
        row_rules.limits(rule, kind, where)
    elif isinstance(rule, InSet):
        row_rules.members(rule, kind, where)
    elif isinstance(rule, Regex):
        row_rules.require_text(kind, where)
    else:
        row_rules.require_time(kind, where)


_FITS: Final[Mapping[type[AnyRule], Callable[[NamedRule, pa.Schema], None]]] = {
    NotNull: _fits_always,
    Unique: _fits_unique,
    InRange: _fits_column,
    Regex: _fits_column,
    InSet: _fits_column,
    Freshness: _fits_column,
    SqlRule: _fits_condition,
    ForeignKey: _fits_always,
    CustomRule: _fits_always,
}
