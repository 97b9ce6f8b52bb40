"""Structured logs: one JSON object a line, one file per process of a run."""

from __future__ import annotations

import json
import logging
import os
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

MAX_FILE_BYTES = 16 * 1024 * 1024
OLDER_FILES = 3


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and what ``extra`` held."""

    def __init__(self, **context: Any) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._context,
            **{k: v for k, v in vars(record).items() if k not in _STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_folder(lake: str, pipeline: str) -> Path:
    """Where the runs of a pipeline log: ``<lake>/_raylake/logs/<pipeline>``.

    A store takes no lines one by one: for a lake in one, each machine keeps what its processes
    say, below ``~/.raylake/lakes`` under the lake's address.
    """
    scheme, store, key = lake.rpartition("://")
    root = Path.home() / ".raylake" / "lakes" / scheme / key if store else Path(lake)
    return root / "_raylake" / "logs" / pipeline


def log_to_file(folder: Path, run_id: str, process: str, **context: Any) -> Path:
    """Send this process's ``raylake`` logs to ``<folder>/<run>/<process>.jsonl``.

    A file that reaches :data:`MAX_FILE_BYTES` becomes ``<process>.jsonl.1``, and so on up to
    :data:`OLDER_FILES`; the oldest is dropped.

    Args:
        folder: From :func:`log_folder`.
        run_id: The run.
        process: ``supervisor``, ``consumer-0``, ``owner-bronze.orders`` …
        **context: Fields of every line, such as ``pipeline``.
    """
    path = folder / run_id / f"{process}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=MAX_FILE_BYTES, backupCount=OLDER_FILES)
    handler.setFormatter(JsonLines(run_id=run_id, process=process, pid=os.getpid(), **context))
    root = logging.getLogger("raylake")
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(os.environ.get("RAYLAKE_LOG_LEVEL", "INFO").upper())
    root.propagate = False
    return path
