"""The logs of a run: JSON lines, one file a process and its older ones, read together."""

from __future__ import annotations

import heapq
import json
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raylake.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines are wanted.

    Attributes:
        level: The least level.
        process: Part of the process's name; all of them when empty.
    """

    level: str = "debug"
    process: str = ""

    def takes(self, line: dict[str, Any]) -> bool:
        """Whether a line is wanted."""
        level = str(line.get("level", "info"))
        rank = LEVELS.index(level) if level in LEVELS else len(LEVELS)
        return rank >= LEVELS.index(self.level) and self.process in str(line.get("process", ""))


def run_folder(folder: Path, run_id: str | None) -> Path:
    """The folder of a run; of the newest one when none is named.

    Raises:
        ConfigError: There is no such run.
    """
    runs = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if run_id is None and runs:
        return folder / runs[-1]
    if run_id is None or run_id not in runs:
        raise ConfigError(
            f"no logs of {f'run {run_id}' if run_id else 'any run'} in {folder}",
            hint=f"runs: {', '.join(runs[-5:])}" if runs else "`raylake run FILE` makes some",
        )
    return folder / run_id


@dataclass(slots=True)
class LogTail:
    """Reads a run's log files as they grow; a line that is not whole yet waits.

    Attributes:
        folder: The run's folder.
        wanted: Which lines.
    """

    folder: Path
    wanted: LogFilter
    _offsets: dict[int, int] = field(default_factory=dict)

    def new_lines(self) -> Iterator[dict[str, Any]]:
        """What was written since the last call, in order of time over all processes."""
        # Older files of a process first: lines of one millisecond keep their order.
        files = sorted(self.folder.glob("*.jsonl*"), reverse=True)
        streams = [self._of(path) for path in files]
        return heapq.merge(*streams, key=lambda line: str(line.get("time", "")))

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last lines of what was written since the last call."""
        return list(deque(self.new_lines(), maxlen=count))

    def _of(self, path: Path) -> Iterator[dict[str, Any]]:
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            return  # the process dropped its oldest file just now
        with stream:
            # By inode: a full file gets another name while it is followed.
            found = os.fstat(stream.fileno())
            offset = self._offsets.get(found.st_ino, 0)
            if offset > found.st_size:
                offset = 0
            stream.seek(offset)
            for raw in stream:
                if not raw.endswith(b"\n"):
                    return
                offset += len(raw)
                self._offsets[found.st_ino] = offset
                line = _parsed(raw, path)
                if self.wanted.takes(line):
                    yield line


def _parsed(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except ValueError:
        line = None
    if isinstance(line, dict):
        return line
    return {
        "process": path.name.partition(".jsonl")[0],
        "message": raw.decode("utf-8", "replace").rstrip("\n"),
    }
