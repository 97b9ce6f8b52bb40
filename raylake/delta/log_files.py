"""Reading a Delta log's JSON files directly: what a commit held, and whether a file is whole.

delta-rs skips an empty log file without a word and does not name a torn one, so the owner reads
new log files itself before it builds on them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raylake.errors import LogDamaged
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, names, sync_path, write_whole

LOG = "_delta_log"
_COMMIT = re.compile(r"^(\d{20})\.json$")
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint(?:\..*)?\.parquet$")


@dataclass(frozen=True, slots=True)
class FileMark:
    """What tells a log file from another one under the same name.

    Attributes:
        inode: On a disk; in a store its tag.
    """

    inode: int | str
    size_bytes: int
    mtime_ns: int


def log_folder(table: Place) -> Place:
    """The log's folder."""
    return table / LOG


def commit_path(table: Place, version: int) -> Place:
    """The JSON file of one version."""
    return table / LOG / f"{version:020d}.json"


def commit_versions(table: Place) -> list[int]:
    """Versions with a JSON file, ascending; empty without a log."""
    return sorted(_versions(table, _COMMIT))


def checkpoint_versions(table: Place) -> list[int]:
    """Versions with a checkpoint, ascending."""
    return sorted(set(_versions(table, _CHECKPOINT)))


def _versions(table: Place, pattern: re.Pattern[str]) -> Iterator[int]:
    try:
        found = names(table / LOG)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in found:
        match = pattern.match(name)
        if match:
            yield int(match.group(1))


def mark(path: Place) -> FileMark | None:
    """A file's mark; None when there is no such file."""
    try:
        if isinstance(path, StorePath):
            found = path.stat()
            return FileMark(found.e_tag, found.st_size, found.st_mtime_ns)
        stat = path.stat()
    except FileNotFoundError:
        return None
    return FileMark(stat.st_ino, stat.st_size, stat.st_mtime_ns)


def read_commit(table: Place, version: int) -> list[dict[str, Any]] | None:
    """The actions of one version; None when its JSON file is gone (cleaned up after a checkpoint).

    Raises:
        LogDamaged: The file is empty or torn.
    """
    path = commit_path(table, version)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise damaged(path, version, "is not text") from error
    actions = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            action = json.loads(line)
        except ValueError as error:
            raise damaged(path, version, f"is torn at line {number}") from error
        if not isinstance(action, dict):
            raise damaged(path, version, f"holds no action at line {number}")
        actions.append(action)
    if not actions:
        raise damaged(path, version, "is empty")
    return actions


def damaged(path: Place, version: int, what: str) -> LogDamaged:
    """The error for a damaged log file."""
    return LogDamaged(
        f"{path}: the log file of version {version} {what}",
        hint=(
            "Stop every writer. If this is the newest version, move the file out of the log's "
            "folder and start again: offsets live in the same log, so what the lost commit held "
            "is read from Kafka again. If it is an older one, restore it from a copy; "
            "'raylake verify' tells what the log still proves."
        ),
        path=str(path),
        version=version,
    )


def commit_info(actions: list[dict[str, Any]]) -> dict[str, Any]:
    """The commitInfo of a commit, empty when it has none."""
    for action in actions:
        info = action.get("commitInfo")
        if isinstance(info, dict):
            return info
    return {}


def our_metadata(actions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The ``raylake`` metadata of a commit; None when the commit is not ours."""
    found = commit_info(actions).get("raylake")
    return found if isinstance(found, dict) else None


def find_batch(table: Place, batch: str, after_version: int) -> int | None:
    """The version after ``after_version`` that holds the batch uuid; None when none does (I4).

    Raises:
        LogDamaged: A newer log file is empty or torn.
    """
    version = after_version + 1
    while True:
        actions = read_commit(table, version)
        if actions is None:
            return None
        metadata = our_metadata(actions)
        if metadata is not None and metadata.get("batch") == batch:
            return version
        version += 1


def find_foreign_txn(table: Place, app_id: str, number: int, after_version: int) -> int | None:
    """The version after ``after_version`` by which an engine, not an owner, wrote a txn.

    None when there is none.

    Raises:
        LogDamaged: A newer log file is empty or torn.
    """
    version = after_version + 1
    while (actions := read_commit(table, version)) is not None:
        if carries_txn(actions, app_id, number) and our_metadata(actions) is None:
            return version
        version += 1
    return None


def carries_txn(actions: list[dict[str, Any]], app_id: str, number: int) -> bool:
    """Whether a commit carries a txn."""
    txns = (action.get("txn") or {} for action in actions)
    return any(txn.get("appId") == app_id and txn.get("version") == number for txn in txns)


def sync_commit(table: Place, version: int) -> None:
    """Flush one log entry and its folder to the disk; returns when both are durable."""
    sync_path(commit_path(table, version))
    sync_path(table / LOG)


CLEAN_UP_MARK = "_raylake_cleaned"
"""Holds the version below which our own clean-up, which waits for the redo (I5), deleted files."""


def write_clean_up_mark(table: Place, below: int) -> None:
    """Write down, durably and before it happens, that log files below a version are deleted."""
    text = json.dumps({"below": below})
    write_whole(table / LOG / CLEAN_UP_MARK, text, scratch=f"{CLEAN_UP_MARK}.tmp", sync=True)


def cleaned_below(table: Place) -> int:
    """The version below which our own clean-up deleted log files; 0 when it never ran."""
    try:
        return int(json.loads((table / LOG / CLEAN_UP_MARK).read_text())["below"])
    except (FileNotFoundError, ValueError, KeyError):
        return 0
