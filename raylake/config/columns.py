"""Columns as the pipeline file writes them: types and partition expressions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from raylake.codecs.names import refusal
from raylake.codecs.types import parse_type
from raylake.config.findings import Invalid, did_you_mean
from raylake.errors import ConfigError

METADATA_COLUMNS: Final = (
    "_topic",
    "_partition",
    "_offset",
    "_timestamp",
    "_key",
    "_headers",
    "_ingested_at",
    "_schema_id",
    "_tombstone",
    "_value",
    "_rescued_data",
    "_late",
)
TIME_METADATA: Final = ("_timestamp", "_ingested_at")
PARTITION_METADATA: Final = ("_topic", "_partition", "_schema_id", "_tombstone", "_late")
TYPES: Final = (
    "string",
    "boolean",
    "byte",
    "short",
    "int",
    "long",
    "float",
    "double",
    "decimal",
    "date",
    "timestamp",
    "timestamp_ntz",
    "binary",
    "array",
    "map",
    "struct",
)
TIMES: Final = ("timestamp", "timestamp_ntz")
_PARTITION: Final = re.compile(r"(date|hour)\(([^()]+)\)")


@dataclass(frozen=True, slots=True)
class PartitionField:
    """One expression of ``partition_by``, and the table's partition column that it makes.

    Attributes:
        transform: ``column`` (its own values), ``date`` or ``hour`` of a timestamp.
        column: The column that is read.
    """

    transform: Literal["column", "date", "hour"]
    column: str

    @property
    def name(self) -> str:
        """The partition column: the column itself, ``<column>_date`` or ``<column>_hour``."""
        return self.column if self.transform == "column" else f"{self.column}_{self.transform}"


def parse_partition(text: str) -> PartitionField:
    """The expression ``column``, ``date(column)`` or ``hour(column)``.

    Raises:
        Invalid: It has another form.
    """
    stripped = text.strip()
    match = _PARTITION.fullmatch(stripped)
    if match is not None:
        return PartitionField("date" if match[1] == "date" else "hour", match[2].strip())
    call = re.fullmatch(r"(\w+)\(.*\)", stripped)
    if call is not None:
        near = did_you_mean(call[1], ("date", "hour"))
        raise Invalid(f"{text!r} is not a way to partition", near)
    if not stripped or re.search(r"[()=/\\{}\x00-\x1f]", stripped):
        raise Invalid(
            f"{text!r} is not a way to partition", "write column, date(column) or hour(column)"
        )
    return PartitionField("column", stripped)


def check_type(text: str) -> str:
    """A column's type: ``string``, ``decimal(18,2)``, ``array<…>``, ``map<…>``, ``struct<a:…>``.

    The grammar is the codecs' own.

    Raises:
        Invalid: It is not a type.
    """
    try:
        parse_type(text)
    except ConfigError as error:
        word = re.match(r"\s*(\w*)", text)
        given = word[1] if word is not None else text
        hint = error.hint if given in TYPES else did_you_mean(given, TYPES)
        raise Invalid(error.message, hint) from None
    return text


def check_schema_name(name: str, taken: Mapping[str, str]) -> str:
    """Why a column of a schema cannot have this name; empty when it can.

    Args:
        name: The column.
        taken: The columns before it, by their lower-case form.
    """
    return refusal(name, top_level=True, taken=taken)
