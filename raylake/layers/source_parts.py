"""Where a source's version is cut that has more rows than one step is to take.

The rows of a version that only brings rows stand in a fixed order: files of a commit as it names
them, files of a whole table by their paths, rows as they lie in their file; rows that a deletion
vector takes away have a place, too. A part is a range of these places. So the next step goes on
where the last one ended, whatever the limits are by then, and whoever makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import pyarrow.parquet as pq

from raylake.delta.live_rows import file_place, source_files
from raylake.delta.log_reader import LogSnapshot
from raylake.layers.derived import Part, Slice
from raylake.storage.place import Place, open_input


def never(version: int, *, first: bool) -> bool:
    """No version is cut."""
    del version, first
    return False


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a step takes.

    Attributes:
        rows: Rows by the log's statistics; None: any number.
        nbytes: Bytes of data files; None: any number.
        versions: Versions; None: any number.
        idle_versions: So many versions without rows are passed over by themselves; None: 64.
        cuts: Whether a version that brings more than that, and nothing but rows, may be cut;
            ``first``: it is the table as a whole.
    """

    rows: int | None = None
    nbytes: int | None = None
    versions: int | None = None
    idle_versions: int | None = None
    cuts: Callable[..., bool] = never

    def holds(self, size: Size) -> bool:
        """Whether so much is within it."""
        return (self.rows is None or size.rows <= self.rows) and (
            self.nbytes is None or size.nbytes <= self.nbytes
        )


NO_LIMIT: Final = Limit()


@dataclass(frozen=True, slots=True)
class Size:
    """How much some files hold, by the log.

    Attributes:
        rows: Rows.
        nbytes: Bytes of the files.
    """

    rows: int = 0
    nbytes: int = 0

    def __add__(self, other: Size) -> Size:
        """Both together."""
        return Size(self.rows + other.rows, self.nbytes + other.nbytes)


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of a version.

    Attributes:
        action: It, as an ``add`` of the log.
        size: How much it holds; rows that are deleted count.
    """

    action: Mapping[str, Any]
    size: Size


def size_of(add: Mapping[str, Any]) -> Size:
    """How much a file holds by the log; without statistics as many rows as could be in it."""
    nbytes = int(add.get("size") or 0)
    rows = _records(add)
    return Size(nbytes if rows is None else rows, nbytes)


def of_commit(root: Place, adds: Iterable[Mapping[str, Any]]) -> list[Piece]:
    """The files of a commit, in its order."""
    return [Piece(one, Size(_rows(root, one), int(one.get("size") or 0))) for one in adds]


def of_table(root: Place, snapshot: LogSnapshot) -> list[Piece]:
    """The files of a whole version, by their paths."""
    found = []
    for _, one in sorted({unquote(file.path): file for file in source_files(snapshot)}.items()):
        action = {"path": one.path, "size": one.size_bytes, "partitionValues": dict(one.values)}
        if one.vector is not None or one.deleted:
            action["deletionVector"] = one.vector or {"cardinality": one.deleted}
        rows = _footer(root, one.path) if one.rows is None else one.rows + one.deleted
        found.append(Piece(action, Size(rows, one.size_bytes)))
    return found


def part_of(pieces: Sequence[Piece], begin: int, limit: Limit) -> Part | None:
    """The rows of a version that one step takes; None where that is all of them.

    Args:
        pieces: The version's files.
        begin: The first row that is not in the table yet.
        limit: How much a step takes. It takes a row at least.
    """
    total = sum(one.size.rows for one in pieces)
    end, at, left = begin, 0, limit
    for one in pieces:
        start, at = max(at, begin), at + one.size.rows
        if at <= start:
            continue
        fitting = _fitting(one, at - start, left)
        end = start + fitting
        if end < at:
            break
        left = _less(left, one, fitting)
    else:
        end = total
    if begin == 0 and end >= total:
        return None
    rows = range(begin, max(end, min(begin + 1, total)))
    return Part(begin, rows.stop, total, tuple(_slices(pieces, rows)))


def _slices(pieces: Sequence[Piece], rows: range) -> Iterator[Slice]:
    """The rows of a part, by file."""
    at = 0
    for one in pieces:
        start, at = at, at + one.size.rows
        begin, end = max(rows.start, start), min(rows.stop, at)
        if begin < end:
            yield Slice(one.action, begin - start, None if end == at else end - start)


def _fitting(piece: Piece, rows: int, limit: Limit) -> int:
    """So many of a file's next rows are within a limit."""
    found = rows if limit.rows is None else min(rows, max(0, limit.rows))
    if limit.nbytes is not None and piece.size.nbytes:
        found = min(found, max(0, limit.nbytes) * piece.size.rows // piece.size.nbytes)
    return found


def _less(limit: Limit, piece: Piece, rows: int) -> Limit:
    """What is left of a limit after some rows of a file."""
    nbytes = -(-piece.size.nbytes * rows // max(1, piece.size.rows))
    return Limit(
        None if limit.rows is None else limit.rows - rows,
        None if limit.nbytes is None else limit.nbytes - nbytes,
    )


def _rows(root: Place, add: Mapping[str, Any]) -> int:
    rows = _records(add)
    return _footer(root, str(add["path"])) if rows is None else rows


def _records(add: Mapping[str, Any]) -> int | None:
    """A file's rows by its statistics."""
    stats = add.get("stats")
    if not isinstance(stats, str):
        return None
    at = stats.find('"numRecords"')
    text = stats[at + len('"numRecords"') :].lstrip(" :") if at >= 0 else ""
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return int(digits) if digits else None


def _footer(root: Place, path: str) -> int:
    with open_input(file_place(root, path)) as file:
        return int(pq.ParquetFile(file).metadata.num_rows)
