"""SCD type 2 with Spark: the versions of the changed keys are read, planned, and merged."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from raylake.spark.engine_open import load
from raylake.spark.engine_tasks import Task, Work
from raylake.spark.engine_upsert import upsert_task
from raylake.tables.errors import FeatureUnsupported
from raylake.tables.expressions import quoted
from raylake.tables.keys import key_range
from raylake.tables.landing import Landed
from raylake.tables.likeness import SPARK
from raylake.tables.requests import Scd2
from raylake.tables.results import RowCounts
from raylake.tables.scd2 import changes_of, layout_of
from raylake.tables.scd2_plan import plan


def scd2_task(work: Work, request: Scd2, *, fenced: bool) -> Task | None:
    """Changes are brought into a table of versions; None when it knows them all.

    Raises:
        FeatureUnsupported: Without a slot: Spark's MERGE is of the newest version, which need not
            be the one that was read and planned with; only a slot keeps others from writing.
    """
    where = f"{work.root}: scd2"
    if not fenced:
        raise FeatureUnsupported(
            f"{where}: Spark cannot hold a MERGE to the version that its plan was made with",
            hint="engine: delta-rs can; on Spark it needs a slot of the table's owner",
            feature="SCD2 without a slot",
        )
    layout = layout_of(request, work.found.schema, where)
    changes = changes_of(request, layout, where)
    if not changes.num_rows:
        return None
    found = plan(layout, _versions_of(work, changes.select(list(layout.keys))), changes, where)
    merge = found.upsert(layout)
    task = None if merge is None else upsert_task(work, merge)
    if task is None:
        return None
    merged = task.count

    def count(commit: Landed) -> RowCounts:
        return replace(merged(commit), source=changes.num_rows, duplicates=found.superseded)

    return Task(task.run, count)


def _versions_of(work: Work, keys: pa.Table) -> pa.Table:
    """The table's rows with some keys, in its own types."""
    at_version = str(work.found.log.version)
    with work.scratch.given(work.session, keys) as wanted:
        rows = load(work.session, work.root, versionAsOf=at_version)
        if where := key_range(keys, keys.column_names, dialect=SPARK):
            rows = rows.where(where)
        kept = rows.join(wanted.distinct(), keys.column_names, "left_semi")
        found = kept.select(*(quoted(name, dialect=SPARK) for name in work.found.schema.names))
        return work.scratch.taken(found, work.found.schema).read_all()
