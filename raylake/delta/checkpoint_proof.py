"""Whether a checkpoint says exactly what the log up to it says, by reading both.

Everything that relies on a checkpoint later, log clean-up most of all, takes it for the log: what
it lacks is lost, and what it holds too much is believed. So it is compared, not glanced at.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta import log_files
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.log_store import LogFiles, files_of
from raylake.delta.txn_listing import checkpoint_files
from raylake.errors import LogDamaged
from raylake.storage.objects import StoreError
from raylake.storage.place import Place, open_input

_BATCH_ROWS: Final = 16_384
_MORE_BASES: Final = 2
_CHECKPOINT: Final = re.compile(r"^(\d{20})\.checkpoint\.")
_FILES: Final = pa.schema([("path", pa.string()), ("size", pa.int64())])
_ORDER: Final = [(name, "ascending") for name in _FILES.names]
_BUFFER_BYTES: Final = 2**20
_KEYS: Final = {"txn": "appId", "metaData": "id", "protocol": "minReaderVersion"}


class Unprovable(LogDamaged):
    """The log below a checkpoint does not lead to its version any more: nothing to compare."""


@dataclass(slots=True)
class _Held:
    """What a checkpoint holds.

    Attributes:
        files: Path and size in bytes of the ``add`` actions.
        rows: The ``txn``, ``metaData`` and ``protocol`` actions.
    """

    files: list[pa.Table] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {n: [] for n in _KEYS})


def prove(root: Place, version: int) -> None:
    """Compare a checkpoint with the log that leads to it: live files, txns, metadata, protocol.

    The log is read from the checkpoint before it, or from its beginning; where that says anything
    else, from the two before that, one of which may be whole: each try reads more of the log. Every
    column of this one is decoded.

    Args:
        root: The table's folder.
        version: The checkpoint's.

    Raises:
        Unprovable: Log files below it are gone.
        LogDamaged: It cannot be read, or says anything else than the log.
        StoreError: The store does not answer; that says nothing of the checkpoint.
    """
    held = _read(root, version)
    try:
        log = log_without_checkpoints(root, version, since=version)
    except LogDamaged as error:
        raise Unprovable(
            f"{root}: the checkpoint of version {version} cannot be compared with the log: "
            f"{error.message}",
            hint=error.hint,
            version=version,
        ) from error
    wrong = list(_differences(held, log))
    differing = wrong
    for _ in range(_MORE_BASES):
        if not differing or log.checkpoint is None:
            break
        try:
            log = log_without_checkpoints(root, version, since=log.checkpoint)
        except LogDamaged:
            break
        differing = list(_differences(held, log))
    if differing:
        raise _damaged(root, version, "; ".join(wrong))


def log_without_checkpoints(root: Place, version: int, since: int) -> LogSnapshot:
    """A version as the log says it without the checkpoints from one version on.

    Raises:
        LogDamaged: It does not lead there.
    """
    return LogReader(str(root), _Below(files_of(str(root)), since)).snapshot(version)


def prove_readable(root: Place, version: int) -> None:
    """Read a checkpoint whole; it must hold one ``metaData`` and one ``protocol``.

    Raises:
        LogDamaged: It does not, or cannot be read.
        StoreError: The store does not answer.
    """
    _read(root, version)


def _read(root: Place, version: int) -> _Held:
    files = checkpoint_files(root, version)
    if not files:
        raise _damaged(root, version, "parts of it are missing")
    held = _Held()
    for file in files:
        try:
            with (
                open_input(file) as opened,
                pq.ParquetFile(opened, buffer_size=_BUFFER_BYTES) as parquet,
            ):
                # All columns: what we do not look at, another reader needs.
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                    _take(batch, held)
        except StoreError:
            raise
        except (pa.ArrowException, OSError, KeyError) as error:
            raise _damaged(root, version, f"{file.name} cannot be read: {error}") from error
    for name in ("metaData", "protocol"):
        if len(held.rows[name]) != 1:
            raise _damaged(root, version, f"it holds {len(held.rows[name])} {name} instead of 1")
    return held


def _take(batch: pa.RecordBatch, held: _Held) -> None:
    names = set(batch.schema.names)
    if "add" in names:
        adds = batch.column("add")
        paths = pc.struct_field(adds, "path")
        there = pc.is_valid(paths)
        columns = [paths.filter(there), pc.struct_field(adds, "size").filter(there)]
        held.files.append(pa.table(columns, schema=_FILES))
    for name, key in _KEYS.items():
        if name in names:
            column = batch.column(name)
            held.rows[name] += column.filter(pc.is_valid(pc.struct_field(column, key))).to_pylist()


def _differences(held: _Held, log: LogSnapshot) -> Iterable[str]:
    there, wanted = (
        pa.concat_tables([_FILES.empty_table(), *held.files]),
        log.files.select(_FILES.names),
    )
    if not there.sort_by(_ORDER).equals(wanted.sort_by(_ORDER)):
        yield from _apart("live files", _counted(there), _counted(wanted))
    txns = Counter((row["appId"], int(row["version"])) for row in held.rows["txn"])
    yield from _apart("transactions", txns, Counter(log.txns.items()))
    (metadata,), (protocol,) = held.rows["metaData"], held.rows["protocol"]
    if _of_metadata(metadata) != (
        log.metadata.id,
        _columns(log.metadata.schema_json),
        tuple(log.metadata.partition_columns),
        dict(log.metadata.configuration),
    ):
        yield "its metadata is not the log's"
    versions = (int(protocol["minReaderVersion"]), int(protocol["minWriterVersion"]))
    if versions != (log.protocol.min_reader, log.protocol.min_writer):
        yield f"its protocol is {versions[0]}/{versions[1]}, the log's is not"


def _counted(files: pa.Table) -> Counter[Any]:
    """Engines do not all encode the same characters of a path."""
    paths, sizes = (files.column(name).to_pylist() for name in _FILES.names)
    return Counter((unquote(path), size) for path, size in zip(paths, sizes, strict=True))


def _apart(what: str, held: Counter[Any], wanted: Counter[Any]) -> Iterable[str]:
    for how, some in (("lacks", wanted - held), ("holds too much:", held - wanted)):
        if some:
            example = min(some, key=str)
            yield f"it {how} {some.total()} {what}, such as {example[0]} ({example[1]})"


def _of_metadata(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        row["id"],
        _columns(row["schemaString"]),
        tuple(row["partitionColumns"] or ()),
        dict(row["configuration"] or ()),
    )


def _columns(schema: str) -> list[tuple[str, Any]]:
    """Names and types: engines write the rest of a schema in different words."""
    return [(one["name"], one["type"]) for one in json.loads(schema)["fields"]]


def _damaged(root: Place, version: int, what: str) -> LogDamaged:
    return LogDamaged(
        f"{root}: the checkpoint of version {version} is not what the log says: {what}",
        hint=(
            f"No log file was deleted for it. Move {version:020d}.checkpoint.* and _last_checkpoint"
            f" out of {log_files.LOG}: as long as the JSON files below it are there, the log is "
            "whole without it, and the next checkpoint is written anew."
        ),
        version=version,
    )


class _Below(LogFiles):
    """The files of a table without its checkpoints from a version on.

    Args:
        files: Those of the table.
        version: The first whose checkpoint is not seen.
    """

    def __init__(self, files: LogFiles, version: int) -> None:
        self._files = files
        self._version = version

    def names(self, folder: str) -> dict[str, int]:
        """See :meth:`LogFiles.names`."""
        found = self._files.names(folder)
        return {n: size for n, size in found.items() if not self._hidden(n)}

    def _hidden(self, name: str) -> bool:
        match = _CHECKPOINT.match(name)
        return name == "_last_checkpoint" or (match is not None and int(match[1]) >= self._version)

    def tree(self, folder: str) -> dict[str, int]:
        """See :meth:`LogFiles.tree`."""
        return self._files.tree(folder)

    def read(self, path: str) -> bytes:
        """See :meth:`LogFiles.read`."""
        return self._files.read(path)

    def open(self, path: str) -> pa.NativeFile:
        """See :meth:`LogFiles.open`."""
        return self._files.open(path)
