"""Putting files in the place of others with the same rows, checked against the version it follows.

delta-rs's ``optimize`` commits without looking whether its files are still live, so that two of
them double every row (DESIGN §3). Here a rewrite is committed only as the version right after one
on which each file that leaves was found live, with the rows that were read from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raylake.delta import log_files
from raylake.delta.live_rows import SourceFile, file_place, source_files
from raylake.delta.log_commit import LogCommit, add_line
from raylake.delta.log_reader import LogReader
from raylake.errors import DependencyUnreachable, LogDamaged
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place

_CHANGES_ALL = ("metaData", "protocol")


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files, and those with the same rows that take their place.

    Attributes:
        removed: Live files of the version that was read.
        added: Files that lie in the table's folder and are not of the table yet.
        rows: Rows that were read, and written.
    """

    removed: tuple[SourceFile, ...]
    added: tuple[DataFile, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Surviving:
    """What of a rewrite can be committed after a version.

    Attributes:
        version: The version that was looked at.
        groups: Groups whose files are all live in it.
        lost: Groups of which another commit took a file, or a vacuum a new one.
        txns: The txns of that version.
        landed: Whether the rewrite is in the log already: a store had not answered.
        certain: Whether the log tells that it is not; only then may its files be deleted.
    """

    version: int
    groups: tuple[FileGroup, ...]
    lost: tuple[FileGroup, ...]
    txns: Mapping[str, int] = field(default_factory=dict)
    landed: bool = False
    certain: bool = True


def surviving(root: Place, groups: Sequence[FileGroup], read_version: int) -> Surviving:
    """Which groups are as they were read, in the newest version.

    Args:
        root: The table.
        groups: What was written.
        read_version: The version that the files were read from.

    Raises:
        LogDamaged: The log has a gap, or a group does not have the rows that it had.
        DependencyUnreachable: Whether a new file is there cannot be told.
    """
    reader = LogReader(str(root))
    now = reader.snapshot()
    touched: set[str] = set()
    changed = False
    for version in range(read_version + 1, now.version + 1):
        actions = log_files.read_commit(root, version)
        if actions is None:
            # Cleaned up: nothing is known of the files any more.
            return Surviving(now.version, (), tuple(groups), certain=False)
        changed |= any(action.get(key) for action in actions for key in _CHANGES_ALL)
        touched |= set(_paths(actions))
    if any(one.path in touched for group in groups for one in group.added):
        return Surviving(now.version, (), (), landed=True)
    if changed:
        return Surviving(now.version, (), tuple(groups))
    live: dict[str, list[SourceFile]] = {}
    for file in source_files(now):
        live.setdefault(file.path, []).append(file)
    alive: list[FileGroup] = []
    lost: list[FileGroup] = []
    for group in groups:
        refuse_unequal(root, group)
        there = all(
            one.path not in touched and _same(live.get(one.path, []), one) for one in group.removed
        )
        # Whoever was stopped for longer than the retention has lost its files to a vacuum.
        there = there and all(_is_whole(root, one) for one in group.added)
        (alive if there else lost).append(group)
    return Surviving(now.version, tuple(alive), tuple(lost), now.txns)


def rewrite_commit(
    base: LogCommit, groups: Sequence[FileGroup], now_s: float, *, data_change: bool = False
) -> LogCommit:
    """The commit that puts files in the place of others.

    Args:
        base: Its name, metadata and other actions.
        groups: The files.
        now_s: The time, in seconds since the epoch.
        data_change: Whether readers of changes are to see it; never where the rows stay.
    """
    removed = [one for group in groups for one in group.removed]
    added = [one for group in groups for one in group.added]
    actions = [
        *base.actions,
        *(add_line(one, now_s, data_change=data_change) for one in added),
        *({"remove": one.remove_action(now_s, data_change=data_change)} for one in removed),
    ]
    metrics = {
        "numRemovedFiles": len(removed),
        "numAddedFiles": len(added),
        "numRemovedBytes": sum(one.size_bytes for one in removed),
        "numAddedBytes": sum(one.size_bytes for one in added),
        "numCopiedRows": sum(group.rows for group in groups),
    }
    return replace(base, actions=actions, metrics={**base.metrics, **metrics})


def _paths(actions: Iterable[dict[str, Any]]) -> Iterable[str]:
    for action in actions:
        for key in ("add", "remove"):
            if action.get(key):
                yield str(action[key]["path"])


def _same(found: Sequence[SourceFile], read: SourceFile) -> bool:
    return len(found) == 1 and found[0] == read and found[0].vector == read.vector


def _is_whole(root: Place, file: DataFile) -> bool:
    try:
        return bool(file_place(root, file.path).stat().st_size == file.size_bytes)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DependencyUnreachable(f"{root}: {file.path} cannot be read: {error}") from error


def refuse_unequal(root: Place, group: FileGroup) -> None:
    """The rows that were read are those that the log has and those that were written.

    Raises:
        LogDamaged: They are not.
    """
    written = sum(one.rows for one in group.added)
    known = [one.rows for one in group.removed]
    logged = None if None in known else sum(one or 0 for one in known)
    if written != group.rows or (logged is not None and logged != group.rows):
        raise LogDamaged(
            f"{root}: {group.rows} rows were read from {len(group.removed)} files, the log says "
            f"{logged}, {written} were written",
            hint="nothing was changed; `raylake verify --level data` says more",
        )
