"""A table of a worker's own over the files of another one, for an engine to write to (ADR 34).

Its log names the same files, which lie in it as links, or as copies where a store has no links. So
an engine reads and writes it as any table, with all its checks, and the table itself sees nothing
of it before its owner commits what came out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from deltalake import DeltaTable

from raylake.delta.live_rows import SourceFile
from raylake.delta.log_commit import LogCommit, commit_first, metadata_line
from raylake.delta.protocols import new_protocol
from raylake.delta.raw_adds import raw_adds
from raylake.delta.verify_log import table_path
from raylake.errors import DependencyUnreachable
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, delete_tree, folders, make_folder, open_input, sync_path

FOLDER: Final = "_raylake_work"
"""Lies in the table's folder, where readers and vacuums pass by names that begin so."""
_APPEND_ONLY: Final = "delta.appendOnly"
_COPY_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Workplace:
    """A table to work on, at version 0.

    Attributes:
        root: The table whose files it has.
        at: Where it is.
        files: Its files.
    """

    root: Place
    at: Place
    files: tuple[SourceFile, ...]

    def done(
        self, actions: Sequence[Mapping[str, Any]]
    ) -> tuple[tuple[SourceFile, ...], tuple[DataFile, ...]]:
        """What the work's commit led to: files that leave, files that come."""
        gone = {str(a["remove"]["path"]) for a in actions if a.get("remove")}
        adds = [action["add"] for action in actions if action.get("add")]
        removed = tuple(one for one in self.files if one.path in gone)
        return removed, tuple(_data_file(one) for one in adds)

    def bring(self, files: Sequence[DataFile]) -> None:
        """Move new files into the table's folder, durably; they are of no table there yet.

        Raises:
            OSError: One cannot be moved.
        """
        touched: set[Path] = set()
        for one in files:
            path = table_path(one.path)
            root, here, there = self.root, self.at / path, self.root / path
            make_folder(there.parent)
            if isinstance(root, Path) and isinstance(here, Path) and isinstance(there, Path):
                sync_path(here)
                here.rename(there)
                # A new folder is an entry of the one above it.
                touched |= {one for one in there.parents if one.is_relative_to(root)}
            else:
                _copy(here, there)
        for folder in sorted(touched):
            sync_path(folder)


@contextlib.contextmanager
def workplace(
    root: Place, handle: DeltaTable, files: Sequence[SourceFile], name: str
) -> Iterator[Workplace]:
    """A table to work on; it is gone after the block, with what lies in it.

    What an earlier work left, whose process was lost, goes too: a table has one at a time.

    Args:
        root: The table.
        handle: Its handle.
        files: Those of its live files that the work may touch.
        name: What it is called.

    Raises:
        DependencyUnreachable: A file cannot be linked or copied.
    """
    for left in folders(root / FOLDER):
        delete_tree(left)
    at = root / FOLDER / name
    adds = raw_adds(root, int(handle.version()))
    configuration = dict(handle.metadata().configuration)
    configuration.pop(_APPEND_ONLY, None)
    try:
        for one in files:
            path = table_path(one.path)
            make_folder((at / path).parent)
            _link(root / path, at / path)
        actions = [
            new_protocol(configuration, handle.schema().to_json()),
            metadata_line(handle, configuration=configuration, new_table=True),
            *(_add(adds[one.path]) for one in files),
        ]
        commit_first(at, LogCommit("CLONE", actions))
        yield Workplace(root, at, tuple(files))
    except OSError as error:
        raise DependencyUnreachable(
            f"{root}: files could not be put together for the work: {error}",
            hint="nothing was changed; try again",
        ) from error
    finally:
        delete_tree(at)
        if isinstance(root, Path):
            with contextlib.suppress(OSError):
                (root / FOLDER).rmdir()


def _link(source: Place, to: Place) -> None:
    if isinstance(source, Path) and isinstance(to, Path):
        with contextlib.suppress(OSError):
            os.link(source, to)
            return
    _copy(source, to)


def _copy(source: Place, to: Place) -> None:
    if isinstance(to, Path):
        with open_input(source) as opened, to.open("wb") as sink:
            shutil.copyfileobj(opened, sink, _COPY_BYTES)
        return
    to.put(source.read_bytes())


def _add(add: Mapping[str, Any]) -> dict[str, Any]:
    return {"add": {**add, "modificationTime": int(time.time() * 1000), "dataChange": True}}


def _data_file(add: Mapping[str, Any]) -> DataFile:
    stats = str(add.get("stats") or "{}")
    return DataFile(
        path=str(add["path"]),
        size_bytes=int(add["size"]),
        rows=_rows(stats),
        partition_values=dict(add.get("partitionValues") or {}),
        stats=stats,
    )


def _rows(stats: str) -> int:
    return int(orjson.loads(stats).get("numRecords", 0))
