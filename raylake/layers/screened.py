"""Rules on the source's rows, wherever rows of the source are read.

A row that such a rule turned away when it came is not to come back when its key or its group is
read from the source anew, nor to count as one that left. What was turned away is told once, when
it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from raylake.layers import source_changes
from raylake.layers.derived import SOURCE_VERSION, Derivation, Look, SourceRows, Span
from raylake.layers.source_logs import watermark_of
from raylake.storage.place import place
from raylake.tables.requests import Read


class Screen(Protocol):
    """The rules on the source's rows."""

    @property
    def screens(self) -> bool:
        """Whether there are any."""
        ...

    def reads(self, source: pa.Schema) -> tuple[str, ...]:
        """The columns of a source that they are about."""
        ...

    def screened(self, rows: pa.Table, look: Look) -> pa.Table:
        """The rows that they let pass; nothing is told of the others."""
        ...


def read_for(derivation: Derivation, screen: Screen, span: Span, schema: pa.Schema) -> SourceRows:
    """What a span brought, in the columns that a table and its rules need.

    Raises:
        RayLakeError: As :func:`raylake.layers.source_changes.read`.
    """
    columns = derivation.columns(schema)
    if span.over and reads_a_stream(derivation, screen, schema, span.share):
        none = pa.schema([schema.field(name) for name in columns])
        none = none.append(pa.field(SOURCE_VERSION, pa.int64())).empty_table()
        watermark_ms = watermark_of(place(span.address), span.last)
        return SourceRows(span, none, none, watermark_ms, unread=True)
    beside = tuple(name for name in screen.reads(schema) if name not in columns)
    found = source_changes.read(span, (*columns, *beside))
    return replace(found, beside=beside)


def reads_a_stream(derivation: Derivation, screen: Screen, source: pa.Schema, share: float) -> bool:
    """Whether a step needs none of its rows; see :meth:`Derivation.streams`.

    Rules on the source's rows are asked of those that came.
    """
    return not screen.screens and derivation.streams(source, share)


def narrowed(changes: SourceRows, came: pa.Table, screen: Screen, look: Look) -> SourceRows:
    """What a derivation gets to see of a span.

    Args:
        changes: What the span brought.
        came: Of the rows that came those that the rules let pass.
        screen: The rules.
        look: What they may read.
    """
    left = changes.left
    if left.num_rows:
        left = screen.screened(left, look)
    names = list(changes.beside)
    return replace(changes, came=came.drop_columns(names), left=left.drop_columns(names), beside=())


class ScreenedLook:
    """A look at a source of which rules turned rows away.

    Args:
        look: What may be read.
        screen: The rules.
    """

    def __init__(self, look: Look, screen: Screen) -> None:
        self._look = look
        self._screen = screen

    def source(self, request: Read) -> pa.RecordBatchReader:
        """See :meth:`raylake.layers.derived.Look.source`."""
        if not self._screen.screens:
            return self._look.source(request)
        whole = self._look.source(replace(request, columns=None))
        names = list(whole.schema.names if request.columns is None else request.columns)
        schema = pa.schema([whole.schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, self._kept(whole, names))

    def _kept(self, whole: pa.RecordBatchReader, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in whole:
            found = self._screen.screened(pa.Table.from_batches([batch]), self._look)
            yield from found.select(list(names)).to_batches()

    def target(self, request: Read) -> pa.RecordBatchReader:
        """See :meth:`raylake.layers.derived.Look.target`."""
        return self._look.target(request)

    def target_rows(self) -> int | None:
        """See :meth:`raylake.layers.derived.Look.target_rows`."""
        return self._look.target_rows()

    def side(self, name: str, request: Read) -> pa.RecordBatchReader | None:
        """See :meth:`raylake.layers.derived.Look.side`."""
        return self._look.side(name, request)

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :meth:`raylake.layers.derived.Look.other`."""
        return self._look.other(table, request)
