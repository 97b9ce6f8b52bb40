"""A rewind whose slow part is done: what is to leave was found, and the rest written (I12).

Reading every row and writing files anew may take longer than an owner may be silent. So both
happen before the table is taken; under the owner's epoch only a few commits are left, and the
look that nothing has changed since.
"""

from __future__ import annotations

from dataclasses import dataclass

from raylake import faults
from raylake.delta.cutting import write_the_rest
from raylake.delta.ledger import parse_app_id
from raylake.delta.log_reader import Commit, LogReader
from raylake.delta.moves import States
from raylake.delta.rewinding import Rewind, Survey, survey
from raylake.delta.spec import Durability
from raylake.delta.verify_log import table_path
from raylake.errors import Refused
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place

_OUR_OWN = frozenset({"epoch", "append_only", "release"})


@dataclass(frozen=True, slots=True)
class PreparedRewind:
    """A rewind that only has to be committed.

    Attributes:
        order: The order.
        found: What it takes back.
        kept: Files with what stays of those that are cut; they are not of the table yet.
    """

    order: Rewind
    found: Survey
    kept: tuple[DataFile, ...]

    @property
    def replace(self) -> bool:
        """Whether rows leave."""
        return self.order.replace


def prepare(order: Rewind, states: States, root: Place, durability: Durability) -> PreparedRewind:
    """Find out what a rewind takes back and write what stays; the table is not changed.

    Files that are written and never committed are in nobody's way; a vacuum takes them.

    Args:
        order: The order.
        states: Every admitted partition of the table.
        root: The table's folder.
        durability: As the pipeline's.

    Raises:
        Refused, ConfigError, LogDamaged: As :func:`raylake.delta.rewinding.survey`.
    """
    found = survey(order, states, LogReader(str(root)))
    return write_kept(order, found, root, durability)


def write_kept(order: Rewind, found: Survey, root: Place, durability: Durability) -> PreparedRewind:
    """The second half of :func:`prepare`."""
    faults.reach("rewind.surveyed", version=found.version)
    kept = write_the_rest(root, found.cuts, found.configuration, durability)
    return PreparedRewind(order, found, kept)


def refuse_changed(prepared: PreparedRewind, reader: LogReader, version: int) -> None:
    """Refuse a prepared rewind of a table that has changed since.

    Args:
        prepared: The rewind.
        reader: The table's log.
        version: The version that it would follow.

    Raises:
        Refused: A commit that changes rows, columns or positions came between.
    """
    first = prepared.found.version + 1
    for commit in reader.commits(first, version) if version >= first else ():
        if _changes(commit):
            raise Refused(
                f"{reader.path}: version {commit.version} ({_what(commit)}) came while the rewind "
                "was being prepared; nothing was changed",
                hint="has a run been started? Stop it, then give the order again",
                version=commit.version,
            )


def refuse_missing(prepared: PreparedRewind, root: Place) -> None:
    """Refuse a prepared rewind of which files are gone: a vacuum takes what is of no table.

    Raises:
        Refused: A file with rows that stay is not there as it was written.
        OSError: The folder or the store does not answer.
    """
    for file in prepared.kept:
        try:
            size = (root / table_path(file.path)).stat().st_size
        except FileNotFoundError:
            size = -1
        if size != file.size_bytes:
            raise Refused(
                f"{root}: {file.path}, which was written for this rewind, is gone; nothing was "
                "changed",
                hint="was the table vacuumed meanwhile? Give the order again",
                path=file.path,
            )


def _changes(commit: Commit) -> bool:
    ours = commit.raylake
    if ours is not None:
        return ours.get("kind") not in _OUR_OWN
    kinds = {name for action in commit.actions for name in action if action[name]}
    return bool(kinds - {"commitInfo", "txn"}) or any(parse_app_id(app) for app in commit.txns)


def _what(commit: Commit) -> str:
    if commit.raylake is not None:
        return f"kind {commit.raylake.get('kind')}"
    return str(commit.info.get("operation", "unknown operation"))
