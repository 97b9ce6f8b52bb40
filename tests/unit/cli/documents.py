"""A status document as a run writes it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import psutil


def partition(at: int, end: int) -> dict[str, Any]:
    return {"next": at, "origin": 0, "target": None, "end": end, "max_event_ms": None}


def status_document(**changes: Any) -> dict[str, Any]:
    """A run of this very process, with one table of two partitions."""
    table = {
        "path": "/lake/bronze/orders",
        "topics": ["orders"],
        "version": 7,
        "epoch": 1,
        "commits": 3,
        "last_commit_at": 1_700_000_000.0,
        "breakers": {"store": {"state": "closed", "reason": ""}},
        "error": "",
        "totals": {"rows": 1500, "dead": 4, "absent": 6, "lost": 0, "dropped": 0},
        "partitions": {"orders[0]": partition(1000, 1200), "orders[1]": partition(510, 510)},
    }
    document = {
        "format": 1,
        "pipeline": "orders",
        "run_id": "20250101T000000Z-abcdef",
        "version": "0",
        "at": 1_700_000_001.0,
        "state": "running",
        "job": {
            "kind": "process",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_created_s": psutil.Process().create_time(),
        },
        "tables": {"bronze.orders": table},
        "consumers": {
            "consumer-0": {"state": "running", "breakers": {}, "error": ""},
            "consumer-1": {"state": "paused", "breakers": {}, "error": ""},
        },
        "stopped": {},
        "restarts": {"consumer": 0, "owner": 0},
        "error": None,
    }
    return {**document, **changes}


def lake_of(tmp_path: Path, **documents: dict[str, Any]) -> Path:
    """A lake that holds these status documents, by pipeline."""
    folder = tmp_path / "_raylake" / "status"
    folder.mkdir(parents=True)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return tmp_path
