"""What became of a plan's action, next to what the plan had said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from raylake.config.units import format_size
from raylake.maintenance.actions import Action, said
from raylake.maintenance.price import Price

Ending = Literal["done", "nothing", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one action.

    Attributes:
        table: ``layer.name``.
        address: Where it lies.
        action: What was planned, with its price.
        ending: ``done``; ``nothing``: there was nothing to do any more; ``stopped`` before its end;
            ``failed``.
        real: What it took and brought.
        version: The version that it made; None: none.
        duration_s: Seconds from its begin to its end, waiting included.
        waited_s: Seconds of these that it gave way.
        note: What else there is to say; the error where it failed.
        at_s: When it ended, seconds since the epoch.
    """

    table: str
    address: str
    action: Action
    ending: Ending
    real: Price
    version: int | None
    duration_s: float
    waited_s: float
    note: str
    at_s: float

    @property
    def saved_bytes(self) -> int:
        """Bytes that the live files, or the store, have less."""
        return self.real.bytes_freed + max(0, self.real.bytes_read - self.real.bytes_written)

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "table": self.table,
            "address": self.address,
            "action": self.action.kind,
            "partition": None if self.action.partition is None else dict(self.action.partition),
            "reason": self.action.reason,
            "outcome": self.ending,
            "version": self.version,
            "planned": _rounded(self.action.price),
            "real": _rounded(self.real),
            "duration_s": round(self.duration_s, 3),
            "waited_s": round(self.waited_s, 3),
            "note": self.note,
            "at": datetime.fromtimestamp(self.at_s, UTC).isoformat().replace("+00:00", "Z"),
        }

    def lines(self) -> Iterator[str]:
        """For people: what was done, and how far the plan was from it."""
        where = f" {said(self.action.partition)}" if self.action.partition else ""
        version = "" if self.version is None else f", version {self.version}"
        yield f"{self.table}: {self.action.kind}{where}: {self.ending}{version}"
        if self.ending in ("done", "stopped"):
            planned, real = self.action.price, self.real
            yield f"  planned: {_priced(planned)}"
            yield f"  real:    {_priced(real)}, {self.duration_s:,.1f} s"
        if self.waited_s >= 1:
            yield f"  gave way for {self.waited_s:,.0f} s"
        if self.note:
            yield f"  {self.note}"


def _priced(price: Price) -> str:
    found = [
        f"{price.files_before:,} files to {price.files_after:,}",
        f"reads {format_size(price.bytes_read)}, writes {format_size(price.bytes_written)}",
    ]
    if price.bytes_freed:
        found.append(f"frees {format_size(price.bytes_freed)}")
    return ", ".join([*found, f"{price.cpu_s:,.1f} CPU-seconds"])


def _rounded(price: Price) -> dict[str, Any]:
    return {**asdict(price), "cpu_s": round(price.cpu_s, 3)}
