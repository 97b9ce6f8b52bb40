"""MERGE with Spark."""

from __future__ import annotations

from typing import Any

from raylake.spark.engine_tasks import Task, Work, metric, spark_values
from raylake.tables.expressions import quoted
from raylake.tables.keys import key_match
from raylake.tables.landing import Landed
from raylake.tables.likeness import SPARK
from raylake.tables.merging import Merge, merge_of
from raylake.tables.requests import Upsert
from raylake.tables.results import RowCounts


def upsert_task(work: Work, request: Upsert) -> Task | None:
    """A merge; None when there is nothing that could match or be inserted."""
    merge = merge_of(work.subject, request)
    if merge is None:
        return None

    def count(commit: Landed) -> RowCounts:
        found = commit.metrics
        return RowCounts(
            source=merge.given,
            duplicates=merge.given - merge.rows.num_rows,
            inserted=metric(found, "numTargetRowsInserted"),
            updated=metric(found, "numTargetRowsUpdated"),
            deleted=metric(found, "numTargetRowsDeleted"),
            copied=metric(found, "numTargetRowsCopied"),
        )

    adds = tuple(merge.rows.schema.field(name) for name in merge.adds)
    return Task(lambda at: _run(at, merge), count, name="MERGE", adds=adds)


def _run(work: Work, merge: Merge) -> None:
    # Rows that match nothing must be seen too where something becomes of them.
    match = key_match(merge.rows, merge.keys, SPARK).sql(prune=merge.unmatched is None)
    with work.scratch.given(work.session, merge.rows) as frame:
        builder: Any = work.table().alias("target").merge(frame.alias("source"), match)
        if merge.adds and work.aside is None:
            builder = builder.withSchemaEvolution()
        clauses = merge.clauses
        if clauses.delete is not None:
            builder = builder.whenMatchedDelete(clauses.delete.sql(SPARK))
        if merge.updates:
            update = None if clauses.update is None else clauses.update.sql(SPARK)
            builder = builder.whenMatchedUpdate(update, _from_source(merge.updates))
        inserts = _from_source(merge.inserts)
        builder = builder.whenNotMatchedInsert(clauses.insert_sql(SPARK), inserts)
        _unmatched(builder, work, merge).execute()


def _unmatched(builder: Any, work: Work, merge: Merge) -> Any:
    if merge.unmatched is None:
        return builder
    where = None if merge.unmatched.where is None else merge.unmatched.where.sql(SPARK)
    if merge.unmatched.values is None:
        return builder.whenNotMatchedBySourceDelete(where)
    values = spark_values(work.found.schema, merge.unmatched.values)
    return builder.whenNotMatchedBySourceUpdate(where, values)


def _from_source(columns: tuple[str, ...]) -> dict[str, str]:
    return {quoted(n, dialect=SPARK): quoted(n, "source", SPARK) for n in columns}
