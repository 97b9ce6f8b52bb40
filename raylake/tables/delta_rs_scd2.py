"""SCD type 2 with delta-rs: the versions of the changed keys are read, planned, and merged.

Read and merge are of one snapshot: the merge's commit fails where the table has moved since, and
the engine begins again with the read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.delta_rs_tasks import Metrics, Task
from raylake.tables.delta_rs_upsert import upsert_task
from raylake.tables.keys import key_range
from raylake.tables.requests import Scd2
from raylake.tables.results import RowCounts
from raylake.tables.scd2 import changes_of, layout_of
from raylake.tables.scd2_plan import plan

CHUNK_ROWS: Final = 1 << 18
"""How many rows of the table are looked through at a time."""


def scd2_task(root: Place, handle: DeltaTable, request: Scd2) -> Task | None:
    """Changes are brought into a table of versions; None when it knows them all."""
    where = f"{root}: scd2"
    layout = layout_of(request, arrow_schema(handle.schema()), where)
    changes = changes_of(request, layout, where)
    if not changes.num_rows:
        return None
    stored = versions_of(handle, changes, layout.keys)
    found = plan(layout, stored, changes, where)
    merge = found.upsert(layout)
    task = None if merge is None else upsert_task(root, handle, merge)
    if task is None:
        return None
    merged = task.count

    def count(metrics: Metrics) -> RowCounts:
        return replace(merged(metrics), source=changes.num_rows, duplicates=found.superseded)

    return Task(task.run, count)


def versions_of(handle: DeltaTable, changes: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The table's rows with the keys of some changes, in its own types."""
    schema = arrow_schema(handle.schema())
    wanted = changes.select(list(keys))
    where = key_range(wanted, keys)
    found = pa.RecordBatchReader.from_stream(
        handle.scan(columns=schema.names, predicate=where or None)
    )
    kept = [_of_keys(chunk, wanted) for chunk in _chunks(found)]
    return pa.concat_tables([schema.empty_table(), *(one.cast(schema) for one in kept)])


def _chunks(found: pa.RecordBatchReader) -> Iterator[pa.Table]:
    batches: list[pa.RecordBatch] = []
    for batch in found:
        batches.append(batch)
        if sum(one.num_rows for one in batches) >= CHUNK_ROWS:
            yield pa.Table.from_batches(batches)
            batches = []
    if batches:
        yield pa.Table.from_batches(batches)


def _of_keys(rows: pa.Table, wanted: pa.Table) -> pa.Table:
    """The rows with keys that are asked for."""
    chosen = None
    for name in wanted.column_names:
        values = wanted.column(name).combine_chunks()
        there = pc.is_in(rows.column(name).cast(values.type), value_set=values)
        chosen = there if chosen is None else pc.and_(chosen, there)
    found = rows.filter(chosen)
    if wanted.num_columns == 1 or not found.num_rows:
        return found
    keys = pa.table(
        [found.column(n).cast(wanted.field(n).type) for n in wanted.column_names],
        wanted.column_names,
    )
    places = pa.array(range(found.num_rows), pa.int64())
    numbered = keys.append_column("raylake.place", places)
    matching = numbered.join(wanted, wanted.column_names, join_type="left semi")
    return found.take(matching.column("raylake.place"))
