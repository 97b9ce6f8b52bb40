"""Quality rules of the pipeline file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, Tag, field_validator

from raylake.config.base import Column, Columns, Model, TableRef, choose
from raylake.config.findings import Invalid
from raylake.config.units import DurationS, Scalar


class _Rule(Model):
    severity: Literal["error", "warning", "info"] = "error"
    on_failure: Literal["continue", "quarantine", "abort"] = "continue"


class NotNull(_Rule):
    """The columns have values."""

    rule: Literal["not_null"]
    columns: Columns


class Unique(_Rule):
    """No two rows agree in all the columns."""

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


class Regex(_Rule):
    """The whole value matches a regular expression."""

    rule: Literal["regex"]
    column: Column
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise Invalid(f"the pattern does not compile: {error}") from None
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


class SqlRule(_Rule):
    """An SQL condition that holds for every row."""

    rule: Literal["sql"]
    condition: str = Field(min_length=1)


class ForeignKey(_Rule):
    """The value occurs in a column of another table."""

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
