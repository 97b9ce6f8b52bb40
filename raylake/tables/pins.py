"""A read request held against one version: what is wrong with it is said before rows are read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
from deltalake import Schema

from raylake.delta.log_reader import LogReader, TableMetadata
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.reading import wanted_of
from raylake.tables.requests import Read
from raylake.tables.versions import Versions


@dataclass(frozen=True, slots=True)
class Pin:
    """A checked request.

    Attributes:
        version: The version that it reads.
        schema: The columns that it gives.
        request: The request, with that version in the place of version or time.
        table_id: The table's id at that version.
        whole: All columns of that version.
    """

    version: int
    schema: pa.Schema
    request: Read
    table_id: str
    whole: pa.Schema


def pinned(root: Place, request: Read) -> Pin:
    """Decide the version that a request reads, and check the rest against it.

    Raises:
        TableMissing: There is no table.
        VersionAndTime, VersionUnknown, VersionGone, TimeWithoutZone: As
            :meth:`~raylake.tables.versions.Versions.resolve`.
        UnknownColumn, BadExpression: A column or the condition is wrong.
    """
    version = Versions(root).resolve(request.version, request.at)
    metadata = LogReader(str(root)).snapshot(version).metadata
    whole = _schema_of(metadata)
    wanted, _ = wanted_of(root, whole, version, request)
    pinned_request = replace(request, version=version, at=None)
    return Pin(version, wanted, pinned_request, metadata.id, whole)


def schema_at(root: Place, version: int) -> pa.Schema:
    """The columns that a table had at a version."""
    return _schema_of(LogReader(str(root)).snapshot(version).metadata)


def _schema_of(metadata: TableMetadata) -> pa.Schema:
    return arrow_schema(Schema.from_json(metadata.schema_json))
