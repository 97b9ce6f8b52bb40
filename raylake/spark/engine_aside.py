"""What Spark does to a stand-in, as one commit of RayLake's in the real table.

A commit of Spark's follows whatever version is the newest when it begins, and carries one txn. So
what must follow the very version that was read, or carries more, is done on a stand-in that names
that version's files; RayLake commits what was made as the version after it, or not at all: then
everything is done again from the read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
from deltalake.exceptions import CommitFailedError

from raylake.delta.live_rows import SourceFile, file_place, source_files
from raylake.delta.log_commit import LogCommit, add_line, commit_after, metadata_line
from raylake.delta.protocols import asked_for, protocol_line
from raylake.delta.raw_adds import raw_adds
from raylake.delta.schema import delta_schema
from raylake.spark.engine_open import plain_address
from raylake.spark.engine_stand_in import Made, Naming, refuse_others, stand_in
from raylake.spark.engine_tasks import Task, Work
from raylake.tables.carrying import commit_nothing
from raylake.tables.delta_rs_open import opened, refuse_unknown
from raylake.tables.errors import FeatureUnsupported
from raylake.tables.log_tending import tend
from raylake.tables.requests import Write
from raylake.tables.results import RowCounts
from raylake.tables.rewrite_parts import fields_json
from raylake.tables.rows import plain
from raylake.tables.turns import source_rows

VECTORS: Final = "delta.enableDeletionVectors"
_MAPPING: Final = "delta.columnMapping.mode"


def standing_in(task: Task) -> Task:
    """The task, done on a stand-in and committed by RayLake."""
    return replace(task, run=lambda work: _run_aside(work, task))


def nothing_task(operation: Write) -> Task:
    """A version without a row's change."""

    def run(work: Work) -> None:
        version = work.found.log.version
        refuse_others(work.found, f"{work.root}: {type(operation).__name__.lower()}")
        commit_nothing(work.root, version, operation, work.signature)
        _tend(work)

    return Task(run, lambda _: RowCounts(source=source_rows(operation)))


def _run_aside(work: Work, task: Task) -> None:
    """Do it.

    Raises:
        CommitFailedError: Another commit has the version after the one that was read.
        FeatureUnsupported: The table uses what a commit of RayLake's cannot carry.
    """
    what = f"{work.root}: {task.name.lower()}"
    refuse_others(work.found, what)
    metadata, version = work.found.log.metadata, work.found.log.version
    schema_json = _new_schema(work, task, what)
    shape = [] if schema_json is None else _shape(work, schema_json)
    files = source_files(work.found.log)
    # Files are written whole: what a vector takes away would be named by its place in the stand-in.
    properties = {**metadata.configuration}
    if VECTORS in properties:
        properties[VECTORS] = "false"
    named = [(one, one.values) for one in files] if task.reads else []
    stats = _stats(work) if task.reads else {}
    columns = schema_json or metadata.schema_json
    naming = Naming(columns, metadata.partition_columns, properties, named, stats)
    with stand_in(work.session, work.found, naming) as aside:
        task.run(replace(work, aside=aside.root))
        made = aside.made()
        commit = _commit(work, task, files, made, shape)
        with aside.committing(CommitFailedError):
            commit_after(work.root, version, commit)
    _tend(work)


def _tend(work: Work) -> None:
    made, configuration = work.found.log.version + 1, work.found.configuration
    tend(work.root, made, configuration)


def _commit(
    work: Work,
    task: Task,
    files: Sequence[SourceFile],
    made: Made,
    shape: Sequence[Mapping[str, Any]],
) -> LogCommit:
    """What was made of the stand-in, as a commit of the real table."""
    now_s = time.time()
    left = list(files)
    if not task.replaces:
        real = {plain_address(str(file_place(work.root, one.path))): one for one in files}
        gone = [plain_address(str(one["path"])) for one in made.removed]
        left = [real[plain_address(str(file_place(work.root, path)))] for path in gone]
    actions: list[Mapping[str, Any]] = [
        *shape,
        *(add_line(one, now_s, data_change=True) for one in made.added),
        *({"remove": one.remove_action(now_s, data_change=True)} for one in left),
        *made.changes,
    ]
    parameters = {k: str(v) for k, v in (made.info.get("operationParameters") or {}).items()}
    if task.replaces:
        parameters["mode"] = "Overwrite"
    metrics = {k: int(v) for k, v in (made.info.get("operationMetrics") or {}).items()}
    name = str(made.info.get("operation") or task.name)
    commit = LogCommit(name, actions, parameters, metrics).signed(work.signature)
    return replace(commit, custom={**commit.custom, "engineInfo": made.engine})


def _stats(work: Work) -> dict[str, str]:
    adds = raw_adds(work.root, work.found.log.version)
    return {path: str(add["stats"]) for path, add in adds.items() if add.get("stats")}


def _new_schema(work: Work, task: Task, what: str) -> str | None:
    """The schema that the table gets; None where it keeps its own.

    Raises:
        FeatureUnsupported: The table has column mapping, by which Spark alone adds columns.
    """
    if task.schema is None and not task.adds:
        return None
    if work.found.configuration.get(_MAPPING, "none").lower() != "none":
        raise FeatureUnsupported(
            f"{what}: on a table with column mapping Spark alone adds columns, and its commits "
            "carry nothing beside the rows",
            hint="nothing was changed; add the columns first, by themselves (AddColumns)",
            feature="columnMapping",
        )
    if task.schema is not None:
        return str(delta_schema(task.schema).to_json())
    new = pa.schema([plain(one).with_nullable(True) for one in task.adds])
    old = fields_json(work.found.log.metadata.schema_json)
    fields = [*old, *fields_json(delta_schema(new).to_json())]
    return json.dumps({"type": "struct", "fields": fields})


def _shape(work: Work, schema_json: str) -> list[dict[str, Any]]:
    """The actions by which the real table gets a schema."""
    handle = opened(work.root, work.found.log.version)
    refuse_unknown(handle, str(work.root))
    metadata = metadata_line(handle, schema_json=schema_json)
    protocol = protocol_line(handle, asked_for(work.found.configuration, schema_json))
    return [metadata] if protocol is None else [protocol, metadata]
