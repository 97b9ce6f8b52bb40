"""What the derived layers agree on: what a source brought, and what a table makes of it (ADR 37).

A derived table follows its source's versions. How far it has come is a ``txn`` in its own log
(:func:`progress_app`), in the commit that holds the rows. A step reads the versions in between,
makes rows of them, holds these against the table's rules, and writes them in one commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa

from raylake.tables.requests import Create, Read, Write

NEVER: Final = -1
"""Nothing of the source is processed: the first step takes it whole."""
SOURCE_VERSION: Final = "_commit_version"
"""A column of source rows: the version of the source that brought the row, or took it."""
TIES: Final = ("_timestamp", "_topic", "_partition", "_offset")
"""Columns that order rows of one key and one sequence; none of them needs to be there."""


def progress_app(source_id: str) -> str:
    """The txn of a derived table that says up to which version a source is processed.

    Args:
        source_id: The source's table id, so that a table created again under its name is another.
    """
    return f"raylake/from/{source_id}"


def replays_app(table_id: str) -> str:
    """The txn of a derived table that counts replays of its quarantined rows.

    Steps expect it as well, so that none is made beside a replay from what was there before.

    Args:
        table_id: The table's own id.
    """
    return f"raylake/replays/{table_id}"


def part_apps(source_id: str) -> tuple[str, str]:
    """The txns of a derived table that say which part of a version of a source it holds.

    The first one is a version, the second one how many of its rows are in the table
    (:class:`Part`). They count while that version is later than the one of :func:`progress_app`.

    Args:
        source_id: As there.
    """
    return f"raylake/part-of/{source_id}", f"raylake/part/{source_id}"


@dataclass(frozen=True, slots=True)
class Begun:
    """What a table's log says of a part of a version; see :func:`part_apps`.

    Attributes:
        version: The version.
        rows: How many of its rows are in the table.
    """

    version: int
    rows: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a file.

    Attributes:
        action: The file, as an ``add`` of the log.
        begin: Its first row.
        end: The row after the last one; None: up to the file's end.
    """

    action: Mapping[str, Any]
    begin: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a version that has too many for one step, by their places in it.

    See :mod:`raylake.layers.source_parts`.

    Attributes:
        begin: The first one.
        end: The one after the last one.
        total: How many the version has.
        slices: In which files they lie.
    """

    begin: int
    end: int
    total: int
    slices: tuple[Slice, ...] = field(default=(), compare=False)

    @property
    def ends(self) -> bool:
        """Whether the version is whole with it."""
        return self.end >= self.total


@dataclass(frozen=True, slots=True)
class Span:
    """Versions of a source: those after one, up to another.

    Attributes:
        source: ``layer.name``.
        address: Where it lies.
        table_id: Its id.
        after: The last version that is processed; :data:`NEVER`: none, all rows of ``last`` come.
        last: The last version of the span.
        part: Which rows of ``last`` are brought in, which alone of these versions has rows; None:
            all that the versions brought.
        over: Rows, by the log, of a version that has more than a step is to take and is not cut; 0:
            it is within the limit.
        share: How many of the source's rows these are, from 0 to 1.
    """

    source: str
    address: str
    table_id: str
    after: int
    last: int
    part: Part | None = None
    over: int = 0
    share: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether its versions are processed with it."""
        return self.part is None or self.part.ends


@dataclass(frozen=True, slots=True)
class SourceRows:
    """What a span brought and took. An updated row left as it was and came as it is.

    Attributes:
        span: The versions.
        came: Rows that came; the source's columns at ``span.last`` and :data:`SOURCE_VERSION`.
        left: Rows that left; the same columns.
        watermark_ms: The source's watermark at ``span.last``; None: it has none.
        beside: Columns that are read for rules alone; a derivation does not get to see them.
        unread: The rows are too many to be here: the derivation reads the source as a stream.
    """

    span: Span
    came: pa.Table
    left: pa.Table
    watermark_ms: int | None = None
    beside: tuple[str, ...] = ()
    unread: bool = False

    @property
    def brought(self) -> int:
        """How many rows came; where they are not here, by the log."""
        return self.span.over if self.unread else self.came.num_rows


@dataclass(frozen=True, slots=True)
class Rejected:
    """Rows that are not for the table, all for one reason.

    Attributes:
        rows: As they came from the source (:attr:`SourceRows.came`'s columns).
        rule: What they break, such as ``type_conversion`` or ``range(amount)``.
        column: The column that it is about; empty: the row.
        values: The text of the failing value, a row each; null where there is none.
        reason: In plain words.
        severity: ``error``, ``warning`` or ``info``.
    """

    rows: pa.Table
    rule: str
    column: str
    values: pa.Array
    reason: str
    severity: str = "error"


@dataclass(frozen=True, slots=True)
class Shaped:
    """Rows in the table's columns, before they are written.

    Attributes:
        rows: The rows.
        origin: For each of them the place of its row in :attr:`SourceRows.came`; null where it was
            made of several.
        rejected: Rows that could not be shaped.
    """

    rows: pa.Table
    origin: pa.Array
    rejected: Sequence[Rejected] = ()


class Look(Protocol):
    """What a derivation may read: its source at the span's last version, and its own table."""

    def source(self, request: Read) -> pa.RecordBatchReader:
        """Rows of the source at ``span.last``; the request names no version."""
        ...

    def target(self, request: Read) -> pa.RecordBatchReader:
        """Rows of the table itself, at the version that the step began with."""
        ...

    def target_rows(self) -> int | None:
        """How many rows the table itself has, by its log; None: it does not say."""
        ...

    def side(self, name: str, request: Read) -> pa.RecordBatchReader | None:
        """Rows of a table that the derivation keeps beside its own; None: it is not there yet."""
        ...

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        """Rows of another table of the lake, pinned to one version for the whole step."""
        ...


@dataclass(frozen=True, slots=True)
class SideWrite:
    """A write to a table that a derivation keeps beside its own, for itself alone.

    Attributes:
        name: Tells it from others that the derivation keeps (:meth:`Look.side`).
        create: Makes it, where it is not there.
        write: What is then written.
        keep_s: How long its rows are kept, in seconds; None: for good.
    """

    name: str
    create: Create
    write: Write
    keep_s: float | None = None


@dataclass(frozen=True, slots=True)
class Deed:
    """What a step writes.

    Attributes:
        first: Writes that may be done any number of times, in order, before ``last``: of the
            table itself, or of one beside it.
        last: The write whose commit says that the span is processed; None: no row changes.
        counts: What is told of it: rows by outcome, groups, what was recomputed and why.
    """

    first: Sequence[Write | SideWrite] = ()
    last: Write | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)


class Derivation(Protocol):
    """How one table follows from its source. Pure: the same rows make the same writes."""

    def table(self, source: pa.Schema) -> Create:
        """The table, for a source of these columns.

        Raises:
            TransformRefused: The source lacks what the definition needs; naming it.
        """
        ...

    def columns(self, source: pa.Schema) -> tuple[str, ...]:
        """The source's columns that it reads."""
        ...

    def in_parts(self, source: pa.Schema) -> bool:
        """Whether rows of one version may come in several steps: the table is the same then."""
        ...

    def streams(self, source: pa.Schema, share: float) -> bool:
        """Whether it computes the table from the source as a stream, in the place of its changes.

        Args:
            source: The source's columns.
            share: How many of the source's rows come or leave, from 0 to 1.
        """
        ...

    def shape(self, changes: SourceRows, look: Look) -> Shaped:
        """Rows in the table's columns: converted, unwrapped, or computed."""
        ...

    def deed(self, rows: pa.Table, changes: SourceRows, look: Look) -> Deed:
        """What is written, once the rules have passed the rows (some may be missing by now)."""
        ...
