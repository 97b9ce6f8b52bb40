"""MERGE with delta-rs: keys checked and made unique first, files pruned by the keys' range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable

from raylake.config.findings import did_you_mean
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.delta_rs_tasks import Metrics, Task, assignments
from raylake.tables.errors import BadRequest, FeatureUnsupported, UnknownColumn
from raylake.tables.expressions import Expression, Scope, condition, quoted
from raylake.tables.keys import (
    KeyMatch,
    check_keys,
    key_match,
    key_range,
    one_row_a_key,
    refuse_null_keys,
)
from raylake.tables.requests import DeleteUnmatched, UpdateUnmatched, Upsert
from raylake.tables.results import RowCounts
from raylake.tables.rows import Shape, aligned, without_views


@dataclass(frozen=True, slots=True)
class _Clauses:
    """The checked conditions of a merge, as SQL."""

    update: str | None
    insert: str | None
    delete: str | None
    read: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Merge:
    """A merge that is ready to run.

    Attributes:
        rows: The source, one row a key.
        match: How its rows match.
        clauses: Its conditions.
        updates: Columns that an update writes; empty: matching rows stay.
        inserts: Columns that an insert writes.
        unmatched: SQL of what becomes of unmatched rows of the table: values and condition.
        adds: Whether columns are added to the table.
    """

    rows: pa.Table
    match: KeyMatch
    clauses: _Clauses
    updates: tuple[str, ...]
    inserts: tuple[str, ...]
    unmatched: tuple[Mapping[str, str] | None, str | None] | None
    adds: bool


def upsert_task(root: Place, handle: DeltaTable, request: Upsert) -> Task | None:
    """A merge; None when there is nothing that could match or be inserted."""
    where = f"{root}: upsert"
    _refuse_contradictions(request, where)
    target = arrow_schema(handle.schema())
    check_keys(request.keys, request.rows.schema, target, where)
    clauses = _clauses(request, target, where)
    unmatched = _unmatched(root, handle, request, target)
    ignored = _ignored(request, clauses, target)
    shape = Shape(str(root), target, adds=request.schema == "merge", ignored=ignored)
    rows = aligned(request.rows, shape)
    refuse_null_keys(rows, request.keys, where)
    single = one_row_a_key(rows, request.keys, request.sequence_by, where)
    if not single.num_rows and unmatched is None:
        return None
    all_columns = [name for name in single.schema.names if name not in ignored]
    adds = bool(set(all_columns) - set(target.names))
    source = single
    if any(not field.nullable for field in target):
        if adds:
            raise FeatureUnsupported(
                f"{where}: delta-rs cannot add columns by an upsert to a table with NOT NULL "
                "columns",
                hint="append a row with schema='merge' first, or use engine: spark",
                feature="schema evolution in MERGE",
            )
        if clauses.insert is not None:
            source = _that_count(handle, single, request.keys, clauses.insert)
            clauses = replace(clauses, insert=None)
    updates = _chosen(request.columns, all_columns, where)
    inserts = _chosen(request.insert_columns or request.columns, all_columns, where)
    merge = _Merge(
        source,
        key_match(source, request.keys),
        clauses,
        () if request.insert_only else tuple(n for n in updates if n not in request.keys),
        tuple(dict.fromkeys((*request.keys, *inserts))),
        unmatched,
        adds,
    )

    def count(metrics: Metrics) -> RowCounts:
        return RowCounts(
            source=rows.num_rows,
            duplicates=rows.num_rows - single.num_rows,
            inserted=int(metrics.get("num_target_rows_inserted") or 0),
            updated=int(metrics.get("num_target_rows_updated") or 0),
            deleted=int(metrics.get("num_target_rows_deleted") or 0),
            copied=int(metrics.get("num_target_rows_copied") or 0),
        )

    return Task(lambda properties: _run(handle, merge, properties), count)


def _run(handle: DeltaTable, merge: _Merge, properties: CommitProperties) -> object:
    builder: Any = handle.merge(
        merge.rows,
        # Rows that match nothing must be seen too where something becomes of them.
        merge.match.sql(prune=merge.unmatched is None),
        source_alias="source",
        target_alias="target",
        merge_schema=merge.adds,
        error_on_type_mismatch=True,
        commit_properties=properties,
    )
    clauses = merge.clauses
    if clauses.delete is not None:
        builder = builder.when_matched_delete(clauses.delete)
    if merge.updates:
        builder = builder.when_matched_update(_from_source(merge.updates), clauses.update)
    builder = builder.when_not_matched_insert(_from_source(merge.inserts), clauses.insert)
    if merge.unmatched is not None:
        values, where = merge.unmatched
        if values is None:
            builder = builder.when_not_matched_by_source_delete(where)
        else:
            builder = builder.when_not_matched_by_source_update(dict(values), where)
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


def _refuse_contradictions(request: Upsert, where: str) -> None:
    if request.insert_only and (request.update_when or request.delete_when):
        raise BadRequest(
            f"{where}: insert_only leaves matching rows alone, and a condition on them is given",
            hint="leave update_when and delete_when out, or insert_only",
        )


def _clauses(request: Upsert, target: pa.Schema, where: str) -> _Clauses:
    source = without_views(request.rows.schema)
    both = {"source": source, "target": target}
    found = {
        name: condition(text, Scope(sides, f"{where} {name}"))
        for name, text, sides in (
            ("update_when", request.update_when, both),
            ("delete_when", request.delete_when, both),
            ("insert_when", request.insert_when, {"source": source}),
        )
        if text is not None
    }
    delete = found.get("delete_when")
    insert = [f"({found['insert_when'].sql()})"] if "insert_when" in found else []
    if delete is not None and all(side == "source" for side, _ in delete.columns):
        # A row that says "deleted" of a key that is not there is not to bring it.
        insert.append(f"NOT COALESCE({delete.sql()}, FALSE)")
    return _Clauses(
        _sql(found.get("update_when")),
        " AND ".join(insert) or None,
        _sql(delete),
        frozenset(name for one in found.values() for side, name in one.columns if side == "source"),
    )


def _sql(expression: Expression | None) -> str | None:
    return None if expression is None else expression.sql()


def _unmatched(
    root: Place, handle: DeltaTable, request: Upsert, target: pa.Schema
) -> tuple[Mapping[str, str] | None, str | None] | None:
    wanted = request.not_matched_by_source
    if wanted is None:
        return None
    where = None
    if wanted.where is not None:
        scope = Scope({"target": target}, f"{root}: upsert not_matched_by_source where")
        where = condition(wanted.where, scope).sql()
    if isinstance(wanted, DeleteUnmatched):
        return None, where
    return _unmatched_values(root, handle, wanted), where


def _unmatched_values(
    root: Place, handle: DeltaTable, wanted: UpdateUnmatched
) -> Mapping[str, str]:
    found = assignments(root, handle, wanted.set, "upsert not_matched_by_source", side="target")
    return {quoted(name): text for name, text in found.items()}


def _ignored(request: Upsert, clauses: _Clauses, target: pa.Schema) -> frozenset[str]:
    """Columns of the source that are read for conditions and not written."""
    extra = set(request.rows.schema.names) - set(target.names)
    if request.columns is not None:
        written = {*request.keys, *request.columns, *(request.insert_columns or ())}
        return frozenset(extra - written)
    if request.schema == "merge":
        return frozenset()
    return frozenset(extra & (clauses.read | set(request.sequence_by)))


def _chosen(columns: tuple[str, ...] | None, known: list[str], where: str) -> tuple[str, ...]:
    if columns is None:
        return tuple(known)
    for name in columns:
        if name not in known:
            raise UnknownColumn(
                f"{where}: the source has no column {name!r} to write",
                hint=did_you_mean(name, known),
                column=name,
            )
    return columns
