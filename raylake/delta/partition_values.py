"""Partition values as Delta's log and the folder names want them."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
MAX_FOLDER_CHARS = 120
"""Long values are cut in folder names (255 bytes is a file system's limit), not in the log."""


def partition_text(value: Any) -> str | None:
    """A partition value as text, by Delta's protocol; None for null.

    An empty string is null, as the protocol has it. Timestamps are UTC with microseconds.

    Raises:
        TypeError: Values of this type cannot partition a table.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, dt.datetime):
        return timestamp_text(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, int | float | decimal.Decimal):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be a partition value")


def timestamp_text(value: dt.datetime) -> str:
    """``yyyy-mm-dd hh:mm:ss.ffffff`` in UTC (or as it is, without a zone)."""
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return value.isoformat(sep=" ", timespec="microseconds")


def folder(values: Mapping[str, str | None]) -> str:
    """The hive-style folder of partition values, empty without any.

    Only letters, digits and ``-_.=~`` come out of it, other bytes as ``~XX``: engines differ in
    how they decode percent signs in a log's paths, and the values are read from the log anyway.
    """
    return "/".join(
        f"{_escape(name)}={NULL_FOLDER if text is None else _escape(text)}"
        for name, text in values.items()
    )


def _escape(text: str) -> str:
    return quote(text, safe="").replace("~", "~7E").replace("%", "~")[:MAX_FOLDER_CHARS]
