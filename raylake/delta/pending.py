"""What a data table's log names for the dead-letter table (I5)."""

from __future__ import annotations

from dataclasses import dataclass

from raylake.delta import log_files, metadata
from raylake.errors import LogDamaged
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place


@dataclass(frozen=True, slots=True)
class DeadLetterCommit:
    """The dead-letter files that one data commit named."""

    version: int
    files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True)
class PendingDeadLetters:
    """What a data log names after a version.

    Attributes:
        commits: Data commits that named files, ascending.
        newest: The newest version that was read; everything up to it is in ``commits``.
    """

    commits: tuple[DeadLetterCommit, ...]
    newest: int


def pending_dead_letters(data_table: Place, after_version: int) -> PendingDeadLetters:
    """Read from a data table's log which dead-letter files its commits after a version name.

    Raises:
        LogDamaged: A log file that is needed was cleaned up or is torn.
    """
    versions = [v for v in log_files.commit_versions(data_table) if v > after_version]
    commits = []
    # What our own clean-up deleted was added to the dead-letter table before (I5).
    expected = max(after_version + 1, log_files.cleaned_below(data_table))
    versions = [v for v in versions if v >= expected]
    for version in versions:
        actions = log_files.read_commit(data_table, version)
        if actions is None or version != expected:
            raise LogDamaged(
                f"{data_table}: version {expected} is gone from the log, and its dead letters "
                "were not added to the dead-letter table yet",
                hint="Log clean-up must wait for the dead letters; was it done by another tool?",
                version=expected,
            )
        expected = version + 1
        files = (log_files.our_metadata(actions) or {}).get("dead_letters") or []
        if files:
            named = tuple(metadata.file_from_json(f) for f in files)
            commits.append(DeadLetterCommit(version, named))
    return PendingDeadLetters(tuple(commits), versions[-1] if versions else after_version)
