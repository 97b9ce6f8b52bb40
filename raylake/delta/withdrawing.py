"""Which dead letters of a table leave, and whether the dead-letter table is behind.

A rewind's or a replay's commit in the data table names them, and they leave the dead-letter table
afterwards, in the order of the data table's versions (I5): whoever adds dead letters does that too.
"""

from __future__ import annotations

from dataclasses import dataclass

from raylake.delta import log_files
from raylake.delta.cutting import Cut, find_cuts, refuse_fault
from raylake.delta.ledger import PREFIX
from raylake.delta.log_reader import LogReader
from raylake.delta.offset_tally import Tally
from raylake.delta.pending import Replacement, Withdrawal, Withdrawn, pending_dead_letters
from raylake.delta.verify_data import LETTER_COLUMNS, leaving_letters, live_files
from raylake.delta.verify_letters import LOST, NOT_COUNTED
from raylake.storage.place import place


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters of some partitions, on both sides of their new ends.

    Attributes:
        version: The dead-letter table's version that was looked at; -1 where there is no table.
        tally: How many stay and leave.
        cuts: The files with letters that leave.
    """

    version: int
    tally: Tally
    cuts: tuple[Cut, ...]


def find_letters(path: str | None, wanted: Withdrawn) -> Letters:
    """Read the coordinates of a pipeline's dead letters; those that were replayed stay.

    Args:
        path: The dead-letter table's folder; None when the pipeline has none.
        wanted: Which of them leave.

    Raises:
        LogDamaged: A file is missing, or is not what the log says.
    """
    tally = Tally(wanted.ends if isinstance(wanted, Withdrawal) else {})
    if path is None or not log_files.commit_versions(place(path)):
        return Letters(-1, tally, ())
    reader = LogReader(path)
    snapshot = reader.snapshot()
    erasure = isinstance(wanted, Replacement) and wanted.erasure
    files = [
        one
        for one in live_files(snapshot.files)
        if one.values.get("pipeline") == wanted.pipeline
        and one.values.get("stage") not in (NOT_COUNTED if not erasure else LOST)
    ]

    doomed = leaving_letters(reader, wanted, tally, refuse_fault)
    cuts = tuple(find_cuts(reader, files, LETTER_COLUMNS, doomed))
    return Letters(snapshot.version, tally, cuts)


def is_behind(letters: str | None, table: str, table_id: str) -> bool:
    """Whether a data table's commits name what the dead-letter table lacks, or still has (I5).

    Args:
        letters: The dead-letter table's folder; None or no table where there is none yet.
        table: The data table's folder.
        table_id: Its id.

    Raises:
        LogDamaged: A log file that is needed was cleaned up or is torn.
    """
    stored = -1
    if letters is not None and log_files.commit_versions(place(letters)):
        stored = LogReader(letters).snapshot().txns.get(f"{PREFIX}{table_id}", -1)
    return bool(pending_dead_letters(place(table), stored).commits)
