"""Which engine runs an operation, and why: decided by what it has to touch (``engine: auto``).

A pure function of figures that :mod:`raylake.tables.touched` reads from the log. delta-rs is the
default, since it needs no JVM. Spark, which spills and spreads, gets what does not fit into the
memory that is free, and what only Spark can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from raylake.tables.errors import FeatureUnsupported, NoEngine

EngineChoice = Literal["auto", "delta-rs", "spark"]

Reason = Literal[
    "named", "fits", "too_large", "only_engine", "no_spark", "out_of_memory", "no_rows"
]
"""Why an engine was chosen, as a metric has it."""

DELTA_RS: Final = "delta-rs"
SPARK: Final = "spark"
MIB: Final = 1024 * 1024

BASE_BYTES: Final = 192 * MIB
"""What a process needs for an operation of delta-rs however small it is."""
PER_TOUCHED_BYTE: Final = 8
"""Memory for a byte of the files that an operation reads and writes again (ADR 26)."""
PER_SORTED_BYTE: Final = 14
"""The same for one that sorts them: Z-order."""
PER_SOURCE_BYTE: Final = 3
"""Memory for a byte of the rows that are handed over."""
SHARE_OF_FREE: Final = 0.6
"""The part of the free memory that one operation may plan with."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How memory is given out.

    Attributes:
        in_process_bytes: What needs more runs in a process of its own.
        least_limit_bytes: The memory limit of such a process is not below this.
        at_most_bytes: So much counts as free at most; None: whatever is free.
    """

    in_process_bytes: int = 384 * MIB
    least_limit_bytes: int = 512 * MIB
    at_most_bytes: int | None = None


USUAL: Final = Allowance()
NO_ROWS: Final = "Spark was named, and has nothing to compute: RayLake does it without an engine"


@dataclass(frozen=True, slots=True)
class Load:
    """What an operation has to touch, from the log's statistics.

    Attributes:
        touched_bytes: Size of the files that may hold rows that it changes, after pruning.
        touched_files: Their number.
        total_bytes: Size of all live files.
        total_files: Their number.
        source_bytes: Size of the rows that are handed over, in memory.
        sorts: Whether it sorts all that it touches (Z-order).
        computes: Whether rows are looked at at all; else it is files and the log alone, which
            RayLake sees to without an engine.
        refused: Engine to the reason why it cannot do this operation on this table.
    """

    touched_bytes: int = 0
    touched_files: int = 0
    total_bytes: int = 0
    total_files: int = 0
    source_bytes: int = 0
    sorts: bool = False
    computes: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def needed_bytes(self) -> int:
        """Memory that delta-rs is expected to need at most."""
        factor = PER_SORTED_BYTE if self.sorts else PER_TOUCHED_BYTE
        return BASE_BYTES + factor * self.touched_bytes + PER_SOURCE_BYTE * self.source_bytes


@dataclass(frozen=True, slots=True)
class Resources:
    """What there is to run it with.

    Attributes:
        free_bytes: Memory that is free now.
        no_spark: Why Spark cannot be had; empty when it can.
        allowance: How memory is given out.
    """

    free_bytes: int
    no_spark: str = ""
    allowance: Allowance = USUAL

    @property
    def spendable_bytes(self) -> int:
        """Memory that one operation may plan with."""
        most = self.allowance.at_most_bytes
        free = self.free_bytes if most is None else min(most, self.free_bytes)
        return int(free * SHARE_OF_FREE)


@dataclass(frozen=True, slots=True)
class Route:
    """The engine for an operation.

    Attributes:
        engine: ``delta-rs`` or ``spark``.
        why: The reason, in words.
        reason: The same as a metric has it.
        load: What the operation has to touch.
        limit_bytes: The memory that delta-rs may take in a process of its own; 0: it is light
            enough for the process that asks.
        otherwise_spark: Whether Spark takes over when that limit is not enough.
    """

    engine: str
    why: str
    reason: Reason
    load: Load
    limit_bytes: int = 0
    otherwise_spark: bool = False


def decide(load: Load, resources: Resources, choice: EngineChoice = "auto") -> Route:
    """The engine for an operation.

    Args:
        load: What it has to touch.
        resources: What there is to run it with.
        choice: An engine by name, or ``auto``.

    Raises:
        FeatureUnsupported: The engine that was named cannot do it, or none can.
        NoEngine: Spark is needed and cannot be had.
    """
    if choice != "auto":
        _refuse(load, choice, named=True)
        if choice == SPARK and not load.computes and DELTA_RS not in load.refused:
            # No session is started for it: it would have nothing to do.
            return Route(DELTA_RS, NO_ROWS, "no_rows", load)
        if choice == SPARK:
            _require_spark(resources, "the engine was named")
            return Route(SPARK, "the engine was named", "named", load)
        return Route(DELTA_RS, "the engine was named", "named", load, _limit(load, resources))
    if reason := load.refused.get(DELTA_RS):
        _refuse(load, SPARK, named=False)
        why = f"delta-rs cannot do it: {reason}"
        _require_spark(resources, why)
        return Route(SPARK, why, "only_engine", load)
    figures = _figures(load)
    spendable = resources.spendable_bytes
    if load.needed_bytes <= spendable:
        why = f"{figures}; of {_size(resources.free_bytes)} free, {_size(spendable)} may be planned"
        fallback = not resources.no_spark and SPARK not in load.refused
        return Route(DELTA_RS, why, "fits", load, _limit(load, resources), fallback)
    why = f"{figures}, more than the {_size(spendable)} that may be planned"
    no_spark = load.refused.get(SPARK) or resources.no_spark
    if not no_spark:
        return Route(SPARK, why, "too_large", load)
    why = f"{why}; delta-rs tries within a limit, since Spark cannot take it: {no_spark}"
    return Route(DELTA_RS, why, "no_spark", load, _limit(load, resources))


def _limit(load: Load, resources: Resources) -> int:
    """What a process of its own may take; 0 where none is needed."""
    allowance = resources.allowance
    if load.needed_bytes <= allowance.in_process_bytes:
        return 0
    return max(allowance.least_limit_bytes, min(2 * load.needed_bytes, resources.spendable_bytes))


def _refuse(load: Load, engine: str, *, named: bool) -> None:
    reason = load.refused.get(engine)
    if reason is None:
        return
    other = SPARK if engine == DELTA_RS else DELTA_RS
    able = "" if other in load.refused else f"engine: {other} can"
    raise FeatureUnsupported(
        f"{engine} cannot do it: {reason}" if named else f"no engine can do it: {reason}",
        hint=able,
    )


def _require_spark(resources: Resources, why: str) -> None:
    if resources.no_spark:
        raise NoEngine(
            f"Spark is needed ({why}) and cannot be had: {resources.no_spark}",
            hint="nothing was changed; `raylake doctor` tells what Spark needs",
        )


def _figures(load: Load) -> str:
    return (
        f"touches at most {load.touched_files} of {load.total_files} files "
        f"({_size(load.touched_bytes)} of {_size(load.total_bytes)}) with "
        f"{_size(load.source_bytes)} of rows: delta-rs needs about {_size(load.needed_bytes)}"
    )


def _size(count: int) -> str:
    return f"{count / MIB:,.0f} MiB" if count >= 10 * MIB else f"{count / MIB:,.1f} MiB"
