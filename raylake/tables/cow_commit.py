"""The log entry of a copy-on-write merge: one version, or none."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltalake import CommitProperties

from raylake import faults
from raylake.delta.log_table import ENGINE, put_entry
from raylake.delta.partition_values import partition_text
from raylake.ingest.unit import DataFile
from raylake.tables.cow_feed import cdc_line
from raylake.tables.cow_target import Target, TargetFile
from raylake.tables.merging import Merge


@dataclass(frozen=True, slots=True)
class Counts:
    """What a merge did; the names that delta-rs gives them are in :func:`commit`'s entry."""

    source: int
    inserted: int
    updated: int
    deleted: int
    copied: int
    scanned: int
    skipped: int
    scan_s: float
    rewrite_s: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What becomes of the table.

    Attributes:
        removed: Files that leave.
        added: Files that come.
        feed: Files of the change feed.
        metadata: New metadata, where columns are added.
    """

    removed: Sequence[TargetFile]
    added: Sequence[DataFile]
    feed: Sequence[DataFile]
    metadata: Mapping[str, Any] | None


def commit(
    target: Target,
    merge: Merge,
    changes: Changes,
    counts: Counts,
    properties: CommitProperties,
) -> None:
    """Commit removed and added files as the version after the target's, or not at all.

    Args:
        target: The table at the version that was read.
        merge: The merge.
        changes: Files that leave and come, and new metadata.
        counts: What it did.
        properties: Its metadata and txns.

    Raises:
        CommitFailedError: Another commit has that version.
        OSError: The log entry cannot be written; whether it is there is told by the log.
    """
    removed, added = changes.removed, changes.added
    now_ms = int(time.time() * 1000)
    info = {
        "timestamp": now_ms,
        "operation": "MERGE",
        "operationParameters": _parameters(target, merge),
        "readVersion": target.version,
        "isBlindAppend": False,
        "engineInfo": ENGINE,
        "operationMetrics": _metrics(counts, len(added), len(removed)),
        **(properties.custom_metadata or {}),
    }
    actions: list[dict[str, Any]] = [{"commitInfo": info}]
    if changes.metadata is not None:
        actions.append({"metaData": dict(changes.metadata)})
    actions += [{"remove": _remove(one, now_ms)} for one in removed]
    actions += [{"add": _add(one, now_ms)} for one in added]
    actions += [cdc_line(one) for one in changes.feed]
    for txn in properties.app_transactions or []:
        actions.append({"txn": {"appId": txn.app_id, "version": txn.version}})
    put_entry(target.root, target.version + 1, actions)
    faults.reach("merge.committed", table=str(target.root))


def _add(file: DataFile, now_ms: int) -> dict[str, Any]:
    return {
        "path": file.path,
        "partitionValues": dict(file.partition_values),
        "size": file.size_bytes,
        "modificationTime": now_ms,
        "dataChange": True,
        "stats": file.stats,
    }


def _remove(file: TargetFile, now_ms: int) -> dict[str, Any]:
    return {
        "path": file.path,
        "deletionTimestamp": now_ms,
        "dataChange": True,
        "extendedFileMetadata": True,
        "partitionValues": {k: partition_text(v.as_py()) for k, v in file.values.items()},
        "size": file.size_bytes,
    }


def _parameters(target: Target, merge: Merge) -> dict[str, str]:
    """What delta-rs writes of its merges: predicates, and clauses as JSON."""
    conditions = target.conditions
    matched = [_clause("delete", conditions.delete)] if conditions.delete is not None else []
    matched += [_clause("update", conditions.update)] if merge.updates else []
    unmatched = []
    if merge.unmatched is not None:
        unmatched.append(_clause("delete", conditions.unmatched))
    on = " AND ".join(f"target.{key} = source.{key}" for key in merge.keys)
    return {
        "mergePredicate": on,
        "matchedPredicates": json.dumps(matched),
        "notMatchedPredicates": json.dumps([_clause("insert", conditions.insert)]),
        "notMatchedBySourcePredicates": json.dumps(unmatched),
    }


def _clause(action: str, predicate: str | None) -> dict[str, str]:
    return {"actionType": action} | ({} if predicate is None else {"predicate": predicate})


def _metrics(counts: Counts, added: int, removed: int) -> dict[str, int]:
    return {
        "num_source_rows": counts.source,
        "num_target_rows_inserted": counts.inserted,
        "num_target_rows_updated": counts.updated,
        "num_target_rows_deleted": counts.deleted,
        "num_target_rows_copied": counts.copied,
        "num_output_rows": counts.inserted + counts.updated + counts.copied,
        "num_target_files_scanned": counts.scanned,
        "num_target_files_skipped_during_scan": counts.skipped,
        "num_target_files_added": added,
        "num_target_files_removed": removed,
        "execution_time_ms": round((counts.scan_s + counts.rewrite_s) * 1000),
        "scan_time_ms": round(counts.scan_s * 1000),
        "rewrite_time_ms": round(counts.rewrite_s * 1000),
    }
