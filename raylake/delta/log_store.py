"""File access of the log's reader and of ``verify``: a small port over ``pyarrow.fs``."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa
from pyarrow import fs

from raylake.storage.objects import StorePath
from raylake.storage.place import place
from raylake.storage.reach import explaining


class LogFiles(Protocol):
    """The few file operations that a log's reader needs, relative to one folder."""

    def names(self, folder: str) -> dict[str, int]:
        """Names of the files in ``folder`` (not below it) with their sizes in bytes.

        Raises:
            FileNotFoundError: There is no such folder.
        """
        ...

    def tree(self, folder: str) -> dict[str, int]:
        """Paths, relative to ``folder``, of all the files below it, with their sizes in bytes."""
        ...

    def read(self, path: str) -> bytes:
        """All bytes of a file."""
        ...

    def open(self, path: str) -> pa.NativeFile:
        """A file for random access."""
        ...


class ArrowFiles:
    """:class:`LogFiles` over ``pyarrow.fs``.

    Args:
        root: A local path or a URI that ``pyarrow.fs`` knows.
        filesystem: Given with a path inside it; otherwise it is found from ``root``.
    """

    def __init__(self, root: str, filesystem: fs.FileSystem | None = None) -> None:
        if filesystem is None and "://" in root:
            filesystem, root = fs.FileSystem.from_uri(root)
        self._fs = filesystem or fs.LocalFileSystem()
        self.root = root.rstrip("/")

    def names(self, folder: str) -> dict[str, int]:
        """See :meth:`LogFiles.names`."""
        return self._list(folder, recursive=False)

    def tree(self, folder: str) -> dict[str, int]:
        """See :meth:`LogFiles.tree`."""
        return self._list(folder, recursive=True)

    def _list(self, folder: str, *, recursive: bool) -> dict[str, int]:
        base = f"{self.root}/{folder}".rstrip("/")
        infos = self._fs.get_file_info(fs.FileSelector(base, recursive=recursive))
        cut = len(base) + 1
        return {i.path[cut:]: i.size for i in infos if i.type == fs.FileType.File}

    def read(self, path: str) -> bytes:
        """See :meth:`LogFiles.read`."""
        with self._fs.open_input_stream(f"{self.root}/{path}") as stream:
            return bytes(stream.readall())

    def open(self, path: str) -> pa.NativeFile:
        """See :meth:`LogFiles.open`."""
        return self._fs.open_input_file(f"{self.root}/{path}")


class StoreFiles:
    """:class:`LogFiles` of a table in an object store.

    A store that does not answer is no damage of the table: it is not said as an ``OSError``.

    Args:
        root: The table.
    """

    def __init__(self, root: StorePath) -> None:
        self._root = root

    def names(self, folder: str) -> dict[str, int]:
        """See :meth:`LogFiles.names`."""
        at = self._at(folder)
        with explaining(at):
            return _some(at.names(), at)

    def tree(self, folder: str) -> dict[str, int]:
        """See :meth:`LogFiles.tree`."""
        at = self._at(folder)
        with explaining(at):
            return _some(at.tree(), at)

    def read(self, path: str) -> bytes:
        """See :meth:`LogFiles.read`."""
        at = self._at(path)
        with explaining(at):
            return at.read_bytes()

    def open(self, path: str) -> pa.NativeFile:
        """See :meth:`LogFiles.open`."""
        return self._at(path).open_input(explaining)

    def _at(self, path: str) -> StorePath:
        return self._root / path if path else self._root


def _some(found: dict[str, int], at: StorePath) -> dict[str, int]:
    if not found:
        raise FileNotFoundError(f"{at}: holds nothing")
    return found


def files_of(address: str) -> LogFiles:
    """The files of a table on a disk or in an object store."""
    root = place(address)
    return StoreFiles(root) if isinstance(root, StorePath) else ArrowFiles(address)
