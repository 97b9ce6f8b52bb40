"""Commits of our own making: any actions, in one compare-and-swap on the table's version."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deltalake import CommitProperties, DeltaTable

from raylake.delta import log_files
from raylake.delta.log_table import ENGINE, place_entry, place_first, txns_of
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, make_folder

Action = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LogCommit:
    """A log entry before it is placed.

    Attributes:
        operation: What it is called in the history.
        actions: Its actions, without ``commitInfo``.
        parameters: The operation's parameters.
        metrics: What was counted.
        custom: Further commit metadata.
        txns: App id to version.
    """

    operation: str
    actions: Sequence[Action]
    parameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, int] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)
    txns: Mapping[str, int] = field(default_factory=dict)

    def signed(self, properties: CommitProperties) -> LogCommit:
        """This commit with the metadata and the txns that delta-rs would be given."""
        return replace(self, custom=properties.custom_metadata or {}, txns=txns_of(properties))

    def text(self) -> str:
        """The entry as the log has it."""
        info = {
            "timestamp": int(time.time() * 1000),
            "operation": self.operation,
            "operationParameters": dict(self.parameters),
            # Spark reads these as texts.
            "operationMetrics": {name: str(count) for name, count in self.metrics.items()},
            "engineInfo": ENGINE,
            **self.custom,
        }
        txns = [{"txn": {"appId": app, "version": n}} for app, n in sorted(self.txns.items())]
        return "\n".join(_line(action) for action in ({"commitInfo": info}, *self.actions, *txns))


def commit_after(root: Place, version: int, commit: LogCommit) -> None:
    """Commit as the version after ``version``, or not at all.

    Raises:
        CommitFailedError: Another commit has that version.
        OSError: The log entry cannot be written; nothing was committed.
    """
    base = log_files.commit_path(root, version)
    place_entry(base, log_files.commit_path(root, version + 1), commit.text())
    log_files.sync_commit(root, version + 1)


def commit_first(root: Place, commit: LogCommit) -> None:
    """Make a table by its first commit; it is there whole, or not at all.

    Raises:
        FileExistsError: A table is there.
        OSError: The log entry cannot be written; nothing was committed.
    """
    make_folder(log_files.log_folder(root))
    place_first(log_files.commit_path(root, 0), commit.text())
    log_files.sync_commit(root, 0)


def add_line(file: DataFile, now_s: float, *, data_change: bool) -> dict[str, Any]:
    """An ``add`` action of a file."""
    return {
        "add": {
            "path": file.path,
            "partitionValues": dict(file.partition_values),
            "size": file.size_bytes,
            "modificationTime": int(now_s * 1000),
            "dataChange": data_change,
            "stats": file.stats,
        }
    }


def metadata_line(
    handle: DeltaTable,
    *,
    schema_json: str | None = None,
    configuration: Mapping[str, str] | None = None,
    partition_by: Sequence[str] | None = None,
    new_table: bool = False,
) -> dict[str, Any]:
    """The ``metaData`` action of a handle's version with something else in it.

    Args:
        handle: delta-rs's handle.
        schema_json: Another schema.
        configuration: Other properties.
        partition_by: Other partition columns.
        new_table: Whether it is that of another table, with an id of its own.
    """
    old = handle.metadata()
    if configuration is None:
        configuration = old.configuration
    found = {
        "id": str(uuid.uuid4()) if new_table else str(old.id),
        "name": old.name,
        "description": old.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": handle.schema().to_json() if schema_json is None else schema_json,
        "partitionColumns": list(old.partition_columns if partition_by is None else partition_by),
        "configuration": dict(configuration),
        "createdTime": int(time.time() * 1000) if new_table else old.created_time,
    }
    return {"metaData": {name: value for name, value in found.items() if value is not None}}


def new_metadata_line(
    schema_json: str,
    partition_by: Sequence[str],
    configuration: Mapping[str, str],
    description: str = "",
) -> dict[str, Any]:
    """The ``metaData`` action of a new table."""
    return {
        "metaData": {
            "id": str(uuid.uuid4()),
            **({"description": description} if description else {}),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema_json,
            "partitionColumns": list(partition_by),
            "configuration": dict(configuration),
            "createdTime": int(time.time() * 1000),
        }
    }


def _line(action: Action) -> str:
    return json.dumps(action, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
