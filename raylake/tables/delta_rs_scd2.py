"""SCD type 2 with delta-rs: the versions of the changed keys are read, planned, and merged.

Read and merge are of one snapshot: the merge's commit fails where the table has moved since, and
the engine begins again with the read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.delta_rs_tasks import Metrics, Task
from raylake.tables.keys import key_range
from raylake.tables.requests import Scd2, Upsert
from raylake.tables.results import RowCounts
from raylake.tables.scd2_plan import planned

CHUNK_ROWS: Final = 1 << 18
"""How many rows of the table are looked through at a time."""


def scd2_task(
    root: Place,
    handle: DeltaTable,
    request: Scd2,
    upsert_task: Callable[[Place, DeltaTable, Upsert], Task | None],
) -> Task | None:
    """Changes are brought into a table of versions; None when it knows them all."""
    schema = arrow_schema(handle.schema())
    merge = planned(root, schema, request, functools.partial(_rows_of, handle, schema))
    task = None if merge is None else upsert_task(root, handle, merge.upsert)
    if merge is None or task is None:
        return None
    count, superseded = task.count, merge.superseded

    def counted(metrics: Metrics) -> RowCounts:
        return replace(count(metrics), source=request.rows.num_rows, duplicates=superseded)

    return replace(task, count=counted)


def _rows_of(handle: DeltaTable, schema: pa.Schema, keys: pa.Table) -> pa.Table:
    """The table's rows with some keys, in its own types."""
    where = key_range(keys, keys.column_names)
    found = pa.RecordBatchReader.from_stream(
        handle.scan(columns=schema.names, predicate=where or None)
    )
    kept = [_of_keys(chunk, keys) for chunk in _chunks(found, schema)]
    return pa.concat_tables([schema.empty_table(), *kept])


def _chunks(found: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.Table]:
    batches: list[pa.RecordBatch] = []
    rows = 0
    for batch in found:
        batches.append(batch.cast(schema))
        rows += batch.num_rows
        if rows >= CHUNK_ROWS:
            yield pa.Table.from_batches(batches, schema)
            batches, rows = [], 0
    if batches:
        yield pa.Table.from_batches(batches, schema)


def _of_keys(rows: pa.Table, wanted: pa.Table) -> pa.Table:
    """The rows with keys that are asked for."""
    names = wanted.column_names
    masks = [pc.is_in(rows.column(name), value_set=wanted.column(name)) for name in names]
    found = rows.filter(functools.reduce(pc.and_, masks))
    if len(names) == 1 or not found.num_rows:
        return found
    places = pa.array(range(found.num_rows), pa.int64())
    numbered = found.select(names).append_column("raylake.place", places)
    matching = numbered.join(wanted, names, join_type="left semi")
    return found.take(matching.column("raylake.place"))
