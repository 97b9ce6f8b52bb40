"""Ids of tables that are looked at again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raylake.delta import log_files
from raylake.delta.log_files import FileMark
from raylake.delta.log_reader import LogReader
from raylake.storage.place import Place


@dataclass(frozen=True, slots=True)
class _Known:
    """What a log said: the id, and which file was its newest then."""

    id: str
    version: int
    mark: FileMark


_known: Final[dict[str, _Known]] = {}


def table_id(root: Place) -> str:
    """The id of a table.

    A log keeps its table's id. So what was read once holds while the commit that was the newest
    then is the same file: one look at it, however long the log is.

    Raises:
        NotOurTable: There is none.
        LogDamaged: Its log is torn.
    """
    known = _known.get(str(root))
    if known is not None and _mark(root, known.version) == known.mark:
        return known.id
    found = LogReader(str(root)).snapshot()
    mark = _mark(root, found.version)
    if mark is not None:
        _known[str(root)] = _Known(found.metadata.id, found.version, mark)
    return found.metadata.id


def _mark(root: Place, version: int) -> FileMark | None:
    return log_files.mark(log_files.commit_path(root, version))
