"""What a consumer has for one table's owner.

Files are written once; a unit is handed over until it is answered.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from raylake import faults
from raylake.errors import Retryable
from raylake.ingest.batcher import Plan
from raylake.ingest.made import Made, Maker
from raylake.ingest.ports import Answer, Handover, OwnerPort
from raylake.ingest.retry import Dependency
from raylake.ingest.unit import SourcePartition, Unit

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Outgoing:
    items: tuple[Made, ...]
    nbytes: int
    unit: Unit
    data_written: bool = False
    dead_written: bool = False
    handover: Handover | None = None

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
        self._outgoing.append(_Outgoing(items, plan.nbytes, unit))

    def advance(self, fingerprint: str) -> None:
        """Write files and hand units over, in order, as far as the stores allow.

        Args:
            fingerprint: Of the schema that files are written with now.

        Raises:
            OwnerLost: The owner is gone; call :meth:`owner_lost`.
        """
        for out in self._outgoing:
            if out.handover is None:
                if not self._write(out, fingerprint):
                    return
                self._hand_over(out)

    def drop_unwritten(self) -> None:
        """Forget plans whose files are not written: their offsets are read again."""
        self._outgoing = deque(out for out in self._outgoing if out.written)

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
            yield out.unit, answer

    def _hand_over(self, out: _Outgoing) -> None:
        in_flight = {"rows": out.unit.counts.rows, "unit": out.unit.unit_id}
        faults.reach("consumer.handing_over", **in_flight)
        out.handover = self._owner.submit(out.unit)
        self.submitted += 1
        faults.reach("consumer.handed_over", **in_flight)

    def _write(self, out: _Outgoing, fingerprint: str) -> bool:
        if not out.data_written:
            rows = [item.rows for item in out.items if item.rows.num_rows]

            def write_data() -> None:
                files = self._maker.write_rows(rows) if rows else ()
                out.unit = out.unit.replace(files=files, schema_fingerprint=fingerprint)

            out.data_written = self._try("store", write_data)
        if out.data_written and not out.dead_written:
            dead = [item.dead for item in out.items if item.dead is not None]

            def write_dead() -> None:
                files = self._maker.write_dead(dead, out.unit.unit_id)
                out.unit = out.unit.replace(dead_letter_files=files)

            out.dead_written = not dead or self._try("dead_letters", write_dead)
        if out.written:
            # The files have it all, and a refused unit is read again: at full speed what waits for
            # the owner's next commit would fill the budget.
            out.items = ()
            out.nbytes = sum(f.size_bytes for f in (*out.unit.files, *out.unit.dead_letter_files))
        return out.written

    def _try(self, dependency: str, write: Callable[[], None]) -> bool:
        store = self._stores[dependency]
        if not store.allow():
            return False
        try:
            write()
        except Retryable as error:
            store.failed(error.message)
            self.error = error.message
            log.warning("%s: %s", self._table, error.message)
            return False
        store.succeeded()
        return True
