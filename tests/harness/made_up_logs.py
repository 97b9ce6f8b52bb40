"""Logs of tables without a data file: what upkeep says follows from the log alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIELDS = {"n": "long", "t": "string", "day": "string"}
PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}


class MadeUpLog:
    """A Delta log that is written entry by entry.

    Args:
        root: The table's folder.
        partition_by: Its partition columns.
        properties: Its properties.
    """

    def __init__(
        self,
        root: Path,
        partition_by: Sequence[str] = ("day",),
        properties: Mapping[str, str] | None = None,
        table_id: str = "00000000-0000-4000-8000-000000000000",
    ) -> None:
        self.root = root
        self.version = -1
        (root / "_delta_log").mkdir(parents=True)
        fields = [
            {"name": name, "type": kind, "nullable": True, "metadata": {}}
            for name, kind in FIELDS.items()
        ]
        metadata = {
            "id": table_id,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": list(partition_by),
            "configuration": dict(properties or {}),
            "createdTime": 0,
        }
        self.commit([{"protocol": PROTOCOL}, {"metaData": metadata}])

    def commit(self, actions: Sequence[Mapping[str, Any]], at_ms: int = 0) -> None:
        """Make the next version."""
        self.version += 1
        lines = [{"commitInfo": {"timestamp": at_ms, "operation": "WRITE"}}, *actions]
        text = "\n".join(json.dumps(one) for one in lines)
        (self.root / "_delta_log" / f"{self.version:020d}.json").write_text(text)


def added(
    path: str,
    size: int = 1,
    day: str | None = "d",
    n: tuple[int, int] | None = None,
    t: tuple[str, str] | None = None,
    deleted: int = 0,
) -> dict[str, Any]:
    """An ``add``; ranges of ``n`` and ``t`` are its statistics."""
    ends = {name: ends for name, ends in (("n", n), ("t", t)) if ends is not None}
    stats = {
        "numRecords": 10,
        "minValues": {name: ends[0] for name, ends in ends.items()},
        "maxValues": {name: ends[1] for name, ends in ends.items()},
        "nullCount": dict.fromkeys(ends, 0),
    }
    action: dict[str, Any] = {
        "path": path,
        "partitionValues": {"day": day},
        "size": size,
        "modificationTime": 0,
        "dataChange": True,
        "stats": json.dumps(stats),
    }
    if deleted:
        action["deletionVector"] = vector(deleted)
    return {"add": action}


def removed(path: str, at_ms: int = 0, size: int = 1, deleted: int = 0) -> dict[str, Any]:
    """A ``remove``."""
    action: dict[str, Any] = {
        "path": path,
        "deletionTimestamp": at_ms,
        "dataChange": True,
        "extendedFileMetadata": True,
        "partitionValues": {"day": "d"},
        "size": size,
    }
    if deleted:
        action["deletionVector"] = vector(deleted)
    return {"remove": action}


def vector(deleted: int) -> dict[str, Any]:
    """A deletion vector's descriptor; no such vector exists."""
    return {
        "storageType": "u",
        "pathOrInlineDv": f"ab^-aqEH.-t@S}}K{{vb[*k^{deleted:03}",
        "offset": 1,
        "sizeInBytes": 40,
        "cardinality": deleted,
    }
