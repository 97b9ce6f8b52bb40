"""One way to what lies on the local disk and in object stores: a path, or a store's."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from raylake.storage.access import delta_options
from raylake.storage.objects import StorePath

Place = Path | StorePath
"""A place in a lake. What both have: ``/``, ``name``, ``parent``, ``stat``, ``exists``,
``read_bytes``, ``read_text``, ``unlink``; the rest is here."""


def place(address: str | Place) -> Place:
    """The place of a normalised address."""
    if isinstance(address, str):
        return StorePath(address) if "://" in address else Path(address)
    return address


def names(folder: Place) -> list[str]:
    """Names of the files directly in a folder.

    Raises:
        FileNotFoundError, NotADirectoryError: There is no such folder; a store has none: empty.
    """
    if isinstance(folder, StorePath):
        return list(folder.names())
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def folders(folder: Place) -> list[Place]:
    """What lies directly in a folder and can hold files; empty when there is no such folder."""
    if isinstance(folder, StorePath):
        return [folder / name for name in folder.folders()]
    return sorted(folder.iterdir()) if folder.is_dir() else []


def make_folder(folder: Place) -> None:
    """Create a folder and those that it lies in; a store needs none."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def write_whole(path: Place, text: str, *, scratch: str = "", sync: bool = False) -> None:
    """Replace a file: a reader sees the old one or the new one, whole.

    Args:
        path: The file.
        text: Its content.
        scratch: On a disk: the name that it has until it is complete.
        sync: On a disk: file and folder are synced; a store's answer says as much.
    """
    if isinstance(path, StorePath):
        path.put(text.encode())
        return
    draft = path.with_name(scratch or f".{path.name}")
    draft.write_text(text)
    if sync:
        sync_path(draft)
    draft.replace(path)
    if sync:
        sync_path(path.parent)


def create_whole(path: Place, text: str) -> bool:
    """Write a file where none is, whole and durable; only one of several can.

    Returns:
        Whether the file is this call's. A text that two calls never share tells them apart also
        where a store's answer was lost.

    Raises:
        OSError: It cannot be written; whether a store has it cannot be told.
    """
    try:
        if isinstance(path, StorePath):
            path.create(text.encode())
        else:
            _link_whole(path, text)
    except FileExistsError:
        return path.read_text(encoding="utf-8") == text
    return True


def _link_whole(path: Path, text: str) -> None:
    make_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        draft.write_text(text)
        sync_path(draft)
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_path(path.parent)


def sync_path(path: Place) -> None:
    """``fsync`` a file or a folder; what a store has acknowledged is durable."""
    if isinstance(path, StorePath):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_input(path: Place) -> pa.NativeFile:
    """A file for random access.

    Raises:
        OSError: It is not there or cannot be read.
    """
    return path.open_input() if isinstance(path, StorePath) else pa.OSFile(str(path), "rb")


def delete_tree(folder: Place) -> None:
    """Delete a folder with all that is in it, as far as it can be."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        folder.delete_tree()
    except OSError:
        return


def folders_of(root: Place) -> list[str]:
    """The folders below one, itself as ``.``; none where it is not there, or in a store."""
    if not isinstance(root, Path) or not root.is_dir():
        return []
    return [".", *(str(one.relative_to(root)) for one in root.rglob("*") if one.is_dir())]


def prune(root: Place, kept: Collection[str] = ()) -> None:
    """Take empty folders away, the given one too; a store has none.

    Args:
        root: The folder.
        kept: Folders that stay, as :func:`folders_of` names them.
    """
    for one in sorted(set(folders_of(root)) - set(kept), reverse=True):
        with contextlib.suppress(OSError):
            Path(str(root), one).rmdir()


def storage_options(root: Place) -> dict[str, str] | None:
    """What delta-rs needs beside the address; holds secrets."""
    return delta_options(root.address) if isinstance(root, StorePath) else None


def delta_table(root: Place) -> DeltaTable:
    """delta-rs's handle of a table; raises as its constructor."""
    return DeltaTable(str(root), storage_options=storage_options(root))
