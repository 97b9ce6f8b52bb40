"""What a derived table asks of logs: its last step, and how far the tables are that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from raylake.delta import log_files
from raylake.delta.log_reader import LogReader
from raylake.layers.derived import progress_app
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


def table_id(root: Place) -> str:
    """The id of a table.

    Raises:
        NotOurTable: There is none.
    """
    return LogReader(str(root)).snapshot().metadata.id


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
