"""Which files a compaction writes together: pure planning over what the log says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from raylake.delta.live_rows import SourceFile, is_absolute

SMALL_SHARE: Final = 0.75
"""A file below this share of the target size is small."""
DELETED_SHARE: Final = 0.05
"""A file of which more rows than this share are deleted is written anew, also alone."""

PartitionKey = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Bin:
    """Files of one partition that become one.

    Attributes:
        values: The partition's values.
        files: The files, in the order of the log.
    """

    values: Mapping[str, str | None]
    files: tuple[SourceFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes that are read."""
        return sum(one.size_bytes for one in self.files)


def by_partition(files: Iterable[SourceFile]) -> dict[PartitionKey, list[SourceFile]]:
    """The files of each partition, in the order of the log."""
    found: dict[PartitionKey, list[SourceFile]] = {}
    for one in files:
        found.setdefault(tuple(sorted(one.values.items())), []).append(one)
    return found


def bins(
    files: Iterable[SourceFile], target_bytes: int, deleted_share: float = DELETED_SHARE
) -> list[Bin]:
    """The files worth writing together, in bins of at most the target size.

    Files that came after each other stay together, so that what statistics tell of times stays
    sharp. A bin that would not make fewer files, drop deleted rows, nor bring the files of a
    shallow clone home, is left out.

    Args:
        files: Live files.
        target_bytes: The size of a new file.
        deleted_share: A file of which more rows are deleted is written anew, also alone.
    """

    def alone(file: SourceFile) -> bool:
        return _worth_alone(file, deleted_share)

    def worth(file: SourceFile) -> bool:
        return file.size_bytes < SMALL_SHARE * target_bytes or alone(file)

    found = []
    for key, of_one in by_partition(files).items():
        found += [
            Bin(dict(key), tuple(group))
            for group in _packed([f for f in of_one if worth(f)], target_bytes)
            if len(group) > 1 or alone(group[0])
        ]
    return found


def _packed(files: Sequence[SourceFile], target_bytes: int) -> list[list[SourceFile]]:
    packed: list[list[SourceFile]] = []
    size = 0
    for one in files:
        if not packed or size + one.size_bytes > target_bytes:
            packed.append([])
            size = 0
        packed[-1].append(one)
        size += one.size_bytes
    return packed


def share_of(named: Sequence[str]) -> float:
    """The share of deleted rows that is let be: of files that somebody names, none."""
    return 0.0 if named else DELETED_SHARE


def _worth_alone(file: SourceFile, deleted_share: float) -> bool:
    """Whether many of its rows are deleted, or it belongs to the source of a shallow clone."""
    if is_absolute(file.path):
        return True
    if not file.deleted:
        return False
    return file.rows is None or file.deleted > deleted_share * (file.rows + file.deleted)
