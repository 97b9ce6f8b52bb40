"""What the rules of a lake's tables found, for people and programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from raylake.client.shown import Listing
from raylake.delta.tables_there import is_table
from raylake.quality import history
from raylake.quality.history import Line, listing, summary
from raylake.storage.place import folders, place
from raylake.tables.requests import Read
from raylake.tables.service import DirectTables

__all__ = ["Line", "found_in", "histories", "summary"]

FOLDER: Final = "_quality"


def histories(lake: str) -> list[str]:
    """The addresses of the histories of a lake's pipelines."""
    return [str(one) for one in folders(place(f"{lake}/{FOLDER}")) if is_table(str(one))]


def found_in(paths: Iterable[str], table: str | None = None, last: int = 1) -> Listing[Line]:
    """The last results of each rule and category: what failed, then what passed, newest first.

    Args:
        paths: Histories; those that are not there are as good as empty.
        table: Of this table (``layer.name``) only.
        last: So many results of each.
    """
    tables = DirectTables()
    lines: list[Line] = []
    for path in paths:
        if not is_table(path):
            continue

        def read(request: Read, path: str = path) -> pa.RecordBatchReader:
            return tables.read(path, request)

        lines += history.report(read, table, last=last)
    ordered: Sequence[Line] = sorted(lines, key=lambda one: one.state == "passed")
    return listing(ordered, f"quality of {table}" if table else "quality")
