"""What a table makes of a fetched batch, and the port that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import pyarrow as pa

from raylake.errors import RayLakeError
from raylake.ingest.ports import TableView
from raylake.ingest.unit import DataFile
from raylake.kafka.port import FetchedBatch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made:
    """What a table makes of one fetched batch.

    Attributes:
        rows: Rows of the table, in its schema.
        dead: Rows of the dead-letter table; None when there are none.
        dead_rows: Positions in the batch of the records that are dead.
        max_event_ms: The greatest event time that may move the watermark.
        flagged: Rows kept with a reservation, by kind: odd event times, late rows, empty texts
            in partition columns.
        origins: ``traceparent`` headers of some of its records; empty without tracing.
    """

    rows: pa.Table
    dead: pa.Table | None
    dead_rows: Sequence[int]
    max_event_ms: int | None = None
    flagged: Mapping[str, int] = field(default_factory=dict)
    origins: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return int(self.rows.nbytes) + (0 if self.dead is None else int(self.dead.nbytes))


def at_once(work: Callable[[], T]) -> Future[T]:
    """Run a piece of work here and now."""
    done: Future[T] = Future()
    try:
        done.set_result(work())
    except RayLakeError as error:
        done.set_exception(error)
    return done


class Maker(Protocol):
    """Makes rows and dead letters of a batch, and files of rows."""

    def fit(self, view: TableView) -> None:
        """Work with this schema from now on."""
        ...

    def make(self, batch: FetchedBatch, watermark_ms: int | None) -> Made | pa.Schema:
        """Decode a batch; a schema means: the table needs these columns first."""
        ...

    def submit(self, work: Callable[[], tuple[DataFile, ...]]) -> Future[tuple[DataFile, ...]]:
        """Let one of the two methods below run, in a thread of its own or at once."""
        ...

    def write_rows(self, rows: Sequence[pa.Table], schema: pa.Schema) -> tuple[DataFile, ...]:
        """Write data files into the table's folder.

        Args:
            rows: Rows of :class:`Made`, of this schema or of an earlier one of the table.
            schema: The table's schema.

        Raises:
            Retryable: The store did not take them; nothing refers to what was written.
        """
        ...

    def write_dead(self, dead: Sequence[pa.Table], unit_id: str) -> tuple[DataFile, ...]:
        """Write dead-letter files; raises like :meth:`write_rows`."""
        ...
