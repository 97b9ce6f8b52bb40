"""What a migration writes down after each of its steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from raylake.delta.metadata import file_from_json, file_json
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, write_whole
from raylake.tables.errors import BadRequest

JOURNAL: Final = "migration.json"
USER: Final = "_raylake_journal"
"""Begins the names of the files that say which process works by the journal."""
FORMAT: Final = 2
State = Literal["planned", "copied", "validated", "switched", "rolled_back"]


@dataclass(frozen=True, slots=True)
class Migrate:
    """One table to move over.

    Attributes:
        source: A folder of Parquet files, partitioned by folders or not at all.
        target: The table's address, where nothing is yet.
        partition_by: Its partition columns; None: those of the source's folders.
        properties: Its Delta table properties.
    """

    source: str
    target: str
    partition_by: tuple[str, ...] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Migrated:
    """How far one table is.

    Attributes:
        source: Its source.
        target: Its address.
        state: ``planned``, ``copied``, ``validated``, ``switched`` (it is there), ``rolled_back``.
        rows: Its rows, once it is copied.
        files: Its files, once it is copied.
        size_bytes: Their bytes.
        checksums: Column to the sum of its values' hashes, once it is validated.
    """

    source: str
    target: str
    state: State = "planned"
    rows: int = 0
    files: int = 0
    size_bytes: int = 0
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """One table in the journal.

    Attributes:
        request: What is asked for.
        now: How far it is.
        source_files: The source's files by size in bytes, as they were when it was planned.
        schema_json: The table's schema, as the log will have it.
        written: The copy's files.
        folders: Folders that the target had before, which stay when it is rolled back.
    """

    request: Migrate
    now: Migrated
    source_files: dict[str, int]
    schema_json: str
    written: list[DataFile]
    folders: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Journal:
    """A migration, as it is written down.

    Attributes:
        folder: Where.
        work: Its id: whose the files are that it writes.
        entries: Its tables.
    """

    folder: Place
    work: str
    entries: list[Entry]


def write_journal(journal: Journal) -> None:
    """Write the journal; a reader sees the old one or the new one."""
    document = {
        "format": FORMAT,
        "work": journal.work,
        "tables": [
            {
                "request": request_json(one.request),
                "now": asdict(one.now),
                "source_files": one.source_files,
                "schema": one.schema_json,
                "written": [file_json(file) for file in one.written],
                "folders": one.folders,
            }
            for one in journal.entries
        ],
    }
    write_whole(journal.folder / JOURNAL, json.dumps(document), sync=True)


def read_journal(folder: Place) -> Journal:
    """A migration.

    Raises:
        BadRequest: There is no journal, or it cannot be read.
    """
    try:
        document = json.loads((folder / JOURNAL).read_text())
        tables, number = document["tables"], int(document["format"])
        work = str(document["work"])
    except FileNotFoundError:
        raise BadRequest(f"{folder} holds no journal of a migration") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{folder}/{JOURNAL} cannot be read: {error}") from error
    if number > FORMAT:
        raise BadRequest(f"{folder}/{JOURNAL} was written by a newer release (format {number})")
    return Journal(folder, work, [_entry(one) for one in tables])


def _entry(document: Mapping[str, Any]) -> Entry:
    asked = document["request"]
    by = asked["partition_by"]
    request = Migrate(
        asked["source"], asked["target"], None if by is None else tuple(by), asked["properties"]
    )
    return Entry(
        request,
        Migrated(**document["now"]),
        dict(document["source_files"]),
        document["schema"],
        [file_from_json(one) for one in document["written"]],
        list(document.get("folders", [])),
    )


def request_json(request: Migrate) -> dict[str, Any]:
    """A request as plain data; equal for equal requests."""
    by = request.partition_by
    return {
        "source": request.source,
        "target": request.target,
        "partition_by": None if by is None else list(by),
        "properties": dict(request.properties),
    }
