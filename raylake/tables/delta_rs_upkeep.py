"""Which task does what of a table's upkeep."""

from __future__ import annotations

from deltalake import DeltaTable

from raylake.storage.place import Place
from raylake.tables.aside import put_task
from raylake.tables.delta_rs_alter import (
    Breaking,
    add_columns_task,
    add_constraint_task,
    breaking,
    drop_constraint_task,
    not_null_task,
    properties_task,
    refuse_mapped,
)
from raylake.tables.delta_rs_compact import compact_task, zorder_task
from raylake.tables.delta_rs_rewrite import repartition_task, widen_task
from raylake.tables.delta_rs_tasks import Task, Unneeded
from raylake.tables.upkeep_requests import (
    AddColumns,
    AddConstraint,
    Alter,
    Compact,
    DropConstraint,
    PutInPlace,
    Rearrange,
    Repartition,
    SetNotNull,
    SetProperties,
    WidenColumns,
    ZOrder,
)


def upkeep_task(root: Place, handle: DeltaTable, request: Alter | Rearrange) -> Task | Unneeded:
    """What is to run, checked."""
    if isinstance(request, Compact):
        return compact_task(root, handle, request)
    if isinstance(request, ZOrder):
        return zorder_task(root, handle, request)
    if isinstance(request, PutInPlace):
        return put_task(root, request)
    if isinstance(request, WidenColumns):
        return widen_task(root, handle, request)
    if isinstance(request, Repartition):
        return repartition_task(root, handle, request)
    return altering(root, handle, request)


def altering(
    root: Place, handle: DeltaTable, request: Alter, count: Breaking = breaking
) -> Task | Unneeded:
    """What is to run of a change of metadata, checked.

    Args:
        root: The table.
        handle: delta-rs's handle of it.
        request: What is asked for; not a rewrite.
        count: Looks for rows that break a new rule.
    """
    if isinstance(request, SetProperties):
        return properties_task(root, handle, request)
    if isinstance(request, AddConstraint):
        return add_constraint_task(root, handle, request, count)
    if isinstance(request, DropConstraint):
        return drop_constraint_task(root, handle, request)
    if isinstance(request, SetNotNull):
        return not_null_task(root, handle, request, count)
    if isinstance(request, AddColumns):
        return add_columns_task(root, handle, request)
    if isinstance(request, WidenColumns | Repartition):
        raise TypeError(f"{type(request).__name__} writes files anew")
    return refuse_mapped(root, handle, request)
