"""Logs of tables that a person left: what they still say of the person, and taking that away.

An entry or a checkpoint holds bounds of columns, conditions and samples of rows that are gone. They
leave where a log begins anew, with a checkpoint of a version that has none of it: then no version
before that one can be read (docs/adr/0050).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.parquet as pq

from raylake.client.deletions import Deletions
from raylake.client.erasure_subjects import LETTERS, Subject
from raylake.config import Pipeline, dead_letter_path
from raylake.config.addresses import quality_path, quarantine_path
from raylake.delta import log_files
from raylake.delta.checkpoint import checkpoint, clean_up
from raylake.delta.dead_letters import app_of
from raylake.delta.log_reader import LogReader
from raylake.delta.pending import pending_dead_letters
from raylake.delta.tables_there import is_table
from raylake.delta.txn_listing import checkpoint_files
from raylake.delta.version_pins import needed_from
from raylake.quality.history import history_table
from raylake.quality.quarantine import quarantine_table
from raylake.quality.side_table import pending, position
from raylake.storage.place import Place, names, open_input, place
from raylake.tables.alongside import Alongside
from raylake.tables.checkpoints import ASIDE
from raylake.tables.lifetimes import in_words
from raylake.tables.raw_search import RawSearch
from raylake.tables.requests import Advance
from raylake.tables.versions import Versions

_BATCH_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class Cleared:
    """What became of a log.

    Attributes:
        files: Log files that were deleted.
        lost: Versions that can no longer be read, as ``3 to 7``.
        held: Why nothing was deleted; empty where it was.
    """

    files: int = 0
    lost: str = ""
    held: str = ""


def mentions(path: str, search: RawSearch) -> int:
    """Entries and checkpoints of a table's log that have all values of a condition, as words."""
    root, found = place(path), 0
    for version in log_files.commit_versions(root):
        actions = log_files.read_commit(root, version)
        found += search.has_words("\n".join(_words(actions)))
    for version in log_files.checkpoint_versions(root):
        found += any(search.has_words(text) for text in _of_checkpoint(root, version))
    return found


def lost_with_the_log(path: str) -> str:
    """Versions that could not be read once the log begins anew."""
    versions = Versions(place(path))
    first = versions.oldest_in_log()
    return in_words([(first, versions.latest)])


def begin_anew(one: Subject, by: Deletions, erasure_id: str) -> int:
    """Write a checkpoint of a version that says nothing of what left; returns the version.

    Args:
        one: The table.
        by: Who writes it.
        erasure_id: What the version says that it is for.

    Raises:
        RayLakeError: It was not written; nothing was deleted.
    """
    if one.kind not in ("bronze", LETTERS):
        # The newest version of one that an owner fills is its owner's own book-keeping.
        beside = Alongside(metadata={"erasure": erasure_id})
        by.tables_of(one.path).execute(one.path, Advance(), alongside=beside)
    return checkpoint(one.path).version


def clear(config: Pipeline, one: Subject, version: int, *, break_holds: bool) -> Cleared:
    """Delete a log below a checkpoint, where nobody needs it.

    Args:
        config: The pipeline.
        one: The table.
        version: The checkpoint's.
        break_holds: Readers and pins need nothing; those who follow up what its commits name do.

    Raises:
        LogDamaged: The checkpoint does not say what the log says; nothing was deleted.
        LeaseUnread: What a reader needs cannot be told; nothing was deleted.
    """
    root = place(one.path)
    own_id = LogReader(one.path).snapshot().metadata.id
    held = None if break_holds else needed_from(root, own_id)
    if held is not None and held < version:
        return Cleared(held=f"a reader or a pin needs its log from version {held} on")
    waiting = min(_followed_up(config, one, own_id), default=version)
    if waiting < version:
        return Cleared(held=f"what version {waiting} names for another table is not in it yet")
    first = Versions(root).oldest_in_log()
    lost = in_words([(first, version - 1)]) if first < version else ""
    return Cleared(clean_up(root, version) + _aside(root), lost)


def _aside(root: Place) -> int:
    """Damaged checkpoints that were put aside leave too."""
    folder = log_files.log_folder(root)
    aside = [name for name in names(folder) if name.startswith(ASIDE)]
    for name in aside:
        (folder / name).unlink(missing_ok=True)
    return len(aside)


def _followed_up(config: Pipeline, one: Subject, own_id: str) -> Iterator[int]:
    """The first versions that name what another table does not have yet (I5)."""
    root = place(one.path)
    if one.kind == "bronze":
        letters, stored = dead_letter_path(config), -1
        if is_table(letters):
            stored = LogReader(letters).snapshot().txns.get(app_of(own_id), -1)
        yield from (commit.version for commit in pending_dead_letters(root, stored).commits)
    elif one.kind == "derived":
        for side in (
            quarantine_table(quarantine_path(config)),
            history_table(quality_path(config)),
        ):
            stored, _ = position(side, side.app(own_id))
            yield from (named.version for named in pending(root, stored, side.kind)[0])


def _of_checkpoint(root: Place, version: int) -> Iterator[str]:
    for file in checkpoint_files(root, version):
        with open_input(file) as opened, pq.ParquetFile(opened) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS, use_threads=False):
                yield from ("\n".join(_words(row)) for row in batch.to_pylist())


def _words(node: Any) -> Iterator[str]:
    """The values of what a log holds, statistics in it among them, each as it is meant."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield str(name)
            yield from _words(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _words(value)
    elif isinstance(node, str) and node[:1] == "{":
        try:
            yield from _words(json.loads(node))
        except ValueError:
            yield node
    elif node is not None:
        yield str(node)
