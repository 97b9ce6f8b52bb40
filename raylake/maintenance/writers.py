"""Who writes files anew: this process, or several of a cluster behind the same port."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Protocol

from raylake.errors import RayLakeError
from raylake.tables.aside import Aside, Written, write_aside
from raylake.tables.threads import threads_here

Found = Written | RayLakeError


class Writers(Protocol):
    """Writes pieces aside, several at a time."""

    slots: int
    """So many pieces at once."""

    def begin(self, key: int, asked: Aside) -> None:
        """Begin a piece; returns at once where others do it.

        Args:
            key: By which it is told apart.
            asked: The piece.
        """
        ...

    def ended(self, timeout_s: float) -> list[tuple[int, Found]]:
        """Pieces that have ended; waits for one of those under way.

        Args:
            timeout_s: At most so long, in seconds.
        """
        ...


class WriterHere:
    """:class:`Writers` that is this process: as many pieces at once as it has CPUs, up to four.

    A Z-order takes all of them, and other ones wait for it: it keeps its rows in bounded memory.
    """

    def __init__(self) -> None:
        self.slots = threads_here()
        self._pool = ThreadPoolExecutor(self.slots, "upkeep")
        self._sorting = threading.Lock()
        self._under_way: dict[Future[Found], int] = {}
        self._cpu_s: dict[int, float] = {}
        self._looked_cpu_s = 0.0

    def begin(self, key: int, asked: Aside) -> None:
        """See :meth:`Writers.begin`; returns at once."""
        self._look()
        self._cpu_s[key] = 0.0
        self._under_way[self._pool.submit(self._written, asked)] = key

    def ended(self, timeout_s: float) -> list[tuple[int, Found]]:
        """See :meth:`Writers.ended`."""
        done, _ = wait(self._under_way, timeout_s, FIRST_COMPLETED)
        self._look()
        found = []
        for one in done:
            key = self._under_way.pop(one)
            what, cpu_s = one.result(), self._cpu_s.pop(key)
            found.append((key, replace(what, cpu_s=cpu_s) if isinstance(what, Written) else what))
        return found

    def _written(self, asked: Aside) -> Found:
        try:
            if not asked.zorder:
                return write_aside(asked)
            with self._sorting:
                return write_aside(asked, self.slots)
        except RayLakeError as error:
            return error

    def _look(self) -> None:
        """What the process took since the last look is shared by the pieces under way."""
        now_s = time.process_time()
        for key in self._cpu_s:
            self._cpu_s[key] += (now_s - self._looked_cpu_s) / len(self._cpu_s)
        self._looked_cpu_s = now_s
