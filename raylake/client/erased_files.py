"""Names of files that an erasure deletes, where a partition's folder has a person in its name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from raylake.storage.place import Place


def without_values(path: str, columns: Collection[str]) -> str:
    """A file's path without the values of some partition columns.

    Args:
        path: Relative to its table.
        columns: The columns; others keep their values.
    """
    return "/".join(_hidden(one, columns) for one in path.split("/"))


def remove_folders(root: Place, paths: Iterable[str], columns: Collection[str]) -> None:
    """Take away the folders of deleted files that are named by values and empty; a store has none.

    Args:
        root: The table.
        paths: The files, relative to it.
        columns: The partition columns whose values are not to stay.
    """
    if not isinstance(root, Path):
        return
    for path in paths:
        folder = Path(path).parent
        while without_values(folder.as_posix(), columns) != folder.as_posix():
            with suppress(OSError):
                (root / folder).rmdir()
            folder = folder.parent


def _hidden(part: str, columns: Collection[str]) -> str:
    name, sign, _ = part.partition("=")
    return f"{name}=…" if sign and unquote(name) in columns else part
