"""Partition values as Delta's log and the folder names want them."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
READ_AS_NULL = ("", NULL_FOLDER)
"""Texts that are null as partition values: by the protocol, and by readers of folders."""
MAX_NAME_BYTES = 240
"""File systems allow 255 bytes in a name."""


def partition_text(value: Any) -> str | None:
    """A partition value as text, by Delta's protocol; None for null.

    What is in ``READ_AS_NULL`` is null. Timestamps are UTC with microseconds.

    Raises:
        TypeError: Values of this type cannot partition a table.
    """
    if value is None or value in READ_AS_NULL:
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


def reads_as_null(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A mask, without nulls: the texts that a partition column cannot hold."""
    return pc.is_in(texts, pa.array(READ_AS_NULL, texts.type))


def timestamp_text(value: dt.datetime) -> str:
    """``yyyy-mm-dd hh:mm:ss.ffffff`` in UTC (or as it is, without a zone)."""
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return value.isoformat(sep=" ", timespec="microseconds")


def folder(values: Mapping[str, str | None]) -> str:
    """The hive-style folder of partition values as it is on the disk, empty without any.

    A value too long for a folder's name has none: the log knows it, readers take it from there.
    """
    parts = [
        f"{quote(name, safe='')}={NULL_FOLDER if text is None else quote(text, safe='')}"
        for name, text in values.items()
    ]
    if any(len(part) > MAX_NAME_BYTES for part in parts):
        return ""
    return "/".join("%2E%2E".join(part.split("..")) for part in parts)


def log_path(disk_path: str) -> str:
    """A path below the table as the Delta log has it: URL-encoded once more.

    In the spelling that delta-rs writes into a ``remove``, which must be that of the ``add``; but
    for ``:``, which Java takes for the end of a scheme.
    """
    return quote(disk_path, safe="/!$&'()+,-.;=@_~")
