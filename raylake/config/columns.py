"""Columns as the pipeline file writes them: types and partition expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from raylake.config.findings import Invalid, did_you_mean

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
PRIMITIVES: Final = (
    "string",
    "long",
    "bigint",
    "integer",
    "int",
    "short",
    "smallint",
    "byte",
    "tinyint",
    "double",
    "float",
    "boolean",
    "timestamp",
    "timestamp_ntz",
    "date",
    "binary",
    "decimal",
)
TIMES: Final = ("timestamp", "timestamp_ntz")
_MAX_NESTING: Final = 32
_PARTITION: Final = re.compile(r"(date|hour)\(([^()]+)\)")


@dataclass(frozen=True, slots=True)
class PartitionField:
    """One expression of ``partition_by``.

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

    Raises:
        Invalid: It is not a type.
    """
    _type(text.strip(), 0)
    return text


def _type(text: str, depth: int) -> None:
    if depth > _MAX_NESTING:
        raise Invalid(f"a type is nested at most {_MAX_NESTING} deep")
    if text in PRIMITIVES:
        return
    decimal = re.fullmatch(r"decimal\( ?(\d{1,3}) ?(?:, ?(\d{1,3}) ?)?\)", text)
    if decimal is not None:
        precision, scale = int(decimal[1]), int(decimal[2] or 0)
        if not 1 <= precision <= 38 or scale > precision:
            raise Invalid(f"{text} has no such precision", "at most decimal(38,s) with s <= 38")
        return
    nested = re.fullmatch(r"(array|map|struct) ?<(.*)>", text, re.DOTALL)
    if nested is None:
        known = (*PRIMITIVES, "decimal(18,2)", "array<string>")
        raise Invalid(f"{text!r} is not a column type", did_you_mean(text, known))
    parts = _split(nested[2])
    if nested[1] == "array" and len(parts) == 1:
        _type(parts[0], depth + 1)
    elif nested[1] == "map" and len(parts) == 2:
        for part in parts:
            _type(part, depth + 1)
    elif nested[1] == "struct" and all(":" in part for part in parts):
        for part in parts:
            _type(part.partition(":")[2].strip(), depth + 1)
    else:
        raise Invalid(
            f"{text!r} is not a column type", "array<T>, map<K,V> or struct<name:T,name:T>"
        )


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return parts
