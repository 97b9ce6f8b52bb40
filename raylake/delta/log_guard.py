"""Watching a table's log for what was done to it under its owner's feet (FAILURES 5, 29, 41)."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from raylake.delta import log_files
from raylake.delta.txn_listing import list_txns
from raylake.errors import LogDamaged
from raylake.storage.place import Place

Refusing = Callable[[Place, int, list[dict[str, Any]]], None]
"""Stops at a version that somebody else made and that the table's owner must not build on."""


class LogGuard:
    """What an owner remembers of the log, so that it notices what delta-rs does not.

    delta-rs keeps a handle's snapshot when the log is deleted or created again below it, never
    reads a version twice, and takes an empty log file for an empty commit.

    Args:
        root: The table's folder.
        table_id: Its id.
        version: The newest version that was read.
        refuse: Judges the versions that somebody else made.
    """

    def __init__(
        self, root: Place, table_id: str, version: int, refuse: Refusing | None = None
    ) -> None:
        self._refuse = refuse or refuse_destructive
        self._own_slot: tuple[str, int] | None = None
        self.root = root
        self.table_id = table_id
        self.seen_version = version
        self.own_version: int | None = None
        self._own_batch = ""
        self._own_mark: log_files.FileMark | None = None

    @property
    def version(self) -> int:
        """The newest version that was read or written."""
        return max(self.seen_version, self.own_version or 0)

    def wrote(self, version: int, batch: str) -> None:
        """Remember our newest commit."""
        self._own_slot = None
        self._own_batch = batch
        self._remember(version)

    def slot_wrote(self, version: int, app_id: str, number: int) -> None:
        """Remember the commit of a slot as our newest; it is known by its txn."""
        self._own_slot = (app_id, number)
        self._remember(version)

    def _remember(self, version: int) -> None:
        self.own_version = version
        # A store may not answer; then the entry itself is read before the next commit.
        with contextlib.suppress(OSError):
            self._own_mark = None
            self._own_mark = log_files.mark(log_files.commit_path(self.root, version))

    def check_own_commit(self) -> None:
        """Check that our newest commit is still the one that lies in the log; one ``stat``.

        Raises:
            LogDamaged: It was overwritten or torn, or the table was dropped or created again.
        """
        version = self.own_version
        if version is None:
            return
        path = log_files.commit_path(self.root, version)
        found = log_files.mark(path)
        if found is not None and found == self._own_mark:
            return
        if found is None:
            if any(v >= version for v in log_files.checkpoint_versions(self.root)):
                return
            raise self.replaced(f"version {version}, which this owner wrote, is gone")
        if not self._is_own(log_files.read_commit(self.root, version) or []):
            raise LogDamaged(
                f"{path}: a commit was lost or overwritten: version {version} is no longer the "
                "one that this owner wrote",
                hint="Stop every other writer of this table and run 'raylake verify'.",
                version=version,
            )
        self._own_mark = found

    def _is_own(self, actions: list[dict[str, Any]]) -> bool:
        if self._own_slot is not None:
            return log_files.carries_txn(actions, *self._own_slot)
        return (log_files.our_metadata(actions) or {}).get("batch") == self._own_batch

    def check_foreign(self, newest: int) -> None:
        """Look into new commits that are not ours; appends and schema changes are tolerated.

        Raises:
            LogDamaged: One is empty or torn, a RESTORE, or took rows away.
        """
        for version in range(self.seen_version + 1, newest + 1):
            if version == self.own_version:
                continue
            actions = log_files.read_commit(self.root, version)
            if actions is not None and log_files.our_metadata(actions) is None:
                self._refuse(self.root, version, actions)
        self.seen_version = newest

    def name_damage(self) -> None:
        """Find out why delta-rs cannot read the log; returns when the log files look whole.

        Raises:
            LogDamaged: Naming the file, or that the table was dropped or created again.
        """
        versions = log_files.commit_versions(self.root)
        if not versions or versions[-1] < self.version:
            newest = versions[-1] if versions else None
            raise self.replaced(f"the newest version is {newest}, it was {self.version}")
        check_chain(self.root)

    def replaced(self, what: str) -> LogDamaged:
        """The error for a table that is no longer the one that was attached to."""
        return LogDamaged(
            f"{self.root}: the table was dropped, restored or created again ({what})",
            hint="Decide which table is wanted, then start the pipeline again; its offsets are "
            "read from the table that is there.",
            table_id=self.table_id,
        )


def refuse_replaced(root: Place, version: int, actions: list[dict[str, Any]]) -> None:
    """Stop where somebody else made another table of it, of one whose rows no log counts.

    Rows that come and leave by other writers are these writers' business.

    Raises:
        LogDamaged: The commit is a RESTORE, or replaced all rows.
    """
    info = log_files.commit_info(actions)
    operation = str(info.get("operation", "unknown"))
    parameters = info.get("operationParameters") or {}
    whole = parameters.get("mode") == "Overwrite" and not parameters.get("predicate")
    if operation == "RESTORE" or operation.startswith(("REPLACE", "CREATE OR REPLACE")) or whole:
        raise LogDamaged(
            f"{root}: version {version} ({operation} by {info.get('engineInfo', 'unknown')}) put "
            "another state in the table's place, past its owner",
            hint="Nothing was written since. Look at the table's history: if this version is "
            "meant, run the operation again, it begins with what is there now; else restore the "
            f"version {version - 1} first.",
            version=version,
            operation=operation,
        )


def check_chain(root: Place) -> None:
    """Check that the newest checkpoint and the log files after it are whole, without a gap.

    Raises:
        LogDamaged: Naming the first file that is empty, torn, unreadable or missing.
    """
    floor = max(log_files.checkpoint_versions(root), default=-1)
    versions = [v for v in log_files.commit_versions(root) if v > floor]
    expected = range(floor + 1, floor + 1 + len(versions))
    for version, wanted in zip(versions, expected, strict=True):
        if version != wanted:
            path = log_files.commit_path(root, wanted)
            raise log_files.damaged(path, wanted, "is missing")
        log_files.read_commit(root, version)
    list_txns(root)


def check_tail(root: Place, count: int = 200) -> None:
    """Read the newest log files after the newest checkpoint, at most ``count``.

    Raises:
        LogDamaged: One is empty or torn.
    """
    floor = max(log_files.checkpoint_versions(root), default=-1)
    tail = itertools.takewhile(lambda v: v > floor, reversed(log_files.commit_versions(root)))
    for version in itertools.islice(tail, count):
        log_files.read_commit(root, version)


def refuse_destructive(root: Place, version: int, actions: list[dict[str, Any]]) -> None:
    """Stop at a foreign commit that took rows away.

    Raises:
        LogDamaged: The commit is a RESTORE or removed rows.
    """
    info = log_files.commit_info(actions)
    operation = str(info.get("operation", "unknown"))
    removed = sum(1 for a in actions if (a.get("remove") or {}).get("dataChange"))
    if operation == "RESTORE" or removed:
        raise LogDamaged(
            f"{root}: version {version} ({operation} by {info.get('engineInfo', 'unknown')}) took "
            f"data away that the ledger counts ({removed} files removed)",
            hint="Ingestion stopped so that nothing is mixed up. Undo it, or move the position "
            "deliberately ('raylake rewind'), then start again.",
            version=version,
            operation=operation,
        )
