"""Whether there is a table."""

from __future__ import annotations

from raylake.delta import log_files
from raylake.delta.reading import readable
from raylake.storage.place import place


def is_table(path: str) -> bool:
    """Whether a Delta log lies there."""
    root = place(path)
    with readable(root):
        return bool(log_files.commit_versions(root) or log_files.checkpoint_versions(root))
