"""Checks of what a table's definition says of its merges: contradictions, and columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from raylake.config.columns import METADATA_COLUMNS
from raylake.config.findings import Finding, Invalid, Loc, did_you_mean
from raylake.config.sql import names_in

_ON_ROWS_THERE: Final = ("update_when", "update_columns", "delete_when")
_CONDITIONS: Final = ("update_when", "insert_when", "delete_when")


def contradictions(at: Loc, table: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys that could never count beside others, and new rows that would lack what they need.

    Args:
        at: Where the table stands.
        table: Its data; values of the wrong kind are passed over.
    """
    only, resolve = table.get("insert_only") is True, table.get("resolve")
    keeps = "insert_only" if only else "resolve: target" if resolve == "target" else ""
    for key in _ON_ROWS_THERE:
        if keeps and table.get(key) is not None:
            message = f"{keeps} leaves rows that are there as they are, so this would never count"
            yield Finding((*at, key), message, f"leave {key} out, or {keeps}", on_key=True)
    # The default is in the data where a model is checked.
    if only and resolve not in (None, "latest", "target"):
        message = "insert_only leaves rows that are there as they are, so nothing is resolved"
        yield Finding((*at, "resolve"), message, "leave resolve out, or insert_only", on_key=True)
    chosen = table.get("insert_columns")
    if not isinstance(chosen, list | tuple):
        return
    there = {*chosen, *_texts(table.get("keys")), *_texts(table.get("sequence_by"))}
    for i, name in enumerate(_texts(table.get("not_null"))):
        if name not in there:
            message = f"a new row would lack {name!r}, which is not among insert_columns"
            yield Finding((*at, "not_null", i), message, f"add {name} to insert_columns")


def condition_columns(
    at: Loc, table: Mapping[str, Any], known: Collection[str]
) -> Iterator[Finding]:
    """Columns of the table that its conditions on merges name, and that it cannot have.

    Args:
        at: Where the table stands.
        table: Its data.
        known: The columns that it can have.
    """
    folded = {one.lower() for one in known}
    own = [one for one in known if one not in METADATA_COLUMNS]
    for key in _CONDITIONS:
        text = table.get(key)
        if not isinstance(text, str):
            continue
        try:
            names = names_in(text)
        except Invalid:
            continue
        for parts in names:
            sided = len(parts) > 1 and parts[0].lower() in ("source", "target")
            name = parts[1] if sided else parts[0]
            if name.lower() not in folded:
                hint = did_you_mean(name, own)
                yield Finding((*at, key), f"{name!r} cannot be a column of it", hint)


def _texts(value: object) -> list[str]:
    given = [value] if isinstance(value, str) else value
    return [one for one in given if isinstance(one, str)] if isinstance(given, list | tuple) else []
