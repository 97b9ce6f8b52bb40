"""SCD type 2 with Spark: the versions of the changed keys are read, planned, and merged.

Spark's MERGE is of the newest version, which need not be the one that was read and planned with.
Under a slot nobody else writes. Without one it runs on a stand-in that names the files of the
version that was read, and RayLake commits what it made as the version after that one, or not at
all; then everything is done again from the read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
from deltalake.exceptions import CommitFailedError

from raylake.delta.live_rows import SourceFile, file_place, source_files
from raylake.delta.log_commit import LogCommit, add_line, commit_after
from raylake.delta.raw_adds import raw_adds
from raylake.spark.engine_open import load
from raylake.spark.engine_stand_in import Made, Naming, refuse_others, stand_in
from raylake.spark.engine_tasks import Task, Work
from raylake.spark.engine_upsert import upsert_task
from raylake.tables.expressions import quoted
from raylake.tables.keys import key_range
from raylake.tables.landing import Landed
from raylake.tables.likeness import SPARK
from raylake.tables.requests import Scd2, Upsert
from raylake.tables.results import RowCounts
from raylake.tables.scd2 import changes_of, layout_of
from raylake.tables.scd2_plan import plan

VECTORS: Final = "delta.enableDeletionVectors"


def scd2_task(work: Work, request: Scd2, *, fenced: bool) -> Task | None:
    """Changes are brought into a table of versions; None when it knows them all.

    Raises:
        FeatureUnsupported: Without a slot: the table uses what a commit of RayLake's cannot carry.
    """
    where = f"{work.root}: scd2"
    if not fenced:
        refuse_others(work.found, where)
    layout = layout_of(request, work.found.schema, where)
    changes = changes_of(request, layout, where)
    if not changes.num_rows:
        return None
    found = plan(layout, _versions_of(work, changes.select(list(layout.keys))), changes, where)
    merge = found.upsert(layout)
    task = None if merge is None else upsert_task(work, merge)
    if merge is None or task is None:
        return None
    merged = task.count

    def count(commit: Landed) -> RowCounts:
        return replace(merged(commit), source=changes.num_rows, duplicates=found.superseded)

    if fenced:
        return Task(task.run, count)
    return Task(lambda: _run_aside(work, merge), count)


def _run_aside(work: Work, merge: Upsert) -> None:
    metadata, version = work.found.log.metadata, work.found.log.version
    files = source_files(work.found.log)
    # Files are written whole: what a vector takes away would be named by its place in the stand-in.
    properties = {**metadata.configuration}
    if VECTORS in properties:
        properties[VECTORS] = "false"
    stats = {
        path: str(add["stats"])
        for path, add in raw_adds(work.root, version).items()
        if add.get("stats")
    }
    by = metadata.partition_columns
    named = [(one, one.values) for one in files]
    naming = Naming(metadata.schema_json, by, properties, named, stats)
    with stand_in(work.session, work.found, naming) as aside:
        task = upsert_task(replace(work, aside=aside.root), merge)
        if task is not None:
            task.run()
        made = aside.made()
        commit = _commit(work, files, made)
        with aside.committing(CommitFailedError):
            commit_after(work.root, version, commit)


def _commit(work: Work, files: list[SourceFile], made: Made) -> LogCommit:
    """What was made of the stand-in, as a commit of the real table."""
    now_s = time.time()
    real = {str(file_place(work.root, one.path)): one for one in files}
    left = [real[str(file_place(work.root, str(one["path"])))] for one in made.removed]
    actions: list[Mapping[str, Any]] = [
        *(add_line(one, now_s, data_change=True) for one in made.added),
        *({"remove": one.remove_action(now_s, data_change=True)} for one in left),
        *made.changes,
    ]
    parameters = {k: str(v) for k, v in (made.info.get("operationParameters") or {}).items()}
    metrics = {k: int(v) for k, v in (made.info.get("operationMetrics") or {}).items()}
    commit = LogCommit("MERGE", actions, parameters, metrics).signed(work.signature)
    return replace(commit, custom={**commit.custom, "engineInfo": made.engine})


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
