"""What an erasure did: a document while it is under way, and afterwards a receipt beside it.

Neither holds a value that was erased: of the condition a hash, or its text where that is asked for.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from raylake.clock import Clock
from raylake.delta.tables_there import is_table
from raylake.errors import LogDamaged
from raylake.storage.place import Place, make_folder, names, place, write_whole
from raylake.tables.requests import Append, Create, Read
from raylake.tables.service import DirectTables
from raylake.tables.space import unwritten

FORMAT: Final = 1
FOLDER: Final = "_raylake/erasures"
TABLE: Final = "receipts"
SCHEMA: Final = pa.schema(
    [
        ("erasure_id", pa.string()),
        ("pipeline", pa.string()),
        ("who", pa.string()),
        ("begun_at", pa.timestamp("us", tz="UTC")),
        ("ended_at", pa.timestamp("us", tz="UTC")),
        ("predicate_sha256", pa.string()),
        ("predicate", pa.string()),
        ("complete", pa.bool_()),
        ("rows", pa.int64()),
        ("files_removed", pa.int64()),
        ("tables", pa.string()),
        ("left", pa.string()),
    ]
)
"""The columns of the table of receipts; ``tables`` and ``left`` are JSON."""


@dataclass(slots=True)
class OfTable:
    """What an erasure did to one table.

    Attributes:
        table: ``layer.name``, or what it is beside them.
        address: Where it lies.
        rows: Rows that held the condition when it began.
        files_removed: Data files that held such rows and are deleted, relative to the table.
        bytes_removed: Their bytes.
        versions_lost: Versions that can no longer be read, as ``3 to 7``.
        searched: How it was searched, in words.
        log_files_removed: Files of its log that were deleted.
        log_files_left: Files of its log that still have the condition's values: bounds of columns,
            conditions, samples.
    """

    table: str
    address: str
    rows: int = 0
    files_removed: list[str] = field(default_factory=list)
    bytes_removed: int = 0
    versions_lost: str = ""
    searched: str = ""
    log_files_removed: int = 0
    log_files_left: int = 0


@dataclass(slots=True)
class Receipt:
    """An erasure.

    Attributes:
        erasure_id: Its name.
        pipeline: Of which pipeline.
        who: Who gave the order: user and host.
        predicate_sha256: Hash of the condition's text.
        predicate: The text, where that was chosen; else empty.
        begun_at: ISO 8601.
        ended_at: ISO 8601; empty while it is under way.
        tables: By table.
        left: What could not be searched or is not gone yet, and why.
        complete: Whether nothing that was found is left.
        dry_run: Nothing was changed.
    """

    erasure_id: str
    pipeline: str
    who: str
    predicate_sha256: str
    predicate: str
    begun_at: str
    ended_at: str = ""
    tables: dict[str, OfTable] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    complete: bool = False
    dry_run: bool = False

    @property
    def rows(self) -> int:
        """Rows and letters of all tables."""
        return sum(one.rows for one in self.tables.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"format": FORMAT, **asdict(self), "rows": self.rows}


def hash_of(where: str) -> str:
    """The hash by which a condition is known."""
    return hashlib.sha256(where.encode()).hexdigest()


class Receipts:
    """The erasures of a lake.

    Args:
        lake: Its address.
        clock: Time.
    """

    def __init__(self, lake: str, clock: Clock) -> None:
        self.lake = lake
        self._folder: Place = place(lake) / FOLDER
        self._clock = clock

    @property
    def table(self) -> str:
        """The table of receipts."""
        return str(self._folder / TABLE)

    def begin(self, pipeline: str, where: str, *, say_text: bool) -> Receipt:
        """A new erasure, or the one of this condition that has not ended."""
        digest = hash_of(where)
        for one in self.all():
            if (one.pipeline, one.predicate_sha256) == (pipeline, digest) and not one.complete:
                one.left, one.ended_at = [], ""
                return one
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return Receipt(
            f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
            pipeline,
            f"{getpass.getuser()}@{socket.gethostname()}",
            digest,
            where if say_text else "",
            now.isoformat(),
        )

    def save(self, receipt: Receipt) -> None:
        """Write an erasure's document.

        Raises:
            Refused, ConfigError, NotEnoughSpace, DependencyUnreachable: It cannot be written.
        """
        text = json.dumps(receipt.to_dict(), indent=1)
        draft = f".{receipt.erasure_id}.{secrets.token_hex(4)}"
        at = self._folder / f"{receipt.erasure_id}.json"
        try:
            make_folder(self._folder)
            write_whole(at, text, scratch=draft, sync=True)
        except OSError as error:
            if isinstance(at, Path):
                with suppress(OSError):
                    at.with_name(draft).unlink(missing_ok=True)
            raise unwritten(at, error, "the erasure cannot be written down") from error

    def end(self, receipt: Receipt) -> None:
        """Write the receipt: its row first, so that an ended document has one."""
        receipt.ended_at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat()
        self._add_row(receipt)
        self.save(receipt)

    def all(self) -> list[Receipt]:
        """Every erasure, the oldest first.

        Raises:
            LogDamaged: A document is none.
        """
        try:
            found = sorted(one for one in names(self._folder) if one.endswith(".json"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self._read(one) for one in found if not one.startswith(".")]

    def _read(self, name: str) -> Receipt:
        at = self._folder / name
        try:
            document: dict[str, Any] = json.loads(at.read_text(encoding="utf-8"))
            if document.pop("format") != FORMAT:
                raise ValueError("it is of another format")  # noqa: TRY301
            document.pop("rows")
            tables: Mapping[str, Any] = document.pop("tables")
            return Receipt(**document, tables={k: OfTable(**v) for k, v in tables.items()})
        except (ValueError, KeyError, TypeError) as error:
            raise LogDamaged(
                f"{at} is not the document of an erasure: {error}",
                hint="put it back from a copy, or move it away",
            ) from error

    def _add_row(self, receipt: Receipt) -> None:
        tables = DirectTables()
        if not is_table(self.table):
            said = "Receipts of erasures"
            tables.execute(self.table, Create(SCHEMA, description=said))
        ended = f"erasure_id = '{receipt.erasure_id}' and complete"
        if tables.read(self.table, Read(ended, ("erasure_id",))).read_all().num_rows:
            return
        row = {
            **{name: getattr(receipt, name) for name in SCHEMA.names if name in _SAME},
            "predicate": receipt.predicate or None,
            "begun_at": datetime.fromisoformat(receipt.begun_at),
            "ended_at": datetime.fromisoformat(receipt.ended_at),
            "files_removed": sum(len(one.files_removed) for one in receipt.tables.values()),
            "tables": json.dumps([asdict(one) for one in receipt.tables.values()]),
            "left": json.dumps(receipt.left),
        }
        tables.execute(self.table, Append(pa.Table.from_pylist([row], schema=SCHEMA)))


_SAME: Final = ("erasure_id", "pipeline", "who", "predicate_sha256", "complete", "rows")
