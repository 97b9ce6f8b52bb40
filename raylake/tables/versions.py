"""Which versions of a table are left, and which one a request means; for every engine the same.

A time means the newest version that was made by then, as its commit says (``commitInfo``). What
vacuum or the log's clean-up took is refused before anything is read, with the oldest version left.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from raylake.delta import log_files
from raylake.delta.live_rows import file_place, is_absolute
from raylake.delta.log_reader import LogListing, LogReader
from raylake.delta.log_store import files_of
from raylake.errors import NotOurTable
from raylake.storage.place import Place
from raylake.tables.errors import (
    BadRequest,
    TableMissing,
    VersionAndTime,
    VersionGone,
    VersionUnknown,
)
from raylake.tables.results import TableVersion
from raylake.tables.times import instant_ms, utc

FEW_FILES = 64
"""Up to so many files are asked for one by one; for more the table's folder is listed."""


class Versions:
    """The versions of one table, as its log's folder lists them now.

    Args:
        root: The table.

    Raises:
        TableMissing: There is no table.
    """

    def __init__(self, root: Place) -> None:
        self.root = root
        self._reader = LogReader(str(root))
        try:
            self._listing: LogListing = self._reader.listing()
        except NotOurTable as error:
            raise missing(str(root)) from error
        self.latest = self._listing.latest

    def resolve(self, version: int | None, at: datetime | str | None) -> int:
        """The version that a request means; the newest when it names none.

        Raises:
            VersionAndTime: It names both.
            VersionUnknown: The table has not reached it.
            VersionGone: The log no longer leads to it.
            TimeWithoutZone, BadRequest: The time is none, or has no zone.
        """
        if version is not None and at is not None:
            raise VersionAndTime(
                f"{self.root}: both version {version} and the time {at} are asked for",
                hint="give one of them",
            )
        if at is not None:
            return self.made_by(instant_ms(at, f"{self.root}: at"))
        return self.latest if version is None else self.known(version)

    def known(self, version: int) -> int:
        """The version, when the log leads to it.

        Raises:
            VersionUnknown: The table has not reached it.
            VersionGone: The log no longer leads to it.
        """
        if not 0 <= version <= self.latest:
            raise VersionUnknown(
                f"{self.root}: there is no version {version}; the newest is {self.latest}",
                hint=f"versions {self.oldest_in_log()} to {self.latest} are in the log",
                version=version,
                latest=self.latest,
            )
        if version < self.oldest_in_log():
            raise self.gone(version, self.oldest_in_log())
        return version

    def made_by(self, moment_ms: int) -> int:
        """The newest version made at a time or earlier.

        Raises:
            VersionGone: The first version that is left is younger.
        """
        made = self.with_commits()
        at = bisect.bisect_right(made, moment_ms, key=self.made_ms)
        if at == 0:
            first = made[0]
            raise VersionGone(
                f"{self.root}: the oldest version whose time is known, {first}, was made at "
                f"{utc(self.made_ms(first)).isoformat()}, after {utc(moment_ms).isoformat()}",
                hint=f"version {self.oldest_in_log()} is the oldest that is left",
                oldest=self.oldest_in_log(),
            )
        return made[at - 1]

    def made_from(self, moment_ms: int) -> int:
        """The first version made at a time or later; one beyond the newest when there is none."""
        made = self.with_commits()
        at = bisect.bisect_left(made, moment_ms, key=self.made_ms)
        return made[at] if at < len(made) else self.latest + 1

    def made_ms(self, version: int) -> int:
        """When a version was made: what its commit says, or when its file was written."""
        stamp = self.commit_info(version).get("timestamp")
        if stamp is not None:
            return int(stamp)
        mark = log_files.mark(log_files.commit_path(self.root, version))
        return 0 if mark is None else mark.mtime_ns // 1_000_000

    def made_at(self, version: int) -> datetime:
        """:meth:`made_ms` as a time."""
        return utc(self.made_ms(version))

    def commit_info(self, version: int) -> dict[str, Any]:
        """What a version's writer said of it; empty when it said nothing."""
        return log_files.commit_info(log_files.read_commit(self.root, version) or [])

    def oldest_in_log(self) -> int:
        """The oldest version that the log leads to; its data files may be gone all the same."""
        first = self._reader.first_retained(self._listing)
        if first == 0:
            return 0
        bases = [v for v in self._listing.checkpoints if v >= first - 1]
        return min(bases, default=first)

    def oldest_readable(self) -> int:
        """The oldest version from which on every one has its data files.

        Reads the commits that are left and lists the table's folder: for answers, not for checks.
        """
        there = self._there()
        oldest = self.oldest_in_log()
        for commit in self._reader.commits():
            if any(self._gone(str(one["path"]), there) for one in commit.removes()):
                oldest = max(oldest, commit.version)
        return oldest

    def require_files(self, paths: Iterable[str], version: int) -> None:
        """Refuse a version when files of it are gone.

        Args:
            paths: Files of the version that the newest one no longer has, as the log names them.
            version: The version.

        Raises:
            VersionGone: Naming the oldest version that is left.
        """
        asked = set(paths)
        there = self._there() if len(asked) > FEW_FILES else None
        if any(self._gone(path, there) for path in asked):
            raise self.gone(version, self.oldest_readable())

    def gone(self, version: int, oldest: int) -> VersionGone:
        """The error for a version that is no longer there."""
        return VersionGone(
            f"{self.root}: version {version} is gone: vacuum or the log's clean-up took it; the "
            f"oldest that is left is {oldest}",
            hint=f"choose a version from {oldest} to {self.latest}",
            version=version,
            oldest=oldest,
            latest=self.latest,
        )

    def commits(self, first: int, last: int) -> list[list[dict[str, Any]]]:
        """The actions of some versions, in order.

        Raises:
            VersionGone: The log no longer has one of them.
        """
        found = []
        for version in range(first, last + 1):
            actions = log_files.read_commit(self.root, version)
            if actions is None:
                raise self.gone(version, self.with_commits()[0])
            found.append(actions)
        return found

    def with_commits(self) -> list[int]:
        """The versions whose commits are left without a gap."""
        return list(range(self._reader.first_retained(self._listing), self.latest + 1))

    def _gone(self, path: str, there: set[str] | None) -> bool:
        """Whether a file of the log is gone; one of another table is asked for by itself."""
        if there is None or is_absolute(path):
            return not file_place(self.root, path).exists()
        return unquote(path) not in there

    def _there(self) -> set[str]:
        return set(files_of(str(self.root)).tree(""))


def history(root: Place, limit: int | None) -> list[TableVersion]:
    """See :meth:`raylake.tables.port.TableEngine.history`.

    Raises:
        BadRequest: The limit is below 1.
    """
    if limit is not None and limit < 1:
        raise BadRequest(f"{root}: history: the limit {limit} is below 1")
    versions = Versions(root)
    return [_line(one, versions) for one in versions.with_commits()[::-1][:limit]]


def _line(version: int, versions: Versions) -> TableVersion:
    commit = versions.commit_info(version)
    return TableVersion(
        version=version,
        at=utc(versions.made_ms(version)),
        operation=str(commit.get("operation", "")),
        engine=str(commit.get("engineInfo", "")),
        parameters=dict(commit.get("operationParameters") or {}),
        metrics=dict(commit.get("operationMetrics") or {}),
    )


def missing(address: str) -> TableMissing:
    """The error for an address without a table."""
    return TableMissing(
        f"{address} holds no Delta table",
        hint="check the address; Create makes a table",
        path=address,
    )
