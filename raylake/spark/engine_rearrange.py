"""Compaction and Z-order by Spark's OPTIMIZE on a stand-in, committed by RayLake.

RayLake plans which files become one, and gives each such bin a partition of its own in the
stand-in; Spark then makes one file of each, on its executors. The commit is that of every rewrite
of RayLake's: only while each file that leaves is live as it was read (ADR 29, ADR 32).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from delta.tables import DeltaOptimizeBuilder, DeltaTable

from raylake.delta.live_rows import SourceFile, source_files
from raylake.delta.log_commit import LogCommit
from raylake.delta.rewriting import FileGroup
from raylake.delta.stats import STATS_COLUMNS
from raylake.errors import LogDamaged
from raylake.ingest.unit import DataFile
from raylake.spark.engine_open import address
from raylake.spark.engine_stand_in import Made, Naming, StandIn, refuse_others, stand_in
from raylake.spark.engine_tasks import Task, Work, metric
from raylake.tables.compaction_plan import bins, by_partition
from raylake.tables.delta_rs_tasks import Unneeded
from raylake.tables.errors import FeatureUnsupported, WriteFailed
from raylake.tables.expressions import quoted
from raylake.tables.likeness import SPARK
from raylake.tables.rearranging import check_columns, chosen
from raylake.tables.results import RowCounts
from raylake.tables.rewrite_parts import commit_parts, fields_json, target_size
from raylake.tables.space import require_space
from raylake.tables.upkeep_requests import Compact, PutInPlace, ZOrder

_BIN: Final = "raylake_bin"
_MAPPING: Final = "delta.columnMapping."
_KEPT: Final = ("delta.dataSkipping", "delta.parquet.", _MAPPING)
"""Properties that matter to files that are written; the others stay with the real table."""
_NO_LIMIT: Final = 2**62
_OPTIMIZE: Final = "spark.databricks.delta.optimize."

Files = Sequence[SourceFile]


@dataclass(frozen=True, slots=True)
class _Order:
    """What Spark is to do.

    Attributes:
        parts: Files that go together.
        max_file_bytes: The size of the new files.
        run: Does it to the stand-in.
        columns: What it is Z-ordered by; the new files have statistics of these.
    """

    parts: Sequence[Files]
    max_file_bytes: int
    run: Callable[[Work, StandIn], object]
    columns: Sequence[str] = ()


def compact_task(work: Work, request: Compact) -> Task | Unneeded:
    """Small files become larger ones; nothing to do where that would not make fewer of them."""
    what = f"{work.root}: compact"
    refuse_others(work.found, what)
    target_bytes = target_size(work.found.configuration, request.target_file_bytes, what)
    files = _chosen(work, request, what)
    parts = [one.files for one in bins(files, target_bytes) if _can_be_one(one.files)]
    if not parts:
        return Unneeded(
            f"nothing to gain: of {len(files)} files no two small ones of a partition fit into "
            f"{target_bytes:,} bytes, and none has many deleted rows"
        )
    commit = LogCommit("OPTIMIZE", (), {"predicate": "[]", "targetSize": str(target_bytes)})
    return _task(
        work, _Order(parts, _NO_LIMIT, lambda at, aside: _compact(at, aside, parts)), commit
    )


def zorder_task(work: Work, request: ZOrder) -> Task | Unneeded:
    """Each partition's rows lie along a space-filling curve."""
    what = f"{work.root}: zorder"
    refuse_others(work.found, what)
    by = work.found.log.metadata.partition_columns
    check_columns(work.root, work.found.schema, by, request.columns)
    target_bytes = target_size(work.found.configuration, request.target_file_bytes, what)
    files = _chosen(work, request, what)
    if not files:
        return Unneeded("nothing to gain: there are no rows")
    columns = [quoted(name, dialect=SPARK) for name in request.columns]
    named = ",".join(f'"{name}"' for name in request.columns)
    commit = LogCommit("OPTIMIZE", (), {"predicate": "[]", "zOrderBy": f"[{named}]"})
    order = _Order(
        [tuple(one) for one in by_partition(files).values()],
        target_bytes,
        lambda at, aside: _optimize(at, aside).executeZOrderBy(*columns),
        request.columns,
    )
    return _task(work, order, commit)


def put_task(work: Work, request: PutInPlace) -> Task:
    """Files that were written aside take the place of others; Spark has nothing to do for it."""
    commit = LogCommit("OPTIMIZE", (), request.parameters).signed(work.signature)

    def run(_: Work) -> None:
        commit_parts(work.root, request.groups, request.read_version, commit)

    return Task(run, lambda found: RowCounts(copied=metric(found.metrics, "numCopiedRows")))


def _task(work: Work, order: _Order, commit: LogCommit) -> Task:
    size = sum(one.size_bytes for part in order.parts for one in part)
    require_space(work.root, size, f"{work.root}: {commit.operation}")

    def run(_: Work) -> None:
        settings = {
            "minFileSize": _NO_LIMIT,
            "maxFileSize": order.max_file_bytes,
            "zorder.checkStatsCollection.enabled": "false",
        }
        for name, value in settings.items():
            work.session.conf.set(_OPTIMIZE + name, str(value))
        with stand_in(work.session, work.found, _naming(work, order)) as aside:
            order.run(work, aside)
            made = aside.made()
            groups = _groups(work, order.parts, made)
            signed = commit.signed(work.signature)
            mine = replace(signed, custom={**signed.custom, "engineInfo": made.engine})
            with aside.committing(LogDamaged):
                commit_parts(work.root, groups, work.found.log.version, mine)

    return Task(run, lambda found: RowCounts(copied=metric(found.metrics, "numCopiedRows")))


def _compact(work: Work, aside: StandIn, parts: Sequence[Files]) -> None:
    if any(len(one) > 1 for one in parts):
        _optimize(work, aside).executeCompaction()
    if any(len(one) == 1 for one in parts):
        # OPTIMIZE leaves a file that is alone, also where most of its rows are deleted.
        table = address(aside.root, work.session).replace("`", "``")
        work.session.sql(f"REORG TABLE delta.`{table}` APPLY (PURGE)")


def _optimize(work: Work, aside: StandIn) -> DeltaOptimizeBuilder:
    return DeltaTable.forPath(work.session, address(aside.root, work.session)).optimize()


def _can_be_one(files: Files) -> bool:
    """Whether Spark rewrites them: a file of a shallow clone's source that is alone it does not."""
    return len(files) > 1 or files[0].vector is not None


def _naming(work: Work, order: _Order) -> Naming:
    metadata = work.found.log.metadata
    fields = fields_json(metadata.schema_json)
    kept = {k: v for k, v in metadata.configuration.items() if k.startswith(_KEPT)}
    if named := kept.get(STATS_COLUMNS):
        there = {one.strip(" `") for one in named.split(",")}
        more = [quoted(one, dialect=SPARK) for one in order.columns if one not in there]
        kept[STATS_COLUMNS] = ",".join([named, *more])
    name = _bin_column(fields)
    column: dict[str, Any] = {"name": name, "type": "string", "nullable": True, "metadata": {}}
    if _mapped(metadata.configuration):
        number = int(metadata.configuration[f"{_MAPPING}maxColumnId"]) + 1
        column["metadata"] = {f"{_MAPPING}id": number, f"{_MAPPING}physicalName": name}
        kept[f"{_MAPPING}maxColumnId"] = str(number)
    return Naming(
        json.dumps({"type": "struct", "fields": [*fields, column]}),
        [*metadata.partition_columns, name],
        kept,
        [
            (one, {**one.values, name: str(number)})
            for number, part in enumerate(order.parts)
            for one in part
        ],
    )


def _groups(work: Work, parts: Sequence[Files], made: Made) -> list[FileGroup]:
    """What became of each part."""
    added: dict[str, list[DataFile]] = {}
    name = _bin_column(fields_json(work.found.log.metadata.schema_json))
    for file in made.added:
        values = dict(file.partition_values)
        number = str(values.pop(name))
        added.setdefault(number, []).append(replace(file, partition_values=values))
    removed = Counter(str(action["partitionValues"][name]) for action in made.removed)
    groups = []
    for place, part in enumerate(parts):
        if removed[str(place)] != len(part):
            raise WriteFailed(
                f"{work.root}: Spark rewrote {removed[str(place)]} of {len(part)} files that go "
                "together",
                hint="nothing was changed; engine: delta-rs does it without Spark",
            )
        files = tuple(added.get(str(place), ()))
        known = [one.rows for one in part]
        rows = sum(one.rows for one in files) if None in known else sum(n or 0 for n in known)
        groups.append(FileGroup(tuple(part), files, rows))
    return groups


def _bin_column(fields: Sequence[Mapping[str, Any]]) -> str:
    name = _BIN
    while name in {one["name"].lower() for one in fields}:
        name += "_"
    return name


def _chosen(work: Work, asked: Compact | ZOrder, what: str) -> list[SourceFile]:
    files = source_files(work.found.log)
    if asked.where is not None and _mapped(work.found.configuration):
        raise FeatureUnsupported(
            f"{what}: partitions cannot be chosen on a table with column mapping",
            hint="leave the condition out",
            feature="columnMapping",
        )
    by = work.found.log.metadata.partition_columns
    return chosen(files, asked, (work.found.schema, by), what)


def _mapped(configuration: Mapping[str, str]) -> bool:
    return configuration.get(f"{_MAPPING}mode", "none").lower() != "none"
