"""MERGE with delta-rs: the source held against NOT NULL, files pruned by the keys' range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable

from raylake.delta.schema import arrow_schema
from raylake.tables.delta_rs_files import written_as
from raylake.tables.delta_rs_limits import (
    refuse_partition_updates,
    refuse_partition_values,
    refuse_spellings,
)
from raylake.tables.delta_rs_tasks import Metrics, Task
from raylake.tables.errors import FeatureUnsupported
from raylake.tables.expressions import quoted
from raylake.tables.keys import key_match, key_range
from raylake.tables.log_tending import NO_HOOKS
from raylake.tables.merging import Merge
from raylake.tables.results import RowCounts
from raylake.tables.subject import Subject


def delta_rs_merge(subject: Subject, handle: DeltaTable, merge: Merge) -> Task:
    """A merge as delta-rs carries it out.

    Raises:
        FeatureUnsupported: It cannot, or does it wrongly; says who can.
    """
    source, insert = merge.rows, merge.clauses.insert_sql()
    refuse_spellings(subject.root, handle)
    refuse_partition_values(subject.root, handle, source)
    if merge.unmatched is not None and merge.unmatched.values is not None:
        refuse_partition_updates(subject.root, handle, merge.unmatched.values)
    if any(not field.nullable for field in subject.schema):
        if merge.adds:
            raise FeatureUnsupported(
                f"{subject.root}: upsert: delta-rs cannot add columns by an upsert to a table with "
                "NOT NULL columns",
                hint="append a row with schema='merge' first, or use engine: spark",
                feature="schema evolution in MERGE",
            )
        if insert is not None:
            source = _that_count(handle, source, merge.keys, insert)
            insert = None

    def run(properties: CommitProperties) -> object:
        return _run(handle, merge, source, insert, properties)

    return Task(run, lambda metrics: counted(merge, metrics))


def counted(merge: Merge, metrics: Metrics) -> RowCounts:
    """Rows by outcome, from the metrics of a merge's commit."""
    return RowCounts(
        source=merge.given,
        duplicates=merge.given - merge.rows.num_rows,
        inserted=int(metrics.get("num_target_rows_inserted") or 0),
        updated=int(metrics.get("num_target_rows_updated") or 0),
        deleted=int(metrics.get("num_target_rows_deleted") or 0),
        copied=int(metrics.get("num_target_rows_copied") or 0),
    )


def _run(
    handle: DeltaTable,
    merge: Merge,
    source: pa.Table,
    insert: str | None,
    properties: CommitProperties,
) -> object:
    unmatched, clauses = merge.unmatched, merge.clauses
    builder: Any = handle.merge(
        source,
        # Rows that match nothing must be seen too where something becomes of them.
        key_match(source, merge.keys).sql(prune=unmatched is None),
        source_alias="source",
        target_alias="target",
        merge_schema=bool(merge.adds),
        error_on_type_mismatch=True,
        writer_properties=written_as(source),
        commit_properties=properties,
        post_commithook_properties=NO_HOOKS,
    )
    if clauses.delete is not None:
        builder = builder.when_matched_delete(clauses.delete.sql())
    if merge.updates:
        update = None if clauses.update is None else clauses.update.sql()
        builder = builder.when_matched_update(_from_source(merge.updates), update)
    builder = builder.when_not_matched_insert(_from_source(merge.inserts), insert)
    if unmatched is not None:
        where = None if unmatched.where is None else unmatched.where.sql()
        if unmatched.values is None:
            builder = builder.when_not_matched_by_source_delete(where)
        else:
            values = {quoted(name): one.sql() for name, one in unmatched.values.items()}
            builder = builder.when_not_matched_by_source_update(values, where)
    return builder.execute()


def _that_count(handle: DeltaTable, rows: pa.Table, keys: Sequence[str], insert: str) -> pa.Table:
    """The rows that may be inserted, and those that match a row of the table.

    delta-rs 1.6 takes rows that it is not to insert for rows of nothing but nulls, and refuses
    them where a column is NOT NULL: so they are left out. The commit fails if the table has moved.
    """
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("source", rows)
        query = f"SELECT COALESCE({insert}, FALSE) AS chosen FROM source"  # noqa: S608
        chosen = pa.table(connection.sql(query).to_arrow_table()).column("chosen")
    others = rows.filter(pc.invert(chosen))
    if not others.num_rows:
        return rows
    wanted = pa.schema([arrow_schema(handle.schema()).field(key) for key in keys])
    where = key_range(others, keys)
    found = pa.RecordBatchReader.from_stream(
        handle.scan(columns=list(keys), predicate=where or None)
    )
    known = pa.Table.from_batches((batch.cast(wanted) for batch in found), schema=wanted)
    numbered = others.select(list(keys)).append_column(
        "raylake_row", pa.array(range(others.num_rows), pa.int64())
    )
    matching = numbered.join(known, list(keys), join_type="left semi").column("raylake_row")
    return pa.concat_tables([rows.filter(chosen), others.take(matching)])


def _from_source(columns: tuple[str, ...]) -> dict[str, str]:
    return {quoted(name): quoted(name, "source") for name in columns}
