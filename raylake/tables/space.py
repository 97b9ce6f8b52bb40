"""Room for a rewrite, asked for before anything is written, and what it means when it ran out."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Final

from raylake.errors import RayLakeError, Refused
from raylake.storage.objects import StorePath
from raylake.storage.place import Place
from raylake.storage.reach import explained
from raylake.tables.errors import NotEnoughSpace

RESERVE_SHARE: Final = 0.1
"""Beside what is written: other writers of the disk are not asked."""
HINT: Final = "nothing was written; free some space (a vacuum of the table may), or do a part"
SCRATCH_HINT: Final = "nothing was begun; free some space there, or let TMPDIR name another folder"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SAYS: Final = ("No space left on device", "Disk quota exceeded", "File too large")
"""How Rust and Java say it, which hand over no number."""


def require_space(folder: Place, wanted_bytes: int, what: str, hint: str = HINT) -> None:
    """Refuse what would not fit; a store has no end, and is not asked.

    Args:
        folder: Where it is written; it need not exist yet.
        wanted_bytes: How much is written, at most.
        what: The operation, for messages.
        hint: What can be done about it.

    Raises:
        NotEnoughSpace: Saying the needed and the free bytes.
    """
    if not isinstance(folder, Path):
        return
    there = _existing(folder)
    needed_bytes = int(wanted_bytes * (1 + RESERVE_SHARE))
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < needed_bytes:
        raise NotEnoughSpace(
            f"{what} needs {needed_bytes:,} bytes and {there} has {free_bytes:,} bytes free",
            hint=hint,
            needed_bytes=needed_bytes,
            free_bytes=free_bytes,
        )


def ran_out(error: Exception, folder: Place, what: str) -> NotEnoughSpace | None:
    """What an error means that ended a write, where a disk took no more; else None.

    Args:
        error: The error; the table's log does not have the commit.
        folder: Where was written.
        what: The operation, for messages.
    """
    number = getattr(error, "errno", None)
    if isinstance(error, RayLakeError):
        number = error.context.get("errno")
    lines = str(error).strip().splitlines() or [""]
    said = [line.strip() for line in lines if any(one in line for one in _SAYS)]
    full = said or number in _FULL
    if not full or not isinstance(folder, Path) or isinstance(error, NotEnoughSpace):
        return None
    # Java's own words stand below those of who called it.
    text = (said or lines)[0]
    free_bytes = shutil.disk_usage(_existing(folder)).free
    return NotEnoughSpace(
        f"{what}: the disk took no more: {text}; now {free_bytes:,} bytes are free",
        hint="the table is unchanged; free some space, or do a part",
        free_bytes=free_bytes,
    )


def unwritten(at: Place, error: OSError, what: str) -> RayLakeError:
    """What it means that a document beside a table could not be written.

    Args:
        at: The document.
        error: The error.
        what: What it was to say, for messages.
    """
    if isinstance(at, StorePath):
        return explained(at, error)
    return ran_out(error, at, what) or Refused(
        f"{at}: {what}: {error.strerror or error}",
        hint="nothing was begun; may this user write into the folder?",
    )


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())
