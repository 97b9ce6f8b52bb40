"""What an action would take and bring, from stated rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

COMPACT_BYTES_A_CPU_S: Final = 50 * 2**20
"""Bytes of files that a compaction reads and writes anew in a CPU-second (docs/maintenance.md)."""
ZORDER_BYTES_A_CPU_S: Final = 12 * 2**20
"""The same of a Z-order."""
CHECKPOINT_FILES_A_CPU_S: Final = 100_000
"""Files that a checkpoint writes down in a CPU-second, with its proof."""
_READ_REQUESTS: Final = 3
"""Of a data file: its footer's length, its footer, its columns."""
_PART_BYTES: Final = 16 * 2**20
_COMMIT_REQUESTS: Final = 3
"""List, read what came meanwhile, put."""


@dataclass(frozen=True, slots=True)
class Price:
    """What an action takes and brings; estimates, but for the bytes that are read.

    Attributes:
        bytes_read: Bytes of files that it reads.
        bytes_written: Bytes that it writes.
        bytes_freed: Bytes that leave the store with it; what a rewrite replaces leaves with the
            vacuum after it.
        cpu_s: CPU-seconds.
        requests: Requests to an object store.
        files_before: Files that it is about.
        files_after: Those that are there instead.
    """

    bytes_read: int = 0
    bytes_written: int = 0
    bytes_freed: int = 0
    cpu_s: float = 0.0
    requests: int = 0
    files_before: int = 0
    files_after: int = 0

    def __add__(self, other: Price) -> Price:
        return Price(
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
            self.bytes_freed + other.bytes_freed,
            self.cpu_s + other.cpu_s,
            self.requests + other.requests,
            self.files_before + other.files_before,
            self.files_after + other.files_after,
        )


def rewrite_price(
    files: int, nbytes: int, kept_share: float, new_files: int, bytes_a_cpu_s: int
) -> Price:
    """The price of writing files anew.

    Args:
        files: How many.
        nbytes: Their bytes.
        kept_share: The part of their rows that is alive.
        new_files: How many there will be.
        bytes_a_cpu_s: The rate.
    """
    written = int(nbytes * kept_share)
    puts = new_files + math.ceil(written / _PART_BYTES)
    return Price(
        bytes_read=nbytes,
        bytes_written=written,
        cpu_s=nbytes / bytes_a_cpu_s,
        requests=_READ_REQUESTS * files + puts + _COMMIT_REQUESTS,
        files_before=files,
        files_after=new_files,
    )


def deletion_price(files: int, nbytes: int) -> Price:
    """The price of deleting files, each by a request."""
    return Price(
        bytes_freed=nbytes, requests=files + _COMMIT_REQUESTS, files_before=files, cpu_s=files / 5e4
    )


def checkpoint_price(files: int, commits: int, nbytes: int) -> Price:
    """The price of a checkpoint.

    Args:
        files: Live files and tombstones that it names.
        commits: Log entries that it makes needless for readers.
        nbytes: Of the log.
    """
    return Price(
        bytes_read=nbytes,
        bytes_written=200 * files,
        cpu_s=files / CHECKPOINT_FILES_A_CPU_S,
        requests=commits + _COMMIT_REQUESTS,
        files_before=commits,
        files_after=1,
    )
