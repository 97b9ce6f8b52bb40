"""What a consumer has for one table's owner.

Files are written once; a unit is handed over until it is answered.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import pyarrow as pa

from raylake import faults
from raylake.errors import Retryable
from raylake.ingest import trail
from raylake.ingest.batcher import Plan
from raylake.ingest.made import Made, Maker
from raylake.ingest.ports import Answer, Handover, OwnerPort, TableView
from raylake.ingest.retry import Dependency
from raylake.ingest.unit import DataFile, SourcePartition, Unit

log = logging.getLogger(__name__)

Files = tuple[DataFile, ...]


@dataclass(slots=True)
class _Outgoing:
    items: tuple[Made, ...]
    nbytes: int
    unit: Unit
    data_written: bool = False
    dead_written: bool = False
    fingerprint: str = ""
    writing: Future[tuple[DataFile, ...]] | None = None
    handover: Handover | None = None
    way: trail.Way | None = None

    @property
    def written(self) -> bool:
        return self.data_written and self.dead_written


class Outbox:
    """Plans on their way into the table, in order. Not thread-safe.

    Args:
        table: The table's name, for messages.
        owner: The table's owner.
        maker: Writes files.
        stores: ``store`` and ``dead_letters``.
    """

    def __init__(
        self, table: str, owner: OwnerPort, maker: Maker, stores: Mapping[str, Dependency]
    ) -> None:
        self.error = ""
        self.submitted = 0
        self._table = table
        self._owner = owner
        self._maker = maker
        self._stores = stores
        self._outgoing: deque[_Outgoing] = deque()

    def __len__(self) -> int:
        return len(self._outgoing)

    @property
    def nbytes(self) -> int:
        """Bytes held: those in memory until they are written, then those of the files."""
        return sum(out.nbytes for out in self._outgoing)

    def holds(self, sources: Sequence[SourcePartition]) -> bool:
        """Whether something of ``sources`` is on its way."""
        wanted = set(sources)
        return any(r.source in wanted for out in self._outgoing for r in out.unit.ranges)

    def add(self, plan: Plan[Made], unit: Unit) -> None:
        """Send a plan as this unit; its files are named when they are written."""
        items = tuple(held.item for held in plan.batches)
        unit, way = trail.planned(self._table, unit, (item.origins for item in items))
        self._outgoing.append(_Outgoing(items, plan.nbytes, unit, way=way))

    @property
    def writing(self) -> bool:
        """Whether files are being written."""
        return any(out.writing is not None for out in self._outgoing)

    def advance(self, view: TableView) -> None:
        """Write files and hand units over, in order, as far as the stores allow.

        One plan's files at a time are written, while the caller goes on; call again.

        Args:
            view: The table as it is known now: files are begun with its schema.

        Raises:
            OwnerLost: The owner is gone; call :meth:`owner_lost`.
        """
        for out in self._outgoing:
            if out.handover is None:
                if not self._write(out, view):
                    return
                self._hand_over(out)

    def drop_unwritten(self) -> None:
        """Forget plans whose files were not begun: their offsets are read again."""
        begun: deque[_Outgoing] = deque()
        for out in self._outgoing:
            if out.data_written or out.writing is not None:
                begun.append(out)
            elif out.way is not None:
                out.way.dropped()
        self._outgoing = begun

    def owner_lost(self) -> None:
        """What was not answered is handed over again; the ledger knows what it has (I1)."""
        for out in self._outgoing:
            out.handover = None

    def answers(self) -> Iterator[tuple[Unit, Answer]]:
        """The answers that arrived, in order of handing over, each taken before the next is asked.

        Raises:
            OwnerLost: The owner is gone; call :meth:`owner_lost`.
            RayLakeError: The owner stopped for good.
        """
        while self._outgoing:
            out = self._outgoing[0]
            answer = out.handover.poll() if out.handover is not None else None
            if answer is None:
                return
            self._outgoing.popleft()
            self.error = ""
            if out.way is not None:
                out.way.answered(answer.outcome)
            yield out.unit, answer

    def _hand_over(self, out: _Outgoing) -> None:
        in_flight = {"rows": out.unit.counts.rows, "unit": out.unit.unit_id}
        faults.reach("consumer.handing_over", **in_flight)
        out.handover = self._owner.submit(out.unit)
        self.submitted += 1
        trail.handed_over(self._table, out.unit, out.way)
        faults.reach("consumer.handed_over", **in_flight)

    def _write(self, out: _Outgoing, view: TableView) -> bool:
        if not out.data_written:
            if out.writing is None:
                out.fingerprint = view.fingerprint
            rows = [item.rows for item in out.items if item.rows.num_rows]
            files = self._written("store", out, lambda: self._rows(rows, view.schema))
            if files is not None:
                out.data_written = True
                out.unit = out.unit.replace(files=files, schema_fingerprint=out.fingerprint)
        if out.data_written and not out.dead_written:
            dead = [item.dead for item in out.items if item.dead is not None]
            files = self._dead(out, dead) if dead else ()
            if files is not None:
                out.dead_written = True
                out.unit = out.unit.replace(dead_letter_files=files)
        if out.written and out.items:
            # The files have it all, and a refused unit is read again: at full speed what waits for
            # the owner's next commit would fill the budget.
            out.items = ()
            out.nbytes = sum(f.size_bytes for f in (*out.unit.files, *out.unit.dead_letter_files))
        return out.written

    def _rows(self, rows: Sequence[pa.Table], schema: pa.Schema) -> Files:
        return self._maker.write_rows(rows, schema) if rows else ()

    def _dead(self, out: _Outgoing, dead: Sequence[pa.Table]) -> Files | None:
        unit_id = out.unit.unit_id
        return self._written("dead_letters", out, lambda: self._maker.write_dead(dead, unit_id))

    def _written(self, dependency: str, out: _Outgoing, write: Callable[[], Files]) -> Files | None:
        """The files, once they are written; begins to write them when the store may be tried."""
        store = self._stores[dependency]
        if out.writing is None:
            if not store.allow():
                return None
            out.writing = self._maker.submit(write)
        if not out.writing.done():
            return None
        done, out.writing = out.writing, None
        try:
            files = done.result()
        except Retryable as error:
            store.failed(error.message)
            self.error = error.message
            log.warning("%s: %s", self._table, error.message)
            return None
        store.succeeded()
        return files
