"""What each operation asks of Spark, and what it counts; all is checked before it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from deltalake import CommitProperties
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import StructType

from raylake.delta.schema import delta_schema
from raylake.spark.engine_open import Found, address, looked_at, subject_of
from raylake.spark.engine_rows import Scratch
from raylake.storage.objects import StorePath
from raylake.storage.place import Place
from raylake.tables.errors import BadRequest, FeatureUnsupported
from raylake.tables.expressions import Expression, quoted
from raylake.tables.landing import Landed
from raylake.tables.likeness import SPARK
from raylake.tables.requests import Append, Delete, Overwrite, Restore, Update
from raylake.tables.results import RowCounts
from raylake.tables.subject import Subject, assignments, overwriting, where_of, whole_rows
from raylake.tables.versions import Versions


@dataclass(frozen=True, slots=True)
class Work:
    """One try of an operation: its table, its session, and where rows pass.

    Attributes:
        found: The table.
        session: The operation's own session.
        scratch: Where rows pass.
        signature: What a commit of RayLake's own carries.
        aside: The stand-in that Spark works on; None: the table.
    """

    found: Found
    session: SparkSession
    scratch: Scratch
    signature: CommitProperties
    aside: Place | None = None

    @property
    def root(self) -> Place:
        """Where the table is."""
        return self.found.root

    @property
    def subject(self) -> Subject:
        """The table as checks see it."""
        return subject_of(self.found, self.session)

    def table(self) -> DeltaTable:
        """Delta's handle of the table that Spark works on."""
        return DeltaTable.forPath(self.session, address(self.aside or self.root, self.session))

    def around(self, commit: Landed) -> tuple[dict[str, int], dict[str, int]]:
        """Rows by file before and after a commit."""
        versions = (commit.version - 1, commit.version)
        before, after = (looked_at(self.root, one).rows_by_file() for one in versions)
        return before, after


@dataclass(frozen=True, slots=True)
class Task:
    """An operation that is ready to run.

    Attributes:
        run: Runs it, on the stand-in of the work that it is given, where that has one.
        count: Rows by outcome of its commit.
        why: How it is run, where that is not by a command of Spark's on the table.
        name: What the history calls it.
        reads: Whether it has to do with rows that are there.
        replaces: Whether all of them leave; on a stand-in the new ones are just written then.
        schema: The schema that the table gets instead of its own.
        adds: Columns that the table lacks and gets.
    """

    run: Callable[[Work], object]
    count: Callable[[Landed], RowCounts]
    why: str = ""
    name: str = "WRITE"
    reads: bool = True
    replaces: bool = False
    schema: pa.Schema | None = None
    adds: tuple[pa.Field, ...] = ()


def append_task(work: Work, request: Append) -> Task | None:
    """Rows are added; None when there are none."""
    adds = request.schema == "merge"
    rows = whole_rows(work.subject, request.rows, adds=adds)
    if not rows.num_rows:
        return None
    # What the source lacks Spark fills itself: with nulls, or as a generated column says.
    given = rows.select([name for name in rows.schema.names if name in request.rows.schema.names])
    options = {"mergeSchema": "true"} if adds else {}
    return Task(
        lambda at: _write(at, given, "append", options),
        lambda _: RowCounts(source=rows.num_rows, inserted=rows.num_rows),
        reads=False,
        adds=_new(work, rows),
    )


def overwrite_task(work: Work, request: Overwrite) -> Task:
    """All rows, or those of a condition, are replaced."""
    subject = work.subject
    rows, where = overwriting(subject, request)
    options = {} if where is None else {"replaceWhere": where.sql(SPARK)}
    if request.schema == "merge":
        options["mergeSchema"] = "true"
    if request.schema == "overwrite":
        _refuse_not_null(work.root, rows.schema)
        options["overwriteSchema"] = "true"

    def count(commit: Landed) -> RowCounts:
        before, after = (sum(one.values()) for one in work.around(commit))
        inserted = rows.num_rows
        return RowCounts(source=inserted, inserted=inserted, deleted=before + inserted - after)

    def run(at: Work) -> None:
        if at.aside is not None and where is None:
            _write(at, rows, "append", {})
        else:
            _write(at, rows, "overwrite", options)

    if request.schema == "overwrite":
        return Task(run, count, reads=False, replaces=True, schema=rows.schema)
    whole = where is None
    return Task(run, count, reads=not whole, replaces=whole, adds=_new(work, rows))


def delete_task(work: Work, request: Delete) -> Task:
    """Rows are taken away."""
    where = where_of(work.subject, request.where, "delete").sql(SPARK)

    def count(commit: Landed) -> RowCounts:
        # Of whole files that leave without being read Spark does not always say how many rows.
        before, after = (sum(one.values()) for one in work.around(commit))
        return RowCounts(deleted=before - after, copied=metric(commit.metrics, "numCopiedRows"))

    return Task(lambda at: at.table().delete(where), count, name="DELETE")


def update_task(work: Work, request: Update) -> Task:
    """Columns get new values."""
    subject = work.subject
    values = spark_values(subject.schema, assignments(subject, request.set, "update"))
    where = None
    if request.where is not None:
        where = where_of(subject, request.where, "update").sql(SPARK)

    def count(commit: Landed) -> RowCounts:
        return RowCounts(
            updated=metric(commit.metrics, "numUpdatedRows"),
            copied=metric(commit.metrics, "numCopiedRows"),
        )

    return Task(lambda at: at.table().update(where, values), count, name="UPDATE")


def restore_task(work: Work, request: Restore, *, fenced: bool) -> Task | None:
    """The table becomes what it was; None when it is that already.

    Raises:
        FeatureUnsupported: Under a slot: Spark's RESTORE carries no number.
    """
    root = work.root
    if request.version is None and request.at is None:
        raise BadRequest(f"{root}: restore: neither a version nor a time is given")
    if fenced:
        raise FeatureUnsupported(
            f"{root}: restore: Spark's RESTORE cannot carry the number of the owner's slot",
            hint="engine: delta-rs restores under a slot",
            feature="RESTORE under a slot",
        )
    if isinstance(root, StorePath):
        raise FeatureUnsupported(
            f"{root}: restore: Spark's RESTORE commits itself, and in a store it could put its "
            "commit over another one",
            hint="engine: delta-rs restores tables in stores",
            feature="RESTORE in a store",
        )
    versions = Versions(root)
    target = versions.resolve(request.version, request.at)
    if target == work.found.log.version:
        return None
    old = set(looked_at(root, target).rows_by_file())
    versions.require_files(old - set(work.found.rows_by_file()), target)

    def count(commit: Landed) -> RowCounts:
        before, after = work.around(commit)
        gains = [after.get(path, 0) - before.get(path, 0) for path in {*before, *after}]
        return RowCounts(
            inserted=sum(n for n in gains if n > 0), deleted=-sum(n for n in gains if n < 0)
        )

    return Task(lambda at: at.table().restoreToVersion(target), count)


def spark_values(schema: pa.Schema, values: Mapping[str, Expression]) -> dict[str, str]:
    """New values of columns as Spark takes them, each one cast to its column's type.

    A value that does not fit in spite of its kind, as a sum that is too large, is an error then.
    """
    found = {}
    for name, one in values.items():
        kind = schema.field(name).type
        text = one.sql(SPARK)
        if not pa.types.is_nested(kind):
            struct = StructType.fromJson(
                json.loads(delta_schema(pa.schema([("x", kind)])).to_json())
            )
            text = f"CAST({text} AS {struct[0].dataType.simpleString()})"
        found[quoted(name, dialect=SPARK)] = text
    return found


def metric(metrics: Mapping[str, Any], name: str) -> int:
    """A count of Spark's, which writes numbers as text; 0 where it says nothing."""
    return int(metrics.get(name) or 0)


def _write(work: Work, rows: pa.Table, mode: str, options: Mapping[str, str]) -> None:
    with work.scratch.given(work.session, rows) as frame:
        whole = _commented(frame, rows.schema) if "overwriteSchema" in options else frame
        writer = whole.write.format("delta").mode(mode).options(**options)
        if "overwriteSchema" in options:
            writer = writer.partitionBy(*work.found.log.metadata.partition_columns)
        writer.save(address(work.aside or work.root, work.session))


def _new(work: Work, rows: pa.Table) -> tuple[pa.Field, ...]:
    """The columns of rows that the table lacks."""
    return tuple(one for one in rows.schema if one.name not in work.found.schema.names)


def _commented(frame: DataFrame, schema: pa.Schema) -> DataFrame:
    """The frame with the columns' comments, which become those of the table."""
    columns = []
    for field in schema:
        kept = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        column = F.col(quoted(field.name, dialect=SPARK))
        columns.append(column.alias(field.name, metadata=kept) if kept else column)
    return frame.select(*columns)


def _refuse_not_null(root: Place, schema: pa.Schema) -> None:
    required = [field.name for field in schema if not field.nullable]
    if required:
        raise FeatureUnsupported(
            f"{root}: overwrite: Spark does not keep NOT NULL of {required[0]!r} when it "
            "overwrites the schema",
            hint="engine: delta-rs keeps it",
            feature="NOT NULL in an overwrite of the schema",
        )
