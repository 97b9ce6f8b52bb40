"""The first commit of a table: whose it is, and taking it away again while it is the only one."""

from __future__ import annotations

from typing import Any, Final

from raylake.delta import log_files
from raylake.delta.log_commit import LogCommit
from raylake.errors import DependencyUnreachable, LogDamaged
from raylake.storage.place import Place, delete_tree
from raylake.tables.errors import OutcomeUnread, WriteConflict

ID: Final = "work"
"""A parameter of the commit that makes a table: the id of the work that filled it."""


def first_info(root: Place) -> dict[str, Any] | None:
    """What the oldest commit that is there says of itself; None where there is none.

    Raises:
        LogDamaged: It is empty or torn.
        DependencyUnreachable: It cannot be read.
    """
    try:
        versions = log_files.commit_versions(root)
        if not versions:
            return None
        return log_files.commit_info(log_files.read_commit(root, versions[0]) or [])
    except OSError as error:
        raise DependencyUnreachable(
            f"{root}: whose table it is cannot be read: {error}",
            hint="nothing was taken away from it; try again",
        ) from error


def is_made_by(root: Place, work_id: str) -> bool:
    """Whether the table that is there was made by this work.

    Raises:
        LogDamaged, DependencyUnreachable: That cannot be told.
    """
    info = first_info(root) or {}
    return (info.get("operationParameters") or {}).get(ID) == work_id


def may_be_made_by(root: Place, work_id: str) -> bool:
    """Whether the table may be this work's, so that nothing of it may be taken away."""
    try:
        return is_made_by(root, work_id)
    except (LogDamaged, DependencyUnreachable):
        return True


def is_first(root: Place, commit: LogCommit) -> bool:
    """Whether a commit of a new table is in the log, also where placing it ended in an error.

    Raises:
        OutcomeUnread: That cannot be told.
    """
    try:
        there = log_files.read_commit(root, 0) or []
    except NotADirectoryError:
        return False
    except (OSError, LogDamaged) as error:
        raise OutcomeUnread(
            f"{root}: whether the table was made cannot be told: {error}",
            hint="look whether it is there before the operation is repeated",
        ) from error
    return _table_id(there) is not None and _table_id(there) == _table_id(commit.actions)


def unmake(root: Place) -> None:
    """Take the log away of a table that has one commit.

    Raises:
        WriteConflict: It has another one; nothing was taken away.
        OSError: It could not be.
    """
    versions = log_files.commit_versions(root)
    if versions != [0]:
        raise WriteConflict(
            f"{root}: the table has been written to since (version {max(versions, default=0)}); "
            "it was left as it is",
            hint="what was written since would be lost: copy it out, then drop the table yourself",
        )
    # First the entry that makes it a table; what is left then is no log.
    log_files.commit_path(root, 0).unlink()
    delete_tree(log_files.log_folder(root))


def _table_id(actions: Any) -> str | None:
    found = [one["metaData"]["id"] for one in actions if one.get("metaData")]
    return str(found[0]) if found else None
