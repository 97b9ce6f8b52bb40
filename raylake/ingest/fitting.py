"""A maker kept at its table's schema; records that bring new columns get them added."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from raylake.errors import SchemaConflict
from raylake.ingest.made import Made, Maker
from raylake.ingest.ports import TableView
from raylake.kafka.port import FetchedBatch


class Columns(Protocol):
    """A table's columns, and who adds to them. Each call may raise ``OwnerLost``."""

    def view(self) -> TableView:
        """The table's id and schema."""
        ...

    def evolve(self, additions: pa.Schema) -> TableView:
        """Add columns; those that are there already are no error."""
        ...


class Fitting:
    """What a consumer knows of one table. Not thread-safe.

    Attributes:
        watermark_ms: The table's watermark as the owner told it last.
        evolved: How often the owner was asked for columns and gave them.

    Args:
        table: The table's name, for messages.
        owner: The table's owner.
        maker: Makes rows, dead letters and files.
    """

    def __init__(self, table: str, owner: Columns, maker: Maker) -> None:
        self.watermark_ms: int | None = None
        self.evolved = 0
        self._table = table
        self._owner = owner
        self._maker = maker
        self._view: TableView | None = None

    @property
    def fingerprint(self) -> str:
        """Of the schema as it is known; empty while it is not."""
        return "" if self._view is None else self._view.fingerprint

    def view(self) -> TableView:
        """The table as it was seen last; asks when it was not seen yet."""
        return self._view or self.look()

    def look(self) -> TableView:
        """Ask the owner."""
        return self._fit(self._owner.view())

    def make(self, batch: FetchedBatch) -> Made:
        """Rows and dead letters of a batch, in the table's schema.

        Raises:
            OwnerLost, Retryable, OutcomeUnknown: Not now; nothing is kept of the batch.
            SchemaConflict: The columns cannot be added, and the maker insists.
        """
        self.view()
        made = self._maker.make(batch, self.watermark_ms)
        while isinstance(made, pa.Schema):
            asked = made
            try:
                self._fit(self._owner.evolve(asked))
                self.evolved += 1
            except SchemaConflict:
                # Another consumer was first, with another type: decode by what the table has.
                self.look()
            made = self._maker.make(batch, self.watermark_ms)
            if isinstance(made, pa.Schema) and made.equals(asked):
                raise SchemaConflict(
                    f"{self._table}: the columns {asked.names} of {batch.source} "
                    f"[{batch.start}, {batch.end}) cannot be added",
                    hint="give these columns in `schema:`, or use `unknown_fields: rescue`",
                )
        return made

    def _fit(self, view: TableView) -> TableView:
        self._view = view
        if view.watermark_ms is not None:
            self.watermark_ms = view.watermark_ms
        self._maker.fit(view)
        return view
