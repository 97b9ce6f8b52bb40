"""Replays a Delta log without any Delta library: JSON commits, and checkpoints through DuckDB."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb

_COMMIT = re.compile(r"^(\d{20})\.json$")
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint\.parquet$")
_PARTED = re.compile(r"^(\d{20})\.checkpoint\.(\d{10})\.(\d{10})\.parquet$")


class AuditError(Exception):
    """The table, its log or the producer's record cannot be read, so nothing is proven."""


@dataclass(frozen=True)
class Snapshot:
    """The live files of a Delta table.

    Attributes:
        root: The table's folder.
        version: The version that was replayed.
        checkpoint: Version of the checkpoint that the replay began with, None for none.
        partition_columns: Names of the columns that live in paths, not in files.
        files: Absolute path of each live file → its partition values.
    """

    root: Path
    version: int
    checkpoint: int | None
    partition_columns: tuple[str, ...]
    files: Mapping[str, Mapping[str, str | None]]


def replay(root: Path | str) -> Snapshot:
    """The live files of the Delta table at ``root``, by its log alone.

    Raises:
        AuditError: No log, a missing or torn commit, a file that is named and not there, or a
            feature that this reader does not know (deletion vectors, column mapping, V2
            checkpoints).
    """
    root = Path(root).resolve()
    log = root / "_delta_log"
    names = sorted(file.name for file in log.iterdir()) if log.is_dir() else []
    commits = {int(m[1]): log / m[0] for m in map(_COMMIT.match, names) if m}
    checkpoints = _checkpoints(log, names)
    if not commits and not checkpoints:
        raise AuditError(f"{root}: no Delta log")
    last = max([*commits, *checkpoints])
    start = max((v for v in checkpoints if v <= last), default=None)
    state = _Replay()
    if start is not None:
        state.apply_checkpoint(checkpoints[start])
    for version in range(0 if start is None else start + 1, last + 1):
        if version not in commits:
            raise AuditError(f"{log}: commit {version} of {last} is missing")
        state.apply_commit(commits[version])
    return state.snapshot(root, last, start)


def read_commits(root: Path | str) -> Iterator[list[dict[str, Any]]]:
    """The actions of each commit that the log of the Delta table at ``root`` still has, in order.

    Raises:
        AuditError: A commit is torn.
    """
    log = Path(root).resolve() / "_delta_log"
    for file in sorted(log.iterdir()) if log.is_dir() else []:
        if _COMMIT.match(file.name):
            yield _actions(file)


def _actions(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    if not text.strip():
        raise AuditError(f"{file}: empty commit")
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise AuditError(f"{file}:{number}: torn commit: {error}") from error
    return found


def _checkpoints(log: Path, names: Sequence[str]) -> dict[int, list[Path]]:
    """The complete checkpoints: version → files."""
    found = {int(m[1]): [log / m[0]] for m in map(_CHECKPOINT.match, names) if m}
    parts: dict[tuple[int, int], list[Path]] = {}
    for match in filter(None, map(_PARTED.match, names)):
        parts.setdefault((int(match[1]), int(match[3])), []).append(log / match[0])
    for (version, size), files in parts.items():
        if len(files) == size:
            found.setdefault(version, files)
    return found


class _Replay:
    """The state of a Delta log while its actions are applied in order."""

    def __init__(self) -> None:
        self._live: dict[str, Mapping[str, str | None]] = {}
        self._partition_columns: tuple[str, ...] | None = None

    def apply_checkpoint(self, files: Sequence[Path]) -> None:
        with duckdb.connect() as connection:
            for file in files:
                source = connection.read_parquet(str(file))
                for action in set(source.columns) & {"add", "metaData", "protocol", "sidecar"}:
                    texts = source.filter(f'"{action}" IS NOT NULL').project(f'to_json("{action}")')
                    for (text,) in texts.fetchall():
                        self._apply({action: json.loads(text)}, file)

    def apply_commit(self, file: Path) -> None:
        for action in _actions(file):
            self._apply(action, file)

    def _apply(self, action: Mapping[str, Any], file: Path) -> None:
        if "add" in action:
            add = action["add"]
            if add.get("deletionVector"):
                raise AuditError(f"{file}: deletion vectors cannot be audited")
            self._live[add["path"]] = add.get("partitionValues") or {}
        elif "remove" in action:
            self._live.pop(action["remove"]["path"], None)
        elif "metaData" in action:
            settings = action["metaData"].get("configuration") or {}
            if settings.get("delta.columnMapping.mode", "none") != "none":
                raise AuditError(f"{file}: column mapping cannot be audited")
            self._partition_columns = tuple(action["metaData"].get("partitionColumns") or ())
        elif "sidecar" in action:
            raise AuditError(f"{file}: V2 checkpoints cannot be audited")

    def snapshot(self, root: Path, version: int, checkpoint: int | None) -> Snapshot:
        if self._partition_columns is None:
            raise AuditError(f"{root}: the log has no metaData action")
        files = {}
        for path, values in self._live.items():
            plain = unquote(path.removeprefix("file://"))
            absolute = str(root / plain)
            if not Path(absolute).is_file():
                raise AuditError(f"{root}: live file {path} is not there")
            files[absolute] = values
        return Snapshot(root, version, checkpoint, self._partition_columns, files)
