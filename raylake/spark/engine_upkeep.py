"""Which task does what of a table's upkeep on Spark, and what of it needs no engine."""

from __future__ import annotations

from typing import Final

from deltalake import DeltaTable

from raylake.spark.engine_alter import native_task
from raylake.spark.engine_open import load
from raylake.spark.engine_rearrange import compact_task, put_task, zorder_task
from raylake.spark.engine_rewrite import rewriting, written_by
from raylake.spark.engine_tasks import Task, Work
from raylake.tables.delta_rs_open import opened_for
from raylake.tables.delta_rs_rewrite import repartition_task, widen_task
from raylake.tables.delta_rs_tasks import Unneeded
from raylake.tables.delta_rs_upkeep import altering
from raylake.tables.errors import FeatureUnsupported
from raylake.tables.expressions import Expression
from raylake.tables.likeness import SPARK
from raylake.tables.port import Fence
from raylake.tables.results import RowCounts
from raylake.tables.table_properties import needs_spark
from raylake.tables.upkeep_requests import (
    AddConstraint,
    Alter,
    Compact,
    PutInPlace,
    Rearrange,
    Repartition,
    SetNotNull,
    WidenColumns,
    ZOrder,
)

NO_ENGINE: Final = "no rows are computed: RayLake does it without an engine"
_CHECKED: Final = "Spark looked through the rows, and RayLake committed"


def upkeep_task(work: Work, request: Alter | Rearrange, fence: Fence | None) -> Task | Unneeded:
    """What is to run, checked."""
    if isinstance(request, Compact):
        return compact_task(work, request)
    if isinstance(request, ZOrder):
        return zorder_task(work, request)
    if isinstance(request, PutInPlace):
        return put_task(work, request)
    return _altering(work, request, fence)


def _altering(work: Work, request: Alter, fence: Fence | None) -> Task | Unneeded:
    """A change of metadata is a commit of RayLake's own; Spark looks for rows that break a rule.

    What only Spark writes it alters itself.
    """
    handle = None if needs_spark(request) else _written_by_us(work, request, fence)
    if handle is None:
        return native_task(work, request, fenced=fence is not None)

    def breaking(at: DeltaTable, rule: Expression) -> int:
        rows = load(work.session, work.root, versionAsOf=str(at.version()))
        return int(rows.where(f"NOT COALESCE({rule.sql(SPARK)}, FALSE)").count())

    if isinstance(request, WidenColumns):
        return rewriting(work, widen_task(work.root, handle, request, written_by(work)))
    if isinstance(request, Repartition):
        return rewriting(work, repartition_task(work.root, handle, request, written_by(work)))
    task = altering(work.root, handle, request, breaking)
    if isinstance(task, Unneeded):
        return task
    why = _CHECKED if isinstance(request, AddConstraint | SetNotNull) else NO_ENGINE
    return Task(lambda at: task.run(at.signature), lambda _: RowCounts(), why)


def _written_by_us(work: Work, request: Alter, fence: Fence | None) -> DeltaTable | None:
    """The handle by which RayLake commits to a table; None where it must not."""
    try:
        return opened_for(work.root, request, fence)
    except FeatureUnsupported:
        return None
