"""Deletion vectors as Spark writes them, for tables that a test makes without Spark."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_MAGIC = 1681511377


def delete_by_vector(path: Path, rows: Sequence[int]) -> None:
    """Commit a vector that deletes rows, by their place, of the table's first file."""
    log = path / "_delta_log"
    version = DeltaTable(path).version()
    add: dict[str, Any] = {}
    for one in range(version + 1):
        for line in (log / f"{one:020d}.json").read_text().splitlines():
            action = json.loads(line)
            if "add" in action and (not add or action["add"]["path"] == add["path"]):
                add = action["add"]
    removed = {
        "path": add["path"],
        "deletionTimestamp": 1,
        "dataChange": True,
        "extendedFileMetadata": True,
        "partitionValues": add["partitionValues"],
        "size": add["size"],
    }
    if "deletionVector" in add:
        removed["deletionVector"] = add["deletionVector"]
    features = ["appendOnly", "changeDataFeed", "deletionVectors", "invariants"]
    actions = [
        {"commitInfo": {"timestamp": 1, "operation": "DELETE"}},
        {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"],
                "writerFeatures": features,
            }
        },
        {"remove": removed},
        {"add": {**add, "deletionVector": _inline(sorted(rows)), "dataChange": True}},
    ]
    text = "\n".join(json.dumps(one) for one in actions) + "\n"
    (log / f"{version + 1:020d}.json").write_text(text)


def _inline(rows: Sequence[int]) -> dict[str, Any]:
    """A vector in the log itself: one Roaring container of sorted 16-bit values."""
    body = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16)
    body += b"".join(struct.pack("<H", row) for row in rows)
    data = struct.pack("<iqi", _MAGIC, 1, 0) + body
    padded = data + b"\0" * (-len(data) % 4)
    return {
        "storageType": "i",
        "pathOrInlineDv": _encoded(padded),
        "sizeInBytes": len(data),
        "cardinality": len(rows),
    }


def _encoded(data: bytes) -> str:
    text = ""
    for start in range(0, len(data), 4):
        value, digits = int.from_bytes(data[start : start + 4], "big"), ""
        for _ in range(5):
            digits = _Z85[value % 85] + digits
            value //= 85
        text += digits
    return text
