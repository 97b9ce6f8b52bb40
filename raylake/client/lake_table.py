"""One table of a lake: what it is, what it was, and what can be done to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack

from rich.table import Table as RichTable

from raylake.client.descriptions import RestorePlan, TableDescription, described, restore_plan
from raylake.client.held_rows import HELD_COLUMNS, HeldRows
from raylake.client.lake_upkeep import TableUpkeep
from raylake.client.lake_writes import names_of
from raylake.client.quality import Line, found_in, histories
from raylake.client.rows import ChangeReading, Reading, Source
from raylake.client.shown import Listing, html_table, rich_table
from raylake.client.table_leases import READER_COLUMNS, ReaderLease, leases_on
from raylake.client.table_reader import Start, TableReader
from raylake.config.addresses import check_name
from raylake.config.findings import Invalid
from raylake.delta.leases import DEFAULT_MAX_HOLD_S
from raylake.storage.place import Place
from raylake.tables.errors import BadRequest
from raylake.tables.held_versions import HeldVersion
from raylake.tables.lifetimes import ReadableVersion, readable_versions
from raylake.tables.pins import pinned
from raylake.tables.reader_places import ReaderPlaces
from raylake.tables.requests import Changes, Read
from raylake.tables.results import TableVersion

VERSION_COLUMNS: Final = ("version", "at", "operation", "readable_until", "taken_by")
HISTORY_COLUMNS: Final = ("version", "at", "operation", "engine", "parameters", "metrics")


class ChangeOptions(TypedDict, total=False):
    """The range of :meth:`Table.changes`; as :class:`~raylake.tables.requests.Changes` has it."""

    from_version: int | None
    to_version: int | None
    from_time: datetime | str | None
    to_time: datetime | str | None
    ignore_deletes: bool
    ignore_changes: bool


class Table(TableUpkeep):
    """A table of a lake. Nothing is asked of the store until a method is called.

    Args:
        source: The table.
        readers: Where the places of its readers are kept.
    """

    def __init__(self, source: Source, readers: Place) -> None:
        super().__init__(source)
        self._readers = readers

    def describe(self) -> TableDescription:
        """What the table is now, from its log.

        Raises:
            TableMissing: There is no such table.
        """
        return described(self._source)

    def versions(self, limit: int | None = None) -> Listing[ReadableVersion]:
        """The versions that can be read, newest first, each with the time from which it may go.

        Args:
            limit: At most so many.
        """
        found = readable_versions(self._source.root, limit)
        return Listing(f"versions of {self.name}", found, VERSION_COLUMNS)

    def history(self, limit: int | None = None) -> Listing[TableVersion]:
        """What was done to the table, newest first, as far back as its log goes.

        Args:
            limit: At most so many.
        """
        found = self._source.tables.history(self.address, limit)
        return Listing(f"history of {self.name}", found, HISTORY_COLUMNS)

    def read(
        self,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        version: int | None = None,
        at: datetime | str | None = None,
    ) -> Reading:
        """Rows of one version, decided now and read when they are asked for.

        Args:
            where: Only rows that this holds for.
            columns: Only these columns, in this order.
            version: At this version.
            at: At this time, with a zone; text is ISO 8601.

        Raises:
            TableError: The request is wrong, or there is no such version.
        """
        return Reading(self._source, Read(where, names_of(columns, "columns"), version, at))

    def changes(self, **asked: Unpack[ChangeOptions]) -> ChangeReading:
        """Rows as they were inserted, updated and deleted in a range, both ends included.

        Args:
            **asked: ``from_version`` or ``from_time``; ``to_version`` or ``to_time`` (the newest
                version by default); ``ignore_deletes``, ``ignore_changes``.

        Raises:
            TableError: The request is wrong, or a part of the range is gone or was not recorded.
        """
        return ChangeReading(self._source, Changes(**asked))

    def reader(
        self,
        name: str,
        *,
        start: Start = "all",
        ignore_deletes: bool = False,
        ignore_changes: bool = False,
        max_hold_s: float = DEFAULT_MAX_HOLD_S,
    ) -> TableReader:
        """A reader that remembers, under its name in the lake, how far it has read.

        Args:
            name: Its name: letters, digits, ``_``, ``.`` and ``-``.
            start: Where it begins when it is new: ``all``, ``latest`` or a version.
            ignore_deletes: Leave deleted rows out.
            ignore_changes: Leave updated and deleted rows out.
            max_hold_s: How long, in seconds, vacuum leaves what the reader has not read when it
                stands still; 0: not at all.

        Raises:
            BadRequest: The name is none.
        """
        try:
            places = ReaderPlaces(self._readers / check_name(name, "a reader's name"))
        except Invalid as error:
            found = error.findings[0]
            raise BadRequest(f"{self.name}: {found.message}", hint=found.hint) from None
        return TableReader(
            self._source,
            name,
            places,
            start,
            ignore_deletes=ignore_deletes,
            ignore_changes=ignore_changes,
            max_hold_s=max_hold_s,
        )

    def quality(self, *, last: int = 1) -> Listing[Line]:
        """What rules and categories found of the table: what failed, then what passed.

        Args:
            last: Of each rule and category so many results, the newest ones.
        """
        lake = self._readers.parent.parent.parent
        return found_in(histories(str(lake)), self.name, last)

    def readers(self) -> Listing[ReaderLease]:
        """Who reads the table bit by bit, how far each has come, and until when that is kept.

        Raises:
            TableMissing: There is no such table.
            LeaseUnread: A reader's document cannot be read.
        """
        found = leases_on(self._source.root)
        return Listing(f"readers of {self.name}", found, READER_COLUMNS)

    def hold(
        self,
        version: int | None = None,
        *,
        at: datetime | str | None = None,
        columns: Sequence[str] | None = None,
    ) -> HeldVersion:
        """Hold a version in the object store of the lake's cluster, for every process that reads.

        From then on :meth:`read` of that version and of columns that are held takes the rows from
        there, in each process that is connected to the cluster. What is held already is not read
        again; what is used least recently leaves first.

        Args:
            version: The version; the newest by default.
            at: The version at this time, with a zone; text is ISO 8601.
            columns: Only these columns.

        Raises:
            HoldingNeedsCluster: The lake has no cluster.
            TooLargeToHold: The rows are larger than what may be held.
            TableError: The request is wrong, or there is no such version.
            DependencyUnreachable: No cluster answers.
        """
        pin = pinned(self._source.root, Read(None, names_of(columns, "columns"), version, at))
        return self._held.hold(self.name, self.address, pin)

    def release(self, version: int | None = None) -> Listing[HeldVersion]:
        """Let go of what is held of this table; says what it was.

        Args:
            version: Only of this version.

        Raises:
            HoldingNeedsCluster: The lake has no cluster.
            TableMissing: There is no such table.
            DependencyUnreachable: No cluster answers.
        """
        table_id = pinned(self._source.root, Read()).table_id
        gone = self._held.release(self.name, table_id, version)
        return Listing(f"released of {self.name}", gone, HELD_COLUMNS)

    def plan_restore(
        self, version: int | None = None, *, at: datetime | str | None = None
    ) -> RestorePlan:
        """What :meth:`restore` would do; nothing is changed."""
        return restore_plan(self._source, version, at)

    @property
    def _held(self) -> HeldRows:
        return self._source.held or HeldRows(self.address, None)

    def __repr__(self) -> str:
        return f"<table {self.name} at {self.address}>"

    def __rich__(self) -> RichTable:
        """What the table is, for a terminal."""
        return rich_table(self.name, ("", ""), self._shown())

    def _repr_html_(self) -> str:
        return html_table(self.name, ("", ""), self._shown())

    def _shown(self) -> list[tuple[str, Any]]:
        found = self.describe()
        columns = ", ".join(f"{name}: {kind}" for name, kind in found.columns.items())
        rows = "unknown" if found.rows is None else f"{found.rows:,}"
        return [
            ("address", found.address),
            ("version", f"{found.version}, made {found.made_at.isoformat()}"),
            ("rows", rows),
            ("files", f"{found.files:,}, {found.bytes:,} bytes"),
            ("partitioned by", ", ".join(found.partition_by)),
            ("columns", columns),
        ]
