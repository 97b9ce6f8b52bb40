"""An upsert, checked whole and ready for any engine: rows, keys, conditions, columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from raylake.config.findings import did_you_mean
from raylake.tables.errors import BadRequest, UnknownColumn
from raylake.tables.expressions import Expression, Scope, condition
from raylake.tables.keys import check_keys, one_row_a_key, refuse_null_keys
from raylake.tables.requests import DeleteUnmatched, Upsert
from raylake.tables.rows import Shape, aligned, as_partitioned, without_views
from raylake.tables.subject import Subject, assignments


@dataclass(frozen=True, slots=True)
class Clauses:
    """The checked conditions of an upsert."""

    update: Expression | None
    insert: Expression | None
    delete: Expression | None

    @property
    def read(self) -> frozenset[str]:
        """The columns of the source that they read."""
        found = (one for one in (self.update, self.insert, self.delete) if one is not None)
        return frozenset(name for one in found for side, name in one.columns if side == "source")

    def insert_sql(self, dialect: str | None = None) -> str | None:
        """When a row without a match is inserted; None: always."""
        parts = [] if self.insert is None else [f"({self.insert.sql(dialect)})"]
        delete = self.delete
        if delete is not None and all(side == "source" for side, _ in delete.columns):
            # A row that says "deleted" of a key that is not there is not to bring it.
            parts.append(f"NOT COALESCE({delete.sql(dialect)}, FALSE)")
        return " AND ".join(parts) or None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """What becomes of rows of the table that no row of the source matches.

    Attributes:
        values: Column to its new value; None: they are deleted.
        where: Only those; None: all of them.
    """

    values: Mapping[str, Expression] | None
    where: Expression | None


@dataclass(frozen=True, slots=True)
class Merge:
    """An upsert that is ready to run.

    Attributes:
        rows: The source in the table's types, one row a key.
        given: Rows that were handed over.
        keys: The merge keys.
        clauses: Its conditions.
        updates: Columns that an update writes; empty: matching rows stay.
        inserts: Columns that an insert writes.
        unmatched: What becomes of rows of the table without a match; None: nothing.
        adds: Columns that the table lacks and gets.
    """

    rows: pa.Table
    given: int
    keys: tuple[str, ...]
    clauses: Clauses
    updates: tuple[str, ...]
    inserts: tuple[str, ...]
    unmatched: Unmatched | None
    adds: tuple[str, ...]


def merge_of(subject: Subject, request: Upsert) -> Merge | None:
    """The upsert, checked; None when there is nothing that could match or be inserted.

    Raises:
        TableError: What is wrong with keys, rows, conditions or columns.
    """
    where = f"{subject.root}: upsert"
    _refuse_contradictions(request, where)
    target = subject.schema
    check_keys(request.keys, request.rows.schema, target, where)
    clauses = _clauses(request, target, where)
    unmatched = _unmatched(subject, request)
    ignored = _ignored(request, clauses, target)
    shape = Shape(str(subject.root), target, adds=request.schema == "merge", ignored=ignored)
    rows = as_partitioned(aligned(request.rows, shape), subject.partition_by)
    refuse_null_keys(rows, request.keys, where)
    single = one_row_a_key(rows, request.keys, request.sequence_by, where)
    if not single.num_rows and unmatched is None:
        return None
    columns = [name for name in single.schema.names if name not in ignored]
    updates = _chosen(request.columns, columns, where)
    inserts = _chosen(request.insert_columns or request.columns, columns, where)
    return Merge(
        rows=single,
        given=rows.num_rows,
        keys=tuple(request.keys),
        clauses=clauses,
        updates=()
        if request.insert_only
        else tuple(name for name in updates if name not in request.keys),
        inserts=tuple(dict.fromkeys((*request.keys, *inserts))),
        unmatched=unmatched,
        adds=tuple(name for name in columns if name not in target.names),
    )


def _refuse_contradictions(request: Upsert, where: str) -> None:
    if request.insert_only and (request.update_when or request.delete_when):
        raise BadRequest(
            f"{where}: insert_only leaves matching rows alone, and a condition on them is given",
            hint="leave update_when and delete_when out, or insert_only",
        )


def _clauses(request: Upsert, target: pa.Schema, where: str) -> Clauses:
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
    return Clauses(found.get("update_when"), found.get("insert_when"), found.get("delete_when"))


def _unmatched(subject: Subject, request: Upsert) -> Unmatched | None:
    wanted = request.not_matched_by_source
    if wanted is None:
        return None
    where = None
    if wanted.where is not None:
        what = f"{subject.root}: upsert not_matched_by_source where"
        where = condition(wanted.where, Scope({"target": subject.schema}, what))
    if isinstance(wanted, DeleteUnmatched):
        return Unmatched(None, where)
    what = "upsert not_matched_by_source"
    return Unmatched(assignments(subject, wanted.set, what, side="target"), where)


def _ignored(request: Upsert, clauses: Clauses, target: pa.Schema) -> frozenset[str]:
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
