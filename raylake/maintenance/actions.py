"""Actions of a plan, and why others are not in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from raylake.maintenance.price import Price

Kind = Literal["compact", "zorder", "vacuum", "checkpoint", "clean_log", "retain"]


@dataclass(frozen=True, slots=True)
class Action:
    """One job.

    Attributes:
        kind: What is done.
        reason: Why.
        gain: What it brings, in words.
        price: What it takes.
        partition: The partition that it is about; None: the table.
        groups: Files, as the log names them, that are written together; each of a compaction's
            becomes one file, a Z-order's rows are sorted together.
        when: When it comes by its schedule, seconds since the epoch; None: at once.
    """

    kind: Kind
    reason: str
    gain: str
    price: Price
    partition: Mapping[str, str | None] | None = None
    groups: tuple[tuple[str, ...], ...] = ()
    when: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is not done.

    Attributes:
        kind: What.
        reason: Why it would bring nothing, or cannot be judged.
        partition: Where; None: in the table, or in several partitions.
    """

    kind: Kind
    reason: str
    partition: Mapping[str, str | None] | None = None


def said(partition: Mapping[str, str | None] | None) -> str:
    """A partition for people."""
    return ", ".join(f"{key}={value}" for key, value in (partition or {}).items())
