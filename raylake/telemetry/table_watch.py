"""Measures a run's tables again and again, in a thread and for a bounded part of a core."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import pyarrow as pa

from raylake.delta.table_sizes import TableSizes, table_sizes
from raylake.errors import RayLakeError

log = logging.getLogger(__name__)

FIRST_AFTER_S = 10.0
"""A start has better things to do."""
AGAIN_AFTER_S = 60.0
ODD = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a log raises whose entries are not as the protocol has them."""
REST = 100
"""After a round it rests so many times as long as the round took: at most 1 % of a core."""


class TableWatch:
    """Measures tables from :meth:`start` to :meth:`close`.

    Args:
        tables: The tables as they are then: addresses by name.
        measure: Measures one.
    """

    def __init__(
        self,
        tables: Callable[[], Mapping[str, str]],
        measure: Callable[[str], TableSizes] = table_sizes,
    ) -> None:
        self._tables = tables
        self._measure = measure
        self._ending = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._sizes: dict[str, TableSizes] = {}
        self._thread = threading.Thread(target=self._run, name="table-sizes", daemon=True)

    @property
    def sizes(self) -> Mapping[str, TableSizes]:
        """What was measured last, by table; a table that cannot be measured keeps its sizes."""
        return dict(self._sizes)

    def start(self) -> None:
        """Begin; no effect when it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """End; what is being measured is left to itself."""
        self._ending.set()

    def look(self) -> None:
        """Measure all tables once."""
        with self._one_at_a_time:
            for name, path in self._tables().items():
                try:
                    self._sizes[name] = self._measure(path)
                except (RayLakeError, OSError, *ODD, pa.ArrowException) as error:
                    # It has no log yet, is cleaned up at this moment, or is damaged: others tell.
                    log.debug("%s cannot be measured now: %s", name, error)

    def look_soon(self, timeout_s: float) -> None:
        """Measure once more, as far as ``timeout_s`` allows."""
        looking = threading.Thread(target=self.look, name="last-sizes", daemon=True)
        looking.start()
        looking.join(timeout_s)

    def _run(self) -> None:
        wait_s = FIRST_AFTER_S
        while not self._ending.wait(wait_s):
            began_s = time.monotonic()
            self.look()
            wait_s = max(AGAIN_AFTER_S, REST * (time.monotonic() - began_s))
