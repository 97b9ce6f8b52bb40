"""Writes to the tables that a derivation keeps beside its own, some of them for a time only.

Of rows that are kept for a time the table says since when (:data:`SINCE`), by the clock of who
writes, not by the rows' own times: those of a backfill are old when they come. What is past its
time leaves with the next write to the table; where nothing is written it does not grow either.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

import pyarrow as pa

from raylake.delta.tables_there import is_table
from raylake.layers.derived import SideWrite
from raylake.layers.source_logs import schema_at
from raylake.storage.place import place
from raylake.tables.errors import TableExists
from raylake.tables.expressions import quoted
from raylake.tables.requests import Delete, Read, Upsert
from raylake.tables.service import TableService
from raylake.tables.versions import Versions

SINCE: Final = "_remembered_ms"
"""Since when a row is kept, milliseconds since the epoch: delta-rs compares no times in deletes."""


def write_side(address: str, one: SideWrite, tables: TableService, now_s: float) -> None:
    """Write to a table beside; it may be done any number of times.

    Args:
        address: Where the table lies.
        one: What is written.
        tables: Reads and writes tables.
        now_s: The time, seconds since the epoch.
    """
    if one.keep_s is not None:
        one = _stamped(one, int(now_s * 1000))
    if not is_table(address):
        with suppress(TableExists):
            tables.execute(address, one.create)
    elif one.keep_s is not None:
        # Before what is new, which counts from now on though something greater was there.
        _forget(address, tables, int((now_s - one.keep_s) * 1000))
    tables.execute(address, one.write)


def _stamped(one: SideWrite, now_ms: int) -> SideWrite:
    write = one.write
    if not isinstance(write, Upsert):
        return one
    rows = write.rows.append_column(SINCE, pa.repeat(now_ms, write.rows.num_rows))
    columns = None if write.columns is None else (*write.columns, SINCE)
    create = replace(one.create, schema=one.create.schema.append(pa.field(SINCE, pa.int64())))
    # A table that was made before has the column from now on.
    stamped = replace(write, rows=rows, columns=columns, schema="merge")
    return replace(one, create=create, write=stamped)


def _forget(address: str, tables: TableService, before_ms: int) -> None:
    root = place(address)
    if SINCE not in schema_at(root, Versions(root).latest).names:
        return
    where = f"{quoted(SINCE)} < {before_ms}"
    found = tables.read(address, Read(where=where, columns=(SINCE,)))
    if any(batch.num_rows for batch in found):
        tables.execute(address, Delete(where))
