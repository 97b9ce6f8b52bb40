"""What became of an engine's commit: only the log tells, also after an error (I4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from raylake.delta import log_files
from raylake.errors import LogDamaged
from raylake.storage.place import Place
from raylake.tables.errors import OutcomeUnread
from raylake.tables.results import FileCounts

KEY: Final = "raylake_operation"
"""Where a commit names the operation that made it: ``{"batch": …, "operation": …}``.

delta-rs puts it into commitInfo, Spark into the JSON of its ``userMetadata``.
"""


@dataclass(frozen=True, slots=True)
class Landed:
    """A commit of ours, found in the log.

    Attributes:
        version: Its version.
        metrics: What the engine counted.
        files: Data files by what became of them.
    """

    version: int
    metrics: Mapping[str, Any]
    files: FileCounts


def landed(root: Place, batch: str, after_version: int) -> Landed | None:
    """The commit of a batch, where one of the versions since then is it.

    Raises:
        OutcomeUnread: The log cannot be read.
    """
    version = after_version + 1
    try:
        while (actions := log_files.read_commit(root, version)) is not None:
            info = log_files.commit_info(actions)
            if _mine(info).get("batch") == batch:
                metrics = info.get("operationMetrics")
                counted = metrics if isinstance(metrics, dict) else {}
                return Landed(version, counted, counted_files(actions))
            version += 1
    except (OSError, LogDamaged) as error:
        raise OutcomeUnread(
            f"{root}: whether batch {batch} was committed cannot be told: {error}",
            hint=f"look for the batch in `{KEY}` of the versions after {after_version} before the "
            "operation is repeated",
            batch=batch,
            after_version=after_version,
        ) from error
    return None


def _mine(info: Mapping[str, Any]) -> Mapping[str, Any]:
    found = info.get(KEY)
    if found is None and KEY in str(info.get("userMetadata", "")):
        try:
            found = json.loads(info["userMetadata"]).get(KEY)
        except (ValueError, AttributeError):
            found = None
    return found if isinstance(found, dict) else {}


def counted_files(actions: Sequence[Mapping[str, Any]]) -> FileCounts:
    """Data files that the actions of a commit added and removed."""
    adds = [action["add"] for action in actions if action.get("add")]
    removes = [action["remove"] for action in actions if action.get("remove")]
    return FileCounts(
        added=len(adds),
        removed=len(removes),
        added_bytes=sum(int(one.get("size") or 0) for one in adds),
        removed_bytes=sum(int(one.get("size") or 0) for one in removes),
    )
