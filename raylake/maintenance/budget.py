"""When the next piece of work may begin: CPU share, ingestion that is behind, the window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from raylake.clock import Clock
from raylake.config.window import Window
from raylake.errors import RayLakeError
from raylake.ingest.status import read_status
from raylake.storage.place import Place

Document = Mapping[str, Any]
STALE_S: Final = 30.0
"""A status document that is older tells nothing of ingestion."""
_BURST_S: Final = 1.0
_SAMPLES: Final = 4096
_READ_EACH_S: Final = 2.0


class Gate(Protocol):
    """Says whether work may begin."""

    def closed(self) -> str:
        """Why not, in words; empty: it may."""
        ...

    def spent(self, cpu_s: float) -> None:
        """Say that work took so many CPU-seconds."""
        ...


class OpenGate:
    """Nothing has to be waited for."""

    def closed(self) -> str:
        """See :meth:`Gate.closed`."""
        return ""

    def spent(self, cpu_s: float) -> None:
        """See :meth:`Gate.spent`."""


class CpuShare:
    """CPU-seconds that may be taken in a second, on average.

    Args:
        cpus: So many, such as 0.5.
        clock: Time.
    """

    def __init__(self, cpus: float, clock: Clock) -> None:
        self._cpus = cpus
        self._clock = clock
        self._free_at_s = float("-inf")

    def spent(self, cpu_s: float) -> None:
        """Say that work took so many CPU-seconds; it is over now."""
        now_s = self._clock.monotonic()
        # What was not taken while nothing was due is not saved up.
        self._free_at_s = max(self._free_at_s, now_s - _BURST_S) + cpu_s / self._cpus

    def closed(self) -> str:
        """See :meth:`Gate.closed`."""
        left_s = self._free_at_s - self._clock.monotonic()
        return f"{self._cpus:g} CPUs are its share: on in {left_s:.0f} s" if left_s > 0 else ""


@dataclass(slots=True)
class Lag:
    """Since when the tables of a pipeline lack what Kafka has.

    Told from its status documents: each says where the partitions end, and how far the tables are.
    """

    _ends: dict[tuple[str, str], deque[tuple[float, int]]] = field(default_factory=dict)

    def seen(self, document: Document, now_s: float) -> float:
        """Take a document in.

        Args:
            document: The status document.
            now_s: Now, seconds since the epoch.

        Returns:
            Seconds since which the table that is most behind lacks something; 0: none does.
        """
        behind_s = 0.0
        for table, shown in (document.get("tables") or {}).items():
            for name, one in (shown.get("partitions") or {}).items():
                end, reached = one.get("end"), one.get("next")
                if end is None or reached is None:
                    continue
                known = self._ends.setdefault((table, name), deque(maxlen=_SAMPLES))
                if not known or known[-1][1] < end:
                    known.append((now_s, int(end)))
                while known and known[0][1] <= reached:
                    known.popleft()
                behind_s = max(behind_s, now_s - known[0][0] if known else 0.0)
        return behind_s


class StatusOf:
    """A pipeline's status document, read again every two seconds.

    Args:
        at: Where it lies.
        clock: Time.
    """

    def __init__(self, at: Place, clock: Clock) -> None:
        self._at = at
        self._clock = clock
        self._read_s = float("-inf")
        self._document: Document | None = None

    def __call__(self) -> Document | None:
        """The document; None: there is none, or it cannot be read."""
        if self._clock.monotonic() - self._read_s >= _READ_EACH_S:
            self._read_s = self._clock.monotonic()
            try:
                self._document = read_status(self._at)
            except (RayLakeError, OSError):
                self._document = None
        return self._document


class BesideIngestion:
    """:class:`Gate` of upkeep beside a pipeline that runs.

    Args:
        share: The CPU share.
        read: The pipeline's status document, as it is now; None: there is none.
        yield_above_s: Work waits while ingestion is behind for longer than this, in seconds.
        window: Work begins only within it; None: at any time.
        clock: Time.
    """

    def __init__(
        self,
        share: CpuShare,
        read: Callable[[], Document | None],
        yield_above_s: float,
        window: Window | None,
        clock: Clock,
    ) -> None:
        self._share = share
        self._read = read
        self._yield_above_s = yield_above_s
        self._window = window
        self._clock = clock
        self._lag = Lag()

    def spent(self, cpu_s: float) -> None:
        """See :meth:`Gate.spent`."""
        self._share.spent(cpu_s)

    def closed(self) -> str:
        """See :meth:`Gate.closed`."""
        now_s = self._clock.now()
        if self._window is not None and not self._window.holds(datetime.fromtimestamp(now_s, UTC)):
            return f"the window is {self._window.text} UTC"
        document = self._read()
        if document is not None and now_s - float(document.get("at") or 0) <= STALE_S:
            behind_s = self._lag.seen(document, now_s)
            if behind_s > self._yield_above_s and document.get("state") == "running":
                return f"ingestion is {behind_s:.0f} s behind (yield_above_lag)"
        return self._share.closed()
