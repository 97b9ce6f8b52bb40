"""Which of two ways an upsert without a JVM goes: RayLake's own merge, or delta-rs's."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from raylake.storage.place import Place
from raylake.tables.cow_target import NotHere
from raylake.tables.cow_upsert import own_merge
from raylake.tables.delta_rs_open import subject_of, translated
from raylake.tables.delta_rs_tasks import Task
from raylake.tables.delta_rs_upsert import delta_rs_merge
from raylake.tables.merging import merge_of
from raylake.tables.requests import Upsert

MergeBy = Literal["auto", "delta-rs"]
"""``auto``: RayLake's own merge where it does exactly what is asked, else delta-rs's."""


def upsert_task(
    root: Place, handle: DeltaTable, request: Upsert, merge_by: MergeBy = "auto"
) -> Task | None:
    """An upsert that is ready to run; None when there is nothing to do.

    Raises:
        TableError: The request is wrong, or rows break what the table asks of them.
    """
    subject = subject_of(root, handle)
    merge = merge_of(subject, request)
    if merge is None:
        return None
    if merge_by == "delta-rs":
        why = "as asked"
    else:
        try:
            return own_merge(subject, handle, merge)
        except NotHere as reason:
            why = str(reason)
        except (OSError, pa.ArrowException, duckdb.Error) as error:
            raise translated(error, root, "upsert") from error
    return replace(delta_rs_merge(subject, handle, merge), why=f"merge of delta-rs: {why}")
