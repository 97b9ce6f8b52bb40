"""What a derived table asks of logs: its last step, and how far the tables are that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from raylake.delta import log_files
from raylake.delta.log_reader import LogReader
from raylake.layers.derived import progress_app
from raylake.layers.errors import TargetReplaced
from raylake.layers.step import STEP
from raylake.storage.place import Place
from raylake.tables.landing import operation_metadata

_LOOK_BACK: Final = 256
"""In so many versions the last step is looked for."""


def last_said(root: Place) -> Mapping[str, Any] | None:
    """What the last step of a table said in its commit; None: none of the last versions is one."""
    latest = LogReader(str(root)).listing().latest
    for version in range(latest, max(-1, latest - _LOOK_BACK), -1):
        actions = log_files.read_commit(root, version)
        if actions is None:
            return None
        said = operation_metadata(log_files.commit_info(actions))
        if STEP in said:
            return said
    return None


def refuse_replaced(name: str, root: Place, latest: int) -> None:
    """Refuse a table whose rows somebody took back or replaced since its last step.

    Its progress stays in its log: what the rows lack now would never come again. Single rows that
    others delete or change are theirs to decide.

    Raises:
        TargetReplaced: Naming the commit.
    """
    for version in range(latest, max(-1, latest - _LOOK_BACK), -1):
        actions = log_files.read_commit(root, version)
        if actions is None:
            return
        info = log_files.commit_info(actions)
        if STEP in operation_metadata(info):
            return
        told = info.get("operationParameters") or {}
        whole = told.get("mode") == "Overwrite" and not told.get("predicate")
        if info.get("operation") == "RESTORE" or whole:
            what = info.get("operation", "WRITE")
            raise TargetReplaced(
                f"{name} ({root}): version {version} ({what}) put other rows in the place of the "
                "table's, which is not what its progress says any more",
                hint=f"`raylake transform run FILE --full-refresh {name}` makes it anew, beside "
                "its readers",
                version=version,
                operation=what,
            )


def newest_version(address: str) -> int:
    """The newest version of a table."""
    return LogReader(address).listing().latest


@dataclass(frozen=True, slots=True)
class OtherSources:
    """Further tables that a table reads, each at one version for a whole step.

    Attributes:
        versions: By name: id, newest version, and the version that is processed.
    """

    versions: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)

    @property
    def moved(self) -> bool:
        """Whether one of them has a version that is not processed."""
        return any(newest > seen for _, newest, seen in self.versions.values())

    @property
    def progress(self) -> dict[str, tuple[int, int]]:
        """By txn: the version that a step processes, and the one before."""
        return {progress_app(own): (newest, seen) for own, newest, seen in self.versions.values()}

    def newest(self, name: str, address: str) -> int:
        """The version that a step reads of a table, one of these or another."""
        return self.versions[name][1] if name in self.versions else newest_version(address)
