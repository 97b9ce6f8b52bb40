"""Quality rules of a table, as they stand in the pipeline file (SPEC E1).

What a rule does is told in :mod:`raylake.quality.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, Tag, field_validator, model_validator

from raylake.config.base import Column, Model, choose
from raylake.config.findings import Finding, Invalid, Loc
from raylake.config.references import TableRef
from raylake.config.units import DurationS, Scalar

Columns = Annotated[tuple[Column, ...], Field(min_length=1)]
Severity = Literal["error", "warning", "info"]
OnFailure = Literal["continue", "quarantine", "abort"]
When = Literal["before", "after"]
MAX_PATTERN_CHARACTERS: Final = 10_000


def _check_name(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 200:
        raise Invalid("a rule's name is printable text of 1 to 200 characters")
    return text


class _Rule(Model):
    """What all rules have.

    Attributes:
        name: Unique in the table; left out: made of the rule and its columns.
        severity: How loudly a failure is told.
        on_failure: What becomes of rows that break it.
        when: Before the transformation (rows and columns of the source) or after it.
    """

    name: Annotated[str, AfterValidator(_check_name)] | None = None
    severity: Severity = "error"
    on_failure: OnFailure = "continue"
    when: When = "after"


class NotNull(_Rule):
    """The columns have values."""

    rule: Literal["not_null"]
    columns: Columns


class Unique(_Rule):
    """No two rows of the table agree in all the columns; a row without one of them passes."""

    rule: Literal["unique"]
    columns: Columns


class InRange(_Rule):
    """The value lies between two bounds, both included."""

    rule: Literal["range"]
    column: Column
    min: Scalar | None = None
    max: Scalar | None = None

    @field_validator("max")
    @classmethod
    def _order(cls, value: Any, info: Any) -> Any:
        low = info.data.get("min")
        if isinstance(low, int | float) and isinstance(value, int | float) and low > value:
            raise Invalid(f"max {value} is less than min {low}")
        return value

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise Invalid("a range needs a bound", "write min:, max:, or both")
        return self


class Regex(_Rule):
    """The whole value matches a regular expression (RE2: time grows with the text alone)."""

    rule: Literal["regex"]
    column: Column
    pattern: str = Field(max_length=MAX_PATTERN_CHARACTERS)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        why = pattern_fault(value)
        if why:
            raise Invalid(
                f"the pattern does not compile: {why}",
                "the syntax is RE2's: no look-around, no back-references",
            )
        return value


class InSet(_Rule):
    """The value is one of a list."""

    rule: Literal["in_set"]
    column: Column
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)]


class Freshness(_Rule):
    """The newest value is not older than ``max_age_s``."""

    rule: Literal["freshness"]
    column: Column
    max_age_s: DurationS = Field(alias="max_age")

    @model_validator(mode="after")
    def _about_the_table(self) -> Self:
        if self.on_failure == "quarantine":
            raise Invalid(
                "freshness is about the table: there is no row to quarantine",
                "write on_failure: continue, or abort",
            )
        return self


class SqlRule(_Rule):
    """An SQL condition that holds for every row."""

    rule: Literal["sql"]
    condition: str = Field(min_length=1)


class ForeignKey(_Rule):
    """The value occurs in a column of another table of the lake."""

    rule: Literal["foreign_key"]
    column: Column
    references: TableRef
    references_column: Column | None = None


class CustomRule(_Rule):
    """A Python function, ``module:function`` or ``file.py:function``."""

    rule: Literal["custom"]
    function: Annotated[str, Field(pattern=r"^[^\s:]+:[A-Za-z_]\w*$")]


Rule = Annotated[
    Annotated[NotNull, Tag("<not_null>")]
    | Annotated[Unique, Tag("<unique>")]
    | Annotated[InRange, Tag("<range>")]
    | Annotated[Regex, Tag("<regex>")]
    | Annotated[InSet, Tag("<in_set>")]
    | Annotated[Freshness, Tag("<freshness>")]
    | Annotated[SqlRule, Tag("<sql>")]
    | Annotated[ForeignKey, Tag("<foreign_key>")]
    | Annotated[CustomRule, Tag("<custom>")],
    choose("rule"),
]
AnyRule = NotNull | Unique | InRange | Regex | InSet | Freshness | SqlRule | ForeignKey | CustomRule


def whole(pattern: str) -> str:
    """The pattern that matches where the whole text matches ``pattern``."""
    return rf"\A(?:{pattern})\z"


def pattern_fault(pattern: str) -> str:
    """Why RE2 does not take a pattern; empty when it does."""
    import pyarrow as pa  # what is handed a configuration imports no Arrow for this module
    import pyarrow.compute as pc

    nothing = pa.array([""])
    for text in (pattern, whole(pattern)):
        try:
            pc.match_substring_regex(nothing, text)
        except pa.ArrowInvalid as error:
            return (
                str(error).split("\n", maxsplit=1)[0].removeprefix("Invalid regular expression: ")
            )
        except UnicodeEncodeError:
            return "it is not valid Unicode"
    return ""


def rule_findings(at: Loc, rules: object) -> Iterator[Finding]:
    """What does not fit together in the rules of one table, on the plain data."""
    taken: set[str] = set()
    for i, rule in enumerate(rules if isinstance(rules, list | tuple) else ()):
        name = rule.get("name") if isinstance(rule, Mapping) else None
        if isinstance(name, str):
            if name in taken:
                yield Finding((*at, i, "name"), f"another rule of the table is named {name!r}")
            taken.add(name)
