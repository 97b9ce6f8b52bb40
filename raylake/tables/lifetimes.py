"""Which versions of a table can be read, and how long: from its log and its retention.

A version is lost in one of two ways. Vacuum deletes a data file that has been removed for longer
than ``delta.deletedFileRetentionDuration``: every version that has the file goes with it. And the
log's clean-up deletes commits older than ``delta.logRetentionDuration``. Both say from when on a
version *may* go; it stays until somebody runs them.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal
from urllib.parse import unquote

from raylake.delta.live_rows import path_below
from raylake.delta.log_reader import Commit, LogReader
from raylake.storage.place import Place
from raylake.tables.times import utc
from raylake.tables.versions import Versions

FILE_RETENTION: Final = "delta.deletedFileRetentionDuration"
LOG_RETENTION: Final = "delta.logRetentionDuration"
DEFAULT_FILE_RETENTION_S: Final = 7 * 86_400
"""Delta's own, where the table says nothing."""
DEFAULT_LOG_RETENTION_S: Final = 30 * 86_400
_INTERVAL: Final = re.compile(r"(?:interval\s+)?(\d+)\s+([a-z]+?)s?", re.IGNORECASE)
_UNIT_S: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400}


@dataclass(frozen=True, slots=True)
class ReadableVersion:
    """A version that can be read now.

    Attributes:
        version: The version.
        at: When it was made.
        operation: What its writer called it.
        readable_until: From then on ``taken_by`` may take it; None: not as long as it is the
            newest.
        taken_by: ``vacuum``, ``log clean-up``, or empty.
    """

    version: int
    at: datetime
    operation: str
    readable_until: datetime | None
    taken_by: Literal["", "vacuum", "log clean-up"]


def readable_versions(root: Place, limit: int | None = None) -> list[ReadableVersion]:
    """The versions that can be read, newest first.

    Reads the commits that are left and lists the table's folder. A version whose commit is gone
    and that a checkpoint alone still leads to is left out.

    Args:
        root: The table.
        limit: At most so many.

    Raises:
        TableMissing: There is no table.
        LogDamaged: The log is torn.
    """
    versions = Versions(root)
    reader = LogReader(str(root))
    oldest = versions.oldest_readable()
    configuration = reader.snapshot(versions.latest).metadata.configuration
    kept_s = retention_s(configuration, FILE_RETENTION, DEFAULT_FILE_RETENTION_S)
    log_kept_s = retention_s(configuration, LOG_RETENTION, DEFAULT_LOG_RETENTION_S)
    commits = [c for c in reader.commits(end=versions.latest) if c.version <= versions.latest]
    leaving_ms = removals(commits, partial(path_below, root))
    found: list[ReadableVersion] = []
    for commit in reversed(commits):
        if commit.version < oldest or (limit is not None and len(found) >= limit):
            break
        stamp = commit.info.get("timestamp")
        made_ms = versions.made_ms(commit.version) if stamp is None else int(stamp)
        until_ms: int | None = None
        taken_by: Literal["", "vacuum", "log clean-up"] = ""
        if commit.version < versions.latest:
            until_ms, taken_by = made_ms + log_kept_s * 1000, "log clean-up"
            removed_ms = leaving_ms.get(commit.version)
            if removed_ms is not None and removed_ms + kept_s * 1000 <= until_ms:
                until_ms, taken_by = removed_ms + kept_s * 1000, "vacuum"
        found.append(
            ReadableVersion(
                version=commit.version,
                at=utc(made_ms),
                operation=str(commit.info.get("operation", "")),
                readable_until=None if until_ms is None else utc(until_ms),
                taken_by=taken_by,
            )
        )
    return found


def removals(commits: Iterable[Commit], name_of: Callable[[str], str] = unquote) -> dict[int, int]:
    """For each version that has files which a later one removed: when the first of them was.

    Args:
        commits: In order, without a gap; what they add and remove.
        name_of: A file's one name, from the one that the log has.

    Returns:
        Version to milliseconds since the epoch.
    """
    added: dict[str, int] = {}
    spans: list[tuple[int, int, int]] = []
    first = last = -1
    for commit in commits:
        first = commit.version if first < 0 else first
        last = commit.version
        for one in commit.removes():
            since = added.get(_file(one, name_of), first)
            if since < commit.version:
                spans.append((since, commit.version - 1, int(one.get("deletionTimestamp") or 0)))
        names = (_file(one, name_of) for one in commit.adds())
        added.update(dict.fromkeys(names, commit.version))
    return _earliest(spans, first, last)


def lost_versions(root: Place, paths: Iterable[str]) -> list[tuple[int, int]]:
    """The versions in the log that have one of these files: first and last of each run of them.

    Args:
        root: The table.
        paths: Files, relative to its folder, as they lie there; none is live.
    """
    gone, versions = set(paths), Versions(root)
    if not gone:
        return []
    first = versions.oldest_in_log()
    since: dict[str, int] = {}
    spans: list[tuple[int, int]] = []
    for commit in LogReader(str(root)).commits(end=versions.latest):
        for one in commit.removes():
            path = path_below(root, str(one["path"]))
            if path in gone and since.get(path, first) < commit.version:
                spans.append((since.pop(path, first), commit.version - 1))
        paths = (path_below(root, str(one["path"])) for one in commit.adds())
        since.update(dict.fromkeys(paths, commit.version))
    return _joined(spans)


def in_words(spans: Sequence[tuple[int, int]]) -> str:
    """Runs of versions for people: ``3 to 7, 9``; empty for none."""
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def retention_s(configuration: Mapping[str, str], name: str, default_s: int) -> int:
    """A retention among a table's properties, in seconds."""
    found = _INTERVAL.fullmatch(configuration.get(name, "").strip())
    if found is None or found[2].lower() not in _UNIT_S:
        return default_s
    return int(found[1]) * _UNIT_S[found[2].lower()]


def _file(action: Mapping[str, object], name_of: Callable[[str], str]) -> str:
    vector = action.get("deletionVector")
    return f"{name_of(str(action['path']))}{vector or ''}"


def _earliest(spans: list[tuple[int, int, int]], first: int, last: int) -> dict[int, int]:
    """The least time of the spans that cover each version."""
    spans.sort()
    open_spans: list[tuple[int, int]] = []
    found: dict[int, int] = {}
    at = 0
    for version in range(first, last + 1):
        while at < len(spans) and spans[at][0] <= version:
            heapq.heappush(open_spans, (spans[at][2], spans[at][1]))
            at += 1
        while open_spans and open_spans[0][1] < version:
            heapq.heappop(open_spans)
        if open_spans:
            found[version] = open_spans[0][0]
    return found
