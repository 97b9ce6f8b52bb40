"""How many consumers a pipeline has: a number, ``auto``, or as many as its lag asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, PlainValidator, Tag, WithJsonSchema, model_validator

from raylake.config.base import Model, choose_shape
from raylake.config.findings import Invalid
from raylake.config.units import Count, DurationS, SizeBytes

_WANTED: Final = "write auto, 4, or {min: 1, max: 8}"


class Scaled(Model):
    """Between ``min`` and ``max`` consumers, by what is unread (SPEC A8).

    Attributes:
        min: The fewest; a run begins with them.
        max: The most.
        lag_s: A consumer that needs longer for what it has not read is behind.
        lag_bytes: One with more unread bytes is behind, too: decompressed, by the mean size of the
            records that were read.
        down_after_s: For so long fewer must have sufficed before there are fewer.
    """

    min: Count = 1
    max: Count
    lag_s: DurationS = Field(default=30.0, alias="lag")
    lag_bytes: SizeBytes = 2**30
    down_after_s: DurationS = Field(default=300.0, alias="down_after")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise Invalid(
                f"at most {self.max} and at least {self.min} consumers cannot both be",
                "min is not above max",
            )
        return self


def _number(value: Any) -> Any:
    if value == "auto":
        return value
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 6):
        raise Invalid(f"{value!r} is neither a number nor auto", _WANTED)
    if int(text) < 1:
        raise Invalid("a pipeline has at least one consumer", _WANTED)
    return int(text)


def _shape(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return None
    return "<scaled>" if isinstance(value, Mapping | Scaled) else "<number>"


Consumers = Annotated[
    Annotated[
        int | Literal["auto"],
        PlainValidator(_number),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
        Tag("<number>"),
    ]
    | Annotated[Scaled, Tag("<scaled>")],
    choose_shape(_shape, "consumers is a number, auto, or {min: 1, max: 8}"),
]


def fewest(asked: int | str | Scaled) -> int:
    """With how many consumers a run begins."""
    if isinstance(asked, Scaled):
        return asked.min
    return asked if isinstance(asked, int) else max(1, min(4, os.cpu_count() or 1))


def most(asked: int | str | Scaled) -> int:
    """How many consumers a run has at most."""
    return asked.max if isinstance(asked, Scaled) else fewest(asked)
