"""Tables made of another one's version: whole copies, or logs that name the other one's files."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from deltalake import DeltaTable

from raylake import faults
from raylake.delta import log_files
from raylake.delta.features import refuse_columns, refuse_in_use, refuse_protocol
from raylake.delta.file_streams import FileStream
from raylake.delta.live_rows import RowReader, SourceFile, file_place, is_absolute, source_files
from raylake.delta.log_commit import LogCommit, add_line, commit_first, metadata_line
from raylake.delta.log_reader import LogReader
from raylake.delta.log_store import files_of
from raylake.delta.partition_values import log_path
from raylake.delta.raw_adds import raw_adds
from raylake.delta.vector_files import vector_file
from raylake.errors import DependencyUnreachable, UnsupportedTable
from raylake.storage.place import (
    Place,
    delete_tree,
    make_folder,
    open_input,
    place,
    sync_path,
    write_whole,
)
from raylake.tables.delta_rs_open import opened
from raylake.tables.errors import FeatureUnsupported, TableExists
from raylake.tables.rewrite_parts import DEFAULT_TARGET_BYTES, stored_schema, write_options
from raylake.tables.space import require_space
from raylake.tables.upkeep_requests import Clone
from raylake.tables.versions import Versions

MARK: Final = "_raylake_unfinished"
"""Lies in a folder that is being filled: what is in it beside is nobody's yet."""
COPY_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Made:
    """A table that was made.

    Attributes:
        rows: Its rows.
        files: Its files.
        size_bytes: Their bytes.
        note: What else there is to say.
    """

    rows: int
    files: int
    size_bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    """What is cloned."""

    root: Place
    handle: DeltaTable
    files: Sequence[SourceFile]
    adds: Mapping[str, Mapping[str, Any]]

    @property
    def version(self) -> int:
        """The version."""
        return int(self.handle.version())


def clone(root: Place, request: Clone) -> Made:
    """Make a table of a version of another one; it is there whole, or not at all.

    Raises:
        TableExists: Something is at the address.
        TableMissing, VersionGone, VersionUnknown: What is to be cloned is not there.
        FeatureUnsupported: It uses something that delta-rs does not write, or a shallow clone
            could not name.
        NotEnoughSpace: The disk has no room for a copy.
        DependencyUnreachable: A file could not be read or written.
    """
    refuse_taken(root)
    source = _opened(request)
    note = f"of version {source.version} of {request.source}"
    if request.deep:
        size = sum(one.size_bytes for one in source.files)
        require_space(root, size, f"{root}: clone")
        with filling(root):
            added = [*_copied(root, source), *_rewritten(root, source)]
            faults.reach("clone.copied")
            _commit(root, source, request, added)
    else:
        added = _named(source)
        note += "; a vacuum there takes files from this one"
        _commit(root, source, request, added)
    rows = sum(one.rows or 0 for one in source.files)
    return Made(rows, len(added), sum(int(one["add"]["size"]) for one in added), note)


def refuse_taken(root: Place) -> None:
    """Refuse an address where something lies, but for what an interrupted work left.

    Raises:
        TableExists: Saying what.
    """
    if log_files.commit_versions(root) or log_files.checkpoint_versions(root):
        raise TableExists(f"{root} holds a Delta table already", hint="choose another address")
    with contextlib.suppress(FileNotFoundError):
        there = files_of(str(root)).tree("")
        if there and MARK not in there:
            raise TableExists(
                f"{root} holds {len(there)} files that are of no table", hint="choose another one"
            )


@contextlib.contextmanager
def filling(root: Place, *, keep_mark: bool = False) -> Iterator[None]:
    """A folder that is being filled for a table that is not there yet; empty after an error.

    Args:
        root: The folder.
        keep_mark: Whether what is in it stays nobody's after the block.

    Raises:
        TableExists: Another work made a table there since the address was looked at.
        DependencyUnreachable: A file could not be read or written.
    """
    refuse_taken(root)
    delete_tree(root)
    make_folder(root)
    write_whole(root / MARK, "", sync=True)
    complete = False
    try:
        yield
        complete = True
        if not keep_mark:
            with contextlib.suppress(OSError):
                (root / MARK).unlink()
    except OSError as error:
        raise DependencyUnreachable(
            f"{root}: a file could not be copied: {error}", hint="nothing was made; try again"
        ) from error
    finally:
        if not complete and not log_files.commit_versions(root):
            delete_tree(root)


def first_commit(root: Place, commit: LogCommit) -> None:
    """Make the table.

    Raises:
        TableExists: Another one was made meanwhile.
        DependencyUnreachable: The log entry could not be written.
    """
    try:
        commit_first(root, commit)
    except FileExistsError as error:
        raise TableExists(f"{root} holds a Delta table already") from error
    except OSError as error:
        raise DependencyUnreachable(
            f"{root}: the table could not be made: {error}", hint="look whether it is there"
        ) from error


def _opened(request: Clone) -> _Source:
    root = place(request.source)
    versions = Versions(root)
    version = versions.resolve(request.version, request.at)
    handle = opened(root, version)
    try:
        refuse_protocol(handle, str(root))
        refuse_in_use(dict(handle.metadata().configuration), str(root))
        refuse_columns(handle, str(root))
    except UnsupportedTable as error:
        hint = "engine: spark clones tables with more features, as shallow clones"
        raise FeatureUnsupported(error.message, hint=hint, **error.context) from None
    files = source_files(LogReader(str(root)).snapshot(version))
    there = [one.path for one in files if not is_absolute(one.path)]
    versions.require_files(there if version < versions.latest else (), version)
    return _Source(root, handle, files, raw_adds(root, version))


def _named(source: _Source) -> list[dict[str, Any]]:
    """The source's files by their addresses.

    Raises:
        FeatureUnsupported: A deletion vector is named by its place in the source.
    """
    found = []
    for one in source.files:
        if vector_file(one.vector) is not None:
            raise FeatureUnsupported(
                f"{source.root}: a shallow clone cannot name deletion vectors that lie in files",
                hint="clone it deep, compact it first, or use engine: spark",
                feature="deletionVectors",
            )
        found.append(_add(source, one, _address(source.root, one.path)))
    return found


def _address(root: Place, log_path: str) -> str:
    if is_absolute(log_path):
        return log_path
    at = file_place(root, log_path)
    return f"file://{quote(str(at.absolute()))}" if isinstance(at, Path) else quote(str(at), ":/")


def _copied(root: Place, source: _Source) -> Iterator[dict[str, Any]]:
    """Files without deletion vectors, byte by byte."""
    for one in source.files:
        if one.vector is not None:
            continue
        path = one.path
        if is_absolute(path):
            path = log_path(f"part-{uuid.uuid4()}.parquet")
        at, to = file_place(source.root, one.path), file_place(root, path)
        faults.reach("clone.copying", path=one.path)
        make_folder(to.parent)
        if isinstance(to, Path):
            with open_input(at) as opened_file, to.open("wb") as sink:
                shutil.copyfileobj(opened_file, sink, COPY_BYTES)
            sync_path(to)
            sync_path(to.parent)
        else:
            to.put(at.read_bytes())
        yield _add(source, one, path)


def _rewritten(root: Place, source: _Source) -> Iterator[dict[str, Any]]:
    """Files with deletion vectors, without the rows that these take away."""
    schema = stored_schema(source.handle)
    reader = RowReader(source.root, source.handle, schema)
    options = write_options(source.handle.metadata().configuration, schema, DEFAULT_TARGET_BYTES)
    for one in (file for file in source.files if file.vector is not None):
        with FileStream(root, schema, one.values, options) as stream:
            stream.write_all(reader.rows(one))
        for file in stream.files:
            yield add_line(file, time.time(), data_change=True)


def _add(source: _Source, file: SourceFile, path: str) -> dict[str, Any]:
    kept = {**source.adds[file.path], "path": path}
    return {"add": {**kept, "modificationTime": int(time.time() * 1000), "dataChange": True}}


def _commit(
    root: Place, source: _Source, request: Clone, added: Sequence[Mapping[str, Any]]
) -> None:
    now = source.handle.protocol()
    protocol: dict[str, Any] = {
        "minReaderVersion": now.min_reader_version,
        "minWriterVersion": now.min_writer_version,
    }
    if now.reader_features is not None:
        protocol["readerFeatures"] = sorted(now.reader_features)
    if now.writer_features is not None:
        protocol["writerFeatures"] = sorted(now.writer_features)
    metadata = metadata_line(source.handle, new_table=True)
    parameters = {
        "source": request.source,
        "sourceVersion": str(source.version),
        "isShallow": str(not request.deep).lower(),
    }
    first_commit(root, LogCommit("CLONE", [{"protocol": protocol}, metadata, *added], parameters))
