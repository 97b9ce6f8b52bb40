"""SCD type 2 with Spark: the versions of the changed keys are read, planned, and merged.

Spark's MERGE is of the newest version, which need not be the one that was read and planned with.
Under a slot nobody else writes. Without one it runs on a stand-in that names the files of the
version that was read (:mod:`raylake.spark.engine_aside`).
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from raylake.spark.engine_aside import standing_in
from raylake.spark.engine_open import load
from raylake.spark.engine_stand_in import refuse_others
from raylake.spark.engine_tasks import Task, Work
from raylake.spark.engine_upsert import upsert_task
from raylake.tables.expressions import quoted
from raylake.tables.keys import key_range
from raylake.tables.landing import Landed
from raylake.tables.likeness import SPARK
from raylake.tables.requests import Scd2
from raylake.tables.results import RowCounts
from raylake.tables.scd2 import changes_of, layout_of
from raylake.tables.scd2_plan import plan


def scd2_task(work: Work, request: Scd2, *, aside: bool) -> Task | None:
    """Changes are brought into a table of versions; None when it knows them all.

    Args:
        work: The table.
        request: The changes.
        aside: Whether it is run on a stand-in.

    Raises:
        FeatureUnsupported: Aside: the table uses what a commit of RayLake's cannot carry.
    """
    where = f"{work.root}: scd2"
    if aside:
        refuse_others(work.found, where)
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

    task = replace(task, count=count)
    return standing_in(task) if aside else task


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
