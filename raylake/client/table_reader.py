"""Readers by name: what a table got since they read last, their place kept in the lake."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Literal, Self

import pyarrow as pa

from raylake.client.ray_rows import dataset_of_table
from raylake.client.rows import Rows, Source, unreadable, watched
from raylake.delta.leases import DEFAULT_MAX_HOLD_S, Leases
from raylake.delta.log_reader import LogReader
from raylake.errors import RayLakeError
from raylake.tables.appended import appended, as_inserts
from raylake.tables.errors import (
    BadRequest,
    ChangesUnavailable,
    ReaderGap,
    ReaderLost,
    VersionGone,
    VersionUnknown,
)
from raylake.tables.feeds import feed_schema
from raylake.tables.pins import schema_at
from raylake.tables.reader_places import ReaderPlace, ReaderPlaces
from raylake.tables.requests import Changes, Read
from raylake.tables.versions import Versions

log = logging.getLogger(__name__)

Start = Literal["all", "latest"] | int
"""Where a new reader begins: ``all`` rows that the table has, as inserts, and then what changes;
``latest``: what changes from now on; a version: its changes and all later ones."""
NEVER: Final = -2
"""The place of a reader that begins with the whole table; -1 is before version 0."""


class NewRows(Rows):
    """What a reader has not read yet: rows of a range of versions, as the change feed gives them.

    In a ``with`` statement the reader's place moves when the block ends without an error.

    Attributes:
        first_version: The first version of the range.
        last_version: The last one; below ``first_version`` there is nothing new.
        snapshot: Whether it is the whole table as of ``last_version``, for a reader's first read.
    """

    def __init__(
        self, reader: TableReader, place: ReaderPlace, first_version: int, *, snapshot: bool
    ) -> None:
        self._reader = reader
        self._place = place
        self.first_version = first_version
        self.last_version = place.version
        self.snapshot = snapshot

    @property
    def empty(self) -> bool:
        """Whether no version is new; a version need not have rows."""
        return self.first_version > self.last_version and not self.snapshot

    @property
    def schema(self) -> pa.Schema:
        """The table's columns, ``_change_type``, ``_commit_version`` and ``_commit_timestamp``."""
        return feed_schema(schema_at(self._reader.source.root, self.last_version))

    @property
    def title(self) -> str:
        """The table, the reader and the range."""
        source, name = self._reader.source, self._reader.name
        what = "all rows of" if self.snapshot else f"versions {self.first_version} to"
        return f"{source.name} for reader {name}: {what} {self.last_version}"

    def to_batches(self) -> pa.RecordBatchReader:
        """See :meth:`Rows.to_batches`.

        Raises:
            ReaderGap: Vacuum or the log's clean-up took a part of the range.
        """
        if self.empty:
            return pa.RecordBatchReader.from_batches(self.schema, [])
        return watched(self._open(), self._why_broken)

    def to_ray(self) -> Any:
        """The rows as a ``ray.data.Dataset``; they are read now."""
        return dataset_of_table(self.to_arrow(), self._reader.source.ray_address)

    def _open(self) -> pa.RecordBatchReader:
        first = NEVER if self.snapshot else self.first_version
        try:
            return self._reader.rows_between(first, self.last_version)
        except VersionGone as error:
            if self.snapshot:
                raise
            raise self._reader.gap(first, error) from error

    def _why_broken(self, error: Exception) -> RayLakeError:
        # Asked again, a range that lost files is refused with the gap's name.
        self._open()
        return unreadable(self._reader.source, error)

    def commit(self) -> None:
        """Remember that these rows are dealt with; the next read begins after them.

        Doing it twice is doing it once.

        Raises:
            ReaderMoved: Another process has moved the reader on meanwhile.
        """
        if not self.empty:
            self._reader.places.put(self._place)
            self._reader.hold(self._place.table_id, self._place.version)

    def __enter__(self) -> Self:
        """The rows."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Move the reader's place, unless the block failed."""
        del error, at
        if kind is None:
            self.commit()


class TableReader:
    """Reads a table bit by bit: what came since its last commit, at least once each.

    What is read and not committed is read again. Who writes the rows somewhere gets them there
    exactly once by writing ``last_version`` along, in one transaction, and asking for it first.

    Args:
        source: The table.
        name: The reader's; its place goes with it.
        places: Where its place is kept.
        start: Where it begins when it has no place yet.
        ignore_deletes: Leave deleted rows out.
        ignore_changes: Leave updated and deleted rows out: inserts alone stay.
        max_hold_s: How long, in seconds, vacuum and the log's clean-up leave what the reader has
            not read when it stands still; 0: they leave nothing for it.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        places: ReaderPlaces,
        start: Start,
        *,
        ignore_deletes: bool = False,
        ignore_changes: bool = False,
        max_hold_s: float = DEFAULT_MAX_HOLD_S,
    ) -> None:
        self.source = source
        self.name = name
        self.places = places
        self._start = start
        self._ignored = Changes(ignore_deletes=ignore_deletes, ignore_changes=ignore_changes)
        self._read: NewRows | None = None
        self._leases = Leases(source.root)
        self._max_hold_s = max_hold_s

    def __repr__(self) -> str:
        return f"<reader {self.name} of {self.source.name}>"

    @property
    def version(self) -> int | None:
        """The version that it has read up to; None before its first commit."""
        place = self.places.last()
        return None if place is None else place.version

    def read_new(self, max_versions: int | None = None) -> NewRows:
        """What came since the last commit, up to the version that is the newest now.

        Args:
            max_versions: So many versions at most.

        Raises:
            ReaderLost: The table was created again under its name.
            BadRequest: ``max_versions`` is below 1.
        """
        if max_versions is not None and max_versions < 1:
            raise BadRequest(f"{self!r}: max_versions is {max_versions}, and at least 1 may be")
        versions = Versions(self.source.root)
        place = self._placed(versions)
        if place is None:
            place = self._born(versions)
        latest = versions.latest
        self.hold(place.table_id, latest if place.version == NEVER else place.version)
        if place.version == NEVER:
            after = ReaderPlace(place.table_id, latest, place.number + 1)
            self._read = NewRows(self, after, latest, snapshot=True)
            return self._read
        last = latest if max_versions is None else min(latest, place.version + max_versions)
        after = ReaderPlace(place.table_id, last, place.number + 1)
        self._read = NewRows(self, after, place.version + 1, snapshot=False)
        return self._read

    def commit(self) -> None:
        """:meth:`NewRows.commit` of what was read last.

        Raises:
            BadRequest: Nothing has been read.
            ReaderMoved: Another process has moved the reader on meanwhile.
        """
        if self._read is None:
            raise BadRequest(f"{self!r}: nothing was read", hint="read_new() comes first")
        self._read.commit()

    def reset(self, start: Start) -> None:
        """Put the reader elsewhere, on purpose: what lies between is passed over, or read again.

        Args:
            start: As for a new reader; ``all`` forgets the place.

        Raises:
            ReaderMoved: Another process has moved the reader on meanwhile.
            VersionUnknown: The table has not reached that version.
        """
        versions = Versions(self.source.root)
        number = self._number() + 1
        version = self._version_before(start, versions)
        table_id = self._table_id(versions)
        self.places.put(ReaderPlace(table_id, version, number))
        self.hold(table_id, versions.latest if version == NEVER else version)
        self._read = None

    def hold(self, table_id: str, version: int) -> None:
        """Renew the reader's lease: what it has not read stays, for ``max_hold_s`` from now.

        Args:
            table_id: The table's id.
            version: The version that it has read up to.
        """
        if self._max_hold_s <= 0:
            return
        try:
            self._leases.renew(self.name, table_id, max(version, 0), self._max_hold_s)
        except RayLakeError as error:
            log.warning("%r: nothing is kept for it: %s", self, error.message)

    def rows_between(self, first: int, last: int) -> pa.RecordBatchReader:
        """The rows of a range of versions; from :data:`NEVER`: all that the last one has.

        Raises:
            VersionGone: A part of it is gone.
            ChangesUnavailable: Rows were changed while the table recorded nothing.
        """
        if first == NEVER:
            return self._whole(last)
        source = self.source
        request = replace(self._ignored, from_version=first, to_version=last)
        try:
            return source.tables.changes(source.address, request)
        except ChangesUnavailable as error:
            off = int(error.context.get("version", last))
        asked = self._ignored
        ignore = asked.ignore_deletes or asked.ignore_changes
        head = appended(source.root, first, off, ignore_deletes=ignore)
        if off >= last:
            return head
        tail = self.rows_between(off + 1, last)
        schema = tail.schema
        return pa.RecordBatchReader.from_batches(schema, _joined(head, tail, schema))

    def gap(self, first: int, error: VersionGone) -> ReaderGap:
        """The error for a range of which a part is gone."""
        oldest = int(error.context.get("oldest", first))
        return ReaderGap(
            f"reader {self.name!r} of {self.source.name} ({self.source.address}) has read up to "
            f"version {first - 1}, and versions {first} to {oldest - 1} are gone: vacuum or the "
            f"log's clean-up took them; {error.message}",
            hint=f"reset({oldest}) goes on after the gap, reset('all') reads the whole table anew",
            reader=self.name,
            first=first,
            last=oldest - 1,
            oldest=oldest,
        )

    def _born(self, versions: Versions) -> ReaderPlace:
        """Where it stands before its first commit; ``latest`` is remembered at once."""
        version = self._version_before(self._start, versions)
        if self._start != "latest":
            return ReaderPlace(self._table_id(versions), version)
        place = ReaderPlace(self._table_id(versions), version, 1)
        self.places.put(place)
        return place

    def _version_before(self, start: Start, versions: Versions) -> int:
        if start == "all":
            return NEVER
        if start == "latest":
            return versions.latest
        if isinstance(start, bool) or not isinstance(start, int):
            raise BadRequest(
                f"{self!r}: a reader cannot start at {start!r}",
                hint="'all', 'latest' or a version",
            )
        if not 0 <= start <= versions.latest + 1:
            raise VersionUnknown(
                f"{self!r}: there is no version {start}; the newest is {versions.latest}",
                version=start,
                latest=versions.latest,
            )
        return start - 1

    def _placed(self, versions: Versions) -> ReaderPlace | None:
        """Where it stands; None before the first read.

        Raises:
            ReaderLost: It stands in another table.
        """
        place = self.places.last()
        if place is None:
            return None
        if place.table_id != self._table_id(versions):
            why = "the table was created again under its name"
        elif place.version > versions.latest:
            why = f"the table's newest version is {versions.latest}: commits were taken away"
        else:
            return place
        raise ReaderLost(
            f"{self!r} has read up to version {place.version}, and {why}",
            hint="reset('all') reads the table anew",
        )

    def _number(self) -> int:
        place = self.places.last()
        return 0 if place is None else place.number

    def _table_id(self, versions: Versions) -> str:
        return LogReader(self.source.address).snapshot(versions.latest).metadata.id

    def _whole(self, version: int) -> pa.RecordBatchReader:
        found = self.source.tables.read(self.source.address, Read(version=version))
        made_ms = Versions(self.source.root).made_ms(version)
        schema = feed_schema(found.schema)
        batches = (as_inserts(batch, version, made_ms) for batch in found)
        return pa.RecordBatchReader.from_batches(schema, batches)


def _joined(
    head: pa.RecordBatchReader, tail: pa.RecordBatchReader, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    for batch in head:
        columns = [
            batch.column(field.name)
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, field.type)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
    yield from tail
