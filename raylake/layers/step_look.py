"""What a step reads, each table at one version, and the table that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from raylake.layers.derived import Begun, Span
from raylake.layers.source_logs import live_rows
from raylake.quality.side_table import Target as SideTarget
from raylake.storage.place import place
from raylake.tables.errors import TableMissing
from raylake.tables.requests import Read
from raylake.tables.routing import EngineChoice
from raylake.tables.service import TableService


@dataclass(frozen=True, slots=True)
class Target:
    """The table that is written.

    Attributes:
        name: ``layer.name``.
        address: Where it lies.
        id: Its id.
        version: The version that the step begins with.
        sides: The folder of the tables that its derivation keeps beside it.
        engine: Who is to write.
        replays: The number of the last replay into it; 0: there was none.
        begun: What its log says of a part of a version of its source, also of an earlier version.
    """

    name: str
    address: str
    id: str
    version: int
    sides: str
    engine: EngineChoice = "auto"
    replays: int = 0
    begun: Begun | None = None

    @property
    def aside(self) -> SideTarget:
        """The table, for its quarantine and history."""
        return SideTarget(self.name, self.address, self.id)


class StepLook:
    """What a step reads, each table at one version.

    Args:
        tables: Reads.
        target: The table.
        span: What is brought in.
        places: ``layer.name`` to address, for other tables.
        others: Which versions other tables are read at.
    """

    def __init__(
        self,
        tables: TableService,
        target: Target,
        span: Span,
        places: Mapping[str, str],
        others: OtherVersions,
    ) -> None:
        self._tables = tables
        self._target = target
        self.span = span
        self._places = places
        self.others = others
        self._pinned: dict[str, int] = {span.source: span.last, target.name: target.version}

    @property
    def pinned(self) -> Mapping[str, int]:
        """The versions that were read, by table."""
        return dict(self._pinned)

    def source(self, request: Read) -> pa.RecordBatchReader:
        """See :class:`~raylake.layers.derived.Look`."""
        return self._tables.read(self.span.address, replace(request, version=self.span.last))

    def target(self, request: Read) -> pa.RecordBatchReader:
        """See :class:`~raylake.layers.derived.Look`."""
        return self._tables.read(
            self._target.address, replace(request, version=self._target.version)
        )

    def target_rows(self) -> int | None:
        """See :class:`~raylake.layers.derived.Look`."""
        return live_rows(place(self._target.address), self._target.version)

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :class:`~raylake.layers.derived.Look`."""
        address = self._places[table]
        if table not in self._pinned:
            self._pinned[table] = self.others.newest(table, address)
        return self._tables.read(address, replace(request, version=self._pinned[table]))

    def side(self, name: str, request: Read) -> pa.RecordBatchReader | None:
        """See :class:`~raylake.layers.derived.Look`; it is the step's own, so it is not pinned."""
        try:
            return self._tables.read(f"{self._target.sides}/{name}", request)
        except TableMissing:
            return None


class OtherVersions(Protocol):
    """At which versions a step reads other tables."""

    @property
    def progress(self) -> Mapping[str, tuple[int, int]]:
        """By txn of those that it follows: the version processed with the step, and before."""
        ...

    def newest(self, name: str, address: str) -> int:
        """The version of a table."""
        ...
