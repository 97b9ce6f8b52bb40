"""Backpressure by bytes: one budget per consumer (SPEC A8, B5)."""

from __future__ import annotations

from typing import Any

from raylake.clock import Clock


class ByteBudget:
    """The bytes that one consumer may hold, with a high and a low mark.

    Fetching pauses when the high mark is reached or a reservation is refused, and resumes at the
    low mark; between them nothing changes. An item larger than the whole budget gets in when it is
    alone, so it never waits for ever. Not thread-safe: one owner thread.

    Args:
        limit_bytes: The budget.
        clock: Tells how long it has been paused.
        high: The high mark as a share of the budget.
        low: The low mark as a share of the budget, below ``high``.

    Raises:
        ValueError: ``limit_bytes`` is not positive, or not ``0 <= low < high <= 1``.
    """

    def __init__(
        self, limit_bytes: int, clock: Clock, *, high: float = 0.9, low: float = 0.5
    ) -> None:
        if limit_bytes <= 0 or not 0.0 <= low < high <= 1.0:
            raise ValueError(f"no budget: {limit_bytes} bytes, low {low}, high {high}")
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self._high_bytes = high * limit_bytes
        self._low_bytes = low * limit_bytes
        self._clock = clock
        self._paused_at: float | None = None

    @property
    def paused(self) -> bool:
        """Whether nothing more should be fetched."""
        return self._paused_at is not None

    @property
    def paused_for_s(self) -> float:
        """For how many seconds it has been paused; 0 when it is not."""
        return 0.0 if self._paused_at is None else self._clock.monotonic() - self._paused_at

    def reserve(self, nbytes: int) -> bool:
        """Take ``nbytes`` if they fit, or if nothing else is held.

        Returns:
            False when they don't fit: fetching is paused; try again after a release.
        """
        if self.used_bytes and self.used_bytes + nbytes > self.limit_bytes:
            self._pause()
            return False
        self.charge(nbytes)
        return True

    def charge(self, nbytes: int) -> None:
        """Account for ``nbytes`` that are in memory already, whether they fit or not.

        Raises:
            ValueError: ``nbytes`` is negative.
        """
        if nbytes < 0:
            raise ValueError(f"{nbytes} bytes")
        self.used_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        if self.used_bytes >= self._high_bytes:
            self._pause()

    def release(self, nbytes: int) -> None:
        """Give back ``nbytes``.

        Raises:
            ValueError: More than what is held, or negative.
        """
        if not 0 <= nbytes <= self.used_bytes:
            raise ValueError(f"{nbytes} bytes released, {self.used_bytes} held")
        self.used_bytes -= nbytes
        if self.used_bytes <= self._low_bytes:
            self._paused_at = None

    def hold(self, nbytes: int) -> None:
        """Account for ``nbytes`` in all.

        Raises:
            ValueError: ``nbytes`` is negative.
        """
        if nbytes > self.used_bytes:
            self.charge(nbytes - self.used_bytes)
        else:
            self.release(self.used_bytes - nbytes)

    def snapshot(self) -> dict[str, Any]:
        """For the status document: limit, use, peak, paused and for how long."""
        return {
            "limit_bytes": self.limit_bytes,
            "used_bytes": self.used_bytes,
            "peak_bytes": self.peak_bytes,
            "paused": self.paused,
            "paused_for_s": self.paused_for_s,
        }

    def _pause(self) -> None:
        if self._paused_at is None:
            self._paused_at = self._clock.monotonic()
