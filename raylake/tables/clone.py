"""Tables made of another one's version: whole copies, or logs that name the other one's files."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from deltalake import DeltaTable

from raylake import faults
from raylake.delta.features import refuse_columns, refuse_in_use, refuse_protocol
from raylake.delta.file_streams import FileStream
from raylake.delta.live_rows import (
    RowReader,
    SourceFile,
    file_address,
    file_place,
    is_absolute,
    source_files,
)
from raylake.delta.log_commit import LogCommit, add_line, metadata_line
from raylake.delta.log_reader import LogReader
from raylake.delta.raw_adds import raw_adds
from raylake.delta.vector_files import vector_file
from raylake.errors import UnsupportedTable
from raylake.storage.place import Place, make_folder, open_input, place, sync_path
from raylake.tables.delta_rs_open import opened
from raylake.tables.errors import FeatureUnsupported
from raylake.tables.filling import Held, Work, filling, first_commit, refuse_taken
from raylake.tables.first_versions import ID
from raylake.tables.rewrite_parts import DEFAULT_TARGET_BYTES, stored_schema, write_options
from raylake.tables.space import require_space
from raylake.tables.upkeep_requests import Clone
from raylake.tables.versions import Versions

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
        FolderTaken: Another clone or migration fills it.
        TableMissing, VersionGone, VersionUnknown: What is to be cloned is not there.
        FeatureUnsupported: It uses something that delta-rs does not write, or a shallow clone
            could not name.
        NotEnoughSpace: The disk has no room for a copy.
        DependencyUnreachable: A file could not be read or written.
    """
    refuse_taken(root, take_over=request.take_over)
    source = _opened(request)
    note = f"of version {source.version} of {request.source}"
    work = Work(f"clone of version {source.version} of {request.source}")
    if request.deep:
        size = sum(one.size_bytes for one in source.files)
        require_space(root, size, f"{root}: clone")
        with filling(root, work, take_over=request.take_over) as held:
            added = [*_copied(root, source, work), *_rewritten(root, source, work)]
            faults.reach("clone.copied", target=str(root))
            _commit(root, source, request, added, held)
    else:
        added = _named(source)
        note += "; a vacuum there takes files from this one"
        _commit(root, source, request, added)
    rows = sum(one.rows or 0 for one in source.files)
    return Made(rows, len(added), sum(int(one["add"]["size"]) for one in added), note)


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
        hint = "clone it in Spark itself (SHALLOW CLONE), or take the feature off the table"
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
                hint="clone it deep, or compact it first",
                feature="deletionVectors",
            )
        found.append(_add(source, one, file_address(source.root, one.path)))
    return found


def _copied(root: Place, source: _Source, work: Work) -> Iterator[dict[str, Any]]:
    """Files without deletion vectors, byte by byte, under names that are this work's."""
    for one in source.files:
        if one.vector is not None:
            continue
        below = "" if is_absolute(one.path) else one.path.rpartition("/")[0]
        name = f"{work.prefix}-{uuid.uuid4()}.parquet"
        path = f"{below}/{name}" if below else name
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


def _rewritten(root: Place, source: _Source, work: Work) -> Iterator[dict[str, Any]]:
    """Files with deletion vectors, without the rows that these take away."""
    schema = stored_schema(source.handle)
    reader = RowReader(source.root, source.handle, schema)
    options = write_options(source.handle.metadata().configuration, schema, DEFAULT_TARGET_BYTES)
    options = replace(options, prefix=work.prefix)
    for one in (file for file in source.files if file.vector is not None):
        with FileStream(root, schema, one.values, options) as stream:
            stream.write_all(reader.rows(one))
        for file in stream.files:
            yield add_line(file, time.time(), data_change=True)


def _add(source: _Source, file: SourceFile, path: str) -> dict[str, Any]:
    kept = {**source.adds[file.path], "path": path}
    return {"add": {**kept, "modificationTime": int(time.time() * 1000), "dataChange": True}}


def _commit(
    root: Place,
    source: _Source,
    request: Clone,
    added: Sequence[Mapping[str, Any]],
    held: Held | None = None,
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
    if held is not None:
        parameters[ID] = held.work.id
    commit = LogCommit("CLONE", [{"protocol": protocol}, metadata, *added], parameters)
    first_commit(root, commit, held)
