"""A table beside another one that names its files: Spark works there, RayLake commits here.

Spark's OPTIMIZE carries no owner's number, and its MERGE is of whatever version is the newest when
it begins (ADR 32). So Spark gets a table of its own, in a folder of the real one's: its first
commit names files of one version of the real table, and what Spark makes of them lies below that
folder. A commit of RayLake's, held to what was read, brings it into the real table.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from raylake.delta import log_files
from raylake.delta.live_rows import SourceFile, file_address, file_place
from raylake.delta.log_commit import LogCommit, commit_first
from raylake.delta.protocols import asked_for, protocol_of, raised
from raylake.delta.vector_files import vector_file
from raylake.ingest.unit import DataFile
from raylake.spark.engine_open import Found, address, spark_address
from raylake.storage.place import Place, delete_tree, sync_path
from raylake.tables.errors import FeatureUnsupported

FOLDER: Final = "rewrite-"
"""What the folder's name begins with; a vacuum sees into it."""
COMMITTED_HERE: Final = frozenset(
    {
        "allowColumnDefaults",
        "appendOnly",
        "changeDataFeed",
        "checkConstraints",
        "columnMapping",
        "deletionVectors",
        "generatedColumns",
        "identityColumns",
        "invariants",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "vacuumProtocolCheck",
    }
)
"""Features that ask nothing of a commit but files that are right."""
_PLAIN: Final = frozenset({"commitInfo", "add", "remove", "cdc", "txn"})


@dataclass(frozen=True, slots=True)
class Naming:
    """What a stand-in names.

    Attributes:
        schema_json: Its schema.
        partition_by: Its partition columns.
        configuration: Its properties.
        files: Files of the real table, and the partition values that they have in the stand-in.
        stats: Statistics by a file's path; left out, its rows are all that is known.
    """

    schema_json: str
    partition_by: Sequence[str]
    configuration: Mapping[str, str]
    files: Sequence[tuple[SourceFile, Mapping[str, str | None]]]
    stats: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """What Spark did to a stand-in, as its log has it.

    Attributes:
        added: Files that came; their paths are those that the real table has for them.
        removed: The ``remove`` actions of files that left.
        changes: Files of the change feed, as ``cdc`` actions for the real table.
        info: The last commit's ``commitInfo``; empty when Spark committed nothing.
    """

    added: Sequence[DataFile]
    removed: Sequence[Mapping[str, Any]]
    changes: Sequence[Mapping[str, Any]]
    info: Mapping[str, Any]

    @property
    def engine(self) -> str:
        """Who did it, for the real table's commit."""
        return f"{self.info.get('engineInfo', 'Apache-Spark')} RayLake"


class StandIn:
    """A table that Spark may do anything to.

    Args:
        table: The real table's folder.
        root: Its own, in there.
    """

    def __init__(self, table: Place, root: Place) -> None:
        self._table = table
        self.root = root
        self._kept = False

    def made(self) -> Made:
        """What Spark has done, with its files durable.

        Raises:
            FeatureUnsupported: It changed more than files, which would have to be done to the
                real table too.
        """
        actions: list[dict[str, Any]] = []
        info: dict[str, Any] = {}
        version = 1
        while (found := log_files.read_commit(self.root, version)) is not None:
            info = log_files.commit_info(found)
            actions += found
            version += 1
        others = {key for action in actions for key in action} - _PLAIN
        if others:
            raise FeatureUnsupported(
                f"{self._table}: Spark would change the table's {min(others)}, and not its files "
                "alone",
                hint="nothing was changed; under a slot of the table's owner Spark's MERGE can",
                feature=min(others),
            )
        came = {one["add"]["path"]: one["add"] for one in actions if one.get("add")}
        left = {one["remove"]["path"]: one["remove"] for one in actions if one.get("remove")}
        # What one command made another one may have taken away again.
        added = [self._file(one) for path, one in came.items() if path not in left]
        removed = [one for path, one in left.items() if path not in came]
        changes = [self._moved(one["cdc"]) for one in actions if one.get("cdc")]
        self._sync([*(one.path for one in added), *(str(one["path"]) for one in changes)])
        return Made(added, removed, [{"cdc": one} for one in changes], info)

    @contextmanager
    def committing(self, certain: type[Exception]) -> Iterator[None]:
        """From here on the real table may name its files: they stay.

        Args:
            certain: The error that tells that it does not; of a store, no error is certain.
        """
        self._kept = True
        try:
            yield
        except certain:
            self._kept = not isinstance(self._table, Path)
            raise

    def end(self) -> None:
        """Take away what it was a table by; and its files, unless they are kept."""
        delete_tree(log_files.log_folder(self.root))
        if not self._kept:
            delete_tree(self.root)
        elif isinstance(self.root, Path):
            # What was written in vain is deleted one by one.
            for folder, _, _ in os.walk(self.root, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()

    def _file(self, add: Mapping[str, Any]) -> DataFile:
        stats = str(add["stats"])
        return DataFile(
            path=f"{self.root.name}/{add['path']}",
            size_bytes=int(add["size"]),
            rows=int(json.loads(stats)["numRecords"]),
            partition_values=dict(add.get("partitionValues") or {}),
            stats=stats,
        )

    def _moved(self, file: Mapping[str, Any]) -> dict[str, Any]:
        return {**file, "path": f"{self.root.name}/{file['path']}"}

    def _sync(self, paths: Sequence[str]) -> None:
        folders: set[Path] = set()
        for path in paths:
            at = file_place(self._table, path)
            if isinstance(at, Path) and isinstance(self._table, Path):
                sync_path(at)
                folders |= {one for one in at.parents if one.is_relative_to(self._table)}
        for folder in sorted(folders):
            sync_path(folder)


@contextmanager
def stand_in(session: SparkSession, found: Found, naming: Naming) -> Iterator[StandIn]:
    """A stand-in, while the context lasts.

    Args:
        session: The session that works on it.
        found: The real table, at the version whose files are named.
        naming: What it names.
    """
    root = found.root / f"{FOLDER}{uuid.uuid4().hex}"
    made = StandIn(found.root, root)
    try:
        commit_first(root, LogCommit("STAND IN", _first(session, found, naming)))
        yield made
    finally:
        _forget(session, root)
        made.end()


def refuse_others(found: Found, what: str) -> None:
    """Refuse a table whose commits need what only Spark knows how to write.

    Raises:
        FeatureUnsupported: Naming the feature.
    """
    unknown = sorted({*found.log.protocol.writer_features} - COMMITTED_HERE)
    if unknown:
        raise FeatureUnsupported(
            f"{found.root}: {what}: the table uses {unknown[0]}, which a commit of RayLake's "
            "cannot carry",
            hint="take the feature off the table, or run it in Spark itself while nobody writes",
            feature=unknown[0],
        )


def _forget(session: SparkSession, root: Place) -> None:
    """Have Delta let go of the snapshot that it keeps of a table for an hour."""
    java: Any = session
    jvm = java._jvm  # noqa: SLF001
    # A driver that is gone keeps nothing.
    with suppress(Py4JError, OSError):
        path = jvm.org.apache.hadoop.fs.Path(address(root, session))
        log = jvm.org.apache.spark.sql.delta.DeltaLog
        log.invalidateCache(java._jsparkSession, path)  # noqa: SLF001


def _first(session: SparkSession, found: Found, naming: Naming) -> list[dict[str, Any]]:
    now_ms = int(time.time() * 1000)
    metadata = {
        "id": str(uuid.uuid4()),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": naming.schema_json,
        "partitionColumns": list(naming.partition_by),
        "configuration": dict(naming.configuration),
        "createdTime": now_ms,
    }

    def named(path: str) -> str:
        return spark_address(file_address(found.root, path), session)

    adds = [
        {"add": _add(named, one, values, naming.stats.get(one.path), now_ms)}
        for one, values in naming.files
    ]
    now = protocol_of(found.log.protocol)
    needed = asked_for(naming.configuration, naming.schema_json)
    return [raised(now["protocol"], needed) or now, {"metaData": metadata}, *adds]


def _add(
    named: Callable[[str], str],
    file: SourceFile,
    values: Mapping[str, str | None],
    stats: str | None,
    now_ms: int,
) -> dict[str, Any]:
    add: dict[str, Any] = {
        "path": named(file.path),
        "partitionValues": dict(values),
        "size": file.size_bytes,
        "modificationTime": now_ms,
        "dataChange": False,
    }
    if stats is not None:
        add["stats"] = stats
    elif file.rows is not None:
        add["stats"] = json.dumps({"numRecords": file.rows + file.deleted})
    if file.vector is not None:
        add["deletionVector"] = _named(named, file.vector)
    return add


def _named(named: Callable[[str], str], vector: Mapping[str, Any]) -> dict[str, Any]:
    """A deletion vector by its address, where it does not lie in the log."""
    at = vector_file(vector)
    if at is None:
        return dict(vector)
    path = str(vector["pathOrInlineDv"]) if vector["storageType"] == "p" else quote(at)
    return {**vector, "storageType": "p", "pathOrInlineDv": named(path)}
