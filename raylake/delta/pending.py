"""What a data table's log names for the dead-letter table (I5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raylake.delta import log_files, metadata
from raylake.errors import LogDamaged
from raylake.ingest.unit import DataFile, SourcePartition
from raylake.storage.place import Place

REPLAYED = "replayed"
"""The stage of letters that have become rows: they are history, and no longer of the account."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Dead letters that a rewind takes back: those that were stored before its version.

    Attributes:
        pipeline: Of which pipeline.
        table: The data table's name in the dead-letter table.
        ends: By partition, the first offset whose letter leaves.
        letters: How many the rewind saw there.
    """

    pipeline: str
    table: str
    ends: Mapping[SourcePartition, int]
    letters: int = 0


@dataclass(frozen=True, slots=True)
class Replacement:
    """Dead letters that a replay looked at again: these files take their place.

    Attributes:
        pipeline: Of which pipeline.
        table: The data table's name in the dead-letter table.
        replay_id: The replay.
        files: What the letters are from now on, one for each that leaves.
        erasure: Whether their bytes were erased; then letters that have become rows may leave too.
    """

    pipeline: str
    table: str
    replay_id: str
    files: tuple[DataFile, ...]
    erasure: bool = False

    @property
    def letters(self) -> int:
        """How many letters of the account it replaces."""
        counted = (
            file
            for file in self.files
            if not self.erasure or file.partition_values.get("stage") != REPLAYED
        )
        return sum(file.rows for file in counted)


Withdrawn = Withdrawal | Replacement
"""What takes letters out of the dead-letter table."""


def withdrawal_of(ours: Mapping[str, Any]) -> Withdrawn | None:
    """What a commit of ours says that leaves the dead-letter table; None where it says nothing."""
    if replayed := ours.get("replay"):
        files = tuple(metadata.file_from_json(one) for one in replayed["letter_files"])
        return Replacement(
            str(replayed["pipeline"]),
            str(replayed["table"]),
            str(replayed["id"]),
            files,
            bool(replayed.get("erasure")),
        )
    said, rewound = ours.get("withdrawn"), ours.get("rewound") or ()
    if not said or not rewound:
        return None
    ends = {
        SourcePartition(one["topic"], one["topic_id"], int(one["partition"])): int(one["to"])
        for one in rewound
    }
    return Withdrawal(str(rewound[0]["pipeline"]), str(said["table"]), ends, int(said["letters"]))


@dataclass(frozen=True, slots=True)
class DeadLetterCommit:
    """What one commit of a data table asks of the dead-letter table.

    Attributes:
        version: The commit's version.
        files: The dead-letter files that it named.
        withdrawal: The dead letters that leave; None for all but a rewind and a replay.
    """

    version: int
    files: tuple[DataFile, ...]
    withdrawal: Withdrawn | None = None


@dataclass(frozen=True, slots=True)
class PendingDeadLetters:
    """What a data log names after a version.

    Attributes:
        commits: Commits that named files, or letters to be taken back; ascending.
        newest: The newest version that was read; everything up to it is in ``commits``.
    """

    commits: tuple[DeadLetterCommit, ...]
    newest: int


def pending_dead_letters(data_table: Place, after_version: int) -> PendingDeadLetters:
    """Read from a data table's log what its commits after a version ask of the dead letters.

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
        ours = log_files.our_metadata(actions) or {}
        named = tuple(metadata.file_from_json(f) for f in ours.get("dead_letters") or ())
        withdrawal = withdrawal_of(ours)
        if named or withdrawal:
            commits.append(DeadLetterCommit(version, named, withdrawal))
    return PendingDeadLetters(tuple(commits), versions[-1] if versions else after_version)
