"""Room for a rewrite, asked for before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from raylake.storage.place import Place
from raylake.tables.errors import NotEnoughSpace

RESERVE_SHARE: Final = 0.1
"""Beside what is written: other writers of the disk are not asked."""


def require_space(folder: Place, wanted_bytes: int, what: str) -> None:
    """Refuse what would not fit; a store has no end, and is not asked.

    Args:
        folder: Where it is written; it need not exist yet.
        wanted_bytes: How much is written, at most.
        what: The operation, for messages.

    Raises:
        NotEnoughSpace: Saying the needed and the free bytes.
    """
    if not isinstance(folder, Path):
        return
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    needed_bytes = int(wanted_bytes * (1 + RESERVE_SHARE))
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < needed_bytes:
        raise NotEnoughSpace(
            f"{what} needs {needed_bytes:,} bytes and {there} has {free_bytes:,} bytes free",
            hint="nothing was written; free some space (a vacuum of the table may), or do a part",
            needed_bytes=needed_bytes,
            free_bytes=free_bytes,
        )
