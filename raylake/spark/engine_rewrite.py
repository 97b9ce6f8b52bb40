"""Wider types and other partition columns by Spark: all rows are written to a stand-in.

The stand-in has the table's new shape and names none of its files; RayLake commits what Spark
wrote there in the place of all files, with the new schema (ADR 32).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import StructType

from raylake.delta.files import WriteOptions
from raylake.delta.live_rows import SourceFile
from raylake.delta.rewriting import FileGroup
from raylake.errors import LogDamaged
from raylake.spark.engine_open import address, load
from raylake.spark.engine_stand_in import Naming, stand_in
from raylake.spark.engine_tasks import Task, Work, metric
from raylake.storage.place import Place
from raylake.tables.delta_rs_rewrite import Shape, Written
from raylake.tables.delta_rs_tasks import Task as CommonTask
from raylake.tables.delta_rs_tasks import Unneeded
from raylake.tables.expressions import quoted
from raylake.tables.likeness import SPARK
from raylake.tables.results import RowCounts
from raylake.tables.rows import refuse_null_texts

_OPTIMIZED: Final = "spark.databricks.delta.optimizeWrite."
_STATS: Final = "delta.dataSkipping"
_MIB: Final = 2**20


def rewriting(work: Work, task: CommonTask | Unneeded) -> Task | Unneeded:
    """A rewrite of RayLake's whose rows Spark writes, as a task on Spark."""
    if isinstance(task, Unneeded):
        return task
    mine = work.signature
    signature = CommitProperties(
        custom_metadata={
            **(mine.custom_metadata or {}),
            "engineInfo": f"Apache-Spark/{work.session.version} RayLake",
        },
        app_transactions=mine.app_transactions,
    )
    return Task(
        lambda _: task.run(signature),
        lambda found: RowCounts(copied=metric(found.metrics, "numCopiedRows")),
    )


def written_by(work: Work) -> Written:
    """Writes all rows of a table in another shape, on the executors."""

    @contextmanager
    def written(
        handle: DeltaTable,
        files: Sequence[SourceFile],
        shape: Shape,
        options: WriteOptions,
    ) -> Iterator[FileGroup]:
        configuration = handle.metadata().configuration
        naming = Naming(
            shape.schema_json,
            shape.partition_by,
            {k: v for k, v in configuration.items() if k.startswith(_STATS)},
            (),
        )
        size_mib = max(1, options.target_file_bytes // _MIB)
        for name, value in (("enabled", "true"), ("binSize", str(size_mib))):
            work.session.conf.set(_OPTIMIZED + name, value)
        with stand_in(work.session, work.found, naming) as aside:
            _write(work, int(handle.version()), shape, aside.root)
            made = aside.made()
            known = [one.rows for one in files]
            rows = sum(one.rows for one in made.added)
            read = rows if None in known else sum(count or 0 for count in known)
            with aside.committing(LogDamaged):
                yield FileGroup(tuple(files), tuple(made.added), read)

    return written


def _write(work: Work, version: int, shape: Shape, to: Place) -> None:
    rows = load(work.session, work.root, versionAsOf=str(version))
    columns = [
        F.col(quoted(one.name, dialect=SPARK)).cast(one.dataType).alias(one.name)
        for one in StructType.fromJson(json.loads(shape.schema_json))
    ]
    for name in shape.partition_by:
        if pa.types.is_string(shape.schema.field(name).type):
            empty = rows.where(F.col(quoted(name, dialect=SPARK)) == "").limit(1).count()
            found = pa.table({name: pa.array([""] * empty, pa.string())})
            refuse_null_texts(found, [name], f"{work.root}: repartition")
    writer = rows.select(*columns).write.format("delta").mode("append")
    writer.partitionBy(*shape.partition_by).save(address(to, work.session))
