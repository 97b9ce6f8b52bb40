"""Checkpoints by request, and putting damaged ones aside where the log is whole without them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from raylake.delta import log_files
from raylake.delta.checkpoint import CheckpointResult, checkpoint
from raylake.delta.checkpoint_proof import (
    Unprovable,
    log_without_checkpoints,
    prove,
    prove_readable,
)
from raylake.errors import AlreadyRunning, LogDamaged
from raylake.storage.place import Place, names, sync_path
from raylake.tables.errors import WriteConflict
from raylake.tables.versions import Versions

ASIDE: Final = "_damaged."
"""What the name of a damaged checkpoint begins with, once it is no longer one."""
_HINT: Final = "_last_checkpoint"


def write_checkpoint(root: Place) -> CheckpointResult:
    """Write a checkpoint of the newest version and prove it; no log file is deleted.

    Raises:
        WriteConflict: Another checkpointer works on the table.
        LogDamaged, DependencyUnreachable: None was written.
    """
    try:
        return checkpoint(root)
    except AlreadyRunning as error:
        raise WriteConflict(error.message, hint="wait until it is done") from error


def put_damaged_aside(root: Place) -> tuple[str, ...]:
    """Put aside each checkpoint that does not say what the log says.

    The log must lead to the same version without it; a checkpoint below which the log is gone is
    only asked to be readable.

    Returns:
        The files' names as they were.

    Raises:
        LogDamaged: A checkpoint is damaged, and the log does not do without it; nothing was moved.
        TableMissing: There is no table.
    """
    latest = Versions(root).latest
    damaged = [v for v in reversed(log_files.checkpoint_versions(root)) if not _sound(root, v)]
    if not damaged:
        return ()
    _require_whole(root, latest, damaged)
    folder = log_files.log_folder(root)
    numbers = tuple(f"{version:020d}.checkpoint." for version in damaged)
    moved = []
    if (folder / _HINT).exists():
        # It may name one of them; readers list the folder without it.
        (folder / _HINT).unlink()
    for name in sorted(names(folder)):
        if name.startswith(numbers):
            _rename(folder / name, folder / f"{ASIDE}{name}")
            moved.append(name)
    sync_path(folder)
    return tuple(moved)


def _sound(root: Place, version: int) -> bool:
    try:
        prove(root, version)
    except Unprovable:
        try:
            prove_readable(root, version)
        except LogDamaged:
            return False
    except LogDamaged:
        return False
    return True


def _require_whole(root: Place, latest: int, damaged: list[int]) -> None:
    """Without the damaged ones the log must lead to the newest version."""
    try:
        log_without_checkpoints(root, latest, since=min(damaged))
    except LogDamaged as error:
        listed = ", ".join(str(version) for version in damaged)
        raise LogDamaged(
            f"{root}: checkpoint {listed} is damaged, and the log does not lead to version "
            f"{latest} without it: {error.message}",
            hint="put the checkpoint, or the log files below it, back from a copy; nothing was "
            "moved",
        ) from error


def _rename(path: Place, to: Place) -> None:
    if isinstance(path, Path) and isinstance(to, Path):
        path.rename(to)
    elif not isinstance(path, Path) and not isinstance(to, Path):
        to.put(path.read_bytes())
        path.unlink()
